"""What is leased of the queue: taken while there is room and something is due, held while it is ours, given back."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable, Sequence

from mtad.config import Config
from mtad.events import Events
from mtad.mail.envelope import Clock, Job
from mtad.outbound.lanes import Lanes, Running
from mtad.outbound.lookout import Lookout
from mtad.outbound.site import Closed
from mtad.outbound.sites import Sites
from mtad.queue.store import Store, StoreError, Unsound

LEASE_S = 300.0
HELD_MAX = 4  # leased jobs per worker while all are at work
IDLE_HELD_MAX = 100  # and while some are not: what waits for its site must not keep others from being leased
IDLE_MAX_S = 60.0  # the queue is looked at this often even if nothing seems due
TROUBLE_S = 2.0  # the wait after the store could not
LOST_TOLD = 20  # of the mails whose rows are damaged, a line each
OLD_EVERY_S = 60.0  # mail to closed sites that is old enough to be given up or warned of is looked for this often
SET_BACK_S = 60.0  # by which the clock is set back, and not only corrected


class Leases:
    """`run` until `stop`. `begin` makes the task of a job; what becomes of `lanes` and `lookout` is heeded at once."""

    def __init__(
        self,
        store: Store,
        sites: Sites,
        events: Events,
        clock: Clock,
        begin: Callable[[Running], None],
        newest_at: float,
    ) -> None:
        """`newest_at`: when mail came in last, before this daemon's life."""
        self._store = store
        self._sites = sites
        self._events = events
        self._clock = clock
        self.lookout = Lookout(clock)
        self.lanes = Lanes(sites, clock, begin, self._release, self.lookout.wake)
        self._held: dict[tuple[str, int, int], Running] = {}
        self._releasing: set[asyncio.Task[None]] = set()
        self._first_until = math.inf  # no lease of ours ends before this
        self._more = False  # the last call to the store brought as much as we had room for
        self._latest = newest_at  # the latest that the clock showed, to us or to who kept mail, since it was set back
        self._old_at = -math.inf
        self._stopping = asyncio.Event()
        sites.changed = sites.suspensions.changed = self.look_again

    def use(self, config: Config, put_off: Callable[[Job, Closed], Awaitable[None]]) -> None:
        """From the next job on. `put_off` records that nothing may be tried now."""
        self._config = config
        self._put_off = put_off
        self.lanes.workers = config.delivery.workers

    async def run(self) -> None:
        """Returns after `stop` was called; a failure of the store never ends it."""
        renewing = asyncio.create_task(self._renew())
        try:
            while not self._stopping.is_set():
                self.lookout.begin()
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
                await self.lookout.rest(wait_s)
        finally:
            renewing.cancel()

    def stop(self) -> Iterable[Running]:
        """Nothing more is taken, and nothing begins. What has begun."""
        self._stopping.set()
        self.lanes.clear()
        self._held = {key: running for key, running in self._held.items() if running.task is not None}
        self.lookout.wake()
        return list(self._held.values())

    async def released(self) -> None:
        """What was being given back is."""
        if self._releasing:
            await asyncio.wait(self._releasing)

    def changed(self) -> None:
        """An operator changed mail that waits, perhaps also what is leased now: when that comes back it may be due at a
        time that its job knows nothing of."""
        for running in self._held.values():
            running.touched = True
        self.lookout.wake()

    def came_in(self, at: float) -> None:
        """There is new mail, made `at` that time by the clock: which may have been set back before it was stored, so
        that nothing brought it forward."""
        self._latest = max(self._latest, at)
        self.lookout.wake()

    def look_again(self) -> None:
        """A site was reset, something suspended, or not any more, or the settings are new."""
        self.lanes.recheck()
        self.lookout.wake()

    def room_left(self) -> None:
        """There may be room now for what the last look could not take."""
        if self._more and self._room():
            self.lookout.wake()

    def forget(self, running: Running) -> None:
        """Nothing of it is ours any more."""
        if self._held.pop(running.key, None) is not None:
            self.lanes.forget(running)
        if running.touched:
            self.lookout.due(self._clock())

    async def give_back(self, jobs: Sequence[Job]) -> None:
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
        self.lookout.due(self._clock() + (0.0 if known else self._config.delivery.interval_s))

    async def _fill(self) -> float:
        """Lease while there is room and something due. How long to wait for a wake-up at most."""
        interval_s = self._config.delivery.interval_s
        while not self._stopping.is_set() and (room := self._room()) > 0:
            now, self._more = self._clock(), False
            closed = self._sites.closed_domains(now)
            skip = frozenset(closed | self.lanes.full(now))
            if now >= self._first_until:
                # The clock jumped, or the machine slept. What is at work must not be leased a second time.
                await self._keep(now)
            latest, self._latest = self._latest, now
            if now < latest - SET_BACK_S:
                await self._set_back(latest, now)
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
        return IDLE_MAX_S  # who makes room asks: `room_left`

    async def _set_back(self, latest: float, now: float) -> None:
        """The clock went back from `latest` to `now`: nothing waits for the time between."""
        self._sites.set_back(now)
        self.lanes.recheck()
        try:
            await self._store.bring_forward(now, now + self._sites.furthest_s())
        except StoreError:
            self._latest = max(self._latest, latest)  # the next look does it
            raise

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
        workers, ready = self._config.delivery.workers, self.lanes.ready
        most = (IDLE_HELD_MAX if self.lanes.idle else HELD_MAX) * workers
        if ready > workers // 2 or len(self._held) - self.lanes.lent >= most:
            return 0
        return workers - ready

    async def _take(self, jobs: Sequence[Job]) -> None:
        aside: list[Job] = []
        for job in jobs:
            running = self.lanes.take(job)
            if running is None:
                aside.append(job)
            else:
                self._first_until = min(self._first_until, job.until)
                self._held[running.key] = running
        self.lanes.start()
        if aside:
            await self.give_back(aside)

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
                await self._put_off(job, closed)
        if back:
            await self.give_back(back)

    def _release(self, gone: list[Running]) -> None:
        """Give the leases of jobs back that did not begin."""
        for running in gone:
            self.forget(running)
        task = asyncio.create_task(self.give_back([running.job for running in gone]))
        self._releasing.add(task)
        task.add_done_callback(self._releasing.discard)

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
        for key, running in list(self._held.items()):
            if key not in self._held or running.confirming or running.until > until - LEASE_S / 2:
                continue
            kept = await self._store.renew(running.job, until)
            if key not in self._held:
                continue
            if kept:
                running.until = until
            elif running.task is not None:
                running.task.cancel()
            else:
                self.forget(running)  # it was lost before it began
                self.lanes.start()
            if not kept:
                self.lookout.due(now)
        self._first_until = min((running.until for running in self._held.values()), default=math.inf)
