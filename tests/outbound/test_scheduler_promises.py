"""One 250 is one mail: what a peer took is recorded once, whatever the clock, the operator or the stop do meanwhile."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from smtp_peer import Peer, serving
from test_scheduler import Moody, house, running, to

from mtad.config import Local, RouteRule, Target
from mtad.mail.envelope import State
from mtad.outbound.leap import Leap
from mtad.queue.audit import Entry
from mtad.queue.store import Redirect, Selector, StoreError


async def test_a_clock_that_jumps_ahead_does_not_send_twice(tmp_path):
    """As after an NTP step or a resumed machine: all leases have run out at once, while their jobs are on the wire."""
    gate = asyncio.Event()
    slow = Peer(gate=gate)
    async with serving(slow), serving(Peer()) as fast:
        routes = (RouteRule("slow.test", Target("smtp", "127.0.0.1", slow.port)), *to(fast.port))
        async with house(tmp_path, routes=routes) as made, running(made) as scheduler:
            name = await made.put("b@slow.test")
            scheduler.wake()
            await slow.seen("DATA")
            made.clock.ahead = 1000.0
            other = await made.put("c@fast.test")
            scheduler.wake()
            await made.settled(other)  # so the queue was looked at with the new time
            gate.set()
            [row] = await made.settled(name)
            assert (row.state, row.tries) == (State.DONE, 1)
            assert scheduler.active() == 0
    assert len(slow.mails) == 1


async def test_a_store_that_is_away_for_long_still_hears_of_the_250(tmp_path):
    """The time of the lease is over before the store comes back; the mail is not sent again."""

    class Away(Moody):
        def __getattr__(self, name):
            if name == "settle" and self.fails["settle"]:
                made.clock.ahead += 1000.0
            return super().__getattr__(name)

    async with serving(Peer()) as peer, house(tmp_path, routes=to(peer.port)) as made:
        async with running(made, store=Away(made.store, settle=3)) as scheduler:
            name = await made.put("b@y.test")
            scheduler.wake()
            [row] = await made.settled(name)
        assert (row.state, row.tries) == (State.DONE, 1)
        assert len(peer.mails) == 1


async def test_a_stop_records_what_was_taken_by_then(tmp_path):
    """The second transaction of a job hangs; the first had its 250."""
    peer = Peer(once={"RCPT TO:<c@": "452 4.5.3 one at a time"})
    async with serving(peer), house(tmp_path, routes=to(peer.port)) as made:
        scheduler = made.schedule()
        task = asyncio.create_task(scheduler.run())
        peer.says = {"RCPT TO:<c@": ""}
        name = await made.put("b@y.test", "c@y.test")
        scheduler.wake()
        async with asyncio.timeout(10), peer.got:
            await peer.got.wait_for(lambda: sum(one.startswith("RCPT TO:<c@") for one in peer.commands) == 2)
        await scheduler.drain(0.05)
        await task
        rows = await made.rows(name)
        assert [(row.state, row.tries) for row in rows] == [(State.DONE, 1), (State.READY, 1)]
        assert len(peer.mails) == 1


async def test_a_stop_records_what_a_mailbox_host_took(tmp_path):
    """LMTP answers for each recipient: one did, one hangs."""
    peer = Peer(lmtp=True, says={". c@": ""})
    async with serving(peer):
        routes = (RouteRule("*", Target("lmtp", "127.0.0.1", peer.port)),)
        async with house(tmp_path, routes=routes) as made:
            scheduler = made.schedule()
            task = asyncio.create_task(scheduler.run())
            name = await made.put("b@y.test", "c@y.test")
            scheduler.wake()
            async with asyncio.timeout(10):
                while not peer.mails:
                    await asyncio.sleep(0.005)
            await scheduler.drain(0.2)
            await task
            rows = await made.rows(name)
            assert [(row.state, row.tries) for row in rows] == [(State.DONE, 1), (State.READY, 1)]


async def test_a_stop_waits_for_an_outcome_to_be_recorded(tmp_path):
    """The store needs longer than the stop has time: the peer's 250 is in hand, and is not thrown away."""
    waits, goes_on = asyncio.Event(), asyncio.Event()

    class Slow(Moody):
        def __getattr__(self, name):
            method = super().__getattr__(name)
            if name != "settle":
                return method

            async def settle(*args):
                if not waits.is_set():
                    waits.set()
                    await goes_on.wait()
                    raise StoreError("disk I/O error")
                return await method(*args)

            return settle

    async with serving(Peer()) as peer, house(tmp_path, routes=to(peer.port)) as made:
        scheduler = made.schedule(store=Slow(made.store))
        task = asyncio.create_task(scheduler.run())
        name = await made.put("b@y.test")
        scheduler.wake()
        await asyncio.wait_for(waits.wait(), 10)
        draining = asyncio.create_task(scheduler.drain(0.0))
        await asyncio.sleep(0.05)
        goes_on.set()
        await draining
        await task
        [row] = await made.rows(name)
        assert row.state == State.DONE
        assert len(peer.mails) == 1


