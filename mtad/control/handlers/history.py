"""What happened, and what happens: the life of a mail, and the log."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice
from typing import Any

from mtad.control import values
from mtad.control.admin import Admin, Args, Failed, Handler, Row
from mtad.control.handlers import queue
from mtad.control.handlers.reasons import Reasons
from mtad.control.handlers.rows import moment
from mtad.control.handlers.timeline import ends, standing, timeline
from mtad.mail.envelope import State
from mtad.mail.event import KINDS, Event, Wanted
from mtad.queue.history import Sought
from mtad.queue.store import Row as QueueRow
from mtad.queue.store import Selector

MESSAGES = 10
LINES = 100
LOOK_S = 0.2  # between two looks at what came
ALIVE_S = 15.0  # a reader who hears nothing for so long is told that all is well
RECIPIENTS_MAX = 2000  # of one message

_OPEN = frozenset({State.READY, State.LEASED, State.HELD, State.TRASHED})


async def trace(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    ids = await _found(admin, args)
    refused = await _refused(admin, args)
    if not ids and not refused:
        raise Failed("NothingMatched", _nothing(args))
    if args["follow"] and admin.offline:
        raise Failed("Usage", "--follow needs a running mtad")
    if args["follow"] and len(ids) != 1:
        raise Failed("Usage", f"--follow is for one message, and {len(ids)} match: say which by its id")
    for event in refused:
        yield {
            "queue_id": "", "at": moment(event.at), "event": "refused", "id": "",
            "to": event.to[0] if event.to else "", "text": event.text, "details": {"ip": event.ip, "user": event.user},
        }  # fmt: skip
    for message_id in ids:
        rows, _ = await _life(admin, message_id)
        for row in rows:
            yield row
        if args["follow"]:
            async for row in _followed(admin, message_id, rows):
                yield row
        else:
            for row in await _standing(admin, message_id):
                yield row


async def _found(admin: Admin, args: Args) -> list[str]:
    """Ids of the messages that are meant, oldest first."""
    given, limit = args["word"] or "", args["limit"] or MESSAGES
    if not given and not any(args[name] for name in ("from", "to", "subject")):
        raise Failed("Usage", "say which mail: its id, Message-ID, an address, --from, --to or --subject")
    since_at = admin.clock() - args["since"] if args["since"] is not None else 0.0
    if _is_id(given):
        try:
            found = await admin.store.select(
                Selector(ids=(values.identifier(given).partition(".")[0],), states=queue.EVERY_STATE),
                admin.clock(),
                limit=1,
            )
        except ValueError as error:
            raise Failed("Usage", str(error)) from None
        if found:
            return [found[0].message.id]
    sought = Sought(given, args["from"] or "", args["to"] or "", "", "", args["subject"] or "", since_at)
    ids: list[str] = []
    before = 0
    while len(ids) < limit:
        more, before = await admin.store.find(sought, before, limit - len(ids))
        ids += more
        if not before:
            break
    return ids[::-1]


def _is_id(given: str) -> bool:
    try:
        values.identifier(given)
    except values.BadValue:
        return False
    return True


async def _refused(admin: Admin, args: Args) -> Sequence[Event]:
    """What was refused at the door, of this address or from there; oldest first."""
    given = args["word"] or ""
    since_at = admin.clock() - args["since"] if args["since"] is not None else 0.0
    if args["subject"] or _is_id(given) or given.startswith("<"):
        return ()
    base = Wanted(frozenset({"refused"}), args["from"] or "", args["to"] or "", since_at=since_at)
    asked = [base]
    if given:
        asked = [replace(base, to=given), replace(base, sender=given)] if "@" in given else [replace(base, ip=given)]
    limit = args["limit"] or MESSAGES
    found = [event for wanted in asked for event in await admin.store.other_events(wanted, limit)]
    found += [event for event in admin.events.unkept() if any(wanted.meets(event) for wanted in asked)]
    return sorted(found, key=lambda event: event.at)[-limit:]


def _nothing(args: Args) -> str:
    what = args["word"] or "what was asked for"
    return f"no mail is known of {what}: neither accepted nor refused, as far back as history is kept"


async def _message(admin: Admin, message_id: str) -> Sequence[QueueRow]:
    what = Selector(ids=(message_id,), states=queue.EVERY_STATE)
    pages = [page async for page in queue.pages(admin, what, RECIPIENTS_MAX, admin.clock())]
    return list(islice(chain.from_iterable(pages), RECIPIENTS_MAX))


async def _life(admin: Admin, message_id: str) -> tuple[Sequence[Row], bool]:
    """What happened to a message, and whether something is still open."""
    found = await _message(admin, message_id)
    if not found:  # it was swept just now
        return (), False
    store, recipients = admin.store, [row.recipient for row in found]
    rows = timeline(
        found[0].message,
        recipients,
        await store.attempts(message_id),
        await store.actions(message_id),
        await store.reports(message_id),
        await store.report_of(message_id),
        admin.clock(),
    )
    return rows, any(recipient.state in _OPEN for recipient in recipients)


async def _standing(admin: Admin, message_id: str) -> Sequence[Row]:
    found = await _message(admin, message_id)
    if not found:
        return ()
    now, message = admin.clock(), found[0].message
    actions = await admin.store.actions(message_id)
    reasons = Reasons(admin, now)
    around = {row.recipient.n: reasons.around(row.recipient.domain, message.peer.user) for row in found}
    recipients = [row.recipient for row in found]
    return [*standing(message, recipients, actions, around, now), *ends(message, recipients, admin.config.delivery)]


async def _followed(admin: Admin, message_id: str, told: Sequence[Row]) -> AsyncGenerator[Row, None]:
    """What comes to it, until every recipient has its outcome; then how it ended."""
    seen = {_key(row) for row in told}
    with admin.events.reader() as reader:
        silent_s, first = 0.0, True
        while True:
            rows: Sequence[Row] = ()
            is_open = True
            events, lost = reader.take()
            if first or lost or any(event.message == message_id or event.kind == "operator" for event in events):
                rows, is_open = await _life(admin, message_id)
                first = False
            for row in rows:
                if _key(row) not in seen:
                    seen.add(_key(row))
                    silent_s = 0.0
                    yield row
            if not is_open:
                break
            await asyncio.sleep(LOOK_S)
            silent_s += LOOK_S
            if silent_s >= ALIVE_S:
                silent_s = 0.0
                yield {}
    for row in await _standing(admin, message_id):
        yield row


def _key(row: Row) -> tuple[object, ...]:
    return row["at"], row["event"], row["id"], row["text"]


async def log(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    if args["follow"] and admin.offline:
        raise Failed("Usage", "--follow needs a running mtad")
    since_at = admin.clock() - args["since"] if args["since"] is not None else 0.0
    wanted = Wanted(
        frozenset(args["kind"]), args["from"] or "", args["to"] or "", args["user"] or "", args["ip"] or "", since_at
    )
    with admin.events.reader() as reader:  # before the past is read, so that nothing falls between
        past = await _past(admin, wanted, args["limit"] or LINES)
        for event in past:
            yield _event(event)
        told = {(event.at, event.text) for event in past}
        silent_s = 0.0
        while args["follow"]:
            events, lost = reader.take()
            for event in events:
                if wanted.meets(event) and (event.at, event.text) not in told:
                    silent_s = 0.0
                    yield _event(event)
            if lost:
                text = f"{lost} lines are not shown: they came faster than they were read"
                yield {**_event(Event(admin.clock(), "lost", text)), "lost": lost}
            told.clear()
            await asyncio.sleep(LOOK_S)
            silent_s += LOOK_S
            if silent_s >= ALIVE_S:
                silent_s = 0.0
                yield {}


async def _past(admin: Admin, wanted: Wanted, limit: int) -> list[Event]:
    """The newest so many that match, oldest first."""
    kinds, store = wanted.kinds or frozenset(KINDS), admin.store
    found = list(await store.other_events(wanted, limit))
    found += [event for event in admin.events.unkept() if wanted.meets(event)]
    if "accepted" in kinds:
        found += await _steps(lambda before, left: store.accepted_events(wanted, before, left), limit, kinds)
    if kinds & {"delivered", "deferred", "failed"}:
        found += await _steps(lambda before, left: store.attempt_events(wanted, before, left), limit, kinds)
    found.sort(key=lambda event: event.at)
    return found[-limit:]


async def _steps(
    step: Callable[[int, int], Coroutine[Any, Any, tuple[Sequence[Event], int]]], limit: int, kinds: frozenset[str]
) -> list[Event]:
    found: list[Event] = []
    before = 0
    while len(found) < limit:
        more, before = await step(before, limit)
        found += [event for event in more if event.kind in kinds]
        if not before:
            break
    return found


def _event(event: Event) -> Row:
    return {
        "at": moment(event.at),
        "kind": event.kind,
        "queue_id": event.message,
        "from": event.sender,
        "to": list(event.to),
        "ip": event.ip,
        "user": event.user,
        "text": event.text,
    }


HANDLERS: Mapping[str, Handler] = {"trace": trace, "log": log}
