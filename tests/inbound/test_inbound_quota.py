"""How much a user may send in a day: pure decisions, and what holds over sessions, failures and restarts."""

import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inbound_house import House, say

from mtad.inbound.conversation import Conversation
from mtad.inbound.host import Host
from mtad.inbound.quota import Allowance, allowance, count, lifts_at, refusal
from mtad.mail.envelope import Peer
from mtad.queue.sqlite import open_store
from mtad.queue.store import SENDING_STEP_S, SENDING_WINDOW_S

DAY = int(SENDING_WINDOW_S)
STEP = SENDING_STEP_S
NOW = 1_800_000_000
ALICE = Peer("submission", ip="203.0.113.5", port=1, helo="x", tls="TLSv1.3 X", user="alice@example.test")
BOB = replace(ALICE, user="bob@example.test")


def test_what_left_the_window_does_not_count() -> None:
    steps = [(NOW - DAY - STEP, 5), (NOW - DAY - STEP + 1, 3), (NOW - STEP, 2)]
    assert count(steps, NOW) == 5
    assert count(steps, NOW + 1) == 2


@pytest.mark.parametrize(
    ("limit", "wanted", "at"),
    [(0, 100, None), (6, 1, None), (5, 1, NOW + 1), (4, 2, NOW + 1), (3, 1, NOW + 1), (2, 9, NOW + DAY)],
)  # fmt: skip
def test_when_a_limit_lifts(limit: int, wanted: int, at: int | None) -> None:
    assert lifts_at(limit, [(NOW - DAY - STEP + 1, 3), (NOW - STEP, 2)], wanted, NOW) == at


@given(
    st.integers(1, 50),
    st.lists(st.tuples(st.integers(0, DAY + STEP), st.integers(1, 9)), max_size=20),
    st.integers(1, 60),
)
def test_when_it_lifts_there_is_room(limit: int, ages: list[tuple[int, int]], wanted: int) -> None:
    steps = sorted((NOW - age, number) for age, number in ages)
    at = lifts_at(limit, steps, wanted, NOW)
    if at is None:
        assert count(steps, NOW) + wanted <= limit
    elif wanted <= limit:
        assert at > NOW
        assert count(steps, at) + wanted <= limit


def test_the_words() -> None:
    reply = refusal("messages", 3, NOW)
    assert str(reply) == "450 4.7.1 Your limit of 3 messages a day is reached until 2027-01-15 08:00 UTC"


async def test_a_user_has_limits_of_their_own(house: House) -> None:
    user = await house.users.update("alice", lambda form: replace(form, messages_per_day=0))
    assert allowance(user, house.config.limits) == Allowance(0, 200)


def host(house: House, messages: int = 0, new: int = 0) -> Host:
    return house.with_limits(user_messages_per_day=messages, user_new_recipients_per_day=new)


async def begun(talk: Conversation, *recipients: str) -> list[str]:
    said = await say(talk, f"MAIL FROM:<{talk.peer.user}>", *(f"RCPT TO:<{address}>" for address in recipients))
    return said[1:]


async def sent(talk: Conversation, *recipients: str) -> list[str]:
    """What the RCPTs and the end of the mail were answered."""
    said = await begun(talk, *recipients)
    if "250 2.1.5" not in said:
        await say(talk, "RSET")
        return said
    return said + (await say(talk, "DATA", "Subject: x\r\n\r\nx\r\n."))[1:]


OK, FULL, DONE = "250 2.1.5", "450 4.7.1", "250 2.0.0"


async def test_messages_a_day(house: House) -> None:
    house.now = NOW
    talk = house.talk(ALICE, host(house, messages=2))
    assert await sent(talk, "a@far.test", "b@far.test") == [OK, OK, DONE]
    assert await sent(talk, "a@far.test") == [OK, DONE]
    assert await sent(talk, "a@far.test") == [FULL]
    assert any("reached until 2027-01-16 08:10 UTC" in line and "RCPT" in line for line in house.log)
    assert await sent(house.talk(BOB, talk._host), "a@far.test") == [OK, DONE]
    house.now = NOW + DAY + STEP - 1
    assert await sent(talk, "a@far.test") == [FULL]
    house.now = NOW + DAY + STEP
    assert await sent(talk, "a@far.test") == [OK, DONE]