async def test_a_stop_waits_for_the_mailbox(tmp_path):
    """A thread that writes a Maildir cannot be cancelled, so its word counts; what it did not begin comes again."""
    begun, go_on = threading.Event(), threading.Event()
    local = Local(deliver=Target("maildir", path=f"{tmp_path}/mail/%u"))
    async with house(tmp_path, local=local, users=("al@own.test", "bo@own.test")) as made:

        class Gate:
            """The executor, with a gate before each piece of work."""

            def submit(self, work, *args):
                def gated():
                    begun.set()
                    go_on.wait(10)
                    return work(*args)

                return threads.submit(gated)

        scheduler = made.schedule()
        with ThreadPoolExecutor(1) as threads:
            made.scheduler._delivery._mailboxes._executor = Gate()
            name = await made.put("al@own.test", "bo@own.test")
            task = asyncio.create_task(scheduler.run())
            assert await asyncio.to_thread(begun.wait, 10)
            draining = asyncio.create_task(scheduler.drain(0.0))
            await asyncio.sleep(0.05)
            go_on.set()
            await draining
            await task
        rows = await made.rows(name)
        assert [row.state for row in rows] == [State.DONE, State.READY]


async def test_an_expired_mail_waits_for_its_report_too(tmp_path):
    """No failure without its report: also not when there is no time left."""

    class Broken:
        def expand(self, address):
            raise RuntimeError("a bug")

    async with serving(Peer(says={"RCPT": "450 4.2.0 not now"})) as peer:
        async with house(tmp_path, routes=to(peer.port)) as made:
            whole, made.directory = made.directory, Broken()
            async with running(made) as scheduler:
                name = await made.put("b@y.test", expires_s=0.0)
                scheduler.wake()
                [row] = await made.settled(name)
                assert row.state == State.READY
                assert row.next_at > made.clock()
                made.directory = whole
                scheduler.reload(replace(made.config), scheduler._delivery._planner._resolver, whole)
                made.clock.ahead = 40_000.0
                scheduler.wake()
                [row] = await made.settled(name, 2)
                assert row.state == State.FAILED
            rows = await made.rows()
            assert sum(one.message_id != name for one in rows) == 1  # the report


async def test_a_report_survives_a_restart(tmp_path):
    """Nothing of it is in memory any more: it is read back, and must be what its digest says."""
    async with serving(Peer(says={"RCPT TO:<b@": "550 5.1.1 who?", "RCPT TO:<a@": "450 4.2.0 not now"})) as peer:
        async with house(tmp_path, routes=to(peer.port)) as made, running(made) as scheduler:
            name = await made.put("b@y.test")
            scheduler.wake()
            await made.settled(name)
            (report,) = [row for row in await made.rows() if row.message_id != name]
            await made.settled(report.message_id)
        peer.says.clear()
        async with house(tmp_path, routes=to(peer.port)) as made, running(made) as scheduler:
            made.clock.ahead = 10_000.0
            scheduler.wake()
            (row,) = await made.settled(report.message_id, 2)
            assert row.state == State.DONE
    assert len(peer.mails) == 1


async def test_what_the_old_address_is_told_does_not_end_a_redirected_recipient(tmp_path):
    """Both are refused for good while one of them is redirected: the report is about the other one alone, and the
    redirected one is delivered."""
    gate = asyncio.Event()
    old, new = Peer(says={".": "550 5.7.1 not here"}, gate=gate), Peer()
    async with serving(old), serving(new):
        routes = (RouteRule("y.test", Target("smtp", "127.0.0.1", old.port)), *to(new.port))
        async with house(tmp_path, routes=routes) as made, running(made) as scheduler:
            name = await made.put("b@y.test", "c@y.test", sender="alice@z.test")
            scheduler.wake()
            await old.seen("DATA")
            change = Redirect("b@z.test", "z.test")
            entry = Entry(0, "root", "queue.redirect")
            changed = await made.store.change(Selector(ids=(f"{name}.1",)), change, made.clock(), entry=entry)
            assert (changed.recipients, changed.active) == (1, 1)
            gate.set()
            async with asyncio.timeout(10):
                while {row.state for row in await made.rows(name)} != {State.DONE, State.FAILED}:
                    scheduler.wake()
                    await asyncio.sleep(0.005)
                while len(new.mails) < 2:  # the mail, and the report
                    scheduler.wake()
                    await asyncio.sleep(0.005)
            rows = await made.rows(name)
            assert [(row.address, row.state) for row in rows] == [
                ("b@z.test", State.DONE), ("c@y.test", State.FAILED),
            ]  # fmt: skip
            tries = await made.store.attempts(name)
            assert [(one.n, one.reply.code) for one in tries] == [(1, 550), (2, 550), (1, 250)]
        (report,) = [mail for mail in new.mails if mail.sender.startswith("MAIL FROM:<>")]
        assert b"Final-Recipient: rfc822; c@y.test" in report.octets
        assert b"Final-Recipient: rfc822; b@" not in report.octets


