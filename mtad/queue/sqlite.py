"""The store on SQLite, for one host. Thin: it turns calls into work of the writer and keeps the body files tidy."""

import asyncio
import hashlib
import os
import sqlite3
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from mtad import faults
from mtad.config import Paths
from mtad.mail import ident
from mtad.mail.envelope import Attempt, Clock, Content, Job, NewMessage
from mtad.mail.event import Event, Wanted
from mtad.queue import database, files, keys
from mtad.queue.audit import Action, Changed, Entry, HoldRule, Looked
from mtad.queue.blocks import BlockRows
from mtad.queue.contents import Contents, Sound
from mtad.queue.cycle import Cycle, Lease, LeaseOld, Settled
from mtad.queue.damage import Damage, Lost
from mtad.queue.history import Report, Sent, Sought, Tally
from mtad.queue.historyrows import Asked as HistoryAsked
from mtad.queue.historyrows import HistoryRows
from mtad.queue.historyrows import Looked as HistoryLooked
from mtad.queue.holdrules import HoldRules
from mtad.queue.listing import Listing
from mtad.queue.operate import BundleAll, ChangeAll, Operate, Select, SortAll, Sweep
from mtad.queue.operators import Claim, Freeze, Operators, SettleClaimed, Thaw
from mtad.queue.people import Asked, People
from mtad.queue.sites import SiteRows
from mtad.queue.store import (
    AUDIT_S,
    Bundle,
    BundleBy,
    Change,
    Damaged,
    Group,
    GroupBy,
    Listed,
    Place,
    Preview,
    Redirected,
    Row,
    Selector,
    Settlement,
    SortBy,
    Stats,
    StoredSite,
    StoreError,
    Suspension,
    Unsound,
    Usage,
)
from mtad.queue.suppressions import Bounce, SuppressionRows
from mtad.queue.tlsrows import TlsRows
from mtad.queue.trail import Trail
from mtad.queue.transfers import Transfers
from mtad.queue.writer import A, Phase, R, Work, Writer, one_by_one

if TYPE_CHECKING:
    from mtad.accounts.blocks import Block
    from mtad.accounts.suppressions import Suppression
    from mtad.accounts.users import StoredUser
    from mtad.tls.mta_sts import Known
    from mtad.tls.tlsrpt import Counted

RESERVE_BYTES = 32 * 1024 * 1024
"""Free room on the disk below which no mail is taken: what was taken must still be able to end, and the log of the
database takes up to half of it meanwhile."""

ORPHAN_AGE_S = 3600.0
"""A file that no row names may belong to a mail that is still coming in; after this long it does not. The clock may
jump, so two sweeps must agree."""

_BACKUP_PAGES = 256  # copied at a time; the mail that waits meanwhile is served in between


