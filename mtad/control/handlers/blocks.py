"""Who is kept out: the operator's blocks, and those the daemon made itself."""

from collections.abc import AsyncGenerator, Mapping

from mtad.accounts.blocks import Block, BlockError
from mtad.control.admin import Admin, Args, Failed, Handler, Row


def _row(block: Block) -> Row:
    return {
        "value": block.value,
        "kind": block.kind,
        "reason": block.reason,
        "made_by": block.made_by,
        "created": int(block.made_at),
        "expires": int(block.until_at) if block.temporary else None,
        "times": block.times,
    }


async def block_list(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    for block in admin.blocks.list():
        yield _row(block)


async def block_add(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    now, reason = admin.clock(), args["reason"] or ""
    until_at = now + args["for"] if args["for"] is not None else 0.0
    try:
        block = await admin.blocks.add(Block(args["value"], reason, str(admin.caller), now, until_at))
    except BlockError as error:
        raise Failed("BadData", str(error)) from None
    yield _row(block)


async def block_remove(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    try:
        block = await admin.blocks.remove(args["value"])
    except BlockError as error:
        raise Failed("BadData", str(error)) from None
    if block is None:
        raise Failed("NotFound", f"there is no block of {args['value']}; `mtactl block list` shows them")
    yield _row(block)


HANDLERS: Mapping[str, Handler] = {
    "block.list": block_list,
    "block.add": block_add,
    "block.remove": block_remove,
}
