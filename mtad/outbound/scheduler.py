"""The way out: leases what is due, lets each job go when its site may take it, and records what came of it."""

import asyncio
import math
import random
import ssl
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Protocol

from mtad.accounts.directory import Directory
from mtad.accounts.suppressions import Suppressions, SuppressionStore, key_of
from mtad.config import Config
from mtad.dkim.keys import Keys
from mtad.dns.resolver import Resolver
from mtad.events import Events
from mtad.mail.envelope import Attempt, Clock, Job
from mtad.mail.ident import Ids
from mtad.mail.reply import LOCAL_ERROR, Reply
from mtad.outbound.connection import Timeouts
from mtad.outbound.converted import Converter
from mtad.outbound.delivery import Delivery, Tried
from mtad.outbound.lanes import Lanes, Running
from mtad.outbound.leap import Leap
from mtad.outbound.local import Mailboxes
from mtad.outbound.lookout import Lookout
from mtad.outbound.opener import TlsSeen
from mtad.outbound.outcome import Outcomes
from mtad.outbound.pipe import Programs
from mtad.outbound.reporter import Reporter
from mtad.outbound.route import Plan, Remote
from mtad.outbound.security import Security
from mtad.outbound.sites import Closed, Sites
from mtad.outbound.transport import Transport
from mtad.queue.store import Damaged, Store, StoreError, Unsound
from mtad.tls.contexts import Mode, client_context

LEASE_S = 300.0
SETTLE_S = 10.0  # at the end, for outcomes that are known but not recorded yet
HELD_MAX = 4  # leased jobs per worker while all are at work
IDLE_HELD_MAX = 100  # and while some are not: what waits for its site must not keep others from being leased
THREADS = 4
IDLE_MAX_S = 60.0  # the queue is looked at this often even if nothing seems due
TROUBLE_S = 2.0  # the wait after the store could not
LOST_TOLD = 20  # of the mails whose rows are damaged, a line each
OLD_EVERY_S = 60.0  # mail to closed sites that is old enough to be given up or warned of is looked for this often
SET_BACK_S = 60.0  # by which the clock is set back, and not only corrected


