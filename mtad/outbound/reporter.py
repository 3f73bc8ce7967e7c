"""Reports as they come about: who is told, together with what else failed of the same message, and how much at most.

A failure becomes durable together with its report, in one transaction. So that a mail that fails for a hundred
recipients of a hundred domains makes one report and not a hundred, a report waits for WAIT_S while others of its
message are still at work; what fails meanwhile goes into it.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from mtad.accounts.directory import Directory
from mtad.auth import spf
from mtad.config import Config
from mtad.dns.questions import Questions
from mtad.dns.resolver import NoData, Resolver
from mtad.events import Events
from mtad.mail.dsn import Action
from mtad.mail.envelope import Clock, Content, Job, Message, Recipient, State
from mtad.mail.ident import Ids
from mtad.outbound import bounce
from mtad.outbound.bounce import Reports, Waiting
from mtad.outbound.delivery import Tried
from mtad.queue.store import RetryAt, Selector, Store, StoreError

WAIT_S = 15.0
WAITING_MAX = 100  # messages whose reports wait; more are told of as they come
LOOK_MAX = 500  # recipients of a message that are looked at for others at work
DOUBLE_MAX = 20  # double bounces within DOUBLE_S; beyond, the log has to do
DOUBLE_S = 3600.0
VERIFY_S = 20.0


class Reporter:
    """Makes the reports of settled jobs. One at a time for a message: see `turn`."""

    def __init__(self, store: Store, events: Events, clock: Clock, ids: Ids) -> None:
        self._store = store
        self._events = events
        self._clock = clock
        self._ids = ids
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._waiting: OrderedDict[str, Mapping[Action, Waiting]] = OrderedDict()
        self._doubles: deque[float] = deque(maxlen=DOUBLE_MAX)

    def use(self, config: Config, resolver: Resolver, directory: Directory) -> None:
        self._config = config
        self._dns = _Dns(resolver)
        self._directory = directory

    @asynccontextmanager
    async def turn(self, message_id: str) -> AsyncIterator[None]:
        """Held from making a report to its being stored: the next one of the message may then go into it."""
        lock = self._turns.get(message_id)
        if lock is None:
            lock = self._turns[message_id] = asyncio.Lock()
        async with lock:
            yield

    async def make(self, job: Job, tried: Tried, after: Sequence[Recipient], now: float) -> Reports:
        """The reports of one job, to be stored with its outcome. StoreError when the queue cannot be asked."""
        message = job.message
        try:
            content = await self._store.content(message.id)
        except StoreError as error:
            self._events.store_trouble(str(error))
            content = Content(b"\r\n", b"")
        made = bounce.reports(
            message,
            content,
            job.recipients,
            after,
            tried.attempts,
            tried.handed,
            self._config,
            now,
            self._ids,
            self._directory.expand,
            verified=await self._verified(message),
            due_at=now + WAIT_S if await self._others_at_work(job, now) else now,
            earlier=self._earlier(message.id, now),
        )
        if made.double and made.messages and self._too_many(now):
            made = Reports(nobody="the postmaster was told of many already")
        if made.nobody:
            self._events.double_bounce(message.id, made.nobody)
        return made

    def stored(self, message: Message, made: Reports, now: float) -> None:
        """They are durable: tell of them, and remember those that wait."""
        for report in (*made.messages, *(merge.whole for merge in made.merges)):
            self._events.report_made(message.id, report.message.id, report.recipients[0].address)
        waiting = {kind: one for kind, one in made.waiting.items() if one.due_at > now}
        self._waiting.pop(message.id, None)
        if waiting:
            self._waiting[message.id] = waiting
            if len(self._waiting) > WAITING_MAX:
                self._waiting.popitem(last=False)

    def waits(self, message_id: str) -> bool:
        """Whether a report of this message waits for more."""
        return message_id in self._waiting

    async def release(self, job: Job, now: float) -> bool:
        """Let the reports of a message go when nothing else of it is at work. Whether some became due."""
        try:
            if await self._others_at_work(job, now):
                return False
            waiting = self._waiting.pop(job.message.id, {})
            due = tuple(one.id for one in waiting.values() if one.due_at > now)
            return bool(due) and (await self._store.change(Selector(ids=due), RetryAt(now), now)).recipients > 0
        except StoreError as error:  # they go when their time comes
            self._events.store_trouble(str(error))
            return False

    def _earlier(self, message_id: str, now: float) -> Mapping[Action, Waiting]:
        waiting = self._waiting.get(message_id, {})
        return {kind: one for kind, one in waiting.items() if one.due_at > now}

    async def _others_at_work(self, job: Job, now: float) -> bool:
        ours = {recipient.n for recipient in job.recipients}
        rows = await self._store.select(Selector(ids=(job.message.id,)), now, limit=LOOK_MAX)
        return any(
            one.n not in ours
            and (one.state is State.LEASED or (one.state is State.READY and one.next_at <= now + WAIT_S))
            for one in (row.recipient for row in rows)
        )

    async def _verified(self, message: Message) -> bool:
        config = self._config
        if config.delivery.report_strangers == "always" or bounce.known(message, config.access.trusted_networks):
            return True
        if config.delivery.report_strangers == "never" or not message.sender:
            return False
        peer = message.peer
        try:
            result = await spf.check(
                self._dns, peer.ip, message.sender, peer.helo, self._clock(), config.hostname, VERIFY_S
            )
        except Exception as error:  # noqa: BLE001  (a stranger's name must not keep the mail here for ever)
            self._events.internal_error("spf", error)
            return False
        return result.verdict == "pass"

    def _too_many(self, now: float) -> bool:
        if len(self._doubles) == DOUBLE_MAX and now - self._doubles[0] < DOUBLE_S:
            return True
        self._doubles.append(now)
        return False


class _Dns(Questions):
    """The questions of SPF, but for one."""

    async def names_of(self, ip: str) -> Sequence[str]:
        raise NoData  # the ptr mechanism is not to be used (RFC 7208 5.5); without it no mail gets a report less
