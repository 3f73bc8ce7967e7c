"""What is measured, and looking on: top, queue watch, metrics, alerts."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncGenerator, Mapping

from mtad.control import alerts as judging
from mtad.control.admin import Admin, Args, Failed, Handler, Row
from mtad.control.chronicle import sums
from mtad.control.handlers import queue, rows
from mtad.control.metrics import certificates_end_at, disk_of, gauges, queue_gauges
from mtad.mail.event import Event
from mtad.queue.store import Row as QueueRow
from mtad.queue.store import Selector

INTERVAL_S, INTERVAL_MIN_S, INTERVAL_MAX_S = 2.0, 0.5, 60.0
WINDOW_S = 60.0  # what is busiest is that of so long
READ_ALONG = 20_000  # events in an interval
SHOWN = 8
WATCHED = 500  # recipients at the same time

_ERRORS = 'mtad_delivery_errors_total{class="'


def _interval(args: Args) -> float:
    interval_s: float = args["interval"] if args["interval"] is not None else INTERVAL_S
    if not INTERVAL_MIN_S <= interval_s <= INTERVAL_MAX_S:
        raise Failed("Usage", "interval: 1s to 60s")
    return interval_s


class _Busiest:
    """Who had most within WINDOW_S."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, str, str, str]] = deque(maxlen=READ_ALONG)

    def see(self, event: Event, site: str) -> None:
        if event.kind == "accepted":
            self._seen.append((event.at, "sender", event.user or event.sender or "<>", event.kind))
        elif event.kind in {"delivered", "deferred", "failed"}:
            self._seen.append((event.at, "site", site, event.kind))

    def forget(self, before: float) -> None:
        while self._seen and self._seen[0][0] < before:
            self._seen.popleft()

    def senders(self) -> list[Row]:
        counts = Counter(name for _, what, name, _ in self._seen if what == "sender")
        return [{"sender": name, "messages": count} for name, count in counts.most_common(SHOWN)]

    def sites(self) -> list[Row]:
        counts = Counter(name for _, what, name, _ in self._seen if what == "site")
        each = Counter((name, kind) for _, what, name, kind in self._seen if what == "site")
        return [
            {"site": name, **{kind: each[name, kind] for kind in ("delivered", "deferred", "failed")}}
            for name, _ in counts.most_common(SHOWN)
        ]


async def top(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    interval_s, busiest, errors = _interval(args), _Busiest(), deque[tuple[float, Counter[str]]]()
    with admin.events.reader(READ_ALONG) as reader:
        while True:
            began_at, before = admin.clock(), sums(admin.events.counters)
            errors_before = _errors(admin.events.counters)
            await asyncio.sleep(interval_s)
            now = admin.clock()
            for event in reader.take()[0]:
                busiest.see(event, _site(admin, event))
            busiest.forget(now - WINDOW_S)
            errors.append((now, _errors(admin.events.counters) - errors_before))
            while errors[0][0] < now - WINDOW_S:
                errors.popleft()
            took_s, after = max(now - began_at, 0.001), sums(admin.events.counters)
            stats, status = await admin.store.stats(now), admin.app.status()
            total = sum((one for _, one in errors), Counter[str]())
            yield {
                "at": round(now, 3),
                "interval_s": round(took_s, 3),
                "hostname": admin.config.hostname,
                "uptime_s": status.get("uptime_s", 0),
                "sessions": status.get("sessions", 0),
                "deliveries": status.get("deliveries", 0),
                "rates": {name: round((after[name] - before[name]) / took_s, 2) for name in after},
                "queue": rows.counts(stats),
                "sites": busiest.sites(),
                "senders": busiest.senders(),
                "errors": [{"error": name, "count": count} for name, count in total.most_common(SHOWN)],
                "waiting": [
                    {"domain": domain, "recipients": count, "oldest": int(oldest)}
                    for domain, count, oldest in stats.domains[:SHOWN]
                ],
            }
            if args["once"]:
                return


def _errors(counters: Mapping[str, int]) -> Counter[str]:
    found = [(key, count) for key, count in list(counters.items()) if key.startswith(_ERRORS)]
    return Counter({key.removeprefix(_ERRORS).partition('"')[0]: count for key, count in found})


def _site(admin: Admin, event: Event) -> str:
    domain = event.to[0].rpartition("@")[2].lower() if event.to else ""
    return admin.sites.of(domain).name if domain and admin.sites.known(domain) else domain


async def queue_watch(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    """What is there, and then each change."""
    what, interval_s, limit = queue.selector(args), _interval(args), min(args["limit"] or WATCHED, WATCHED)
    if what.empty:
        what = Selector(all=True)
    seen: dict[str, tuple[str, int]] | None = None
    while True:
        now = admin.clock()
        found = {row.recipient.id: row async for page in queue.pages(admin, what, limit, now) for row in page}
        told = False
        for row_id, row in found.items():
            state = rows.word(row.recipient, now), row.recipient.tries
            was = (seen or {}).get(row_id)
            if was != state:
                change = "here" if seen is None else "came" if was is None else "changed"
                yield _watched(row, change, was[0] if was else "", now)
                told = True
        for row_id, was in (seen or {}).items():
            if row_id not in found:
                yield await _gone(admin, row_id, was[0], now)
                told = True
        seen = {row_id: (rows.word(row.recipient, now), row.recipient.tries) for row_id, row in found.items()}
        if not told:
            yield {}
        await asyncio.sleep(interval_s)


async def _gone(admin: Admin, row_id: str, was: str, now: float) -> Row:
    """It is not selected any more: how it is now."""
    left = await admin.store.select(Selector(ids=(row_id,), states=queue.EVERY_STATE), now, "", 1)
    if left:
        return _watched(left[0], "gone", was, now)
    return {"at": round(now, 3), "change": "gone", "id": row_id, "state": "forgotten", "before": was}


def _watched(row: QueueRow, change: str, before: str, now: float) -> Row:
    message, recipient = row.message, row.recipient
    return {
        "at": round(now, 3),
        "change": change,
        "id": recipient.id,
        "state": rows.word(recipient, now),
        "before": before,
        "sender": message.sender,
        "address": recipient.address,
        "tries": recipient.tries,
        "next_attempt": int(recipient.next_at),
        "delay_reason": rows.reason(recipient.last),
    }


async def metrics(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    now = admin.clock()
    for name, count in sorted(admin.events.counters.items()):
        yield {"name": name, "type": "counter", "value": count}
    measured = {
        **gauges(admin, certificates_end_at(admin)),
        **queue_gauges(await admin.store.stats(now), now),
        "mtad_store_up": 1,
    }
    for name, value in sorted(measured.items()):
        yield {"name": name, "type": "gauge", "value": value}


async def alerts(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    if args["rules"]:
        yield {"rules": judging.rules()}
        return
    judged = judging.judge(await _facts(admin), admin.clock())
    for row in judging.rows(judged):
        yield dict(row)
    firing = [one.alert.title for one in judged if one.firing]
    if firing:
        raise Failed("ProblemFound", f"{len(firing)} of {len(judged)} alerts fire")


async def _facts(admin: Admin) -> judging.Facts:
    now, disk = admin.clock(), disk_of(admin.config.paths.data)
    tallies = await admin.store.tallies(now - judging.DAY_S)
    used = None if disk is None or not disk[1] else 1 - disk[0] / disk[1]
    stats = await admin.store.stats(now)
    return judging.Facts(stats.messages, tallies, used, certificates_end_at(admin))


HANDLERS: Mapping[str, Handler] = {"top": top, "queue.watch": queue_watch, "metrics": metrics, "alerts": alerts}
