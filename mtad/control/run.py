"""Carry out one operation: access, check, handler, audit. The same for the socket and for a stopped daemon's data."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from mtad.control.admin import Admin, Args, Failed, Lines, Row
from mtad.control.handlers import HANDLERS
from mtad.control.operation import Access, Effect, Operation, check
from mtad.control.said import words
from mtad.queue.audit import Entry
from mtad.queue.store import StoreError


async def perform(admin: Admin, operation: Operation, given: Args) -> AsyncGenerator[Row | Lines, None]:
    """The rows of an operation. Raises UsageError and Failed; anything else is a defect.

    Closing it ends the work when nobody reads on. What changed something is in the log and in the audit trail.
    """
    if admin.caller.access < operation.access:
        group = admin.config.access.admin_group
        who = f"root and members of the group {group}" if group else "root"
        raise Failed("Denied", f"{operation.name.replace('.', ' ')} is for {who}")
    args = _in_full(admin, operation, check(operation, given))
    caller, said = admin.caller, words(operation, args)
    entry = Entry(caller.uid, caller.name, operation.name, said, args.get("reason") or "")
    outcome = _Outcome()
    try:
        async with aclosing(HANDLERS[operation.name](replace(admin, entry=entry), args)) as found:
            async for row in found:
                outcome.see(row)
                yield row
        outcome.done = True
    except StoreError as error:
        # Operators may know why; others learn that it was not their fault.
        cause = f": {error}" if admin.caller.access >= Access.OPERATOR else ""
        raise Failed("Busy", f"the queue cannot do this now{cause}") from error
    finally:
        changes = operation.effect > Effect.READ
        if (changes or operation.told) and outcome.done and not args.get("dry_run"):
            await _audit(admin, operation, replace(entry, changed=outcome.changed if changes else 0), outcome)


def _in_full(admin: Admin, operation: Operation, args: Args) -> Args:
    """A user that a condition names without a domain is the one that `user show` would find."""
    users = [param.name for param in operation.params if param.kind == "user" and not param.positional]
    return {**args, **{name: admin.users.in_full(args[name]) for name in users if args[name]}}


class _Outcome:
    """What the rows tell of an operation. It is done when it said something, or came to its end without a failure."""

    def __init__(self) -> None:
        self.done = False
        self.changed = 1
        self.written = False  # its line in the trail

    def see(self, row: Row | Lines) -> None:
        self.done = True
        if isinstance(row, Lines):
            return
        self.changed = row.get("changed", self.changed)
        self.written = self.written or "audit" in row


async def _audit(admin: Admin, operation: Operation, entry: Entry, outcome: _Outcome) -> None:
    """Changes of the queue wrote their line themselves, in their own transaction."""
    admin.events.operator(str(admin.caller), entry.operation, entry.selector, entry.reason, entry.changed)
    stored = not admin.offline or operation.offline == "write"
    if stored and (entry.changed or operation.told) and not outcome.written and admin.store is not None:
        try:
            await admin.store.note(entry, admin.clock())
        except StoreError as error:
            admin.events.store_trouble(f"{operation.name} is not in the audit trail: {error}")