async def test_new_recipients_a_day(house: House) -> None:
    house.now = NOW
    talk = house.talk(ALICE, host(house, new=3))
    assert await sent(talk, "a@far.test", "B@far.test") == [OK, OK, DONE]
    assert await sent(talk, "A@FAR.test", "c@far.test", "d@far.test") == [OK, OK, FULL, DONE]
    assert await sent(talk, "c@far.test", "b@far.test") == [OK, OK, DONE]
    assert await sent(talk, "e@far.test") == [FULL]
    house.now = NOW + DAY + STEP
    assert await sent(talk, "e@far.test", "a@far.test") == [OK, OK, DONE]


async def test_an_address_is_new_once_in_a_mail(house: House) -> None:
    talk = house.talk(ALICE, host(house, new=2))
    assert await sent(talk, *["a@far.test"] * 5, "b@far.test", "c@far.test") == [*[OK] * 6, FULL, DONE]


async def test_what_is_not_stored_does_not_count(house: House) -> None:
    talk = house.talk(ALICE, host(house, messages=1, new=1))
    assert await begun(talk, "a@far.test") == [OK]
    await say(talk, "RSET")
    assert await begun(talk, "b@far.test") == [OK]
    assert (await say(talk, "DATA", "a\0b\r\n."))[-1].startswith("5")
    assert await sent(talk, "c@far.test") == [OK, DONE]
    assert await sent(talk, "c@far.test") == [FULL]


async def test_sessions_at_the_same_time_share_what_is_left(house: House) -> None:
    shared = host(house, messages=3, new=4)
    talks = [house.talk(ALICE, shared) for _ in range(5)]
    said = [await begun(talk, f"{n}a@far.test", f"{n}b@far.test") for n, talk in enumerate(talks)]
    assert said == [[OK, OK], [OK, OK], [FULL, FULL], [FULL, FULL], [FULL, FULL]]
    talks[0].abandon()
    late = house.talk(ALICE, shared)
    assert await begun(late, "x@far.test", "y@far.test", "z@far.test") == [OK, OK, FULL]
    assert (await say(talks[1], "DATA", "x\r\n."))[-1] == DONE
    assert (await say(late, "DATA", "x\r\n."))[-1] == DONE
    assert await begun(house.talk(ALICE, shared), "0a@far.test") == [FULL]
    assert await begun(house.talk(ALICE, shared), "1a@far.test") == [OK]


async def test_nothing_stays_reserved(house: House) -> None:
    shared = host(house, messages=3, new=4)
    talk = house.talk(ALICE, shared)
    await sent(talk, "a@far.test")
    await begun(talk, "b@far.test")
    await say(talk, "RSET")
    await begun(talk, "c@far.test")
    talk.abandon()
    assert shared.acceptor.quotas._accounts == {}


async def test_a_session_that_ends_while_it_is_asked_reserves_nothing(house: House) -> None:
    shared = host(house, messages=3, new=4)
    talk = house.talk(ALICE, shared)
    talk.receive(f"MAIL FROM:<{ALICE.user}>\r\nRCPT TO:<a@far.test>\r\n".encode())
    assert talk.work is not None
    talk.abandon()
    await talk.work
    assert shared.acceptor.quotas._accounts == {}


async def test_a_restart_forgets_nothing(house: House) -> None:
    talk = house.talk(ALICE, host(house, messages=2, new=3))
    await sent(talk, "a@far.test", "b@far.test")
    await house.store.close()
    house.store = open_store(house.config.paths, time.time)
    again = house.talk(ALICE, host(house, messages=2, new=3))
    assert await sent(again, "a@far.test", "c@far.test", "d@far.test") == [OK, OK, FULL, DONE]
    assert await sent(again, "a@far.test") == [FULL]


async def test_others_are_not_counted(house: House) -> None:
    tight = host(house, messages=1, new=1)
    for peer in (Peer("local", uid=0), Peer("smtp", ip="10.0.0.1", helo="x")):
        talk = house.talk(peer, tight)
        for _ in range(3):
            said = await say(talk, "MAIL FROM:<x@far.test>", "RCPT TO:<a@far.test>", "RCPT TO:<b@far.test>")
            assert said[1:] == [OK, OK]
            await say(talk, "DATA", "x\r\n.")
    assert tight.acceptor.quotas._accounts == {}


async def test_a_store_in_trouble_is_temporary(house: House) -> None:
    talk = house.talk(ALICE, host(house, messages=1))
    await house.store.close()
    assert await begun(talk, "a@far.test") == ["451 4.3.0"]
    house.store = open_store(house.config.paths, time.time)
