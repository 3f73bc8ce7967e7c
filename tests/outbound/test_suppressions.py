"""Addresses that came back: counted per user, not tried any more, until it is over or somebody says otherwise."""

import asyncio
from dataclasses import replace

import pytest
from smtp_peer import Peer, serving
from test_scheduler import BODY, HEAD, house, running, to

from mtad.accounts.suppressions import (
    EVERYBODY,
    Suppression,
    SuppressionError,
    Suppressions,
    key_of,
)
from mtad.config import Delivery
from mtad.mail.classify import classify
from mtad.mail.envelope import Message, NewMessage, Recipient, State
from mtad.mail.envelope import Peer as From
from mtad.mail.reply import Reply
from mtad.queue.store import StoreError

NO = Reply(550, "5.1.1", "No such user\nhere", "mx.y.test", "rcpt")
ALICE = From("submission", "192.0.2.7", user="alice@own.test")
DAY = 86400.0


@pytest.fixture
async def made(tmp_path):
    async with house(tmp_path) as opened:
        yield opened


def fresh(made) -> Suppressions:
    return Suppressions(made.store, made.clock)


async def test_two_mails_within_thirty_days(made) -> None:
    them, config = fresh(made), Delivery()
    first, second = made.ids.new(), made.ids.new()
    assert not await them.bounced(ALICE, "Bob@Y.test", first, NO, config)
    assert not await them.bounced(ALICE, "bob@y.test", first, NO, config)  # the same mail counts once
    assert not await them.bounced(replace(ALICE, user="carol"), "bob@y.test", second, NO, config)
    assert not them
    assert await them.bounced(ALICE, "bob@y.test", second, NO, config)
    found = them.find("alice@own.test", "BOB@y.test")
    assert found is not None
    assert (found.made_by, found.error, found.until_at - found.made_at) == ("mtad", "unknown-user", 30 * DAY)
    assert them.find("carol", "bob@y.test") is None
    assert them.find("alice@own.test", "bob2@y.test") is None
    again = fresh(made)
    await again.load()
    assert again.list() == them.list() == [found]


async def test_old_bounces_do_not_count_and_it_ends(made) -> None:
    them, config = fresh(made), Delivery()
    assert not await them.bounced(ALICE, "b@y.test", made.ids.new(), NO, config)
    made.clock.ahead = 31 * DAY
    assert not await them.bounced(ALICE, "b@y.test", made.ids.new(), NO, config)
    assert await them.bounced(ALICE, "b@y.test", made.ids.new(), NO, config)
    made.clock.ahead += 31 * DAY
    assert them.find("alice@own.test", "b@y.test") is None
    assert list(them.list()) == []
    await them.sweep(config)
    assert not them
    assert list(await made.store.load_suppressions()) == []
    assert await made.store.count_bounce("alice@own.test", "b@y.test", made.ids.new(), made.clock(), 0.0) == 1


@pytest.mark.parametrize(
    ("peer", "config"),
    [
        (From("smtp", "192.0.2.1"), Delivery()),
        (From("internal"), Delivery()),
        (ALICE, Delivery(suppress="off")),
    ],
)
async def test_whose_mail_is_not_counted(made, peer, config) -> None:
    them = fresh(made)
    for _ in range(3):
        assert not await them.bounced(peer, "b@y.test", made.ids.new(), NO, config)


async def test_an_operator_adds_looks_and_removes(made) -> None:
    them = fresh(made)
    now = made.clock()
    await them.add(Suppression(EVERYBODY, "b@y.test", "x\x1by", "uid=0", now))
    await them.add(Suppression("alice@own.test", "b@y.test", "", "uid=0", now, now + 60))
    assert [one.user for one in them.lookup("b@y.test")] == [EVERYBODY, "alice@own.test"]
    assert them.lookup("b@y.test")[0].reason == "x\\x1by"
    assert them.find("anybody", "b@y.test") is not None
    assert [one.user for one in await them.remove("b@y.test", "alice@own.test")] == ["alice@own.test"]
    assert [one.user for one in await them.remove("b@y.test")] == [EVERYBODY]
    assert await them.remove("b@y.test") == []
    assert not them
    for text in ("b", "postmaster", "@y.test", "b@@y", "", "b@y.test\r\nx"):
        with pytest.raises(SuppressionError):
            await them.add(Suppression("", text))


async def test_removing_forgets_what_was_counted(made) -> None:
    them, config = fresh(made), Delivery()
    for _ in range(2):
        last = await them.bounced(ALICE, "b@y.test", made.ids.new(), NO, config)
    assert last
    await them.remove("b@y.test")
    assert not await them.bounced(ALICE, "b@y.test", made.ids.new(), NO, config)


def test_what_its_mail_gets_and_whose_it_is() -> None:
    reply = Suppression("u", "b@y.test", "2 mails came back", "mtad", 1_795_332_843.0).reply()
    assert str(reply) == "550 5.1.0 Not tried: suppressed since 2026-11-22: 2 mails came back"
    assert classify(reply) == "suppressed"
    assert key_of(From("local", uid=33)) == "uid=33"
    assert key_of(ALICE) == "alice@own.test"
    assert key_of(From("smtp", "192.0.2.1")) == ""


