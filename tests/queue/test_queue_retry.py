"""The retry rule as a table."""

import random
from dataclasses import replace

import pytest
from queue_mails import LATER, NEVER, NOW, OK, mail

from mtad.config import Delivery
from mtad.mail.envelope import Recipient, State
from mtad.mail.reply import Reply
from mtad.queue import retry

DELIVERY = Delivery(retry_s=(300.0, 900.0, 3600.0), delay_warning_s=1000.0)
EXPIRES = NOW + 86400
ACCEPTED = NOW - 5000  # older than the schedule is long


def settle(recipient: Recipient, reply: Reply, now: float = NOW, expires_at: float = EXPIRES) -> Recipient:
    return retry.settle(recipient, reply, now, DELIVERY.retry_s, ACCEPTED, expires_at, random.Random(1))


@pytest.fixture
def recipient() -> Recipient:
    return replace(mail(1).recipients[0], state=State.LEASED)


@pytest.mark.parametrize(("reply", "state"), [(OK, State.DONE), (NEVER, State.FAILED)])
@pytest.mark.parametrize("now", [NOW, EXPIRES + 1])
def test_final(recipient: Recipient, reply: Reply, state: State, now: float) -> None:
    assert settle(recipient, reply, now) == replace(recipient, state=state, tries=1, last=reply)


@pytest.mark.parametrize("code", [451, 421, 0, 354, 199, 600])
@pytest.mark.parametrize(("tries", "wait_s"), [(0, 300.0), (1, 900.0), (2, 3600.0), (3, 3600.0), (99, 3600.0)])
def test_all_else_is_tried_again_by_the_schedule(recipient: Recipient, code: int, tries: int, wait_s: float) -> None:
    reply = Reply(code, "", "?")
    waits = set()
    for seed in range(50):
        after = retry.settle(
            replace(recipient, tries=tries), reply, NOW, DELIVERY.retry_s, ACCEPTED, EXPIRES, random.Random(seed)
        )
        assert (after.state, after.tries, after.last) == (State.READY, tries + 1, reply)
        waits.add(after.next_at - NOW)
    assert wait_s * 0.9 <= min(waits) < wait_s * 0.95
    assert wait_s * 1.05 < max(waits) <= wait_s * 1.1


@pytest.mark.parametrize(
    ("tries", "age_s", "wait_s"),
    [
        (0, 0, 300.0),
        (1, 280, 900.0),  # the first wait, shortened by jitter
        (2, 1190, 3600.0),
        (5, 10, 300.0),  # flushed again and again while young
        (2, 700, 900.0),
        (0, 3 * 86400, 300.0),  # held for days
        (1, 3 * 86400, 900.0),
        (9, 3 * 86400, 3600.0),
    ],
)
def test_the_schedule_by_tries_or_by_age(tries: int, age_s: float, wait_s: float) -> None:
    assert retry.wait_s(tries, age_s, DELIVERY.retry_s) == wait_s


def test_the_last_try_is_at_expiry(recipient: Recipient) -> None:
    after = settle(recipient, LATER, NOW, NOW + 60)
    assert (after.state, after.next_at) == (State.READY, NOW + 60)
    end = settle(after, LATER, NOW + 60, NOW + 60)
    assert (end.state, end.tries) == (State.FAILED, 2)
    assert end.last is not None
    assert end.last.permanent
    assert end.last.status == retry.EXPIRED
    assert str(LATER) in end.last.text
    assert (end.last.host, end.last.stage, end.last.cause) == (LATER.host, LATER.stage, LATER.cause)


def test_warning_once_and_late(recipient: Recipient) -> None:
    waiting = replace(recipient, state=State.READY)
    assert not retry.warning_due(waiting, NOW, NOW + 999, DELIVERY)
    assert retry.warning_due(waiting, NOW, NOW + 1000, DELIVERY)
    assert not retry.warning_due(replace(waiting, warned_at=NOW + 1), NOW, NOW + 5000, DELIVERY)
    assert not retry.warning_due(replace(waiting, state=State.FAILED), NOW, NOW + 5000, DELIVERY)
    assert not retry.warning_due(waiting, NOW, NOW + 5000, replace(DELIVERY, delay_warning_s=0.0))


def test_a_sender_who_wants_to_hear_of_it_is_warned_at_that_moment_and_once(recipient: Recipient) -> None:
    by_at = NOW + 60
    waiting = replace(recipient, state=State.READY, next_at=NOW + 3000)
    early = retry.heed(waiting, by_at, NOW)
    assert (early.next_at, early.warned_at) == (by_at, 0)
    assert retry.heed(replace(waiting, next_at=NOW + 9), by_at, NOW).next_at == NOW + 9
    late = retry.heed(waiting, by_at, by_at)
    assert (late.next_at, late.warned_at) == (NOW + 3000, by_at)
    assert retry.heed(late, by_at, by_at + 5) == late
    warned_before = replace(waiting, warned_at=NOW - 5)
    assert retry.heed(warned_before, by_at, by_at + 5).warned_at == by_at + 5
    assert retry.heed(replace(waiting, state=State.DONE), by_at, by_at).warned_at == 0
