"""Lanes by themselves: what begins, what is set aside, and what does not begin any more."""

import asyncio
import random

from mtad.config import Config, Delivery, Paths
from mtad.events import Events
from mtad.mail.envelope import Job, Message, Peer, Recipient
from mtad.mail.reply import Reply
from mtad.outbound.lanes import SLOW_MAX, Lanes, Running
from mtad.outbound.sites import Sites
from mtad.outbound.suspensions import Suspensions

NOW = 1_800_000_000.0
OK = Reply(250, "2.0.0", "ok", "h")


class Bench:
    """Lanes with `workers`; what began, and how often somebody was asked to look at the queue."""

    def __init__(self, workers: int) -> None:
        def clock() -> float:
            return NOW

        config = Config("h.test", (), Paths("", "", ""), delivery=Delivery())
        events = Events(clock, lambda line: None)
        store = None  # nothing is saved here
        self.sites = Sites(config, store, Suspensions(store, clock), events, clock, random.Random(1))
        self.began: list[Running] = []
        self.released: list[Running] = []
        self.looks = 0
        self.lanes = Lanes(self.sites, clock, self.began.append, self.released.extend, self._look)
        self.lanes.workers = workers
        self._leases = 0

    def _look(self) -> None:
        self.looks += 1

    def job(self, domain: str) -> Job:
        self._leases += 1
        name = f"{self._leases:013x}"
        message = Message(name, "a@x.test", 1, NOW, NOW + 1000, Peer("smtp"))
        return Job(message, domain, (Recipient(name, 1, f"b@{domain}", f"b@{domain}", domain),), NOW, self._leases)

    def take(self, domain: str) -> Running | None:
        taken = self.lanes.take(self.job(domain))
        self.lanes.start()
        return taken

    def ends(self, running: Running, *replies: Reply) -> None:
        self.lanes.left(running, list(replies))
        self.lanes.free(running)
        self.lanes.forget(running)
        self.lanes.start()


async def test_after_the_end_nothing_begins_that_waited_for_its_site() -> None:
    """Two domains turn out to be one site, and the second waits for the first: at the end of the daemon for good."""
    bench = Bench(4)
    first, second = bench.take("one.test"), bench.take("two.test")
    assert bench.began == [first, second]
    for running in bench.began:
        site = bench.sites.learn(running.job.domain, "mx.test", ("mx.test",))
        if running is second:
            bench.lanes.clear()
        assert bench.lanes.moves(running, site, NOW) is (running is first)
    bench.ends(first, OK)
    assert bench.began == [first, second]
    assert bench.lanes.running == 0


async def test_what_is_set_aside_is_not_asked_for_before_there_is_room() -> None:
    """Too much for slow sites: as long as it is, more of it is neither leased nor asked for."""
    bench = Bench(1)
    jobs = []
    for n in range(SLOW_MAX + 2):
        site = bench.sites.learn(f"y{n}.test", f"mx{n}.test", (f"mx{n}.test",))
        bench.sites.begin(site, NOW)
        bench.sites.end(site, [OK], NOW)
        site.slow = True
        jobs.append(bench.take(f"y{n}.test"))
        for running in bench.began:  # each soon takes too long
            if not running.lent:
                running.lent = True
                bench.lanes.lent += 1
        bench.lanes.start()
    assert len(bench.began) == SLOW_MAX
    site = bench.sites.learn("more.test", "mx.more.test", ("mx.more.test",))
    site.pace, site.slow = jobs[0].lane.site.pace, True
    assert bench.take("more.test") is None
    assert bench.looks == 0
    assert "more.test" in bench.lanes.full(NOW)
    bench.lanes.start()
    assert bench.looks == 0
    while bench.began:
        bench.ends(bench.began.pop(), OK)
    assert bench.looks
    assert "more.test" not in bench.lanes.full(NOW)


async def test_who_was_set_aside_and_shows_that_it_works_is_asked_for() -> None:
    bench = Bench(1)
    taken = [bench.take(f"y{n}.test") for n in range(40)]
    for running in bench.began:
        running.lent = True
    bench.lanes.lent = len(bench.began)
    while None not in taken:
        taken.append(bench.take(f"y{len(taken)}.test"))
        for running in bench.began:
            bench.lanes.lent += not running.lent
            running.lent = True
        bench.lanes.start()
    aside = f"y{taken.index(None)}.test"
    assert aside in bench.lanes.full(NOW)
    site = bench.sites.of(aside)
    bench.sites.begin(site, NOW)
    bench.sites.end(site, [OK], NOW)
    assert aside not in bench.lanes.full(NOW)
    await asyncio.sleep(0)


async def test_a_lease_that_is_lost_before_it_began_leaves_its_place_to_the_next() -> None:
    """Else the lane would never move again: nobody runs there who could call the next one."""
    bench = Bench(1)
    busy = bench.take("z.test")
    lost, waiting = bench.take("y.test"), bench.take("y.test")
    bench.lanes.forget(lost)
    bench.ends(busy, OK)
    assert bench.began == [busy, waiting]


async def test_mail_for_a_domain_that_goes_two_ways_is_planned_side_by_side() -> None:
    """Each plan says where its mail goes; the sites themselves are found with no more than they have room for."""
    bench = Bench(8)
    bench.sites.learn("y.test", "one", ("one",))
    bench.sites.learn("y.test", "two", ("two",))
    jobs = [bench.take("y.test") for _ in range(6)]
    assert bench.began == jobs
    assert "y.test" not in bench.lanes.full(NOW)
    went = [bench.lanes.moves(one, bench.sites.learn("y.test", name, (name,)), NOW)
            for one, name in zip(bench.began, ("one", "two", "one", "two", "one", "two"), strict=True)]  # fmt: skip
    assert went == [True, True, False, False, False, False]
    assert bench.lanes.running == 2
    for site in ("one", "two"):
        assert bench.sites.find(site).running == 1
    bench.ends(jobs[0], OK)
    bench.ends(jobs[1], OK)
    assert set(bench.began[6:]) | set(bench.released) == set(jobs[2:])
