"""Stopping an account that somebody else has: one transaction, and the way back."""

from collections.abc import AsyncGenerator, Mapping

from mtad.accounts.account import StoredUser
from mtad.control.admin import Admin, Args, Failed, Handler, Row
from mtad.control.handlers.verbs import still_shut
from mtad.queue.audit import Changed
from mtad.queue.store import Selector

REASON = "frozen by the administrator"


async def user_freeze(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    now, changed = admin.clock(), Changed()

    async def save(user: StoredUser) -> None:
        nonlocal changed
        changed = await admin.store.freeze(user, Selector(user=user.name), admin.entry, now)

    name = _known(admin, args["name"]).name
    user = await admin.users.change(name, args["reason"] or REASON, save)
    mine = [session for session in admin.app.sessions() if session.peer.user == user.name]
    closed = sum(admin.app.close_session(session.number) for session in mine)
    yield {
        **_row(user),
        "held": changed.recipients,
        "active": changed.active,
        "sessions": closed,
        "audit": changed.audit,
        "undo": f"mtactl user thaw {user.name} --release",
    }


async def user_thaw(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    yield await thaw(admin, args["name"], release=args["release"])


async def thaw(admin: Admin, given: str, *, release: bool) -> Row:
    """Enable the user; `release` also what was held. What stays held is counted."""
    now, changed = admin.clock(), Changed()

    async def save(user: StoredUser) -> None:
        nonlocal changed
        changed = await admin.store.thaw(user, admin.entry, now, release=release)

    user = await admin.users.change(_known(admin, given).name, "", save)
    if changed.recipients:
        admin.app.wake()
    held = await admin.store.bundles(Selector(user=user.name, states=("held",)), "all", now)
    return {
        **_row(user),
        "released": changed.recipients,
        "held": held[0].recipients if held else 0,
        "waiting": await still_shut(admin, changed.audit, now),
        "audit": changed.audit,
    }


def _row(user: StoredUser) -> Row:
    return {"name": user.name, "created": int(user.created_at), "disabled": user.disabled}


def _known(admin: Admin, name: str) -> StoredUser:
    user = admin.users.get(name)
    if user is None:
        raise Failed("NotFound", f"there is no user {name}")
    return user


HANDLERS: Mapping[str, Handler] = {"user.freeze": user_freeze, "user.thaw": user_thaw}
