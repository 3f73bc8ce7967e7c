"""The audit trail."""

from collections.abc import AsyncGenerator, Mapping

from mtad.control.admin import Admin, Args, Handler, Row
from mtad.control.handlers.rows import moment
from mtad.queue.audit import Entry, Looked

SHOWN = 100


def _row(entry: Entry) -> Row:
    return {
        "number": entry.id,
        "at": moment(entry.at),
        "who": entry.who,
        "uid": entry.uid,
        "operation": entry.operation,
        "selector": entry.selector,
        "reason": entry.reason,
        "changed": entry.changed,
    }


async def audit(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    since_at = admin.clock() - args["since"] if args["since"] is not None else 0.0
    operation = (args["operation"] or "").strip().replace(" ", ".").replace("-", "_")
    for entry in await admin.store.trail(Looked(since_at, args["user"] or "", operation, args["limit"] or SHOWN)):
        yield _row(entry)


HANDLERS: Mapping[str, Handler] = {"audit": audit}
