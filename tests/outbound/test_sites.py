"""Pacing with the real store and real peers: breakers, warm-up, suspensions, and operators who come meanwhile."""

import asyncio
import random
from dataclasses import replace

from smtp_peer import Peer, serving
from test_scheduler import House, house, running, to

from mtad.config import Rate, RouteRule, SiteRule, Target
from mtad.dns.resolver import MxAnswer
from mtad.mail.envelope import State
from mtad.outbound import route, sitewords
from mtad.outbound.site import restored, stored
from mtad.outbound.sitemap import WAYS_S
from mtad.outbound.sites import Sites
from mtad.outbound.suspensions import Suspensions
from mtad.queue.pace import DAY_S, STATED_MAX_S
from mtad.queue.sitestore import StoredSite, Suspension
from mtad.queue.store import Hold, RetryAt, Selector, Trash


async def until(condition, seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


def site(made: House):
    [one] = made.sites.all()
    return one


def test_domains_with_the_same_best_hosts_share_a_site() -> None:
    first = MxAnswer(((10, "b.mx.test"), (10, "a.mx.test"), (20, "spare.one.test")))
    second = MxAnswer(((5, "a.mx.test"), (5, "b.mx.test"), (9, "spare.two.test")))
    assert route.site_of("one.test", first, ("a.mx.test", "b.mx.test", "spare.one.test")) == "a.mx.test,b.mx.test"
    assert route.site_of("two.test", second, ("b.mx.test", "spare.two.test")) == "a.mx.test,b.mx.test"
    assert route.site_of("three.test", Exception(), ("three.test",)) == "three.test"
    many = MxAnswer(tuple((1, f"{n:03}.a-long-name-of-a-host.example.test") for n in range(50)))
    name = route.site_of("x.test", many, tuple(host for _, host in many.hosts[:10]))
    assert len(name) <= route.SITE_NAME_MAX
    assert name.startswith("000.a-long-name-of-a-host.example.test,+49,")


async def test_a_silent_site_is_left_alone_until_a_probe_works(tmp_path):
    peer = Peer(says={"banner": "421 4.3.2 not now"})
    async with serving(peer), house(tmp_path, routes=to(peer.port), retry_s=(100_000.0,)) as made:
        async with running(made) as scheduler:
            for n in range(20):
                await made.put(f"b@y{n}.test")
            scheduler.wake()
            await until(lambda: any("breaker open" in line for line in made.lines))
            await until(lambda: not scheduler.active())
            assert peer.connections <= 5  # of twenty: three failures, and what was on its way
            assert sitewords.state(made.sites, site(made), made.clock()) == "broken"
            async with asyncio.timeout(10):
                while any(row.state is State.LEASED for row in await made.rows()):
                    await asyncio.sleep(0.005)
            waiting = [row for row in await made.rows() if row.tries == 0]
            assert len(waiting) >= 15
            peer.says.clear()
            made.clock.ahead = 100.0
            scheduler.wake()
            await until(lambda: len(peer.mails) == len(waiting))
            assert any("breaker closed" in line for line in made.lines)
            assert made.events.counters["mtad_site_breaker_opened_total"] == 1
            assert peer.most <= made.config.delivery.max_per_domain


async def test_a_block_is_recognised_and_survives_a_restart(tmp_path):
    peer = Peer(says={"MAIL": "421 4.7.0 Try again later, rate limited"})
    async with serving(peer):
        routes = (RouteRule("other.test", Target("discard")), *to(peer.port))
        async with house(tmp_path, routes=routes) as made, running(made) as scheduler:
            name = await made.put("b@y.test")
            scheduler.wake()
            await made.settled(name)
            assert made.events.counters["mtad_site_blocks_total"] == 1
            probe_at = site(made).pace.probe_at
            assert 270 <= probe_at - made.clock() <= 330
        async with house(tmp_path, routes=routes) as made:
            made.schedule()
            await made.sites.load()
            assert site(made).pace.probe_at == probe_at
            assert "421 x 1, probe at" in sitewords.breaker(site(made), made.clock())
            task = asyncio.create_task(made.scheduler.run())
            again = await made.put("c@y.test")
            made.scheduler.wake()
            other = await made.put("d@other.test")  # not that site: looked at after the first one
            made.scheduler.wake()
            await made.settled(other)
            assert (await made.rows(again))[0].tries == 0
            await made.scheduler.drain(5)
            await task
    assert peer.connections == 1


async def test_who_asks_for_a_try_now_does_not_wait_for_the_probe(tmp_path):
    peer = Peer(says={"MAIL": "421 4.7.0 Try again later, rate limited"})
    async with serving(peer), house(tmp_path, routes=to(peer.port)) as made, running(made) as scheduler:
        name = await made.put("b@y.test")
        scheduler.wake()
        await made.settled(name)
        assert site(made).pace.open
        assert made.sites.reopen() == 1
        assert made.sites.reopen() == 0
        peer.says.clear()
        await made.store.change(Selector(ids=(name,)), RetryAt(made.clock()), made.clock())
        scheduler.wake()
        await until(lambda: len(peer.mails) == 1)


async def test_one_dead_site_does_not_hold_up_the_others(tmp_path):
    """More silent domains than workers: they take the places of nobody for long."""
    silent, well = Peer(says={"banner": ""}), Peer()
    async with serving(silent), serving(well):
        routes = (RouteRule("dead*", Target("smtp", "127.0.0.1", silent.port)), *to(well.port))
        async with house(tmp_path, routes=routes, workers=4) as made, running(made) as scheduler:
            for n in range(12):
                await made.put(f"b@dead{n}.test")
            for n in range(40):
                await made.put(f"b@good{n}.test")
            scheduler.wake()
            await until(lambda: len(well.mails) == 40)
            assert silent.connections <= 12


async def test_a_rate_spreads_the_mails(tmp_path):
    rule = SiteRule("y.test", rate=Rate(20, 1.0))
    async with serving(Peer()) as peer, house(tmp_path, routes=to(peer.port), sites=(rule,)) as made:
        async with running(made) as scheduler:
            began = made.clock()
            for _ in range(6):
                await made.put("b@y.test")
            scheduler.wake()
            await until(lambda: len(peer.mails) == 6)
            assert made.clock() - began >= 0.2  # five pauses of 0.05 s


async def test_a_warm_up_ends_for_the_day_and_goes_on_with_more(tmp_path):
    rule = SiteRule("y.test", per_day=2, growth=1.5)
    async with serving(Peer()) as peer, house(tmp_path, routes=to(peer.port), sites=(rule,)) as made:
        made.clock.ahead = DAY_S - made.clock() % DAY_S + 60  # a new day begins: no test runs over its end
        async with running(made) as scheduler:
            for _ in range(9):
                await made.put("b@y.test")
            scheduler.wake()
            await until(lambda: any("warm-up limit reached" in line for line in made.lines))
            await until(lambda: not scheduler.active())
            assert len(peer.mails) == 2
            assert sitewords.warmup(made.sites, site(made), made.clock()) == "2 of 2 today"
            kept = restored(StoredSite("y", stored(site(made))), made.clock())
            assert kept.warmup == site(made).warmup
            made.clock.ahead += DAY_S
            scheduler.wake()
            await until(lambda: len(peer.mails) == 5)
            await until(lambda: not scheduler.active())
            assert len(peer.mails) == 5


async def test_what_is_suspended_waits_and_is_given_up_in_time(tmp_path):
    async with serving(Peer()) as peer, house(tmp_path, routes=to(peer.port)) as made:
        async with running(made) as scheduler:
            for kind, value in (("domain", "one.test"), ("user", "al@own.test"), ("site", "127.0.0.1")):
                one = Suspension(kind, value, "a reason", "uid=0", made.clock())
                await made.suspensions.add(one)
                name = await made.put("b@one.test", peer_user="al@own.test" if kind == "user" else "")
                scheduler.wake()
                if kind == "user":
                    row = (await waits(made, name))[0]
                    assert row.last.text == "Mail of this user is suspended: a reason"
                    assert row.next_at > made.clock() + 200
                await until(lambda: not scheduler.active())
                assert peer.mails == []
                assert await made.suspensions.remove(kind, value) == one
                made.clock.ahead += 20_000
                scheduler.wake()
                [row] = await made.settled(name)
                assert row.state is State.DONE
                peer.mails.clear()
            await made.suspensions.add(Suspension("domain", "one.test", "", "uid=0", made.clock()))
            name = await made.put("b@one.test", expires_s=86_400.0)
            made.clock.ahead += 90_000
            scheduler.wake()
            async with asyncio.timeout(10):
                while (await made.rows(name))[0].state is not State.FAILED:
                    await asyncio.sleep(0.005)
            assert any("status=expired" in line for line in made.lines)


async def waits(made: House, name: str):
    async with asyncio.timeout(10):
        while True:
            rows = await made.rows(name)
            if all(row.last is not None for row in rows):
                return rows
            await asyncio.sleep(0.005)


async def test_an_operator_wins_over_a_lease_that_waits(tmp_path):
    """One delivery at a time: the second mail is leased and waits when the operator comes."""
    for change, state in ((Hold(), State.HELD), (Trash(), State.TRASHED)):
        gate = asyncio.Event()
        peer = Peer(gate=gate)
        async with serving(peer), house(tmp_path / state.name, routes=to(peer.port), max_per_domain=1) as made:
            async with running(made) as scheduler:
                gate.set()
                first = await made.put(
                    "b@y.test"
                )  # from then on the site works, and more is leased than it has room for
                scheduler.wake()
                await made.settled(first)
                gate.clear()
                names = [await made.put("b@y.test") for _ in range(2)]
                scheduler.wake()
                async with asyncio.timeout(10):
                    while (await made.rows(names[1]))[0].state is not State.LEASED:
                        scheduler.wake()
                        await asyncio.sleep(0.005)
                assert (await made.store.change(Selector(ids=(names[1],)), change, made.clock())).recipients == 1
                gate.set()
                await made.settled(names[0])
                await until(lambda: not scheduler.active())
                [row] = await made.rows(names[1])
                assert (row.state, row.tries) == (state, 0)
        assert len(peer.mails) == 2


async def test_a_clock_set_far_back_does_not_make_mail_wait_for_the_old_future(tmp_path):
    peer = Peer(says={"RCPT": "450 4.2.1 not now"})
    async with serving(peer), house(tmp_path, routes=to(peer.port), retry_s=(100.0,)) as made:
        made.clock.ahead = 1e7
        async with running(made) as scheduler:
            name = await made.put("b@y.test", expires_s=1e9)
            scheduler.wake()
            await made.settled(name)
            made.clock.ahead = 0.0
            scheduler.wake()
            async with asyncio.timeout(10):
                while (await made.rows(name))[0].next_at > made.clock() + 130:
                    await asyncio.sleep(0.005)


async def test_what_cannot_be_read_of_a_site_is_forgotten(tmp_path):
    async with house(tmp_path) as made:
        for text in ("", "{", "[]", "null", '{"breaker": 1}', '{"breaker": [1,2,3,4,5,6], "hosts": 3}'):
            assert restored(StoredSite("x", text), 1.0) is None
        sites = Sites(
            made.config, made.store, Suspensions(made.store, made.clock), made.events, made.clock, random.Random(1)
        )
        sites.reload(replace(made.config))
        assert sites.find("x") is None


async def test_a_domain_that_goes_two_ways_is_of_neither_site(tmp_path):
    async with house(tmp_path) as made:
        made.schedule()
        one = made.sites.learn("y.test", "one", ("one",))
        assert made.sites.known("y.test")
        assert made.sites.of("y.test") is one
        two = made.sites.learn("y.test", "two", ("two",))
        assert not made.sites.known("y.test")
        assert made.sites.of("y.test") not in (one, two)
        assert made.sites.find("y.test") is None
        assert [site.name for site in made.sites.all()] == ["one", "two"]


async def test_a_domain_that_goes_one_way_again_is_of_that_site(tmp_path):
    """Its MX records changed: for an hour nobody knows whether the old way is still one, then it is not."""
    async with house(tmp_path) as made:
        made.schedule()
        made.sites.learn("y.test", "one", ("one",))
        two = made.sites.learn("y.test", "two", ("two",))
        made.clock.ahead = WAYS_S - 60
        made.sites.learn("y.test", "one", ("one",))  # the old way after all
        made.sites.learn("y.test", "two", ("two",))
        made.clock.ahead = 2 * WAYS_S - 120
        made.sites.learn("y.test", "two", ("two",))
        assert not made.sites.known("y.test")
        made.clock.ahead = 2 * WAYS_S
        made.sites.learn("y.test", "two", ("two",))
        assert made.sites.known("y.test")
        assert made.sites.of("y.test") is two
        assert two.domains == {"y.test"}


async def test_a_domain_that_goes_two_ways_may_be_the_name_of_a_site(tmp_path):
    """Without MX records the site has the domain's name; plans are made elsewhere all the same."""
    async with house(tmp_path) as made:
        made.schedule()
        made.sites.learn("y.test", "one", ("one",))
        itself = made.sites.learn("y.test", "y.test", ("y.test",))
        assert made.sites.of("y.test") is not itself
        assert made.sites.of("y.test").name != itself.name


async def test_three_recipients_three_answers_one_each_across_a_restart(tmp_path):
    """250, 550 and 451: one delivery, one report, one retry, and the restart adds nothing to any of them."""
    peer = Peer(says={"RCPT TO:<no@": "550 5.1.1 who?", "RCPT TO:<later@": "451 4.2.1 not now"})
    async with serving(peer):
        async with house(tmp_path, routes=to(peer.port)) as made, running(made) as scheduler:
            name = await made.put("yes@y.test", "no@y.test", "later@y.test")
            scheduler.wake()
            rows = await made.settled(name)
            assert [row.state for row in rows] == [State.DONE, State.FAILED, State.READY]
            before = [(row.state, row.tries, row.next_at) for row in rows]
        peer.says.pop("RCPT TO:<later@")
        async with house(tmp_path, routes=to(peer.port)) as made, running(made) as scheduler:
            scheduler.wake()
            await until(lambda: not scheduler.active())
            assert [(row.state, row.tries, row.next_at) for row in await made.rows(name)] == before  # not due yet
            made.clock.ahead = 3600.0
            scheduler.wake()
            async with asyncio.timeout(10):
                while any(row.state not in (State.DONE, State.FAILED) for row in await made.rows()):
                    scheduler.wake()
                    await asyncio.sleep(0.02)
            rows = await made.rows(name)
            assert [(row.state, row.tries) for row in rows] == [(State.DONE, 1), (State.FAILED, 1), (State.DONE, 2)]
            reports = [row for row in await made.rows() if row.message_id != name]
            assert [(row.address, row.state) for row in reports] == [("a@x.test", State.DONE)]
    assert sorted(mail.recipients for mail in peer.mails) == [["a@x.test"], ["later@y.test"], ["yes@y.test"]]


async def test_a_clock_set_far_back_does_not_keep_a_site_closed_until_the_old_future(tmp_path):
    peer = Peer(once={"MAIL": "421 4.7.0 Try again later, rate limited"})
    rule = SiteRule("y.test", rate=Rate(1, 1.0))
    async with serving(peer), house(tmp_path, routes=to(peer.port), sites=(rule,), retry_s=(1.0,)) as made:
        made.clock.ahead = 1e7
        async with running(made) as scheduler:
            name = await made.put("b@y.test", expires_s=1e9)
            scheduler.wake()
            await made.settled(name)
            made.clock.ahead = 0.0
            scheduler.wake()
            await until(lambda: site(made).pace.probe_at < made.clock() + STATED_MAX_S + 1)
            made.sites.reopen()
            scheduler.wake()
            await until(lambda: len(peer.mails) == 1)
