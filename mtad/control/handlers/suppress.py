"""Addresses that are not tried: the operator's, and those that bounces made."""

from collections.abc import AsyncGenerator, Mapping

from mtad.accounts.suppressions import EVERYBODY, Suppression, SuppressionError
from mtad.control.admin import Admin, Args, Failed, Handler, Row


def _row(one: Suppression) -> Row:
    return {
        "address": one.address,
        "user": one.user,
        "reason": one.reason,
        "error": one.error,
        "made_by": one.made_by,
        "created": int(one.made_at),
        "expires": int(one.until_at) if one.until_at else None,
    }


async def suppress_list(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    for one in admin.suppressions.list(args["user"]):
        yield _row(one)


async def suppress_lookup(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    try:
        found = admin.suppressions.lookup(args["address"])
    except SuppressionError as error:
        raise Failed("BadData", str(error)) from None
    found = [one for one in found if args["user"] in (None, one.user) or one.user == EVERYBODY]
    if not found:
        raise Failed("NothingMatched", f"{args['address']} is not suppressed")
    for one in found:
        yield _row(one)


async def suppress_add(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    now, reason = admin.clock(), args["reason"] or ""
    until_at = now + args["for"] if args["for"] is not None else 0.0
    wanted = Suppression(args["user"] or EVERYBODY, args["address"], reason, str(admin.caller), now, until_at)
    try:
        one = await admin.suppressions.add(wanted)
    except SuppressionError as error:
        raise Failed("BadData", str(error)) from None
    yield _row(one)


async def suppress_remove(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    try:
        gone = await admin.suppressions.remove(args["address"], args["user"])
    except SuppressionError as error:
        raise Failed("BadData", str(error)) from None
    if not gone:
        whose = f" for {args['user']}" if args["user"] else ""
        raise Failed("NotFound", f"{args['address']} is not suppressed{whose}; `mtactl suppress list` shows what is")
    for one in gone:
        yield _row(one)


HANDLERS: Mapping[str, Handler] = {
    "suppress.list": suppress_list,
    "suppress.lookup": suppress_lookup,
    "suppress.add": suppress_add,
    "suppress.remove": suppress_remove,
}
