"""The retry rule: what one reply makes of a recipient. Pure."""

import random
from collections.abc import Sequence
from dataclasses import replace

from mtad.config import Delivery
from mtad.mail.envelope import Recipient, State
from mtad.mail.reply import Reply

JITTER = 0.1
"""Waits are spread by this share either way, so that what failed together does not come back together."""

EXPIRED = "5.4.7"
"""The status of a recipient given up because its time was over (RFC 3463 3.5, X.4.7)."""


def settle(
    recipient: Recipient,
    reply: Reply,
    now: float,
    schedule: Sequence[float],
    accepted_at: float,
    expires_at: float,
    rng: random.Random,
) -> Recipient:
    """The recipient after a try that ended with `reply`.

    A success is DONE, a stated 5yz FAILED. All else is tried again after the wait of `schedule`, at the latest at
    `expires_at`; a try at or after that which did not succeed is the last one.
    """
    tries = recipient.tries + 1
    if reply.ok:
        return replace(recipient, state=State.DONE, tries=tries, last=reply)
    if reply.permanent:
        return replace(recipient, state=State.FAILED, tries=tries, last=reply)
    if now >= expires_at:
        return replace(recipient, state=State.FAILED, tries=tries, last=expired(reply))
    next_at = now + wait_s(recipient.tries, now - accepted_at, schedule) * rng.uniform(1 - JITTER, 1 + JITTER)
    return replace(recipient, state=State.READY, tries=tries, last=reply, next_at=min(next_at, expires_at))


def put_off(
    recipient: Recipient,
    reply: Reply,
    now: float,
    until: float,
    schedule: Sequence[float],
    accepted_at: float,
    expires_at: float,
    rng: random.Random,
) -> Recipient:
    """The recipient when no try may be made before `until` (0: nobody knows when), for the reason in `reply`.

    No try is counted, but its time runs on. What waits for the same moment is spread over some time after it.
    """
    if now >= expires_at:
        return replace(recipient, state=State.FAILED, last=expired(reply))
    pause_s = wait_s(recipient.tries, now - accepted_at, schedule)
    if now < until:
        pause_s = min(until - now, max(schedule))
    return replace(recipient, last=reply, next_at=min(now + pause_s + rng.uniform(0, JITTER) * schedule[0], expires_at))


def wait_s(tries: int, age_s: float, schedule: Sequence[float]) -> float:
    """How long to wait after a try, by the schedule, whose last entry repeats. `tries` were made before this one.

    The schedule is followed by tries or by age, whichever is shorter: an operator who flushes a young mail five times
    must not have it wait for hours, nor a mail that was held for days.
    """
    by_tries = schedule[min(tries, len(schedule) - 1)]
    begins_s = 0.0
    for by_age in schedule:
        begins_s += by_age
        if age_s / (1 - JITTER) < begins_s:
            return min(by_tries, by_age)
    return by_tries


def expired(reply: Reply) -> Reply:
    """The final reply when time ran out: permanent, with the words of the last one kept for the report."""
    return replace(reply, code=554, status=EXPIRED, text=f"Delivery time expired; the last reply was: {reply}")


def heed(recipient: Recipient, by_at: float, now: float) -> Recipient:
    """For a sender who wants to hear when it is late (DELIVERBY with N): tried at that moment, and warned after it."""
    if recipient.state is not State.READY:
        return recipient
    if now < by_at:
        return replace(recipient, next_at=min(recipient.next_at, by_at))
    return replace(recipient, warned_at=now) if recipient.warned_at < by_at or not recipient.warned_at else recipient


def warning_due(recipient: Recipient, accepted_at: float, now: float, delivery: Delivery) -> bool:
    """Whether the sender is now to hear of the delay: once per recipient, and only while it is still tried."""
    return (
        delivery.delay_warning_s > 0
        and recipient.state is State.READY
        and recipient.warned_at == 0
        and now - accepted_at >= delivery.delay_warning_s
    )