class _Later(Exception):  # noqa: N818  (an outcome)
    """The job may not go on now, and nothing was done. `closed`: its site is; None: it waits there, or is no more."""

    def __init__(self, closed: Closed | None = None) -> None:
        super().__init__()
        self.closed = closed


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
        sites: Sites,
        *,
        suppressions: Suppressions | None = None,
        tls_context: Callable[[Mode], ssl.SSLContext] = client_context,
        timeouts: Timeouts | None = None,
        keys: Keys | None = None,
        monotonic: Clock = time.monotonic,
    ) -> None:
        """`keys`: what signs a mail anew that must be changed for a host."""
        self._store = store
        self._events = events
        self._clock = clock
        self._rng = rng
        self._suppressions = Suppressions(store, clock) if suppressions is None else suppressions
        self._reporter = Reporter(store, events, clock, ids)
        self._security = security
        self._sites = sites
        self._executor = ThreadPoolExecutor(THREADS, "delivery")
        convert = Converter(keys, clock)
        self._transport = Transport(config, self._executor, tls_context, timeouts, tls_seen, clock, convert)
        self._programs = Programs()
        self._leased: dict[tuple[str, int, int], Running] = {}
        self._lanes = Lanes(sites, clock, self._begin, self._release, self.wake)
        self._releasing: set[asyncio.Task[None]] = set()
        self._first_until = math.inf  # no lease of ours ends before this
        self._more = False  # the last call to the store brought as much as we had room for
        self._latest = ids.newest_at()  # the time when the queue was looked at last, or when mail came in before that
        self._old_at = -math.inf
        self._lookout = Lookout(clock)
        self._leap = Leap(clock, monotonic, self._clock_ahead)
        self._stopping = asyncio.Event()
        sites.changed = sites.suspensions.changed = self._look_again
        self._use(config, resolver, directory)

    async def run(self) -> None:
        """Returns after `drain` was called; a failure of a job or of the store never ends it."""
        keeping = [asyncio.create_task(work) for work in (self._renew(), self._sites.keep())]
        try:
            while not self._stopping.is_set():
                self._lookout.begin()
                try:
                    wait_s = await self._fill()
                except Unsound as error:
                    wait_s = await self._set_aside(error)
                except StoreError as error:
                    self._events.store_trouble(str(error))
                    wait_s = TROUBLE_S
                except Exception as error:  # noqa: BLE001  (the daemon lives on)
                    self._events.internal_error("scheduler", error)
                    wait_s = TROUBLE_S
                await self._lookout.rest(wait_s)
        finally:
            for task in keeping:
                task.cancel()

    def wake(self) -> None:
        """Something may be due: look now. Cheap, safe to call for every mail."""
        self._lookout.wake()

    def changed(self) -> None:
        """An operator changed mail that waits, perhaps also what is leased now: when that comes back it may be due at a
        time that its job knows nothing of."""
        for running in self._leased.values():
            running.touched = True
        self.wake()

    def reload(self, config: Config, resolver: Resolver, directory: Directory) -> None:
        """New settings for the next jobs; what runs ends as it began."""
        self._transport.reload(config)
        self._sites.reload(config)
        self._use(config, resolver, directory)
        self._lanes.recheck()
        self.wake()

    def active(self) -> int:
        """Jobs that run now."""
        return self._lanes.running

    def _look_again(self) -> None:
        """A site was reset, or something suspended, or not any more."""
        self._lanes.recheck()
        self.wake()

    def _clock_ahead(self, by_s: float) -> None:
        self._events.warned(f"the clock went ahead by {by_s / 3600:.0f} h: for an hour no mail is given up for its age")

    async def drain(self, timeout_s: float) -> None:
        """Lease nothing more and let what runs end; after `timeout_s` cut the rest, which goes out after a restart."""
        self._stopping.set()
        self._lanes.clear()
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
        await _over([*late, *self._releasing], None)
        try:
            await self._sites.save()
        except StoreError as error:
            self._events.store_trouble(str(error))
        self._transport.close()
        self._programs.close()
        self._executor.shutdown(wait=False)

    # --- leasing

    def _use(self, config: Config, resolver: Resolver, directory: Directory) -> None:
        self._config = config
        self._lanes.workers = config.delivery.workers
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
        self._outcomes = Outcomes(
            config,
            self._store,
            directory,
            self._suppressions,
            self._reporter,
            self._sites,
            self._events,
            self._clock,
            self._rng,
            self._lookout.due,
            self._leap,
        )

    async def _fill(self) -> float:
        """Lease while there is room and something due. How long to wait for a wake-up at most."""
        interval_s = self._config.delivery.interval_s
        while not self._stopping.is_set() and (room := self._room()) > 0:
            now, self._more = self._clock(), False
            closed = self._sites.closed_domains(now)
            skip = frozenset(closed | self._lanes.full(now))
            if now >= self._first_until:
                # The clock jumped, or the machine slept. What is at work must not be leased a second time.
                await self._keep(now)
            if now < self._latest - SET_BACK_S:
                self._sites.set_back(now)
                self._lanes.recheck()
                await self._store.bring_forward(now, now + self._sites.furthest_s())
            self._latest = now
            if closed and not 0 <= now - self._old_at < OLD_EVERY_S:
                self._old_at = now
                await self._take_old(frozenset(closed), now)
            jobs = await self._store.lease(now, now + LEASE_S, room, skip)
            if self._stopping.is_set():
                break  # drain does not know of these; their leases end with the daemon
            await self._take(jobs)
            leased = sum([len(job.recipients) for job in jobs])
            if leased >= room:
                continue
            due = await self._store.next_due(self._clock())
            wait_s = IDLE_MAX_S if due is None else due - self._clock()
            # What is due now is of skipped lanes; each asks for itself when it runs dry.
            return min(max(wait_s, interval_s if skip else 0.01), IDLE_MAX_S)
        self._more = True
        return IDLE_MAX_S  # who makes room asks: `_ask`

    def _ask(self) -> None:
        """There may be room now for what the last look could not take."""
        if self._more and self._room():
            self.wake()

    async def _set_aside(self, why: Unsound) -> float:
        """Something that is due cannot be used: the rest goes on without it. How long to wait."""
        try:
            lost = await self._store.set_aside(self._clock())
        except StoreError as error:
            lost, why = (), Unsound(str(error))
        told = {one.id: one.why for one in lost}
        for message_id in list(told)[:LOST_TOLD]:
            self._events.quarantined(message_id or "a mail without an id", told[message_id])
        if len(told) > LOST_TOLD:
            self._events.warned(
                f"{len(told) - LOST_TOLD} more mails are held, their rows are damaged: see `mtactl check`"
            )
        if lost:
            return 0.0
        self._events.store_trouble(str(why))
        return TROUBLE_S

    def _room(self) -> int:
        """How many to lease: none before half of those that are ready have begun, so that a call brings many."""
        workers, ready = self._config.delivery.workers, self._lanes.ready
        most = (IDLE_HELD_MAX if self._lanes.idle else HELD_MAX) * workers
        if ready > workers // 2 or len(self._leased) - self._lanes.lent >= most:
            return 0
        return workers - ready

    async def _take(self, jobs: Sequence[Job]) -> None:
        aside: list[Job] = []
        for job in jobs:
            running = self._lanes.take(job)
            if running is None:
                aside.append(job)
            else:
                self._first_until = min(self._first_until, job.until)
                self._leased[running.key] = running
        self._lanes.start()
        if aside:
            await self._give_back(aside)

    async def _take_old(self, domains: frozenset[str], now: float) -> None:
        """Mail to closed sites is not leased; but its time runs on, and its senders are to be told."""
        delivery = self._config.delivery
        old_s = min(delivery.delay_warning_s or delivery.expire_s, delivery.expire_s)
        jobs = await self._store.lease_old(now, now + LEASE_S, delivery.workers, domains, now - old_s)
        back: list[Job] = []
        for job in jobs:
            site = self._sites.of(job.domain)
            closed = self._sites.closed(site, job.domain, job.message.peer.user, now)
            if closed is None:
                back.append(job)
            else:
                await self._outcomes.put_off(job, closed)
        if back:
            await self._give_back(back)

    def _release(self, gone: list[Running]) -> None:
        """Give the leases of jobs back that did not begin."""
        for running in gone:
            self._forget(running)
        task = asyncio.create_task(self._give_back([running.job for running in gone]))
        self._releasing.add(task)
        task.add_done_callback(self._releasing.discard)

    async def _give_back(self, jobs: Sequence[Job]) -> None:
        """End leases of which nothing came. Were that left to time, the mail would wait for it; while we go on, it is
        tried until the store can."""
        while not self._stopping.is_set():
            try:
                await self._store.release(jobs)
                break
            except StoreError as error:
                self._events.store_trouble(str(error))
                await asyncio.sleep(TROUBLE_S)
        known = all(self._sites.known(job.domain) for job in jobs)
        # The next look leaves them out while their sites have no room, if it can tell; else they would come and go.
        self._lookout.due(self._clock() + (0.0 if known else self._config.delivery.interval_s))

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
            if key not in self._leased or running.confirming or running.until > until - LEASE_S / 2:
                continue
            kept = await self._store.renew(running.job, until)
            if key not in self._leased:
                continue
            if kept:
                running.until = until
            elif running.task is not None:
                running.task.cancel()
            else:
                self._forget(running)  # it was lost before it began
                self._lanes.start()
            if not kept:
                self._lookout.due(now)
        self._first_until = min((running.until for running in self._leased.values()), default=math.inf)

    def _forget(self, running: Running) -> None:
        if self._leased.pop(running.key, None) is not None:
            self._lanes.forget(running)

    # --- one job

    def _begin(self, running: Running) -> None:
        running.task = asyncio.create_task(self._run(running))
        self._ask()

    async def _run(self, running: Running) -> None:
        waits = False
        try:
            replies: list[Reply] = []
            later: _Later | None = None
            damaged: Damaged | None = None
            try:
                tried = await self._attempt(running)
                running.tried = True
                replies = [attempt.reply for attempt in tried.attempts if attempt.n in running.asked]
            except Damaged as why:
                damaged = why
            except _Later as why:
                later = why
                waits = running.task is None
            finally:
                # The way to the destination is free; what follows is between us and the store.
                if not waits:
                    self._lanes.left(running, replies)
            if damaged is not None:
                await self._outcomes.quarantine(running.job, str(damaged))
            elif later is None:
                await self._outcomes.record(running.job, tried)
            elif later.closed is not None:
                await self._put_off(running, later.closed)
        except Exception as error:  # noqa: BLE001  (the lease ends, and the job comes again)
            self._events.internal_error("settle", error)
        finally:
            if not waits:
                self._lanes.free(running)
                self._forget(running)
            self._lanes.start()
            if running.touched:
                self._lookout.due(self._clock())
            self._ask()

    async def _attempt(self, running: Running) -> Tried:
        """Raises _Later and Damaged."""
        started_at = self._clock()
        stopped = self._stopped(running.job) if self._suppressions else {}
        if len(stopped) == len(running.job.recipients):
            return Tried([Attempt(n, started_at, 0.0, reply) for n, reply in stopped.items()])
        try:
            tried = await self._delivery.attempt(running.job, lambda plan: self._admit(running, plan, stopped))
            if not stopped:
                return tried
            by_number = {attempt.n: attempt for attempt in tried.attempts}
            attempts = [
                Attempt(one.n, started_at, 0.0, stopped[one.n]) if one.n in stopped else by_number[one.n]
                for one in running.job.recipients
            ]
            return Tried(attempts, tried.handed)
        except (Damaged, _Later):
            raise
        except StoreError as error:
            self._events.store_trouble(str(error))
            reply = LOCAL_ERROR.because(str(error))
        except Exception as error:  # noqa: BLE001  (unknown failure is temporary)
            self._events.internal_error("delivery", error)
            reply = LOCAL_ERROR.because(repr(error))
        return Tried([Attempt(recipient.n, started_at, 0.0, reply) for recipient in running.job.recipients])

    def _stopped(self, job: Job) -> Mapping[int, Reply]:
        """By their numbers, the recipients that are not tried for whoever sent this."""
        peer = job.message.peer
        if peer.source == "internal":
            return {}
        user = key_of(peer)
        found = ((one.n, self._suppressions.find(user, one.address)) for one in job.recipients)
        return {n: suppression.reply() for n, suppression in found if suppression is not None}

    async def _admit(self, running: Running, plan: Plan, stopped: Mapping[int, Reply]) -> Job:
        """The plan is made, and its site is known: may the job go on, and is all of it still wanted? Raises _Later."""
        job, now = running.job, self._clock()
        site = running.lane.site
        if isinstance(plan, Remote):
            site = self._sites.learn(job.domain, plan.site, (host.name for host in plan.hosts))
        elif not isinstance(plan, Reply):
            site = self._sites.learn(job.domain, "", ())
        closed = self._sites.closed(site, job.domain, job.message.peer.user, now)
        if closed is not None and not self._lanes.counted(running, site, closed):
            raise _Later(closed)
        if not self._lanes.moves(running, site, now):
            running.task = None
            raise _Later
        running.confirming = True
        try:
            left = await self._store.confirm(job, now)
        finally:
            running.confirming = False
        if left is None:
            raise _Later
        running.job = left
        if stopped:
            left = replace(left, recipients=tuple([one for one in left.recipients if one.n not in stopped]))
        running.asked = frozenset([one.n for one in left.recipients])
        return left

    async def _put_off(self, running: Running, closed: Closed) -> None:
        """Its site is closed. Where the store can leave its domain out, the lease ends; else it is recorded."""
        job = running.job
        if closed.of_user or not self._sites.known(job.domain):
            await self._outcomes.put_off(job, closed)
        else:
            await self._give_back([job])


async def _over(tasks: Iterable[asyncio.Task[None]], timeout_s: float | None) -> set[asyncio.Task[None]]:
    """Wait for tasks; those that are not done then."""
    open_tasks = {task for task in tasks if not task.done()}
    return (await asyncio.wait(open_tasks, timeout=timeout_s))[1] if open_tasks else open_tasks
