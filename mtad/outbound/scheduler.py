"""The way out: leases what is due, gives each job a task within the limits, and settles what came of it."""

import asyncio
import math
import random
import ssl
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Protocol

from mtad import faults
from mtad.accounts.directory import Directory
from mtad.accounts.suppressions import Suppressions, SuppressionStore, key_of
from mtad.config import Config
from mtad.dns.resolver import Resolver
from mtad.events import Events
from mtad.mail.classify import hard
from mtad.mail.envelope import Attempt, Clock, Job, Message, Recipient, State
from mtad.mail.ident import Ids
from mtad.mail.reply import LOCAL_ERROR, Reply
from mtad.outbound import bounce
from mtad.outbound.connection import Timeouts
from mtad.outbound.delivery import Delivery, Tried
from mtad.outbound.local import Mailboxes
from mtad.outbound.pipe import Programs
from mtad.outbound.reporter import Reporter
from mtad.outbound.security import Security
from mtad.outbound.transport import TlsSeen, Transport
from mtad.queue import retry
from mtad.queue.store import Settlement, Store, StoreError
from mtad.tls.contexts import Mode, client_context

LEASE_S = 300.0
SETTLE_S = 10.0  # at the end, for outcomes that are known but not recorded yet
HELD_MAX = 4  # leased jobs per worker: what waits for slow destinations must not keep others from being leased
THREADS = 4
IDLE_MAX_S = 60.0  # the queue is looked at this often even if nothing seems due
TROUBLE_S = 2.0  # the wait after the store could not

_NO_REPORTS = bounce.Reports()


@dataclass(slots=True)
class _Lane:
    """One destination domain. Its first `max_per_domain` jobs are admitted; the others wait for one of them to end."""

    held: int = 0  # leased jobs
    admitted: int = 0  # those of them that run or will as soon as there is a worker
    waiting: "deque[_Running]" = field(default_factory=deque)
    skipped: bool = False  # the last call to the store left it out


@dataclass(slots=True)
class _Running:
    job: Job
    lane: _Lane
    until: float
    task: asyncio.Task[None] | None = field(default=None)
    tried: bool = False  # there is an outcome: it must be recorded, whatever happens


class DeliveryStore(Store, SuppressionStore, Protocol):
    """What the way out needs of the store."""


