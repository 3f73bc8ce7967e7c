"""The queue verbs: look, and change what a selector means."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby

from mtad.control.admin import Admin, Args, Failed, Handler, Row
from mtad.control.handlers import rows
from mtad.control.operation import SELECTOR, Access
from mtad.control.values import ITEMS_MAX
from mtad.mail import address as addresses
from mtad.mail.envelope import State
from mtad.queue import store as queue
from mtad.queue.store import Change, Hold, Release, Restore, RetryAt, Selector, Trash

PAGE = 500
RECIPIENTS_PER_ROW = 2000  # more of one message come in a further row
EVERY_STATE = ("active", "ready", "deferred", "held", "trashed", "done", "failed")
OPEN = frozenset({State.READY, State.LEASED, State.HELD})


def selector(args: Args) -> Selector:
    """The checked arguments as the store's selector."""
    try:
        domain = addresses.to_ascii(args["domain"]).lower() if args["domain"] else ""
    except addresses.AddressError:
        raise Failed("Usage", f"domain: {args['domain']!a} is not a domain name") from None
    return Selector(
        ids=args["ids"],
        sender=args["from"] or "",
        recipient=args["to"] or "",
        domain=domain,
        user=args["user"] or "",
        ip=args["ip"] or "",
        states=args["state"],
        error=args["error"] or "",
        older_s=args["older"],
        newer_s=args["newer"],
        size=args["size"],
        attempts=args["attempts"],
        all=args["all"],
    )


def words(args: Args) -> str:
    """The selector as one line for the log, as it could be typed."""
    if args.get("last"):
        return "--last"
    shown = []
    for param in SELECTOR:
        match args[param.name]:
            case None | () | False:
                continue
            case True:
                shown.append(f"--{param.name}")
            case tuple() as many if param.kind in {"id", "choice"}:
                shown += many if param.positional else [f"--{param.name} {one}" for one in many]
            case (sign, number):
                shown.append(f"--{param.name} {sign}{number}")
            case float() as seconds:
                shown.append(f"--{param.name} {seconds:.0f}s")
            case value:
                shown.append(f"--{param.name} {value}")
    return " ".join(shown)


async def pages(
    admin: Admin, what: Selector, limit: int | None, now: float
) -> AsyncGenerator[Sequence[queue.Row], None]:
    """The selected recipients, a page at a time, so that a long queue costs no memory."""
    after, left = "", limit
    while left is None or left > 0:
        size = PAGE if left is None else min(PAGE, left)
        try:
            page = await admin.store.select(what, now, after, size)
        except ValueError as error:  # a prefix of more than one id, and the like
            raise Failed("Usage", str(error)) from None
        if page:
            yield page
        if len(page) < size:
            return
        after = page[-1].recipient.id
        left = None if left is None else left - len(page)


async def messages(
    admin: Admin, what: Selector, limit: int | None, now: float
) -> AsyncGenerator[list[queue.Row], None]:
    """The same by message: a message that a page's end cuts is put together again."""
    held: list[queue.Row] = []
    async for page in pages(admin, what, limit, now):
        for _, group in groupby(page, key=lambda row: row.message.id):
            together = list(group)
            if held and held[0].message.id == together[0].message.id and len(held) < RECIPIENTS_PER_ROW:
                held += together
            else:
                if held:
                    yield held
                held = together
    if held:
        yield held


