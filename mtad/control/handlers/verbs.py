"""The verbs of the queue: change what a selector means, or show what that would be."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace

from mtad.config import routing
from mtad.config.parse import BadValue
from mtad.control.admin import Admin, Args, Failed, Handler, Row
from mtad.control.handlers.queue import selector, shown
from mtad.mail import address as addresses
from mtad.mail.classify import STAGE_OPERATOR
from mtad.mail.envelope import Job, State
from mtad.mail.reply import Refused, Reply
from mtad.outbound.giveup import give_up
from mtad.queue import store as queue
from mtad.queue.audit import Changed
from mtad.queue.store import Change, Hold, Redirect, Release, Restore, RetryAt, Trash, Unredirect

PREVIEW_ROWS = 20  # recipients that a dry run shows; it counts all
BOUNCED_AT_ONCE = 200  # recipients in a transaction, with the reports about them
CLAIM_S = 60.0
DOMAINS_LOOKED_AT = 1000
_WAYS = ("smtp", "smtps", "lmtp", "maildir")
_RETURNED = "Returned by the administrator of this server"


async def queue_flush(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    async for row in _change(admin, args, RetryAt(admin.clock())):
        yield row


async def queue_retry(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    if args["in"] is not None and args["at"] is not None:
        raise Failed("Usage", "--in and --at do not go together")
    at = float(args["at"]) if args["at"] is not None else admin.clock() + (args["in"] or 0.0)
    async for row in _change(admin, args, RetryAt(at)):
        yield row


async def queue_hold(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    async for row in _change(admin, args, Hold(), "queue release"):
        yield row


async def queue_release(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    async for row in _change(admin, args, Release(), "queue hold"):
        yield row


async def queue_purge(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    kept = {"trash_s": int(admin.config.keep.trash_s)}
    async for row in _change(admin, args, Trash(), "queue restore"):
        yield row | kept if "would_change" in row else row


async def queue_restore(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    async for row in _change(admin, args, Restore(), "queue purge"):
        yield row


async def queue_redirect(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    if sum(1 for name in ("to_address", "route", "back") if args[name]) != 1:
        raise Failed("Usage", "say one of --to-address, --route and --back")
    change: Change
    if args["back"]:
        change = Unredirect()
    elif args["route"]:
        change = Redirect("", _way(args["route"]))
    else:
        address = _address(admin, args["to_address"])
        change = Redirect(address, addresses.domain_of(address))
    async for row in _change(admin, args, change, "" if args["back"] else "queue redirect --back"):
        yield row


async def queue_bounce(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    """So many at a time, each part a transaction with its reports: what was bounced stays so if the daemon ends
    half-way or the operator does not want to go on, and the line in the audit trail says how many it were."""
    what, now, limit = selector(args), admin.clock(), args["limit"] or 0
    preview = await _preview(admin, what, Trash(), limit, now)
    if args["dry_run"]:
        idle = [row for row in preview.rows if row.recipient.state is not State.LEASED]
        left = replace(preview, rows=idle, recipients=preview.recipients - preview.active)
        for one in await _previewed(admin, left, now):
            yield one
        return
    reply = Reply(554, "5.7.1", args["reason"] or _RETURNED, stage=STAGE_OPERATOR)
    total, after = Changed(active=preview.active), ""
    newest = await admin.store.newest_id()  # the reports that come to it are selected too, and not meant
    of = min(limit or preview.recipients, preview.recipients) - preview.active
    try:
        while not limit or total.recipients < limit:
            size = min(BOUNCED_AT_ONCE, limit - total.recipients) if limit else BOUNCED_AT_ONCE
            jobs = await admin.store.claim(what, now, admin.clock() + CLAIM_S, after, size)
            late = [job for job in jobs if job.message.id > newest]
            if late:
                await admin.store.release(late)
                jobs = jobs[: len(jobs) - len(late)]  # they are in the order of ids
            if not jobs:
                break
            after = jobs[-1].recipients[-1].id
            given_up = await _given_up(admin, jobs, reply)
            changed, done = await admin.store.settle_claimed(
                [settlement for settlement, _ in given_up], admin.entry, admin.clock(), total.audit
            )
            ended = {settlement.job.lease for settlement in done}
            lost = [job for job in jobs if job.lease not in ended]
            await admin.store.release(lost)
            active = total.active + sum(len(job.recipients) for job in lost)
            total = Changed(total.recipients + changed.recipients, active, changed.audit)
            for settlement, nobody in given_up:
                if settlement.job.lease in ended:
                    _tell(admin, settlement, nobody)
            yield {**counted(total), "of": max(of, total.recipients)}
    finally:
        if total.recipients:
            admin.app.wake()
    yield counted(total)


async def _given_up(admin: Admin, jobs: Sequence[Job], reply: Reply) -> list[tuple[queue.Settlement, str]]:
    """The outcomes of claimed jobs. Reading mail may take long: the claims that this takes longer than half of are
    renewed, all of them, and one that somebody else has by then is left to him."""
    found: dict[int, tuple[queue.Settlement, str]] = {}
    ours = {job.lease for job in jobs}
    renew_at = admin.clock() + CLAIM_S / 2
    for job in jobs:
        if admin.clock() >= renew_at:
            until = admin.clock() + CLAIM_S
            ours = {one.lease for one in jobs if one.lease in ours and await admin.store.renew(one, until)}
            renew_at = until - CLAIM_S / 2
        if job.lease in ours:
            found[job.lease] = await give_up(
                job, reply, admin.store, admin.config, admin.clock(), admin.app.ids(), admin.app.expand
            )
    return [one for lease, one in found.items() if lease in ours]


def _tell(admin: Admin, settlement: queue.Settlement, nobody: str) -> None:
    message = settlement.job.message
    if nobody:
        admin.events.double_bounce(message.id, nobody)
    for recipient, attempt in zip(settlement.changes, settlement.attempts, strict=True):
        admin.events.attempt(message, recipient, attempt, recipient.state)
    for report in settlement.spawn:
        admin.events.report_made(message.id, report.message.id, report.recipients[0].address)


def _way(given: str) -> str:
    """The target of a redirected recipient, as it is stored."""
    try:
        to = routing.target(given)
    except BadValue as error:
        raise Failed("Usage", f"route: {error}") from None
    if to.scheme not in _WAYS:
        raise Failed("Usage", f"route: mail is redirected to {', '.join(f'{way}://' for way in _WAYS)}")
    return to.written()


def _address(admin: Admin, given: str) -> str:
    try:
        address = addresses.parse(given, utf8=True)
    except addresses.AddressError as error:
        raise Failed("Usage", f"to-address: {given!a} is not an address: {error}") from None
    try:
        found = admin.app.expand(address)
    except Refused as refused:
        raise Failed("BadData", f"{address}: {refused.reply.text}") from None
    if len(found) != 1:
        what = f"is an alias of {len(found)} addresses: take one of them" if found else "is nobody's address here"
        raise Failed("BadData", f"{address} {what}")
    return found[0]


async def _change(admin: Admin, args: Args, change: Change, undo: str = "") -> AsyncGenerator[Row, None]:
    """Apply a change, or with dry_run show the first recipients it would touch; the count comes last."""
    what, now, limit = selector(args), admin.clock(), args["limit"] or 0
    if args["dry_run"]:
        for row in await _previewed(admin, await _preview(admin, what, change, limit, now), now):
            yield row
        return
    try:
        changed = await admin.store.change(what, change, now, limit, admin.entry)
    except ValueError as error:  # a prefix of more than one id, and the like
        raise Failed("Usage", str(error)) from None
    if changed.recipients:
        if isinstance(change, RetryAt) and change.at <= now and admin.sites.reopen():
            await admin.sites.save()  # who asks for a try now does not mean the next probe
        admin.app.wake()
    due = isinstance(change, Release) or (isinstance(change, RetryAt) and change.at <= now)
    waiting = await still_shut(admin, changed.audit, now) if due else []
    yield counted(changed, undo) | ({"waiting": waiting} if waiting else {})


async def still_shut(admin: Admin, audit: int, now: float) -> list[Row]:
    """Where what an operation made due has to wait nevertheless, most first."""
    if not audit or not admin.sites.closes_any:
        return []
    found: dict[str, Row] = {}
    selected = queue.Selector(audits=(audit,), states=("ready", "deferred"))
    for one in await admin.store.bundles(selected, "domain", now, DOMAINS_LOOKED_AT):
        closed = admin.sites.why_not(one.key, "", now)
        if closed is None:
            continue
        site = admin.sites.seen(one.key)
        name = one.key if site is None or len(site.domains) < 2 else site.name
        row = found.setdefault(name, {"site": name, "recipients": 0, "until": int(closed.until) or None})
        row["recipients"] += one.recipients
    return list(found.values())


async def _preview(admin: Admin, what: queue.Selector, change: Change, limit: int, now: float) -> queue.Preview:
    try:
        return await admin.store.preview(what, change, now, limit, PREVIEW_ROWS)
    except ValueError as error:
        raise Failed("Usage", str(error)) from None


async def _previewed(admin: Admin, preview: queue.Preview, now: float) -> list[Row]:
    count: Row = {"changed": 0, "would_change": preview.recipients}
    return [*await shown(admin, preview.rows, now), count | ({"active": preview.active} if preview.active else {})]


def counted(changed: Changed, undo: str = "") -> Row:
    """How many were changed; its number in the audit trail, and with that the command that undoes it."""
    row: Row = {"changed": changed.recipients}
    if changed.audit:
        row["audit"] = changed.audit
        if undo:
            row["undo"] = f"mtactl {undo} --audit {changed.audit}"
    return row | ({"active": changed.active} if changed.active else {})


HANDLERS: Mapping[str, Handler] = {
    "queue.flush": queue_flush,
    "queue.hold": queue_hold,
    "queue.release": queue_release,
    "queue.retry": queue_retry,
    "queue.bounce": queue_bounce,
    "queue.redirect": queue_redirect,
    "queue.purge": queue_purge,
    "queue.restore": queue_restore,
}
