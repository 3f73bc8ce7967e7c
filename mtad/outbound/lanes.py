"""Leased jobs on their way to a worker: a lane for each site, and a fair share of the workers for all lanes.

A lane admits as many jobs as its site has room for; the others wait in it, or are not leased at all. Workers go in turn
to sites that work, to those of which nothing is known, and to slow ones. A job that takes much longer than jobs usually
do gives its place to another: it waits for somebody, and costs us a socket. So silent and slow sites do not use up the
workers; the jobs in that state are bounded for those of which nothing is known and for slow ones by themselves.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from mtad.mail.envelope import Clock, Job
from mtad.mail.reply import Reply
from mtad.outbound.site import Closed, Site
from mtad.outbound.sites import Sites

UNKNOWN_MAX, SLOW_MAX = 20, 10  # times as many jobs as workers may be at work for such sites
LENT_MAX = UNKNOWN_MAX + SLOW_MAX
PATIENCE = 5.0  # times as long as usual
PATIENCE_MIN_S, PATIENCE_MAX_S = 0.5, 30.0
WORKS, UNKNOWN, SLOW = 0, 1, 2  # sites, by what is known of them
LOOK_S = 0.1  # how often somebody is looked for who takes too long, while others wait


@dataclass(slots=True)
class Lane:
    site: Site
    held: int = 0  # leased jobs
    admitted: int = 0  # those of them that run or will as soon as there is a worker
    waiting: "deque[Running]" = field(default_factory=deque)
    timer: asyncio.TimerHandle | None = None  # the next slot of its rate
    skipped: bool = False  # the last call to the store left it out


@dataclass(slots=True, eq=False)
class Running:
    """One leased job. `key` stays when recipients leave the job."""

    job: Job
    key: tuple[str, int, int]
    lane: Lane
    until: float
    task: asyncio.Task[None] | None = None
    touched: bool = False  # an operator changed mail since it was leased
    tried: bool = False  # there is an outcome: it must be recorded, whatever happens
    confirming: bool = False  # its recipients are being looked at
    asked: frozenset[int] = frozenset()  # those that its site is asked to take: what comes of the others tells nothing
    admitted: bool = False
    began: float = 0.0  # by the loop's clock
    lent: bool = False  # its worker's place is another's
    queue: int = 0  # of `Lanes`, that it waited in


class Lanes:
    """`begin` makes the task of a job; `release` is told of jobs that need not wait any more; `dry` when a lane that
    the store was told to leave out has room again."""

    def __init__(
        self,
        sites: Sites,
        clock: Clock,
        begin: Callable[[Running], None],
        release: Callable[[list[Running]], None],
        dry: Callable[[], None],
    ) -> None:
        self.workers = 1
        self.running = 0
        self._sites = sites
        self._clock = clock
        self._begin = begin
        self._release = release
        self._dry = dry
        self._lanes: dict[str, Lane] = {}
        # Admitted, wait for a worker: for sites that work, for those of which nothing is known, and for slow ones.
        self._queues: tuple[deque[Running], ...] = (deque(), deque(), deque())
        self._running = [0, 0, 0]  # of each
        self._turn = 0
        self._aside: tuple[set[str], ...] = (set(), set(), set())  # domains, where too many of the same kind wait
        self._working: set[Running] = set()
        self.lent = 0  # of the running ones, those whose place another has
        self._usual_s = PATIENCE_MIN_S / PATIENCE
        self._look: asyncio.TimerHandle | None = None

    @property
    def ready(self) -> int:
        """How many are admitted and wait for nothing but a worker."""
        return sum(len(queue) for kind, queue in enumerate(self._queues) if self._may(kind))

    @property
    def idle(self) -> bool:
        """Whether a worker has nothing to do."""
        return self.running - self.lent < self.workers and not self.ready

    def take(self, job: Job) -> Running | None:
        """A job was leased; `start` follows. None: it is to be released, too many like it wait."""
        site = self._sites.of(job.domain)
        kind = _kind(site)
        if len(self._queues[kind]) >= self.workers and not self._may(kind):
            self._aside[kind].add(job.domain)
            return None
        lane = self._lane(site)
        lane.held += 1
        running = Running(job, (job.message.id, job.recipients[0].n, job.lease), lane, job.until)
        lane.waiting.append(running)
        self._admit(lane)
        return running

    def full(self, now: float) -> set[str]:
        """The domains of lanes in which enough jobs wait."""
        found = {one for kind, aside in enumerate(self._aside) for one in aside if _kind(self._sites.of(one)) == kind}
        for lane in self._lanes.values():
            site = lane.site
            room = self._sites.room(site, now)
            # Who has not shown that it works, and soon, holds no more leases than it has room for.
            enough = max(room, 1) if _kind(site) == WORKS else 0 if lane.admitted >= room else 1
            lane.skipped = len(lane.waiting) >= enough
            if lane.skipped:
                found |= site.domains or {site.name}
        return found

    def counted(self, running: Running, site: Site, closed: Closed) -> bool:
        """Whether it is only closed because of this job: the last of a day's warm-up."""
        return closed.why == "warm-up" and running.lane.site is site

    def moves(self, running: Running, site: Site, now: float) -> bool:
        """Its site is known now. Whether it may go on; else it waits there, and its worker is free, or was released."""
        before = running.lane
        if before.site is site:
            return True
        before.admitted -= 1
        self._sites.cancel(before.site)
        self._admit(before)
        self._leave(before)
        lane = running.lane = self._lane(site)
        lane.held += 1
        if not lane.waiting and lane.admitted < self._sites.room(site, now) and self._sites.slot_at(site) <= now:
            lane.admitted += 1
            self._sites.begin(site, now)
            self.start()  # the next one for the domain, which has its place there now
            return True
        running.admitted = False
        self.free(running)
        if len(lane.waiting) > self._sites.room(site, now):
            self._release([running])
        else:
            lane.waiting.append(running)
            self._admit(lane)
        return False

    def left(self, running: Running, replies: list[Reply]) -> None:
        """It is done with its destination."""
        lane = running.lane
        if not running.admitted:
            return
        running.admitted = False
        lane.admitted -= 1
        now = self._clock()
        self._sites.end(lane.site, replies, now)
        if lane.waiting and self._sites.closed(lane.site, "", "", now) is not None:
            waiting = list(lane.waiting)
            lane.waiting.clear()
            self._release(waiting)
        self._admit(lane)
        self.start()
        self._ask(lane, now)

    def free(self, running: Running) -> None:
        """Its worker is free."""
        if running in self._working:
            self._working.discard(running)
            self.running -= 1
            self.lent -= running.lent
            self._running[running.queue] -= 1
            took_s = asyncio.get_running_loop().time() - running.began
            self._usual_s *= 1.02 if took_s > self._usual_s else 1 / 1.02  # runs after the median
            self._usual_s = max(self._usual_s, 0.001)
            running.lane.site.slow = took_s > self._patience_s()

    def forget(self, running: Running) -> None:
        """It is over, or was lost."""
        lane = running.lane
        if running in lane.waiting:
            lane.waiting.remove(running)
        elif running.admitted:
            running.admitted = False
            lane.admitted -= 1
            self._sites.cancel(lane.site)
            for queue in self._queues:
                if running in queue:
                    queue.remove(running)
            self._admit(lane)
        self._leave(lane)

    def recheck(self) -> None:
        """Something was suspended, or is not any more, or the clock was set: who need not wait, and who may go on."""
        now = self._clock()
        for lane in list(self._lanes.values()):
            gone = [
                one
                for one in lane.waiting
                if self._sites.closed(lane.site, one.job.domain, one.job.message.peer.user, now) is not None
            ]
            for one in gone:
                lane.waiting.remove(one)
            if gone:
                self._release(gone)
            if lane.timer is not None:
                lane.timer.cancel()
                lane.timer = None
            self._admit(lane)
        self.start()

    def waiting(self) -> Iterator[Running]:
        for lane in self._lanes.values():
            yield from lane.waiting
        for queue in self._queues:
            yield from queue

    def clear(self) -> None:
        """Nothing more begins, also not what finds out now that it has to wait."""
        self.workers = 0
        for lane in self._lanes.values():
            lane.waiting.clear()
            if lane.timer is not None:
                lane.timer.cancel()
        for queue in self._queues:
            queue.clear()
        if self._look is not None:
            self._look.cancel()

    # --- admission

    def _lane(self, site: Site) -> Lane:
        return self._lanes.get(site.name) or self._lanes.setdefault(site.name, Lane(site))

    def _ask(self, lane: Lane, now: float) -> None:
        if lane.skipped and len(lane.waiting) <= self._sites.room(lane.site, now) // 2:
            lane.skipped = False
            self._dry()

    def _leave(self, lane: Lane) -> None:
        lane.held -= 1
        self._ask(lane, self._clock())
        if not lane.held and self._lanes.get(lane.site.name) is lane:
            del self._lanes[lane.site.name]
            if lane.timer is not None:
                lane.timer.cancel()

    def _admit(self, lane: Lane) -> None:
        if not lane.waiting:
            return
        site, now = lane.site, self._clock()
        while lane.waiting and lane.admitted < self._sites.room(site, now):
            at = self._sites.slot_at(site)
            if at > now:
                if lane.timer is None:
                    lane.timer = asyncio.get_running_loop().call_later(at - now, self._slot, lane)
                return
            running = lane.waiting.popleft()
            running.admitted = True
            lane.admitted += 1
            self._sites.begin(site, now)
            running.queue = _kind(site)
            self._queues[running.queue].append(running)

    def _slot(self, lane: Lane) -> None:
        lane.timer = None
        self._admit(lane)
        self.start()

    # --- workers

    def start(self) -> None:
        """Give workers to those who are next."""
        while self.running - self.lent < self.workers:
            running = self._next()
            if running is None:
                return
            self.running += 1
            self._working.add(running)
            running.began = asyncio.get_running_loop().time()
            running.lent = False
            self._begin(running)
        if self.ready and self._look is None and self.lent < LENT_MAX * self.workers:
            self._look = asyncio.get_running_loop().call_later(LOOK_S, self._lend)

    def _next(self) -> Running | None:
        """In turn from each of the queues that may."""
        for kind, aside in enumerate(self._aside):
            if aside and not self._queues[kind] and self._may(kind):
                aside.clear()
                self._dry()
        for _ in self._queues:
            self._turn = (self._turn + 1) % len(self._queues)
            queue = self._queues[self._turn]
            if queue and self._may(self._turn):
                self._running[self._turn] += 1
                return queue.popleft()
        return None

    def _may(self, kind: int) -> bool:
        most = {UNKNOWN: UNKNOWN_MAX, SLOW: SLOW_MAX}.get(kind)
        return most is None or self._running[kind] < most * self.workers

    def _patience_s(self) -> float:
        return min(max(PATIENCE * self._usual_s, PATIENCE_MIN_S), PATIENCE_MAX_S)

    def _lend(self) -> None:
        """Who takes long gives its place to somebody who waits."""
        self._look = None
        began = asyncio.get_running_loop().time() - self._patience_s()
        for running in self._working:
            if self.lent >= LENT_MAX * self.workers:
                break
            if not running.lent and running.began < began:
                running.lent = True
                self.lent += 1
        self.start()


def _kind(site: Site) -> int:
    if site.local:
        return WORKS
    if not site.pace.proven:
        return UNKNOWN
    return SLOW if site.slow else WORKS
