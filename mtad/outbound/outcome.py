"""What a try comes to: the new recipients, the reports, one settlement, and the lines that tell of it."""

import asyncio
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace

from mtad import faults
from mtad.accounts.directory import Directory
from mtad.accounts.suppressions import Suppressions, key_of
from mtad.config import Config
from mtad.events import Events
from mtad.mail.classify import hard
from mtad.mail.envelope import Attempt, Clock, Job, Message, Recipient, State
from mtad.mail.reply import DAMAGED, LOCAL_ERROR
from mtad.outbound import bounce
from mtad.outbound.delivery import Tried
from mtad.outbound.leap import Leap
from mtad.outbound.reporter import Reporter
from mtad.outbound.site import Closed
from mtad.outbound.sites import Sites
from mtad.queue import retry
from mtad.queue.store import Redirected, Settlement, Store, StoreError

_NO_REPORTS = bounce.Reports()


class Outcomes:
    """Records what came of jobs; `due` is told when the next of what is left, or came of it, is due."""

    def __init__(
        self,
        config: Config,
        store: Store,
        directory: Directory,
        suppressions: Suppressions,
        reporter: Reporter,
        sites: Sites,
        events: Events,
        clock: Clock,
        rng: random.Random,
        due: Callable[[float], None],
        leap: Leap,
    ) -> None:
        self._config = config
        self._store = store
        self._directory = directory
        self._suppressions = suppressions
        self._reporter = reporter
        self._sites = sites
        self._events = events
        self._clock = clock
        self._rng = rng
        self._due = due
        self._leap = leap

    async def record(self, job: Job, tried: Tried) -> None:
        """What a try said. Returns when it is durable, or the lease was lost."""
        now = self._clock()
        pairs = zip(job.recipients, tried.attempts, strict=True)
        after = [self._after(before, attempt, job, now) for before, attempt in pairs]
        await self._settle(job, tried, after, now, tried.attempts)

    async def put_off(self, job: Job, closed: Closed) -> None:
        """Nothing may be tried now: that is recorded, with the reason; who was waiting too long is given up."""
        now, schedule = self._clock(), self._sites.schedule(job.domain)
        after = [
            self._late(
                retry.put_off(before, closed.reply, now, closed.until, schedule, *self._times(job, now), self._rng),
                job,
                now,
            )
            for before in job.recipients
        ]
        tried = Tried([Attempt(before.n, now, 0.0, closed.reply) for before in job.recipients])
        await self._settle(job, tried, after, now, ())

    async def quarantine(self, job: Job, why: str) -> None:
        """The message is not what was accepted: it is held, for an operator to look at, and never sent."""
        now, reply = self._clock(), DAMAGED.because(why)
        after = [replace(before, state=State.HELD, last=reply) for before in job.recipients]
        attempts = [Attempt(before.n, now, 0.0, reply) for before in job.recipients]
        if await self._record(job, Tried(attempts), after, _NO_REPORTS, ()):
            self._events.quarantined(job.message.id, why)

    async def _settle(
        self, job: Job, tried: Tried, after: list[Recipient], now: float, attempts: Sequence[Attempt]
    ) -> None:
        """`attempts`: those of `tried` that were made, and not only stand for why none was. A recipient that was
        redirected meanwhile does not end by what the place before said: it is left as it is, and nobody is told."""
        while True:
            try:
                return await self._settle_as(job, tried, after, now, attempts)
            except Redirected as elsewhere:
                after = [
                    replace(before, state=State.READY, last=attempt.reply) if before.n in elsewhere.numbers else new
                    for before, attempt, new in zip(job.recipients, tried.attempts, after, strict=True)
                ]

    async def _settle_as(
        self, job: Job, tried: Tried, after: list[Recipient], now: float, attempts: Sequence[Attempt]
    ) -> None:
        handed = tried.handed
        if not any(
            bounce.due(job.message, old, new, handed.get(new.n, bounce.HERE))
            for old, new in zip(job.recipients, after, strict=True)
        ):
            recorded = await self._record(job, tried, after, _NO_REPORTS, attempts)
            if recorded:
                await self._release_report(job)
            return
        async with self._reporter.turn(job.message.id):
            made = _NO_REPORTS
            try:
                made = await self._reporter.make(job, tried, after, now)
            except Exception as error:  # noqa: BLE001  (no failure without its report: those wait)
                self._events.internal_error("bounce", error)
                after = [
                    self._without_report(old, new, job, now) for old, new in zip(job.recipients, after, strict=True)
                ]
            if await self._record(job, tried, after, made, attempts):
                self._reporter.stored(job.message, made, self._clock())
                await self._release_report(job)  # the last of the others may have ended before it waited
                self._due(self._clock())
        await self._count_against(job.message, after)

    async def _release_report(self, job: Job) -> None:
        """A report waits for what else of its message is at work: when nothing is, it goes."""
        if self._reporter.waits(job.message.id) and await self._reporter.release(job, self._clock()):
            self._due(self._clock())

    async def _count_against(self, message: Message, after: Sequence[Recipient]) -> None:
        """An address that is no good is not tried for ever for the same user. What is lost here is one count."""
        for one in after:
            if one.state is not State.FAILED or one.last is None or not hard(one.last):
                continue
            if self._directory.ours(one.domain):
                continue
            try:
                if await self._suppressions.bounced(
                    message.peer, one.address, message.id, one.last, self._config.delivery
                ):
                    self._events.suppressed(key_of(message.peer), one.address, self._config.delivery.suppress_s)
            except StoreError as error:
                self._events.store_trouble(str(error))

    async def _record(
        self, job: Job, tried: Tried, after: Sequence[Recipient], made: bounce.Reports, attempts: Sequence[Attempt]
    ) -> bool:
        """Make the outcome durable, and tell of it. False when the lease was lost."""
        faults.point("deliver.after_250")
        wait_s = 0.1
        while True:
            after = self._within_reach(after)
            try:
                kept = await self._store.settle(Settlement(job, attempts, after, made.messages, made.merges))
                break
            except StoreError as error:  # until it is recorded: the other way out would be to send it again
                self._events.store_trouble(str(error))
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, 5.0)
        if not kept:
            return False
        if left := [recipient.next_at for recipient in after if recipient.state is State.READY]:
            self._due(min(left))
        for recipient, attempt in zip(after, tried.attempts, strict=True):
            if attempts:
                self._events.attempt(job.message, recipient, attempt, recipient.state)
            if recipient.last is not attempt.reply:
                self._events.expired(job.message, recipient)
        return True

    def _within_reach(self, after: Sequence[Recipient]) -> Sequence[Recipient]:
        """The clock may have been set back since the next times were chosen: none is later than the rules allow now."""
        latest = self._clock() + self._sites.furthest_s()
        if all(recipient.next_at <= latest for recipient in after):
            return after
        return [replace(recipient, next_at=min(recipient.next_at, latest)) for recipient in after]

    def _after(self, before: Recipient, attempt: Attempt, job: Job, now: float) -> Recipient:
        schedule = self._sites.schedule(job.domain)
        times = self._times(job, now)
        return self._late(retry.settle(before, attempt.reply, now, schedule, *times, self._rng), job, now)

    def _late(self, after: Recipient, job: Job, now: float) -> Recipient:
        message = job.message
        if retry.warning_due(after, max(message.accepted_at, message.hold_until), now, self._config.delivery):
            return after if self._leap.doubtful() else replace(after, warned_at=now)
        return retry.heed(after, message.by_at, now) if message.by_mode == "N" else after

    def _without_report(self, before: Recipient, after: Recipient, job: Job, now: float) -> Recipient:
        if after.state is State.FAILED:
            schedule, accepted_at = self._sites.schedule(job.domain), job.message.accepted_at
            # Even if it expired.
            after = retry.settle(before, LOCAL_ERROR, now, schedule, accepted_at, math.inf, self._rng)
        return replace(after, warned_at=before.warned_at)

    def _times(self, job: Job, now: float) -> tuple[float, float]:
        """When it was accepted, and when it is given up."""
        message = job.message
        if message.by_mode == "R":
            return message.accepted_at, min(message.expires_at, message.by_at)
        if now >= message.expires_at and self._leap.doubtful():
            return message.accepted_at, math.inf
        return message.accepted_at, message.expires_at
