"""Who is connected, and what counts for whom."""

from collections.abc import AsyncGenerator, Mapping
from ipaddress import ip_address
from typing import TYPE_CHECKING

from mtad.accounts.blocks import Block, BlockError, canonical
from mtad.control.admin import Admin, Args, Failed, Handler, Row

if TYPE_CHECKING:
    from mtad.inbound.guard import Usage


async def session_list(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    for session in admin.app.sessions():
        peer = session.peer
        yield {
            "number": session.number,
            "client_ip": peer.ip,
            "port": peer.port or None,
            "uid": peer.uid if peer.uid >= 0 else None,
            "user": peer.user,
            "helo": peer.helo,
            "since": int(session.since_at),
            "source": peer.source,
            "listener": session.listener,
            "tls": peer.tls,
            "state": session.state,
            "mails": session.mails,
            "commands": session.commands,
            "errors": session.errors,
        }


async def session_close(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    number = args["number"]
    if not admin.app.close_session(number):
        raise Failed("NotFound", f"there is no session {number}; `mtactl session list` shows them")
    yield {"number": number, "closed": True}


async def limit_show(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    who = (args["who"] or "").strip()
    if not who:
        for usage in admin.app.usage(""):
            yield _row(usage)
        return
    client = _ip(who)
    if not client:
        try:
            who = canonical(who if "@" in who else f"{who}@{admin.config.domains[0]}")
        except BlockError as error:
            raise Failed("BadData", str(error)) from None
    for usage in admin.app.usage(client or who):
        yield _row(usage)
    block = admin.blocks.of_ip(client) if client else admin.blocks.of_address(who)
    if block is not None:
        yield _blocked(block)


def _ip(text: str) -> str:
    try:
        return str(ip_address(text.partition("%")[0]))
    except ValueError:
        return ""


def _row(usage: "Usage") -> Row:
    return {
        "scope": usage.scope,
        "what": usage.what,
        "count": usage.count,
        "limit": usage.limit,
        "setting": usage.setting,
    }


def _blocked(block: Block) -> Row:
    return {
        "scope": block.kind,
        "what": f"blocked: {block.reason}" if block.reason else "blocked",
        "count": block.times,
        "limit": "",
        "setting": f"block {block.value}",
        "expires": int(block.until_at) if block.temporary else None,
    }


HANDLERS: Mapping[str, Handler] = {
    "session.list": session_list,
    "session.close": session_close,
    "limit.show": limit_show,
}
