"""Looking at the queue; the verbs that change it are in `mtad.control.handlers.verbs`."""

import asyncio
import json
import os
from base64 import b64encode
from collections.abc import AsyncGenerator, Mapping, Sequence
from itertools import groupby
from typing import Any

from mtad.control.admin import Admin, Args, Failed, Handler, Lines, Row
from mtad.control.handlers import dropped, rows
from mtad.control.handlers.reasons import Reasons
from mtad.control.handlers.waiting import advice, next_try, why
from mtad.control.operation import Access
from mtad.mail import address as addresses
from mtad.mail.envelope import State
from mtad.queue import store as queue
from mtad.queue.listing import RECIPIENTS_PER_ROW
from mtad.queue.store import Bundle, Damaged, Place, Selector, SortBy

PAGE = 500
GROUPS_MAX = 1000
DOMAINS_MAX = 100_000
SORTED_MAX = 1_000_000  # the ids of so many are in memory at once
START: Place | None = (0, 0)
OCTETS_PER_ROW = 48 * 1024
CONTENT_MAX = 64 * 1024  # octets of a mail that are shown with everything else about it
OPEN = frozenset({State.READY, State.LEASED, State.HELD})
EVERY_STATE = ("active", "ready", "deferred", "held", "trashed", "done", "failed")


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
        header_id=args["message_id"] or "",
        subjects=args["subject"],
        not_subjects=args["not_subject"],
        audits=(args["audit"],) if args["audit"] else (),
        last=bool(args.get("last")),
        all=args["all"],
    )


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


async def queue_list(admin: Admin, args: Args) -> AsyncGenerator[Row | Lines, None]:
    what, now, limit, empty = selector(args), admin.clock(), args["limit"], True
    if what.empty:
        what = Selector(all=True)
    if sum(1 for name in ("group_by", "sort", "count") if args[name]) > 1:
        raise Failed("Usage", "--group-by, --sort and --count do not go together")
    listed: AsyncGenerator[Row | Lines, None]
    if args["group_by"] or args["count"]:
        listed = _groups(admin, what, args["group_by"] or "all", limit or GROUPS_MAX, now)
    elif args["sort"]:
        listed = _sorted(admin, what, args["sort"], args["reverse"], limit or SORTED_MAX, now)
    else:
        listed = _listed(admin, what, limit, now)
    try:
        async for row in listed:
            empty = False
            yield row
    except ValueError as error:  # a prefix of more than one id, and the like
        raise Failed("Usage", str(error)) from None
    if not (args["group_by"] or args["sort"] or args["count"] or limit):
        async for row in dropped.selected(admin, what, now):
            empty = False
            yield row
    if empty and args["count"]:
        yield {"count": 0, "messages": 0, "size_bytes": 0, "oldest": None}
    if empty and what != Selector(all=True):
        raise Failed("NothingMatched", "nothing matched")


async def _listed(admin: Admin, what: Selector, limit: int | None, now: float) -> AsyncGenerator[Lines, None]:
    rest, left = START, limit
    reasons = Reasons(admin, now)
    while rest is not None and left != 0:
        whys = reasons.of(await admin.store.waiting(what, now, rest, left)) if reasons else ()
        found = await admin.store.lines(what, now, rest, left, whys=whys, busy=reasons.busy)
        if found.lines:
            yield Lines(found.lines)
        rest, left = found.rest, left and left - found.recipients


async def shown(admin: Admin, found: Sequence[queue.Row], now: float) -> list[Row]:
    """These recipients as `queue list` has them: those of a message that follow each other together."""
    ids = tuple(one.recipient.id for one in found)
    listed: dict[str, Row] = {}
    async for page in _listed(admin, Selector(ids=ids, states=EVERY_STATE), None, now):
        for row in map(json.loads, page.text.split("\n")):
            listed |= {one["id"]: one for one in row["recipients"]}
    made = [rows.message(list(together), now) for _, together in groupby(found, key=lambda row: row.message.id)]
    for row in made:
        for one in row["recipients"]:
            same = listed.get(one["id"], one)
            one["delay_reason"], one["not_before"] = same["delay_reason"], same["not_before"]
    return made


async def _groups(admin: Admin, what: Selector, by: str, limit: int, now: float) -> AsyncGenerator[Row, None]:
    for group in await _bundles(admin, what, by, limit, now):
        row = {
            "count": group.recipients,
            "messages": group.messages,
            "size_bytes": group.size_bytes,
            "oldest": rows.seconds(group.oldest_at),
        }
        yield row if by == "all" else {"by": by, "group": group.key, **row}


async def _bundles(admin: Admin, what: Selector, by: Any, limit: int, now: float) -> Sequence[Bundle]:
    """By site: the domains of which it is known that they are one; a domain that mail never went to is its own."""
    if by != "site":
        return await admin.store.bundles(what, by, now, limit)
    site_of = {domain: site.name for site in admin.sites.all() for domain in site.domains}
    found: dict[str, Bundle] = {}
    for one in await admin.store.bundles(what, "domain", now, DOMAINS_MAX):
        name = site_of.get(one.key, one.key)
        known = found.get(name, Bundle(name, 0, 0, 0, one.oldest_at))
        found[name] = Bundle(
            name,
            known.recipients + one.recipients,
            known.messages + one.messages,
            known.size_bytes + one.size_bytes,
            min(known.oldest_at, one.oldest_at),
        )
    return sorted(found.values(), key=lambda one: (-one.recipients, one.key))[:limit]