async def test_a_clock_that_is_set_back_while_an_outcome_is_made_up_keeps_no_mail_until_then(tmp_path):
    """The next try is chosen by the old time, and stored when the queue was brought forward already."""
    month_s = 30 * 86400.0
    brought = asyncio.Event()

    class SetBack(Moody):
        def __getattr__(self, name):
            call = super().__getattr__(name)

            async def between(*args, **more):
                if name == "select" and not brought.is_set():  # the report is being made
                    made.clock.ahead = -month_s
                    made.scheduler.wake()
                    await asyncio.wait_for(brought.wait(), 10)
                result = await call(*args, **more)
                if name == "bring_forward":
                    brought.set()
                return result

            return between

    says = {"RCPT TO:<b@": "550 5.1.1 who?", "RCPT TO:<c@": "450 4.2.1 not now"}
    async with serving(Peer(says=says)) as peer, house(tmp_path, routes=to(peer.port), retry_s=(100.0,)) as made:
        async with running(made, store=SetBack(made.store)) as scheduler:
            name = await made.put("b@y.test", "c@y.test")
            scheduler.wake()
            [_, row] = await made.settled(name)
            assert row.state == State.READY
            assert row.next_at < made.clock() + 200
            async with asyncio.timeout(20):
                while not [mail for mail in peer.mails if mail.sender.startswith("MAIL FROM:<>")]:  # the report too
                    await asyncio.sleep(0.005)


async def test_mail_that_is_stored_just_after_the_clock_was_set_back_is_due_at_once(tmp_path):
    """Its time is the one from before, and the queue was brought forward already."""
    month_s = 30 * 86400.0
    brought = asyncio.Event()

    class Watched(Moody):
        def __getattr__(self, name):
            call = super().__getattr__(name)

            async def told(*args, **more):
                result = await call(*args, **more)
                if name == "bring_forward":
                    brought.set()
                return result

            return told

    async with serving(Peer()) as peer, house(tmp_path, routes=to(peer.port)) as made:
        made.clock.ahead = month_s
        async with running(made, store=Watched(made.store)) as scheduler:
            name = await made.put("b@y.test")
            scheduler.wake()
            await made.settled(name)
            before = made.clock()
            made.clock.ahead = 0.0
            scheduler.wake()
            await asyncio.wait_for(brought.wait(), 10)
            name = await made.put("c@y.test", age_s=-month_s)
            scheduler.came_in(before)
            [row] = await made.settled(name)
            assert row.state == State.DONE


async def test_a_clock_that_goes_far_ahead_gives_up_no_mail(tmp_path):
    """As with a wrong time for a minute, or after a machine slept for days: one more failure is not the last one."""
    async with serving(Peer(says={"RCPT": "450 4.2.1 not now"})) as peer:
        async with house(tmp_path, routes=to(peer.port), retry_s=(100.0,)) as made:
            async with running(made, monotonic=time.monotonic) as scheduler:
                name = await made.put("b@y.test")
                scheduler.wake()
                await made.settled(name)
                made.clock.ahead = 30 * 86400.0
                scheduler.wake()
                [row] = await made.settled(name, 2)
                assert (row.state, row.warned_at) == (State.READY, 0.0)
                assert row.next_at > made.clock() + 80
                assert [line for line in made.lines if "the clock went ahead by 720 h" in line]


def test_a_leap_is_doubted_for_an_hour_and_what_passes_is_not():
    wall, passed = [1e9], [5.0]
    told = []
    leap = Leap(lambda: wall[0], lambda: passed[0], told.append)

    def after(seconds: float, ahead: float = 0.0) -> bool:
        passed[0] += seconds
        wall[0] += seconds + ahead
        return leap.doubtful()

    assert not after(86400 * 30)
    assert not after(1, ahead=1800)
    assert after(1, ahead=7200)
    assert after(3500)
    assert not after(101)
    assert not after(1, ahead=-7200)
    assert told == [7200]