def open_store(paths: Paths, clock: Clock) -> "SqliteStore":
    """Open the queue for the daemon, alone. StoreLocked when somebody else has it; StoreError, in one line, when it
    cannot be used. Blocking."""
    try:
        os.makedirs(paths.data, mode=0o700, exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot make {paths.data}: {error.strerror}") from None
    return _opened(paths, clock, write=True)


def open_read_only(paths: Paths, clock: Clock) -> "SqliteStore":
    """Open a stopped daemon's queue to look at it; every change is a StoreError. StoreLocked while a daemon runs."""
    return _opened(paths, clock, write=False)


def _opened(paths: Paths, clock: Clock, *, write: bool) -> "SqliteStore":
    lock = database.Lock(paths, create=write)
    try:
        connection = database.open_writable(paths) if write else database.open_reading(paths)
    except StoreError:
        lock.release()
        raise
    return SqliteStore(paths, clock, connection, lock, write=write)


class SqliteStore:
    """Store, UserStore, BlockStore SuppressionStore and OperatorStore. All calls come from one event loop."""

    def __init__(
        self, paths: Paths, clock: Clock, connection: sqlite3.Connection, lock: database.Lock, *, write: bool
    ) -> None:
        self._spool = paths.spool
        self._lock = lock
        self._contents = Contents()
        self._sound = Sound()
        self._unnamed: frozenset[str] = frozenset()  # old files without a row, when the last sweep looked
        self._connection = connection
        self._writer = Writer(connection, checkpoints=write)
        rules = HoldRules(connection)
        cycle = self._cycle = Cycle(connection, clock, rules)
        self._changing = 0  # operators at work
        self._doubtful = 0  # leases up to this number may hold recipients that an operator changed
        sites = SiteRows(connection)
        operate = Operate(connection)
        trail = Trail(connection)
        blocks = BlockRows(connection)
        suppressions = SuppressionRows(connection)
        people = People(connection)
        tls = TlsRows(connection)
        history = HistoryRows(connection)
        operators = Operators(connection, cycle, operate, rules, people)
        self.reserve_bytes = RESERVE_BYTES
        self._data = paths.data
        self._accept = Work("accept", self._where_there_is_room(cycle.accept))
        self._lease = Work("lease", one_by_one(cycle.lease))
        self._lease_old = Work("lease_old", one_by_one(cycle.lease_old))
        self._release = Work("release", one_by_one(cycle.release))
        self._confirm = Work("confirm", one_by_one(cycle.confirm))
        self._bring_forward = Work("bring_forward", one_by_one(operate.bring_forward))
        self._load_sites = Work("load_sites", one_by_one(sites.load), Phase.READ)
        self._save_sites = Work("save_sites", one_by_one(sites.save))
        self._load_suspensions = Work("load_suspensions", one_by_one(sites.suspensions), Phase.READ)
        self._save_suspension = Work("save_suspension", one_by_one(sites.suspend))
        self._delete_suspension = Work("delete_suspension", one_by_one(sites.resume))
        self._renew = Work("renew", one_by_one(cycle.renew))
        self._settle = Work("settle", cycle.settle)
        self._change = Work("change", one_by_one(operate.change))
        self._sweep = Work("sweep", one_by_one(operate.sweep))
        self._save_user = Work("save_user", one_by_one(people.save_user))
        self._delete_user = Work("delete_user", one_by_one(people.delete_user))
        self._select = Work("select", one_by_one(operate.select), Phase.READ)
        self._listing = Work("listing", one_by_one(Listing(connection).read), Phase.READ)
        self._attempts = Work("attempts", one_by_one(operate.attempts), Phase.READ)
        self._body = Work("body", one_by_one(operate.body), Phase.READ)
        self._next_due = Work("next_due", one_by_one(operate.next_due), Phase.READ)
        self._newest = Work("newest", one_by_one(operate.newest), Phase.READ)
        self._groups = Work("groups", one_by_one(operate.groups), Phase.READ)
        self._stats = Work("stats", one_by_one(operate.stats), Phase.READ)
        self._without_row = Work("without_row", one_by_one(operate.without_row), Phase.READ)
        self._sweep_people = Work("sweep_people", one_by_one(people.sweep))
        self._load_users = Work("load_users", one_by_one(people.load_users), Phase.READ)
        self._install_secret = Work("install_secret", one_by_one(people.install_secret), Phase.READ)
        self._usage = Work("usage", one_by_one(people.usage), Phase.READ)
        self._correspondents = Work("correspondents", one_by_one(people.correspondents), Phase.READ)
        self._save_block = Work("save_block", one_by_one(blocks.save))
        self._delete_block = Work("delete_block", one_by_one(blocks.delete))
        self._load_blocks = Work("load_blocks", one_by_one(blocks.load), Phase.READ)
        self._load_policies = Work("load_policies", one_by_one(tls.load_policies), Phase.READ)
        self._save_policies = Work("save_policies", one_by_one(tls.save_policies))
        self._delete_policies = Work("delete_policies", one_by_one(tls.delete_policies))
        self._count_tls = Work("count_tls", one_by_one(tls.count))
        self._tls_days = Work("tls_days", one_by_one(tls.days), Phase.READ)
        self._tls_counted = Work("tls_counted", one_by_one(tls.sessions), Phase.READ)
        self._forget_tls = Work("forget_tls", one_by_one(tls.forget))
        self._load_suppressions = Work("load_suppressions", one_by_one(suppressions.load), Phase.READ)
        self._save_suppression = Work("save_suppression", one_by_one(suppressions.save))
        self._delete_suppression = Work("delete_suppression", one_by_one(suppressions.delete))
        self._count_bounce = Work("count_bounce", one_by_one(suppressions.count))
        self._sweep_suppressions = Work("sweep_suppressions", one_by_one(suppressions.sweep))
        self._keyed = Work("keyed", one_by_one(partial(keys.owner, connection)), Phase.READ)
        self._preview = Work("preview", one_by_one(operate.preview))  # it writes to a table of its own, in memory
        self._bundles = Work("bundles", one_by_one(operate.bundles), Phase.READ)
        self._sort = Work("sort", one_by_one(operate.sort), Phase.READ)
        self._note = Work("note", one_by_one(trail.note))
        self._trail = Work("trail", one_by_one(trail.look), Phase.READ)
        self._actions = Work("actions", one_by_one(trail.actions), Phase.READ)
        self._sweep_trail = Work("sweep_trail", one_by_one(operators.sweep))
        self._claim = Work("claim", one_by_one(operators.claim))
        self._settle_claimed = Work("settle_claimed", one_by_one(operators.settle))
        self._hold_rules = Work("hold_rules", one_by_one(rules.load), Phase.READ)
        self._add_hold_rule = Work("add_hold_rule", one_by_one(operators.add_rule))
        self._remove_hold_rule = Work("remove_hold_rule", one_by_one(rules.remove))
        self._freeze = Work("freeze", one_by_one(operators.freeze))
        self._thaw = Work("thaw", one_by_one(operators.thaw))
        self._find = Work("find", one_by_one(history.find), Phase.READ)
        self._sent = Work("sent", one_by_one(history.sent), Phase.READ)
        self._accepted_events = Work("accepted_events", one_by_one(history.accepted), Phase.READ)
        self._attempt_events = Work("attempt_events", one_by_one(history.attempts), Phase.READ)
        self._other_events = Work("other_events", one_by_one(history.others), Phase.READ)
        self._keep_events = Work("keep_events", one_by_one(history.keep))
        self._tallies = Work("tallies", one_by_one(history.tallies), Phase.READ)
        self._reports = Work("reports", one_by_one(history.reports), Phase.READ)
        self._report_of = Work("report_of", one_by_one(history.report_of), Phase.READ)
        self._transfers = Transfers(connection, operate)
        self._transfer: Work[Any, Any] = Work("transfer", one_by_one(_called))
        self._look_at_transfers: Work[Any, Any] = Work("look_at_transfers", one_by_one(_called), Phase.READ)
        self._set_aside = Work("set_aside", one_by_one(Damage(connection).set_aside))
        self._backup = Work("backup", one_by_one(self._copy_database), Phase.LONG)

    async def accept(self, new: NewMessage) -> str:
        self._check_file(new)
        stored_id = await self._writer.do(self._accept, new, _size(new))
        if stored_id == new.message.id:
            self._remember(new)
        return stored_id

    def _where_there_is_room(self, accept: Callable[[Sequence[NewMessage]], R]) -> Callable[[Sequence[NewMessage]], R]:
        def run(new: Sequence[NewMessage]) -> R:
            disk = os.statvfs(self._data)
            free_bytes = disk.f_bavail * disk.f_frsize
            if free_bytes < self.reserve_bytes:
                raise StoreError(f"only {free_bytes} octets are free on the disk of {self._data}", full=True)
            return accept(new)

        return run

    async def lease(self, now: float, until: float, limit: int, skip: frozenset[str] = frozenset()) -> Sequence[Job]:
        jobs = await self._writer.do(self._lease, Lease(now, until, limit, skip))
        if jobs:
            faults.point("lease.after")
        return jobs

    async def lease_old(
        self, now: float, until: float, limit: int, domains: frozenset[str], accepted_before: float
    ) -> Sequence[Job]:
        return await self._writer.do(self._lease_old, LeaseOld(now, until, limit, domains, accepted_before))

    async def set_aside(self, now: float) -> Sequence[Lost]:
        return await self._writer.do(self._set_aside, now)

    async def release(self, jobs: Sequence[Job]) -> None:
        await self._writer.do(self._release, jobs)

    async def confirm(self, job: Job, now: float) -> Job | None:
        if job.lease > self._doubtful and not self._changing and now < job.until:
            return job  # nobody changed anything since, and nobody else can have it
        return await self._writer.do(self._confirm, (job, now))

    async def bring_forward(self, now: float, latest: float) -> int:
        return await self._writer.do(self._bring_forward, (now, latest))

    async def load_sites(self) -> Sequence[StoredSite]:
        return await self._writer.do(self._load_sites, None)

    async def save_sites(self, sites: Sequence[StoredSite]) -> None:
        await self._writer.do(self._save_sites, sites)

    async def load_suspensions(self) -> Sequence[Suspension]:
        return await self._writer.do(self._load_suspensions, None)

    async def save_suspension(self, suspension: Suspension) -> None:
        await self._writer.do(self._save_suspension, suspension)

    async def delete_suspension(self, kind: str, value: str) -> bool:
        return await self._writer.do(self._delete_suspension, (kind, value))

    async def renew(self, job: Job, until: float) -> bool:
        return await self._writer.do(self._renew, (job, until))

    async def settle(self, settlement: Settlement) -> bool:
        for new in settlement.spawn:
            self._check_file(new)
        for merge in settlement.merges:
            self._contents.drop(merge.whole.message.id)  # it may be another one a moment from now
        size_bytes = sum(_size(new) for new in settlement.spawn) + sum(_size(one.whole) for one in settlement.merges)
        settled = await self._writer.do(self._settle, settlement, size_bytes)
        if self._settled(settlement, settled):
            await asyncio.to_thread(files.delete, self._spool, [settlement.job.message.id])
        if settled.elsewhere:
            raise Redirected(settled.elsewhere)
        return settled.done

    def _settled(self, settlement: Settlement, settled: Settled) -> bool:
        """Whether a file is to be deleted."""
        if settled.done:
            for new in settlement.spawn:
                self._remember(new)
        if settled.closed:
            self._contents.drop(settlement.job.message.id)
            self._sound.drop(settlement.job.message.id)
        return settled.file

    async def content(self, message_id: str) -> Content:
        kept = self._contents.get(message_id)
        if kept is not None:
            return kept
        try:
            found = await self._writer.do(self._body, message_id)
        except Unsound as error:
            raise Damaged(f"the body of message {message_id} cannot be read: {error}") from None
        if found is None:
            raise Damaged(f"message {message_id} has no body")
        head, data, size_bytes, digest = found
        if data is None:
            return Content(head, await self._sound_file(message_id, head, size_bytes, digest))
        if len(head) + len(data) != size_bytes or (digest and digest_of(head, data) != digest):
            raise Damaged(f"the body of message {message_id} is damaged")
        return Content(head, data)

    async def _sound_file(self, message_id: str, head: bytes, size_bytes: int, digest: bytes) -> str:
        """The path of a body file that is what it was when it was accepted."""
        path, now = f"{self._spool}/{message_id}", time.monotonic()
        try:
            have = os.stat(path, follow_symlinks=False).st_size
            if have != size_bytes - len(head):
                raise Damaged(f"the body of message {message_id} is damaged: {have} octets in {path}")
            if digest and not self._sound.known(message_id, now):
                if await asyncio.to_thread(files.digest, path, head) != digest:
                    raise Damaged(f"the body of message {message_id} is damaged: {path} was changed")
                self._sound.note(message_id, now)
        except FileNotFoundError:
            raise Damaged(f"the body of message {message_id} is gone: there is no {path}") from None
        except OSError as error:
            raise StoreError(f"the body of message {message_id} cannot be read: {error.strerror}") from None
        return path

    async def select(self, what: Selector, now: float, after: str = "", limit: int = 1000) -> Sequence[Row]:
        return await self._writer.do(self._select, Select(what, now, after, limit))

    async def keyed(self, uid: int, key: str) -> str:
        return await self._writer.do(self._keyed, (uid, key))

    async def listing(
        self, now: float, start: Place = (0, 0), uid: int | None = None, shut: Mapping[str, str] | None = None
    ) -> Listed:
        return await self._writer.do(self._listing, (now, start, uid, shut or {}))

    async def change(
        self, what: Selector, change: Change, now: float, limit: int = 0, entry: Entry | None = None
    ) -> Changed:
        return await self._operating(self._change, ChangeAll(what, change, now, limit, entry))

    async def _operating(self, work: Work[A, R], argument: A) -> R:
        """Have something done that may change what is leased: whoever confirms a lease meanwhile looks again."""
        self._changing += 1
        try:
            return await self._writer.do(work, argument)
        finally:
            self._changing -= 1
            self._doubtful = self._cycle.last_lease

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

    async def sweep(
        self, now: float, history_s: float, trash_s: float, limit: int = 1000, audit_s: float = AUDIT_S
    ) -> int:
        await self._writer.do(self._sweep_people, now)
        if await self._writer.do(self._sweep_trail, (now, now - audit_s)):
            await self.hold_rules()
        swept, closed = await self._writer.do(self._sweep, Sweep(now, history_s, trash_s, limit))
        for message_id in closed:
            self._contents.drop(message_id)
        complete, unfinished = await asyncio.to_thread(files.old_files, self._spool, now - ORPHAN_AGE_S)
        found = await self._writer.do(self._without_row, complete) if complete else ()
        unnamed = frozenset(found)
        orphans = unnamed & self._unnamed
        self._unnamed = unnamed
        await asyncio.to_thread(
            files.delete, self._spool, [*(one for one, is_file in closed.items() if is_file), *orphans, *unfinished]
        )
        return swept

    async def backup(self, path: str, bodies: str = "") -> None:
        if bodies:
            await asyncio.to_thread(files.link_all, self._spool, bodies)  # most of them; the rest at the moment itself
        await self._writer.do(self._backup, (path, bodies))

    async def load_users(self) -> Sequence["StoredUser"]:
        from mtad.accounts.users import StoredUser  # late: looking at a queue needs no accounts

        return [StoredUser(*row) for row in await self._writer.do(self._load_users, None)]

    async def save_user(self, user: "StoredUser") -> None:
        await self._writer.do(self._save_user, user)

    async def delete_user(self, name: str) -> bool:
        return await self._writer.do(self._delete_user, name)

    async def install_secret(self) -> bytes:
        return await self._writer.do(self._install_secret, None)

    async def usage(self, user: str, now: float) -> Usage:
        return await self._writer.do(self._usage, (user, now))

    async def correspondents(self, user: str, addresses: Sequence[str]) -> frozenset[str]:
        return await self._writer.do(self._correspondents, Asked(user, tuple(addresses)))

    async def load_blocks(self) -> Sequence["Block"]:
        from mtad.accounts.blocks import Block  # late, as above

        return [Block(*row) for row in await self._writer.do(self._load_blocks, None)]

    async def save_block(self, block: "Block") -> None:
        await self._writer.do(self._save_block, block)

    async def delete_block(self, value: str) -> bool:
        return await self._writer.do(self._delete_block, value)

    async def load_policies(self) -> Sequence["Known"]:
        from mtad.tls.mta_sts import Known, Policy  # late, as above

        return [
            Known(domain, policy_id, Policy(mode, tuple(mx.split("\n")) if mx else (), max_age_s), fetched_at, used_at)
            for domain, policy_id, mode, mx, max_age_s, fetched_at, used_at in await self._writer.do(
                self._load_policies, None
            )
        ]

    async def save_policies(self, policies: Sequence["Known"]) -> None:
        await self._writer.do(self._save_policies, policies)

    async def delete_policies(self, domains: Sequence[str]) -> None:
        await self._writer.do(self._delete_policies, domains)

    async def count_tls(self, counted: Sequence["Counted"]) -> None:
        await self._writer.do(self._count_tls, counted)

    async def tls_days(self, before: int) -> Sequence[tuple[int, str]]:
        return await self._writer.do(self._tls_days, before)

    async def tls_counted(self, day: int, domain: str) -> Sequence["Counted"]:
        from mtad.tls.tlsrpt import Counted  # late, as above

        return [Counted(*row) for row in await self._writer.do(self._tls_counted, (day, domain))]

    async def forget_tls(self, day: int, domain: str) -> None:
        await self._writer.do(self._forget_tls, (day, domain))

    async def load_suppressions(self) -> Sequence["Suppression"]:
        from mtad.accounts.suppressions import Suppression  # late, as above

        return [Suppression(*row) for row in await self._writer.do(self._load_suppressions, None)]

    async def save_suppression(self, one: "Suppression") -> None:
        await self._writer.do(self._save_suppression, one)

    async def delete_suppression(self, user: str, address: str) -> bool:
        return await self._writer.do(self._delete_suppression, (user, address))

    async def count_bounce(self, user: str, address: str, message_id: str, at: float, since: float) -> int:
        return await self._writer.do(self._count_bounce, Bounce(user, address, message_id, at, since))

    async def sweep_suppressions(self, now: float, since: float) -> None:
        await self._writer.do(self._sweep_suppressions, (now, since))

    async def note(self, entry: Entry, now: float) -> int:
        return await self._writer.do(self._note, (entry, now))

    async def trail(self, looked: Looked) -> Sequence[Entry]:
        return await self._writer.do(self._trail, looked)

    async def actions(self, message_id: str) -> Sequence[Action]:
        return await self._writer.do(self._actions, message_id)

    async def claim(self, what: Selector, now: float, until: float, after: str, limit: int) -> Sequence[Job]:
        return await self._writer.do(self._claim, Claim(what, now, until, after, limit))

    async def settle_claimed(
        self, settlements: Sequence[Settlement], entry: Entry, now: float, audit: int
    ) -> tuple[Changed, Sequence[Settlement]]:
        for settlement in settlements:
            for new in settlement.spawn:
                self._check_file(new)
        size = sum(_size(new) for settlement in settlements for new in settlement.spawn)
        changed, each = await self._writer.do(self._settle_claimed, SettleClaimed(settlements, entry, now, audit), size)
        pairs = list(zip(settlements, each, strict=True))
        gone = [settlement.job.message.id for settlement, settled in pairs if self._settled(settlement, settled)]
        if gone:
            await asyncio.to_thread(files.delete, self._spool, gone)
        return changed, [settlement for settlement, settled in pairs if settled.done]

    async def transfer(self, call: Callable[[Transfers], R], *, read: bool = False) -> R:
        """Have something done to transfers (mtad.queue.transfers), as one transaction, durable when it returns."""
        if read:
            return cast("R", await self._writer.do(self._look_at_transfers, partial(call, self._transfers)))
        return cast("R", await self._operating(self._transfer, partial(call, self._transfers)))

    async def hold_rules(self) -> Sequence[HoldRule]:
        return await self._writer.do(self._hold_rules, None)

    async def add_hold_rule(self, rule: HoldRule, entry: Entry, now: float) -> int:
        return await self._changing_rules(self._writer.do(self._add_hold_rule, (rule, entry, now)))

    async def remove_hold_rule(self, number: int) -> bool:
        return await self._changing_rules(self._writer.do(self._remove_hold_rule, number))

    async def freeze(self, user: "StoredUser", what: Selector, entry: Entry, now: float) -> Changed:
        return await self._changing_rules(self._operating(self._freeze, Freeze(user, what, entry, now)))

    async def thaw(self, user: "StoredUser", entry: Entry, now: float, *, release: bool) -> Changed:
        return await self._changing_rules(self._operating(self._thaw, Thaw(user, entry, now, release)))

    async def _changing_rules(self, work: Coroutine[Any, Any, R]) -> R:
        """Wait for a change of the hold rules. It is in force before it returns; from then on they are kept in memory
        again, whatever came of it."""
        try:
            return await work
        finally:
            with suppress(StoreError):
                await self.hold_rules()

    async def find(self, sought: Sought, before: int, limit: int) -> tuple[Sequence[str], int]:
        return await self._writer.do(self._find, HistoryAsked(sought, before, limit))

    async def sent(self, sought: Sought, before: int, limit: int) -> tuple[Sequence[Sent], int]:
        return await self._writer.do(self._sent, HistoryAsked(sought, before, limit))

    async def accepted_events(self, wanted: Wanted, before: int, limit: int) -> tuple[Sequence[Event], int]:
        return await self._writer.do(self._accepted_events, HistoryLooked(wanted, before, limit))

    async def attempt_events(self, wanted: Wanted, before: int, limit: int) -> tuple[Sequence[Event], int]:
        return await self._writer.do(self._attempt_events, HistoryLooked(wanted, before, limit))

    async def other_events(self, wanted: Wanted, limit: int) -> Sequence[Event]:
        return await self._writer.do(self._other_events, HistoryLooked(wanted, 0, limit))

    async def keep_events(self, events: Sequence[Event], tally: Tally) -> None:
        await self._writer.do(self._keep_events, (events, tally))

    async def tallies(self, since_at: float) -> Sequence[Tally]:
        return await self._writer.do(self._tallies, since_at)

    async def reports(self, message_id: str) -> Sequence[Report]:
        return await self._writer.do(self._reports, message_id)

    async def report_of(self, message_id: str) -> str:
        return await self._writer.do(self._report_of, message_id)

    async def close(self) -> None:
        await self._writer.close()
        self._lock.release()

    def _check_file(self, new: NewMessage) -> None:
        if isinstance(new.body, str) and new.body != f"{self._spool}/{new.message.id}":
            raise StoreError(f"the body of message {new.message.id} lies in a wrong place")

    def _remember(self, new: NewMessage) -> None:
        if isinstance(new.body, str):
            self._sound.note(new.message.id, time.monotonic())
        self._contents.put(new.message.id, Content(new.head, new.body))

    def _copy_database(self, where: tuple[str, str]) -> None:
        path, bodies = where
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        copy = sqlite3.connect(path, isolation_level=None)
        try:
            copy.execute("PRAGMA synchronous = OFF")  # synced as a whole below
            self._connection.backup(copy, pages=_BACKUP_PAGES, progress=self._between)
            if bodies:  # nothing changed since the last step: each of them is there
                named = copy.execute("SELECT id FROM body WHERE data IS NULL")
                files.link_only(self._spool, bodies, {ident.from_int(number) for (number,) in named})
            copy.close()
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
            files.sync_directory(os.path.dirname(path) or ".")
        except BaseException:
            copy.close()
            os.unlink(path)
            raise

    def _between(self, status: int, remaining: int, total: int) -> None:
        if remaining:  # after the last step nothing may change before the bodies are linked
            self._writer.breathe()


def _called(call: Callable[[], object]) -> object:
    return call()


def _size(new: NewMessage) -> int:
    return len(new.head) + (0 if isinstance(new.body, str) else len(new.body))


def digest_of(head: bytes, body: bytes) -> bytes:
    """As in Message.digest."""
    digest = hashlib.sha256(body)
    digest.update(head)
    return digest.digest()
