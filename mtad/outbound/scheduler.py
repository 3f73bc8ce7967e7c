"""The way out: each job that is leased is tried when its site may take it, and what came of it is recorded."""

import asyncio
import random
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
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
from mtad.outbound.lanes import Running
from mtad.outbound.leap import Leap
from mtad.outbound.leases import Leases
from mtad.outbound.local import Mailboxes
from mtad.outbound.opener import TlsSeen
from mtad.outbound.outcome import Outcomes
from mtad.outbound.pipe import Programs
from mtad.outbound.reporter import Reporter
from mtad.outbound.route import Plan, Remote
from mtad.outbound.security import Security
from mtad.outbound.site import Closed
from mtad.outbound.sites import Sites
from mtad.outbound.transport import Transport
from mtad.queue.store import Damaged, Store, StoreError
from mtad.tls.contexts import Mode, client_context

SETTLE_S = 10.0  # at the end, for outcomes that are known but not recorded yet
THREADS = 4


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
        self._leases = Leases(store, sites, events, clock, self._begin, ids.newest_at())
        self._lanes = self._leases.lanes
        self._leap = Leap(clock, monotonic, self._clock_ahead)
        self._use(config, resolver, directory)

    async def run(self) -> None:
        """Returns after `drain` was called; a failure of a job or of the store never ends it."""
        keeping = asyncio.create_task(self._sites.keep())
        try:
            await self._leases.run()
        finally:
            keeping.cancel()

    def wake(self) -> None:
        """Something may be due: look now."""
        self._leases.lookout.wake()

    def came_in(self, at: float) -> None:
        """There is new mail, made `at` that time. Cheap, to be called for every mail."""
        self._leases.came_in(at)

    def changed(self) -> None:
        """An operator changed mail that waits, perhaps also what is being tried now."""
        self._leases.changed()

    def reload(self, config: Config, resolver: Resolver, directory: Directory) -> None:
        """New settings for the next jobs; what runs ends as it began."""
        self._transport.reload(config)
        self._sites.reload(config)
        self._use(config, resolver, directory)
        self._leases.look_again()

    def active(self) -> int:
        """Jobs that run now."""
        return self._lanes.running

    def _clock_ahead(self, by_s: float) -> None:
        self._events.warned(f"the clock went ahead by {by_s / 3600:.0f} h: for an hour no mail is given up for its age")

    async def drain(self, timeout_s: float) -> None:
        """Lease nothing more and let what runs end; after `timeout_s` cut the rest, which goes out after a restart."""
        begun = {running.task: running for running in self._leases.stop() if running.task is not None}
        late = await _over(begun, timeout_s)
        for task in late:
            if not begun[task].tried:
                task.cancel()
        late = await _over(late, SETTLE_S)
        for task in late:
            task.cancel()
        await _over(late, None)
        await self._leases.released()
        try:
            await self._sites.save()
        except StoreError as error:
            self._events.store_trouble(str(error))
        self._transport.close()
        self._programs.close()
        self._executor.shutdown(wait=False)

    def _use(self, config: Config, resolver: Resolver, directory: Directory) -> None:
        self._config = config
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
            self._leases.lookout.due,
            self._leap,
        )
        self._leases.use(config, self._outcomes.put_off)

    # --- one job

    def _begin(self, running: Running) -> None:
        running.task = asyncio.create_task(self._run(running))
        self._leases.room_left()

    async def _run(self, running: Running) -> None:
        waits = False
        try:
            replies: list[Reply] = []
            later: _Later | None = None
            damaged: Damaged | None = None
            try:
                tried = await self._attempt(running)
                running.tried = True
                replies = tried.replies(running.asked)
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
                self._leases.forget(running)
            self._lanes.start()
            self._leases.room_left()

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
            return Tried(attempts, tried.handed, tried.beside)
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
            site = self._sites.learn(job.domain, plan.site, plan.best or [host.name for host in plan.hosts])
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
        if not isinstance(plan, Reply) or site.name == job.domain:
            running.asked = frozenset([one.n for one in left.recipients])
        # Else its site was not asked: the domain has no plan now, and its hosts may be somebody else's.
        return left

    async def _put_off(self, running: Running, closed: Closed) -> None:
        """Its site is closed. Where the store can leave its domain out, the lease ends; else it is recorded."""
        job = running.job
        if closed.of_user or not self._sites.known(job.domain):
            await self._outcomes.put_off(job, closed)
        else:
            await self._leases.give_back([job])


async def _over(tasks: Iterable[asyncio.Task[None]], timeout_s: float | None) -> set[asyncio.Task[None]]:
    """Wait for tasks; those that are not done then."""
    open_tasks = {task for task in tasks if not task.done()}
    return (await asyncio.wait(open_tasks, timeout=timeout_s))[1] if open_tasks else open_tasks