async def _sorted(
    admin: Admin, what: Selector, by: SortBy, down: bool, limit: int, now: float
) -> AsyncGenerator[Row, None]:
    """The order is made at once; what is shown of each recipient is read page by page."""
    ids = await admin.store.sort(what, by, now, down=down, limit=limit)
    for start in range(0, len(ids), PAGE):
        page = ids[start : start + PAGE]
        found = await admin.store.select(Selector(ids=tuple(page), states=what.states), now, "", PAGE)
        by_id = {row.recipient.id: row for row in found}
        for row in await shown(admin, [by_id[one] for one in page if one in by_id], now):  # one may be gone by now
            yield row


async def queue_mailq(admin: Admin, args: Args) -> AsyncGenerator[Row | Lines, None]:
    """Everything for an operator; for others what they submitted themselves."""
    now, caller = admin.clock(), admin.caller
    everything = caller.access >= Access.OPERATOR
    if not everything and caller.uid < 0:
        return
    uid, reasons = None if everything else caller.uid, Reasons(admin, now) if everything else None
    rest = START
    while rest is not None:
        whys = reasons.of(await admin.store.waiting(None, now, rest)) if reasons else ()
        found = await admin.store.mailq(now, rest, uid, whys=whys, busy=reasons.busy if reasons is not None else "")
        if found.lines:
            yield Lines(found.lines)
        rest = found.rest
    async for row in dropped.listed(admin, uid, now):
        yield dropped.as_mailq(row)


async def queue_show(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    now = admin.clock()
    reasons = Reasons(admin, now)
    if args["content"] and admin.caller.access < Access.ADMIN:
        raise Failed("Denied", "queue show --content is for admins, as queue body is")
    for given in args["ids"]:
        empty = True
        async for together in messages(admin, Selector(ids=(given,), states=EVERY_STATE), None, now):
            empty = False
            message_id = together[0].message.id
            tries, actions = await admin.store.attempts(message_id), await admin.store.actions(message_id)
            row = rows.detail(together, tries, actions, now)
            for told, one in zip(row["recipients"], together, strict=True):
                ours = [action for action in actions if action.n == one.recipient.n]
                around = reasons.around(one.recipient.domain, one.message.peer.user)
                found = why(one.message, one.recipient, ours, around, now)
                told["waiting"] = found.words
                told["waiting_until"], told["next_step"] = int(found.until) or None, found.command
                again = next_try(one.recipient, around.closed)
                told["not_before"], told["then"] = rows.seconds(again.at) or None, again.then
                told["advice"] = advice(one.recipient)
            if args["content"]:
                row["content"], row["content_left"] = await _beginning(admin, message_id)
            yield row
        if empty and await dropped.has(admin, given, now):
            raise Failed("NotFound", f"{given} waits in the maildrop still: the queue has it when mtad takes it in")
        if empty:
            raise Failed("NotFound", f"there is no message {given}")
    if args["content"] and not admin.offline:
        await admin.store.note(admin.entry, now)
        admin.events.operator(str(admin.caller), admin.entry.operation, admin.entry.selector, "", 0)


async def _beginning(admin: Admin, message_id: str) -> tuple[str, int]:
    """The header and the text, at most CONTENT_MAX octets, in base64, and how many are left; "" when it is gone."""
    try:
        content = await admin.store.content(message_id)
    except Damaged:
        return "", 0
    octets = content.head[:CONTENT_MAX]
    total = len(content.head)
    if isinstance(content.body, bytes):
        total += len(content.body)
        octets += content.body[: CONTENT_MAX - len(octets)]
    else:
        total += (await asyncio.to_thread(os.stat, content.body)).st_size
        async for part in _octets(content.body):
            if len(octets) == CONTENT_MAX:
                break
            octets += part[: CONTENT_MAX - len(octets)]
    return b64encode(octets).decode(), total - len(octets)


async def queue_body(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    """The octets of a mail, some at a time."""
    message_id = (await _one(admin, args["id"])).message.id
    content = await admin.store.content(message_id)
    for name, part in (("head", content.head), ("body", content.body)):
        if args["part"] in {None, name}:
            async for octets in _octets(part):
                yield {"queue_id": message_id, "octets": b64encode(octets).decode()}


async def _one(admin: Admin, given: str) -> queue.Row:
    async for page in pages(admin, Selector(ids=(given,), states=EVERY_STATE), 1, admin.clock()):
        return page[0]
    raise Failed("NotFound", f"there is no message {given}")


async def _octets(part: bytes | str) -> AsyncGenerator[bytes, None]:
    if isinstance(part, bytes):
        for start in range(0, len(part), OCTETS_PER_ROW):
            yield part[start : start + OCTETS_PER_ROW]
        return
    try:
        file = await asyncio.to_thread(open, part, "rb")
    except OSError as error:
        raise Failed("Busy", f"{part}: {error.strerror}") from None
    try:
        while octets := await asyncio.to_thread(file.read, OCTETS_PER_ROW):
            yield octets
    finally:
        file.close()


async def queue_stats(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    stats = await admin.store.stats(admin.clock())
    by: queue.GroupBy | None = args.get("by")  # the HTTP listener gives no arguments
    groups = await admin.store.groups(by) if by else ()
    yield {
        **rows.counts(stats),
        "done": stats.done,
        "failed": stats.failed,
        "domains": [
            {"domain": domain, "recipients": count, "oldest": rows.seconds(oldest)}
            for domain, count, oldest in stats.domains
        ],
        "by": by or "",
        "groups": [rows.group(by, one) for one in groups if by],
        "last_day": rows.last_day(await admin.store.tallies(admin.clock() - rows.DAY_S), admin.clock()),
    }


HANDLERS: Mapping[str, Handler] = {
    "queue.list": queue_list,
    "queue.show": queue_show,
    "queue.body": queue_body,
    "queue.stats": queue_stats,
    "queue.mailq": queue_mailq,
}