class Scheduler:
    """`run` until `drain`. `wake` when something new may be due."""

    def __init__(
        self,
        config: Config,
        store: DeliveryStore,
        resolver: Resolver,
        directory: Directory,
        events: Events,
        clock: Clock,
        rng: random.Random,
        ids: Ids,
        security: Security,
        tls_seen: TlsSeen,
        *,
        suppressions: Suppressions | None = None,
        tls_context: Callable[[Mode], ssl.SSLContext] = client_context,
        timeouts: Timeouts | None = None,
    ) -> None:
        self._store = store
        self._events = events
        self._clock = clock
        self._rng = rng
        self._ids = ids
        self._security = security
        self._suppressions = Suppressions(store, clock) if suppressions is None else suppressions
        self._reporter = Reporter(store, events, clock, ids)
        self._executor = ThreadPoolExecutor(THREADS, "delivery")
        self._transport = Transport(config, self._executor, tls_context, timeouts, tls_seen, clock)
        self._programs = Programs()
        self._leased: dict[tuple[str, int, int], _Running] = {}
        self._lanes: dict[str, _Lane] = {}
        self._ready: deque[_Running] = deque()  # admitted, wait for a worker
        self._active = 0
        self._first_until = math.inf  # no lease of ours ends before this
        self._more = False  # the last call to the store brought as much as we had room for
        self._wakeup = asyncio.Event()
        self._stopping = asyncio.Event()
        self._use(config, resolver, directory)

    async def run(self) -> None:
        """Returns after `drain` was called; a failure of a job or of the store never ends it."""
        renewing = asyncio.create_task(self._renew())
        try:
            while not self._stopping.is_set():
                self._wakeup.clear()
                try:
                    wait_s = await self._fill()
                except StoreError as error:
                    self._events.store_trouble(str(error))
                    wait_s = TROUBLE_S
                except Exception as error:  # noqa: BLE001  (the daemon lives on)
                    self._events.internal_error("scheduler", error)
                    wait_s = TROUBLE_S
                try:
                    async with asyncio.timeout(wait_s):
                        await self._wakeup.wait()
                except TimeoutError:
                    pass
        finally:
            renewing.cancel()

    def wake(self) -> None:
        """Something may be due: look now. Cheap, safe to call for every mail."""
        self._wakeup.set()

    def reload(self, config: Config, resolver: Resolver, directory: Directory) -> None:
        """New settings for the next jobs; what runs ends as it began."""
        self._transport.reload(config)
        self._use(config, resolver, directory)
        self.wake()

    def active(self) -> int:
        """Jobs that run now."""
        return self._active

    async def drain(self, timeout_s: float) -> None:
        """Lease nothing more and let what runs end; after `timeout_s` cut the rest, which goes out after a restart."""
        self._stopping.set()
        self._ready.clear()
        for lane in self._lanes.values():
            lane.waiting.clear()
        self._leased = {key: running for key, running in self._leased.items() if running.task is not None}
        self.wake()
        begun = {running.task: running for running in self._leased.values() if running.task is not None}
        late = await _over(begun, timeout_s)
        for task in late:
            if not begun[task].tried:
                task.cancel()
        late = await _over(late, SETTLE_S)
        for task in late:
            task.cancel()
        await _over(late, None)
        self._transport.close()
        self._programs.close()
        self._executor.shutdown(wait=False)

    # --- leasing

    def _use(self, config: Config, resolver: Resolver, directory: Directory) -> None:
        self._config = config
        self._directory = directory
        self._reporter.use(config, resolver, directory)
        mailboxes = Mailboxes(self._executor, config.hostname)
        self._delivery = Delivery(
            config,
            self._store,
            resolver,
            directory,
            self._transport,
            mailboxes,
            self._programs,
            self._security,
            self._clock,
            self._rng,
        )

    async def _fill(self) -> float:
        """Lease while there is room and something due. How long to wait for a wake-up at most."""
        limits = self._config.delivery
        while not self._stopping.is_set() and (room := self._room()) > 0:
            for lane in self._lanes.values():
                lane.skipped = len(lane.waiting) >= limits.max_per_domain
            skip = frozenset([domain for domain, lane in self._lanes.items() if lane.skipped])
            now = self._clock()
            if now >= self._first_until:
                # The clock jumped, or the machine slept. What is at work must not be leased a second time.
                await self._keep(now)
            jobs = await self._store.lease(now, now + LEASE_S, room, skip)
            if self._stopping.is_set():
                break  # drain does not know of these; their leases end with the daemon
            for job in jobs:
                self._take(job)
            leased = sum([len(job.recipients) for job in jobs])
            self._more = leased >= room
            if self._more:
                continue
            due = await self._store.next_due(self._clock())
            wait_s = IDLE_MAX_S if due is None else due - self._clock()
            # What is due now is of skipped lanes; each asks for itself when it runs dry.
            return min(max(wait_s, limits.interval_s if skip else 0.01), IDLE_MAX_S)
        self._more = True  # nobody asked
        return IDLE_MAX_S

    def _room(self) -> int:
        """How many to lease: none before half of those that are ready have begun, so that a call brings many."""
        workers = self._config.delivery.workers
        if len(self._ready) > workers // 2 or len(self._leased) >= HELD_MAX * workers:
            return 0
        return workers - len(self._ready)

    def _take(self, job: Job) -> None:
        lane = self._lanes.get(job.domain) or self._lanes.setdefault(job.domain, _Lane())
        lane.held += 1
        running = _Running(job, lane, job.until)
        self._first_until = min(self._first_until, job.until)
        self._leased[_key(job)] = running
        lane.waiting.append(running)
        self._admit(lane)
        self._start()

    def _admit(self, lane: _Lane) -> None:
        while lane.waiting and lane.admitted < self._config.delivery.max_per_domain:
            lane.admitted += 1
            self._ready.append(lane.waiting.popleft())

    def _start(self) -> None:
        while self._ready and self._active < self._config.delivery.workers:
            running = self._ready.popleft()
            self._active += 1
            running.task = asyncio.create_task(self._run(running))

    def _left(self, lane: _Lane) -> None:
        """A job of the lane is done with its destination."""
        lane.admitted -= 1
        self._admit(lane)
        self._start()
        dry = lane.skipped and len(lane.waiting) <= self._config.delivery.max_per_domain // 2
        if dry or (self._more and self._room()):
            lane.skipped = False
            self._wakeup.set()

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(LEASE_S / 6)
            try:
                await self._keep(self._clock())
            except StoreError as error:
                self._events.store_trouble(str(error))
            except Exception as error:  # noqa: BLE001  (without renewals mail would go out twice)
                self._events.internal_error("renew", error)

    async def _keep(self, now: float) -> None:
        """Hold what we hold for longer; give up what was lost. Raises StoreError."""
        until = now + LEASE_S
        for key, running in list(self._leased.items()):
            if key not in self._leased or running.until > until - LEASE_S / 2:
                continue
            kept = await self._store.renew(running.job, until)
            if key not in self._leased:
                continue
            if kept:
                running.until = until
            elif running.task is not None:
                running.task.cancel()
            else:
                self._withdraw(running)
        self._first_until = min((running.until for running in self._leased.values()), default=math.inf)

    def _withdraw(self, running: _Running) -> None:
        """It was lost before it began."""
        if running in self._ready:
            self._ready.remove(running)
            running.lane.admitted -= 1
        else:
            running.lane.waiting.remove(running)
        self._forget(running)

    def _forget(self, running: _Running) -> None:
        self._leased.pop(_key(running.job), None)
        running.lane.held -= 1
        if not running.lane.held:
            self._lanes.pop(running.job.domain, None)

    # --- one job

    async def _run(self, running: _Running) -> None:
        job = running.job
        try:
            try:
                tried = await self._attempt(job)
                running.tried = True
            finally:
                # The way to the destination is free; what follows is between us and the store.
                self._left(running.lane)
            await self._settle(running, tried)
        except Exception as error:  # noqa: BLE001  (the lease ends, and the job comes again)
            self._events.internal_error("settle", error)
        finally:
            self._forget(running)
            self._active -= 1
            self._start()
            if self._more and self._room():
                self._wakeup.set()

    async def _attempt(self, job: Job) -> Tried:
        stopped = self._stopped(job) if self._suppressions else {}
        if not stopped:
            return await self._try(job)
        now = self._clock()
        rest = tuple(recipient for recipient in job.recipients if recipient.n not in stopped)
        tried = await self._try(replace(job, recipients=rest)) if rest else Tried([])
        left = iter(tried.attempts)
        attempts = [
            Attempt(one.n, now, 0.0, stopped[one.n]) if one.n in stopped else next(left) for one in job.recipients
        ]
        return Tried(attempts, tried.handed)

    def _stopped(self, job: Job) -> Mapping[int, Reply]:
        """By their numbers, the recipients that are not tried for whoever sent this."""
        peer = job.message.peer
        if peer.source == "internal":
            return {}
        user = key_of(peer)
        found = ((one.n, self._suppressions.find(user, one.address)) for one in job.recipients)
        return {n: suppression.reply() for n, suppression in found if suppression is not None}

    async def _try(self, job: Job) -> Tried:
        started_at = self._clock()
        try:
            return await self._delivery.attempt(job)
        except StoreError as error:
            self._events.store_trouble(str(error))
            reply = LOCAL_ERROR.because(str(error))
        except Exception as error:  # noqa: BLE001  (unknown failure is temporary)
            self._events.internal_error("delivery", error)
            reply = LOCAL_ERROR.because(repr(error))
        return Tried([Attempt(recipient.n, started_at, 0.0, reply) for recipient in job.recipients])

    async def _settle(self, running: _Running, tried: Tried) -> None:
        job, attempts = running.job, tried.attempts
        now = self._clock()
        after = [
            self._after(before, attempt, job, now) for before, attempt in zip(job.recipients, attempts, strict=True)
        ]
        handed = tried.handed
        if not any(
            bounce.due(job.message, old, new, handed.get(new.n, bounce.HERE))
            for old, new in zip(job.recipients, after, strict=True)
        ):
            if await self._record(job, tried, after, _NO_REPORTS) and self._reporter.waits(job.message.id):
                await self._reporter.release(job, self._clock())
                self.wake()
            return
        async with self._reporter.turn(job.message.id):
            made = _NO_REPORTS
            try:
                made = await self._reporter.make(job, tried, after, now)
            except Exception as error:  # noqa: BLE001  (no failure without its report: those wait)
                self._events.internal_error("bounce", error)
                after = [
                    self._without_report(old, new, job, now) for old, new in zip(job.recipients, after, strict=True)
                ]
            if await self._record(job, tried, after, made):
                self._reporter.stored(job.message, made, self._clock())
                self.wake()
        await self._count_against(job.message, after)

    async def _count_against(self, message: Message, after: Sequence[Recipient]) -> None:
        """An address that is no good is not tried for ever for the same user. What is lost here is one count."""
        for one in after:
            if one.state is not State.FAILED or one.last is None or not hard(one.last):
                continue
            if self._directory.ours(one.domain):
                continue
            try:
                if await self._suppressions.bounced(
                    message.peer, one.address, message.id, one.last, self._config.delivery
                ):
                    self._events.suppressed(key_of(message.peer), one.address, self._config.delivery.suppress_s)
            except StoreError as error:
                self._events.store_trouble(str(error))

    async def _record(self, job: Job, tried: Tried, after: Sequence[Recipient], made: bounce.Reports) -> bool:
        """Make the outcome durable, and tell of it. False when the lease was lost."""
        attempts = tried.attempts
        faults.point("deliver.after_250")
        settlement = Settlement(job, attempts, after, made.messages, made.merges)
        wait_s = 0.1
        while True:
            try:
                kept = await self._store.settle(settlement)
                break
            except StoreError as error:  # until it is recorded: the other way out would be to send it again
                self._events.store_trouble(str(error))
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, 5.0)
        if not kept:
            return False
        for recipient, attempt in zip(after, attempts, strict=True):
            self._events.attempt(job.message, recipient, attempt, recipient.state)
            if recipient.last is not attempt.reply:
                self._events.expired(job.message, recipient)
        return True

    def _after(self, before: Recipient, attempt: Attempt, job: Job, now: float) -> Recipient:
        limits = self._config.delivery
        message = job.message
        after = retry.settle(before, attempt.reply, now, limits, *_times(job), self._rng)
        if retry.warning_due(after, max(message.accepted_at, message.hold_until), now, limits):
            return replace(after, warned_at=now)
        return retry.heed(after, message.by_at, now) if message.by_mode == "N" else after

    def _without_report(self, before: Recipient, after: Recipient, job: Job, now: float) -> Recipient:
        if after.state is State.FAILED:
            limits, accepted_at = self._config.delivery, job.message.accepted_at
            after = retry.settle(before, LOCAL_ERROR, now, limits, accepted_at, math.inf, self._rng)  # even if expired
        return replace(after, warned_at=before.warned_at)


async def _over(tasks: Iterable[asyncio.Task[None]], timeout_s: float | None) -> set[asyncio.Task[None]]:
    """Wait for tasks; those that are not done then."""
    open_tasks = {task for task in tasks if not task.done()}
    return (await asyncio.wait(open_tasks, timeout=timeout_s))[1] if open_tasks else open_tasks


def _times(job: Job) -> tuple[float, float]:
    """When it was accepted, and when it is given up."""
    message = job.message
    ends_at = min(message.expires_at, message.by_at) if message.by_mode == "R" else message.expires_at
    return message.accepted_at, ends_at


def _key(job: Job) -> tuple[str, int, int]:
    return (job.message.id, job.recipients[0].n, job.lease)
