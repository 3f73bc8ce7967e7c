"""Stopping an account that somebody else has: one transaction, and the way back."""

from collections.abc import AsyncGenerator, Mapping

from mtad.accounts.account import StoredUser
from mtad.control.admin import Admin, Args, Failed, Handler, Row
from mtad.control.handlers.verbs import still_shut
from mtad.inbound import quota
from mtad.queue.audit import Changed, Looked
from mtad.queue.store import Selector, Usage

REASON = "frozen by the administrator"
PASSWORDS_MAX = 10_000  # lines of the trail


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
        "app_passwords": _app_passwords(user),
        "undo": f"mtactl user thaw {user.name}",
    }


async def user_thaw(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    yield await thaw(admin, args["name"], release=args["release"])


async def thaw(admin: Admin, given: str, *, release: bool) -> Row:
    """Enable the user; `release` also what was held. What stays held is counted."""
    now, changed = admin.clock(), Changed()

    async def save(user: StoredUser) -> None:
        nonlocal changed
        changed = await admin.store.thaw(user, admin.entry, now, release=release)

    name = _known(admin, given).name
    rule = next((rule for rule in await admin.store.hold_rules() if rule.freezes and rule.user == name), None)
    user = await admin.users.change(name, "", save)
    if changed.recipients:
        admin.app.wake()
    held = await admin.store.bundles(Selector(user=user.name, states=("held",)), "all", now)
    return {
        **_row(user),
        "released": changed.recipients,
        "held": held[0].recipients if held else 0,
        "waiting": await still_shut(admin, changed.audit, now),
        "password_changed": None if rule is None else await _password_changed(admin, name, rule.made_at),
        "app_passwords": _app_passwords(user),
        **await quota_of(admin, user),
        "audit": changed.audit,
        "undo": f"mtactl user freeze {user.name}",
    }


async def _password_changed(admin: Admin, name: str, since_at: float) -> bool:
    """Whether the trail knows of a new password of this user."""
    entries = await admin.store.trail(Looked(since_at, operation="user.passwd", limit=PASSWORDS_MAX))
    return any((user := admin.users.get(entry.selector)) is not None and user.name == name for entry in entries)


async def quota_of(admin: Admin, user: StoredUser) -> Row:
    """What was sent within 24 hours, of what may be."""
    now, allowed = admin.clock(), quota.allowance(user, admin.config.limits)
    usage: Usage = await admin.store.usage(user.name, now)
    return {
        "messages": quota.count(usage.messages, now),
        "messages_per_day": allowed.messages,
        "new_recipients": quota.count(usage.new, now),
        "new_recipients_per_day": allowed.new_recipients,
    }


def _app_passwords(user: StoredUser) -> list[str]:
    return [one.label for one in user.profile.app_passwords]


def _row(user: StoredUser) -> Row:
    return {"name": user.name, "created": int(user.created_at), "disabled": user.disabled}


def _known(admin: Admin, name: str) -> StoredUser:
    user = admin.users.get(name)
    if user is None:
        raise Failed("NotFound", f"there is no user {name}")
    return user


HANDLERS: Mapping[str, Handler] = {"user.freeze": user_freeze, "user.thaw": user_thaw}
