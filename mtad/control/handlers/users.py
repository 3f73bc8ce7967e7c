"""Accounts. Passwords come in a frame, never in argv, and go nowhere but into the user store."""

from collections.abc import AsyncGenerator

from mtad.accounts.passwords import PasswordError
from mtad.accounts.users import StoredUser, UserError
from mtad.control.admin import Admin, Args, Failed, Row


def _row(user: StoredUser) -> Row:
    return {"name": user.name, "created": int(user.created_at), "disabled": user.disabled}


async def user_add(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    if admin.users.get(args["name"]) is not None:
        raise Failed(
            "CannotCreate", f"there is a user {args['name']} already; `mtactl user passwd` changes the password"
        )
    try:
        user = await admin.users.add(args["name"], args["password"])
    except (UserError, PasswordError) as error:
        raise Failed("BadData", str(error)) from None
    admin.events.operator(str(admin.caller), "user.add", user.name, "", 1)
    yield _row(user)


async def user_passwd(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    user = _known(admin, args["name"])
    try:
        user = await admin.users.set_password(user.name, args["password"])
    except (UserError, PasswordError) as error:
        raise Failed("BadData", str(error)) from None
    admin.events.operator(str(admin.caller), "user.passwd", user.name, "", 1)
    yield _row(user)


async def user_list(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    for user in admin.users.list():
        yield _row(user)


async def user_remove(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    user = _known(admin, args["name"])
    if args["dry_run"]:
        yield {"name": user.name, "changed": 0, "would_change": 1}
        return
    changed = int(await admin.users.remove(user.name))
    admin.events.operator(str(admin.caller), "user.remove", user.name, args["reason"] or "", changed)
    yield {"name": user.name, "changed": changed}


def _known(admin: Admin, name: str) -> StoredUser:
    user = admin.users.get(name)
    if user is None:
        raise Failed("NotFound", f"there is no user {name}")
    return user
