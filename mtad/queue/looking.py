"""The store's windows: questions about mail and its history. They are answered after the commits of those who came with
them, and change nothing; only the events of the past are kept here too, beside the questions about them.

The questions of Store, and HistoryStore (mtad.queue.history), on SQLite.
"""

import sqlite3
from collections.abc import Sequence
from functools import partial

from mtad.mail.envelope import Attempt
from mtad.mail.event import Event, Wanted
from mtad.queue import keys
from mtad.queue.history import Report, Sent, Sought, Tally
from mtad.queue.historyrows import Asked, HistoryRows, Looked
from mtad.queue.listing import Listing, MailqLines, SelectLines
from mtad.queue.operate import BundleAll, ChangeAll, Operate, Select, SortAll
from mtad.queue.store import (
    Bundle,
    BundleBy,
    Change,
    Group,
    GroupBy,
    Listed,
    Place,
    Preview,
    Row,
    Selector,
    SortBy,
    Stats,
    Why,
)
from mtad.queue.writer import Phase, Work, Writer, one_by_one


class Looking:
    def __init__(self, connection: sqlite3.Connection, writer: Writer, operate: Operate) -> None:
        self._writer = writer
        history, listing = HistoryRows(connection), Listing(connection, operate.lookup)
        self._select = Work("select", one_by_one(operate.select), Phase.READ)
        self._keyed = Work("keyed", one_by_one(partial(keys.owner, connection)), Phase.READ)
        self._lines = Work("lines", one_by_one(listing.select), Phase.READ)
        self._mailq = Work("mailq", one_by_one(listing.mailq), Phase.READ)
        self._waiting = Work("waiting", one_by_one(listing.waiting), Phase.READ)
        self._preview = Work("preview", one_by_one(operate.preview))  # it writes to a table of its own, in memory
        self._bundles = Work("bundles", one_by_one(operate.bundles), Phase.READ)
        self._sort = Work("sort", one_by_one(operate.sort), Phase.READ)
        self._attempts = Work("attempts", one_by_one(operate.attempts), Phase.READ)
        self._next_due = Work("next_due", one_by_one(operate.next_due), Phase.READ)
        self._newest = Work("newest", one_by_one(operate.newest), Phase.READ)
        self._stats = Work("stats", one_by_one(operate.stats), Phase.READ)
        self._groups = Work("groups", one_by_one(operate.groups), Phase.READ)
        self._reports = Work("reports", one_by_one(history.reports), Phase.READ)
        self._report_of = Work("report_of", one_by_one(history.report_of), Phase.READ)
        self._find = Work("find", one_by_one(history.find), Phase.READ)
        self._sent = Work("sent", one_by_one(history.sent), Phase.READ)
        self._accepted_events = Work("accepted_events", one_by_one(history.accepted), Phase.READ)
        self._attempt_events = Work("attempt_events", one_by_one(history.attempts), Phase.READ)
        self._other_events = Work("other_events", one_by_one(history.others), Phase.READ)
        self._keep_events = Work("keep_events", one_by_one(history.keep))
        self._tallies = Work("tallies", one_by_one(history.tallies), Phase.READ)

    async def select(self, what: Selector, now: float, after: str = "", limit: int = 1000) -> Sequence[Row]:
        return await self._writer.do(self._select, Select(what, now, after, limit))

    async def keyed(self, uid: int, key: str) -> str:
        return await self._writer.do(self._keyed, (uid, key))

    async def lines(
        self, what: Selector, now: float, start: Place = (0, 0), limit: int | None = None, *,
        whys: Sequence[Why] = (), busy: str = "",
    ) -> Listed:  # fmt: skip
        return await self._writer.do(self._lines, SelectLines(what, now, start, limit, tuple(whys), busy))

    async def mailq(
        self, now: float, start: Place = (0, 0), uid: int | None = None, *, whys: Sequence[Why] = (), busy: str = ""
    ) -> Listed:
        return await self._writer.do(self._mailq, MailqLines(now, start, uid, tuple(whys), busy))

    async def waiting(
        self, what: Selector | None, now: float, start: Place = (0, 0), limit: int | None = None
    ) -> Sequence[tuple[str, str]]:
        asked = MailqLines(now, start) if what is None else SelectLines(what, now, start, limit)
        return await self._writer.do(self._waiting, asked)

    async def preview(self, what: Selector, change: Change, now: float, limit: int = 0, rows: int = 0) -> Preview:
        return await self._writer.do(self._preview, ChangeAll(what, change, now, limit, rows=rows))

    async def bundles(self, what: Selector, by: BundleBy, now: float, limit: int = 1000) -> Sequence[Bundle]:
        return await self._writer.do(self._bundles, BundleAll(what, by, now, limit))

    async def sort(self, what: Selector, by: SortBy, now: float, *, down: bool, limit: int) -> Sequence[str]:
        return await self._writer.do(self._sort, SortAll(what, by, now, down, limit))

    async def attempts(self, message_id: str) -> Sequence[Attempt]:
        return await self._writer.do(self._attempts, message_id)

    async def next_due(self, now: float) -> float | None:
        return await self._writer.do(self._next_due, now)

    async def newest_id(self) -> str:
        """The greatest id in the queue, "" when it is empty: what mtad.mail.ident.Ids starts after."""
        return await self._writer.do(self._newest, None)

    async def stats(self, now: float) -> Stats:
        return await self._writer.do(self._stats, now)

    async def groups(self, by: GroupBy) -> Sequence[Group]:
        return await self._writer.do(self._groups, by)

    async def reports(self, message_id: str) -> Sequence[Report]:
        return await self._writer.do(self._reports, message_id)

    async def report_of(self, message_id: str) -> str:
        return await self._writer.do(self._report_of, message_id)

    async def find(self, sought: Sought, before: int, limit: int) -> tuple[Sequence[str], int]:
        return await self._writer.do(self._find, Asked(sought, before, limit))

    async def sent(self, sought: Sought, before: int, limit: int) -> tuple[Sequence[Sent], int]:
        return await self._writer.do(self._sent, Asked(sought, before, limit))

    async def accepted_events(self, wanted: Wanted, before: int, limit: int) -> tuple[Sequence[Event], int]:
        return await self._writer.do(self._accepted_events, Looked(wanted, before, limit))

    async def attempt_events(self, wanted: Wanted, before: int, limit: int) -> tuple[Sequence[Event], int]:
        return await self._writer.do(self._attempt_events, Looked(wanted, before, limit))

    async def other_events(self, wanted: Wanted, limit: int) -> Sequence[Event]:
        return await self._writer.do(self._other_events, Looked(wanted, 0, limit))

    async def keep_events(self, events: Sequence[Event], tally: Tally) -> None:
        await self._writer.do(self._keep_events, (events, tally))

    async def tallies(self, since_at: float) -> Sequence[Tally]:
        return await self._writer.do(self._tallies, since_at)