async def send(made, *addresses: str, peer: From = ALICE) -> str:
    now, name = made.clock(), made.ids.new()
    message = Message(name, "alice@x.test", len(HEAD) + len(BODY), now, now + 1000, peer, header_id="<m@x.test>")
    recipients = tuple(
        Recipient(name, n, one, one, one.rpartition("@")[2], next_at=now) for n, one in enumerate(addresses, 1)
    )
    await made.store.accept(NewMessage(message, recipients, HEAD, BODY))
    made.scheduler.wake()
    return name


async def test_the_third_mail_is_not_tried_and_its_sender_told(tmp_path) -> None:
    says = {"RCPT TO:<b@": "550 5.1.1 who?", "RCPT TO:<full@": "552 5.2.2 full"}
    async with serving(Peer(says=says)) as peer, house(tmp_path, routes=to(peer.port)) as made, running(made):
        for _ in range(2):
            await made.settled(await send(made, "b@y.test", "c@y.test", "full@y.test"))
        async with asyncio.timeout(10):
            while not any(line.startswith("suppressed to=<b@y.test>") for line in made.lines):
                await asyncio.sleep(0.005)
        peer.commands.clear()
        third = await made.settled(await send(made, "b@y.test", "c@y.test", "full@y.test"))
        other = await made.settled(await send(made, "b@y.test", peer=replace(ALICE, user="carol")))
        async with asyncio.timeout(10):
            while not any(b"Not tried" in mail.octets for mail in peer.mails):
                await asyncio.sleep(0.005)
        [report] = [mail.octets for mail in peer.mails if b"Not tried" in mail.octets]
    assert [one.state for one in third] == [State.FAILED, State.DONE, State.FAILED]
    assert [one.error for one in third] == ["suppressed", "", "mailbox-full"]
    assert other[0].error == "unknown-user"
    assert sum("RCPT TO:<b@y.test>" in line for line in peer.commands) == 1  # carol's
    assert b"Status: 5.1.0" in report
    assert b"This system does not send to this address at present" in report


async def test_all_of_a_job_may_be_suppressed_and_a_job_of_ours_is_not(tmp_path) -> None:
    async with serving(Peer()) as peer, house(tmp_path, routes=to(peer.port)) as made:
        them = fresh(made)
        scheduler = made.schedule(suppressions=them)
        running_task = asyncio.create_task(scheduler.run())
        try:
            await them.add(Suppression(EVERYBODY, "b@y.test", "asked for it", "uid=0", made.clock()))
            [row] = await made.settled(await send(made, "b@y.test"))
            assert (row.state, row.error) == (State.FAILED, "suppressed")
            [row] = await made.settled(await send(made, "b@y.test", peer=From("internal")))
            assert row.state is State.DONE
        finally:
            await scheduler.drain(1.0)
            await running_task


async def test_the_outcomes_of_a_late_mail_are_those_of_its_recipients(tmp_path) -> None:
    """One is suppressed and the others are too late: each has an attempt of its own."""
    async with serving(Peer(says={"RCPT": "450 4.2.0 later"})) as peer, house(tmp_path, routes=to(peer.port)) as made:
        them = fresh(made)
        scheduler = made.schedule(suppressions=them)
        task = asyncio.create_task(scheduler.run())
        name = await made.put("b@y.test", "c@y.test", by_at=made.clock() + 60, by_mode="R", peer_user="alice@own.test")
        scheduler.wake()
        await made.settled(name)
        await them.add(Suppression(EVERYBODY, "b@y.test", "asked for it", "uid=0", made.clock()))
        made.clock.ahead = 61
        scheduler.wake()
        await made.settled(name, 2)
        tries = await made.store.attempts(name)
        await scheduler.drain(5)
        await task
    assert sorted(one.n for one in tries) == [1, 1, 2, 2]
    assert [one.reply.status for one in tries if one.n == 1][-1] == "5.1.0"


async def test_what_is_not_tried_says_nothing_of_the_site(tmp_path) -> None:
    """The probe of a broken site happens to be mail that is not tried: the site is no better for it."""
    async with serving(Peer(says={"MAIL": "421 4.7.0 Try again later, rate limited"})) as peer:
        async with house(tmp_path, routes=to(peer.port)) as made:
            them = fresh(made)
            scheduler = made.schedule(suppressions=them)
            task = asyncio.create_task(scheduler.run())
            await made.settled(await send(made, "b@y.test"))
            [site] = made.sites.all()
            assert site.pace.open
            await them.add(Suppression(EVERYBODY, "c@y.test", "asked for it", "uid=0", made.clock()))
            made.clock.ahead = site.pace.probe_at - made.clock() + 1
            await made.settled(await send(made, "c@y.test"))
            assert site.pace.open
            await scheduler.drain(5)
            await task
            assert not site.running


async def test_what_could_not_be_written_down_is_not_in_force(made) -> None:
    them = fresh(made)
    one = await them.add(Suppression("u", "kept@y.test"))
    await made.store.close()
    with pytest.raises(StoreError):
        await them.add(Suppression("u", "lost@y.test"))
    with pytest.raises(StoreError):
        await them.remove("kept@y.test")
    assert list(them.list()) == [one]
