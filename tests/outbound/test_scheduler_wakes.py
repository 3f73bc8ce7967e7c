"""Mail that is due is tried when it is due, whatever gave it back: no look at the queue is missed.

The queue is looked at every minute anyway; none of these waits for that.
"""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager

from smtp_peer import Peer, serving
from test_scheduler import Moody, house, running, to
from test_sites import until

from mtad.config import RouteRule, Target
from mtad.mail.envelope import State
from mtad.outbound import leases as module
from mtad.queue.store import RetryAt, Selector

NOT_NOW = "451 4.2.1 not now"


class Watched(Moody):
    """`done`: how often each call came back."""

    def __init__(self, store, **fails: int) -> None:
        super().__init__(store, **fails)
        self.done: Counter[str] = Counter()

    def __getattr__(self, name):
        call = super().__getattr__(name)

        async def counted(*args, **more):
            try:
                return await call(*args, **more)
            finally:
                self.done[name] += 1

        return counted


@asynccontextmanager
async def slow_sites(count: int):
    """For slow0.test, slow1.test ...: each a site of its own, and none that answers before the gate is opened; and one
    for all others that does."""
    gate = asyncio.Event()
    async with AsyncExitStack() as opened:
        slow = [Peer() for _ in range(count)]
        well = Peer()
        for peer in (*slow, well):
            await opened.enter_async_context(serving(peer))
        opened.callback(gate.set)
        rules = [RouteRule(f"slow{n}.test", Target("smtp", "127.0.0.1", peer.port)) for n, peer in enumerate(slow)]
        yield (*rules, *to(well.port)), slow, gate


async def test_a_second_try_is_made_when_it_is_due(tmp_path):
    """The last look was made while it was leased, and saw nothing due for long."""
    peer = Peer(once={".": NOT_NOW}, gate=asyncio.Event())
    async with serving(peer), house(tmp_path, routes=to(peer.port), retry_s=(0.01,)) as made:
        store = Watched(made.store)
        name = await made.put("b@y.test")
        async with running(made, store=store):
            await until(lambda: store.done["next_due"])
            peer.gate.set()
            [row] = await made.settled(name, 2)
            assert row.state == State.DONE


async def test_the_next_mail_for_a_domain_does_not_wait_for_the_first_to_end(tmp_path):
    """The domain turns out to be of a site that is known and has room."""
    peer = Peer()
    async with serving(peer), house(tmp_path, routes=to(peer.port)) as made, running(made) as scheduler:
        first = await made.put("b@one.test")
        scheduler.wake()
        await made.settled(first)
        peer.gate = asyncio.Event()
        for _ in range(2):
            await made.put("b@two.test")
        scheduler.wake()
        await until(lambda: peer.commands.count("DATA") == 3)
        peer.gate.set()


async def test_an_operator_who_asks_for_a_try_during_one_gets_it(tmp_path):
    peer = Peer()
    async with serving(peer), house(tmp_path, routes=to(peer.port), retry_s=(3600.0,)) as made:
        store = Watched(made.store)
        async with running(made, store=store) as scheduler:
            first = await made.put("b@y.test")
            scheduler.wake()
            await made.settled(first)  # its site has room for more than one now, and asks for nothing
            peer.gate = asyncio.Event()
            peer.once["."] = NOT_NOW
            name = await made.put("b@y.test")
            looks = store.done["next_due"]
            scheduler.wake()
            await until(lambda: store.done["next_due"] > looks and scheduler.active())
            await made.store.change(Selector(ids=(name,)), RetryAt(made.clock()), made.clock())
            looks = store.done["next_due"]
            scheduler.changed()
            await until(lambda: store.done["next_due"] > looks)
            peer.gate.set()
            [row] = await made.settled(name, 2)
            assert row.state == State.DONE


async def test_who_waits_for_slow_sites_keeps_no_worker_from_other_mail(tmp_path):
    """As many leases as may be held wait for four sites with room for two each, and two workers have nothing to do."""
    async with slow_sites(4) as (routes, slow, gate), house(tmp_path, routes=routes, workers=10) as made:
        async with running(made) as scheduler:
            known = [await made.put(f"b@slow{n}.test") for n in range(4)]
            scheduler.wake()
            for name in known:
                await made.settled(name)
            for peer in slow:
                peer.gate = gate
            for n in range(4):
                for _ in range(10):
                    await made.put(f"b@slow{n}.test")
            scheduler.wake()
            await until(lambda: sum(peer.now for peer in slow) >= 8)
            name = await made.put("b@y.test")
            scheduler.wake()
            [row] = await made.settled(name)
            assert row.state == State.DONE
            gate.set()


async def test_a_place_that_is_lent_makes_room_for_what_was_not_leased_yet(tmp_path):
    """Two workers wait for silent sites. What was leased behind them begins when they have lent their places."""
    async with (
        slow_sites(6) as (routes, slow, gate),
        house(tmp_path, routes=routes, workers=2, interval_s=3600.0) as made,
    ):
        for n, peer in enumerate(slow):
            peer.gate = gate
            await made.put(f"b@slow{n}.test")
        name = await made.put("b@y.test")
        async with running(made):
            [row] = await made.settled(name)
            assert row.state == State.DONE
            gate.set()


async def test_a_lease_that_the_store_could_not_take_back_is_given_back_later(tmp_path, monkeypatch):
    """Ten mails of one new domain, whose site has room for one: the others go back, as soon as the store can."""
    monkeypatch.setattr(module, "TROUBLE_S", 0.01)
    peer = Peer(gate=asyncio.Event())
    async with serving(peer), house(tmp_path, routes=to(peer.port)) as made:
        names = [await made.put("b@y.test") for _ in range(10)]
        store = Watched(made.store, release=3)
        async with running(made, store=store):
            await until(lambda: store.done["release"] >= 4)
            peer.gate.set()
            for name in names:
                await made.settled(name)
        assert len(peer.mails) == 10


async def test_a_report_waits_for_nobody_who_has_ended(tmp_path):
    """The other recipient is still at work when the report is made, and is not any more when it is stored."""
    made_it, ended = asyncio.Event(), asyncio.Event()

    class InTurn(Moody):
        def __getattr__(self, name):
            call = super().__getattr__(name)
            if name != "settle":
                return call

            async def settle(settlement):
                if settlement.spawn:
                    made_it.set()
                    await ended.wait()
                elif settlement.job.domain == "z.test":
                    await made_it.wait()
                settled = await call(settlement)
                ended.set()
                return settled

            return settle

    peer = Peer(says={"RCPT TO:<b@": "550 5.1.1 who?"})
    async with serving(peer), house(tmp_path, routes=to(peer.port)) as made:
        await made.put("b@y.test", "c@z.test")
        async with running(made, store=InTurn(made.store)):
            await until(lambda: any(mail.recipients == ["a@x.test"] for mail in peer.mails))