async def queue_list(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    what, now, empty = selector(args), admin.clock(), True
    if what.empty:
        what = Selector(all=True)
    async for together in messages(admin, what, args["limit"], now):
        empty = False
        yield rows.message(together, now)
    if empty and what != Selector(all=True):
        raise Failed("NothingMatched", "nothing matched")


async def queue_mailq(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    now, caller = admin.clock(), admin.caller
    async for together in messages(admin, Selector(all=True), None, now):
        if caller.access >= Access.OPERATOR or 0 <= caller.uid == together[0].message.peer.uid:
            yield rows.message(together, now)


async def queue_show(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    now = admin.clock()
    for given in args["ids"]:
        empty = True
        async for together in messages(admin, Selector(ids=(given,), states=EVERY_STATE), None, now):
            empty = False
            tries = await admin.store.attempts(together[0].message.id)
            yield rows.detail(together, tries, now)
        if empty:
            raise Failed("NotFound", f"there is no message {given}")


async def queue_stats(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    stats = await admin.store.stats(admin.clock())
    by: queue.GroupBy | None = args.get("by")  # the HTTP listener gives no arguments
    groups = await admin.store.groups(by) if by else ()
    yield {
        **rows.counts(stats),
        "done": stats.done,
        "failed": stats.failed,
        "domains": [
            {"domain": domain, "recipients": count, "oldest": int(oldest)} for domain, count, oldest in stats.domains
        ],
        "by": by or "",
        "groups": [rows.group(by, one) for one in groups if by],
    }


async def queue_flush(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    async for row in _change(admin, "queue.flush", args, RetryAt(admin.clock()), OPEN - {State.HELD}):
        yield row


async def queue_retry(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    at = admin.clock() + (args["in"] or 0.0)
    async for row in _change(admin, "queue.retry", args, RetryAt(at), OPEN - {State.HELD}):
        yield row


async def queue_hold(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    async for row in _change(admin, "queue.hold", args, Hold(), OPEN - {State.HELD}):
        yield row


async def queue_release(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    async for row in _change(admin, "queue.release", args, Release(), frozenset({State.HELD})):
        yield row


async def queue_purge(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    async for row in _change(admin, "queue.purge", args, Trash(), OPEN):
        yield row


async def queue_restore(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    if not args["last"]:
        async for row in _change(admin, "queue.restore", args, Restore(), frozenset({State.TRASHED})):
            yield row
        return
    ids = await _last_purge(admin)
    total = {"changed": 0, "would_change": 0} if args["dry_run"] else {"changed": 0}
    for start in range(0, len(ids), ITEMS_MAX):
        some = {**args, "ids": ids[start : start + ITEMS_MAX]}
        async for row in _change(admin, "queue.restore", some, Restore(), frozenset({State.TRASHED})):
            if "changed" in row:
                total = {name: total[name] + row[name] for name in total}
            else:
                yield row
    yield total


async def _last_purge(admin: Admin) -> tuple[str, ...]:
    """The ids of the recipients that the newest purge took: the trash remembers when each came into it."""
    newest, ids = 0.0, list[str]()
    async for page in pages(admin, Selector(states=("trashed",)), None, admin.clock()):
        for row in page:
            if row.recipient.next_at > newest:
                newest, ids = row.recipient.next_at, []
            if row.recipient.next_at == newest:
                ids.append(row.recipient.id)
    return tuple(ids)


async def _change(
    admin: Admin, name: str, args: Args, change: Change, touches: frozenset[State]
) -> AsyncGenerator[Row, None]:
    """Apply a change, or with dry_run show the messages it would touch; the count comes last."""
    what, now, limit = selector(args), admin.clock(), args["limit"]
    if not what.states and isinstance(change, Restore):
        what = replace(what, states=("trashed",))
    if args["dry_run"]:
        would_change = 0
        async for together in messages(admin, what, None, now):
            touched = [row for row in together if row.recipient.state in touches]
            if limit is not None:
                touched = touched[: limit - would_change]
            if touched:
                would_change += len(touched)
                yield rows.message(touched, now)
            if would_change == limit:
                break
        yield {"changed": 0, "would_change": would_change}
        return
    try:
        changed = await admin.store.change(what, change, now, limit or 0)
    except ValueError as error:  # a prefix of more than one id, and the like
        raise Failed("Usage", str(error)) from None
    admin.events.operator(str(admin.caller), name, words(args), args["reason"] or "", changed)
    if changed:
        admin.app.wake()
    yield {"changed": changed}


HANDLERS: Mapping[str, Handler] = {
    "queue.list": queue_list,
    "queue.show": queue_show,
    "queue.flush": queue_flush,
    "queue.hold": queue_hold,
    "queue.release": queue_release,
    "queue.retry": queue_retry,
    "queue.purge": queue_purge,
    "queue.restore": queue_restore,
    "queue.stats": queue_stats,
    "queue.mailq": queue_mailq,
}
