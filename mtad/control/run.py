"""Carry out one operation: access, check, handler. The same for the socket and for a stopped daemon's data."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from mtad.control.admin import Admin, Args, Failed, Row
from mtad.control.handlers import HANDLERS
from mtad.control.operation import Access, Operation, check
from mtad.queue.store import StoreError


async def perform(admin: Admin, operation: Operation, given: Args) -> AsyncGenerator[Row, None]:
    """The rows of an operation. Raises UsageError and Failed; anything else is a defect.

    Closing it ends the work when nobody reads on.
    """
    if admin.caller.access < operation.access:
        group = admin.config.access.admin_group
        who = f"root and members of the group {group}" if group else "root"
        raise Failed("Denied", f"{operation.name.replace('.', ' ')} is for {who}")
    args = check(operation, given)
    try:
        async with aclosing(HANDLERS[operation.name](admin, args)) as found:
            async for row in found:
                yield row
    except StoreError as error:
        # Operators may know why; others learn that it was not their fault.
        cause = f": {error}" if admin.caller.access >= Access.OPERATOR else ""
        raise Failed("Busy", f"the queue cannot do this now{cause}") from error
