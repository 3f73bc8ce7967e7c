"""One job, tried once: plan the way, walk the hosts, one Attempt per recipient. Records nothing."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from mtad.accounts.directory import Directory, Unknown
from mtad.config import Config
from mtad.dns.resolver import Resolver
from mtad.mail.envelope import Attempt, Clock, Content, Envelope, Job, Message, Rcpt
from mtad.mail.reply import LOCAL_ERROR, Refused, Reply
from mtad.outbound.bounce import HERE, Handed
from mtad.outbound.local import Mailboxes
from mtad.outbound.opener import NoWay, unsafe
from mtad.outbound.pipe import Programs
from mtad.outbound.planner import Planner
from mtad.outbound.route import Discard, Host, Maildir, Pipe, Plan, Remote
from mtad.outbound.security import Security
from mtad.outbound.transport import Outcome, Transport
from mtad.queue.store import Store
from mtad.tls.requirement import WITHOUT, Requirement, for_requiretls

VERDICTS_MAX = 2  # hosts of one domain that may refuse for now before we wait

_EARLY = frozenset({"connect", "ehlo", "helo", "starttls", "auth", "mail", "rcpt"})
_NOBODY = Reply(550, "5.1.1", "No such mailbox")
_DISCARDED = Reply(250, "2.0.0", "Discarded")
_EXPANDED = Reply(250, "2.0.0", "Expanded to its addresses")
_LATE = Reply(451, "4.4.7", "Not delivered within the time that was allowed")
_UNSAFE = Reply(550, "5.7.10", "Encryption needed", stage="starttls")


Admit = Callable[[Plan], Awaitable[Job]]
"""Asked once it is known where a job goes: the job as it is to be tried."""


@dataclass(frozen=True, slots=True)
class Said:
    """What came of one recipient: whose word, through which TLS."""

    reply: Reply
    relay: str = ""
    tls: str = ""
    handed: Handed = HERE
    beside: bool = False  # by a lesser MX host, which is not of the site


@dataclass(frozen=True, slots=True)
class Tried:
    """One attempt per recipient of the job, in order; `handed`: by their numbers, those that another system has now.
    `beside`: the numbers of those whose reply is of a host that is not of the site."""

    attempts: Sequence[Attempt]
    handed: Mapping[int, Handed] = field(default_factory=dict)
    beside: frozenset[int] = frozenset()

    def replies(self, asked: frozenset[int]) -> list[Reply]:
        """What the site showed by recipients that it was asked to take. Who names somebody's hosts as his best ones,
        and his own behind them, must not close that site by what his own say."""
        return [one.reply for one in self.attempts if one.n in asked and (one.reply.ok or one.n not in self.beside)]


class Delivery:
    """The way out for one job. Holds no state of its own between jobs."""

    def __init__(
        self,
        config: Config,
        store: Store,
        resolver: Resolver,
        directory: Directory,
        transport: Transport,
        mailboxes: Mailboxes,
        programs: Programs,
        security: Security,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._config = config
        self._store = store
        self._directory = directory
        self._transport = transport
        self._mailboxes = mailboxes
        self._programs = programs
        self._planner = Planner(config, resolver, security, rng)
        self._clock = clock

    async def attempt(self, job: Job, admit: Admit) -> Tried:
        """`admit` is asked once the plan is made, and before anything is done; it may raise to have nothing done, and
        what it returns is tried. Raises StoreError when the octets cannot be read. Cancelled, it still returns when
        anything was delivered: that must be recorded. What was not is temporary then."""
        started_at = self._clock()
        job, said = await self._said(job, admit)
        took_s = self._clock() - started_at
        pairs = list(zip(job.recipients, said, strict=True))
        return Tried(
            [Attempt(to.n, started_at, took_s, one.reply, one.relay, one.tls) for to, one in pairs],
            {to.n: one.handed for to, one in pairs if one.handed is not HERE},
            frozenset([to.n for to, one in pairs if one.beside]),
        )

    async def plan(self, domain: str, sender: str = "", user: str = "") -> Plan:
        """Where mail for this domain goes now, when it is of this sender ("": a report) and this user ("": none)."""
        return (await self._planner.trace(domain, sender, user)).plan

    # --- inside

    async def _said(self, job: Job, admit: Admit) -> tuple[Job, Sequence[Said]]:
        if not job.domain:
            job = await admit(Discard())  # it goes nowhere from here
            return job, [Said(_EXPANDED, "aliases")] * len(job.recipients)
        if late(job.message, self._clock()):
            return job, [Said(to.last if to.last is not None and to.last.temporary else _LATE) for to in job.recipients]
        plan = await self.plan(job.domain, job.message.sender, job.message.peer.user)
        job = await admit(plan)
        match plan:
            case Reply():
                return job, [Said(plan)] * len(job.recipients)
            case Discard():
                return job, [Said(_DISCARDED, "discard")] * len(job.recipients)
            case Maildir() | Pipe():
                return job, await self._here(job, plan)
            case Remote():
                return job, await self._over_the_wire(job, plan)

    async def _here(self, job: Job, plan: Maildir | Pipe) -> Sequence[Said]:
        content = await self._store.content(job.message.id)
        ours = self._directory.ours(job.domain)
        said: list[Said] = []
        for recipient in job.recipients:
            if ours and isinstance(self._directory.resolve(recipient.address), Unknown):
                said.append(Said(_NOBODY))
                continue
            if _cancelled():
                said.append(Said(LOCAL_ERROR))
                continue
            if isinstance(plan, Maildir):
                reply = await self._mailboxes.deliver(plan.pattern, recipient, job.message, content, plan.quota_bytes)
                said.append(Said(reply, "maildir"))
            else:
                reply = await self._programs.deliver(plan, recipient, job.message, content)
                said.append(Said(reply, f"pipe:{plan.command[0]}"))
        return said

    async def _over_the_wire(self, job: Job, plan: Remote) -> Sequence[Said]:
        content = await self._store.content(job.message.id)
        message = job.message
        safe = message.requiretls and all(host.port == 0 for host in plan.hosts)  # it does not leave this machine
        if message.requiretls and message.sender and not safe:
            plan = _each(plan, for_requiretls)
        elif _may_do_without_tls(message) and not plan.user and plan.scheme != "smtps":
            plan = _each(plan, lambda _: WITHOUT)  # a password is never worth it
        said: list[Said | None] = [None] * len(job.recipients)
        for sender, group in self._by_sender(job).items():
            await self._to_hosts(job, plan, content, sender, group, said)
            if _cancelled():
                break
        return [one or Said(LOCAL_ERROR) for one in said]

    def _by_sender(self, job: Job) -> Mapping[str, list[int]]:
        """The recipients by the sender that is written for them: what an alias sends on may get one of ours (SRS)."""
        groups: dict[str, list[int]] = {}
        for index, to in enumerate(job.recipients):
            sender = self._directory.sender_for(job.message.sender, to.original, to.address)
            groups.setdefault(sender, []).append(index)
        return groups

    async def _to_hosts(
        self, job: Job, plan: Remote, content: Content, sender: str, pending: list[int], said: list[Said | None]
    ) -> None:
        """One host after the other. Cancelled, it returns when somebody has it already."""
        verdicts = 0
        waiting = list(plan.hosts)
        while waiting and pending and verdicts < VERDICTS_MAX and not _cancelled():
            host = waiting.pop(0)
            try:
                pending, address, spoke = await self._to_host(job, plan, host, content, sender, pending, said)
            except asyncio.CancelledError:
                if not any(one is not None and one.reply.ok for one in said):
                    raise
                break
            verdicts += spoke
            another = host.without(address) if address else None
            if another is not None:
                waiting.insert(0, another)

    async def _to_host(
        self,
        job: Job,
        plan: Remote,
        host: Host,
        content: Content,
        sender: str,
        pending: list[int],
        said: list[Said | None],
    ) -> tuple[list[int], str, bool]:
        """Transactions with one host, more than one where it takes only some recipients at a time.

        Who is left for the next host; the address that answered, "" for none; whether it said anything about the mail.
        """
        left: list[int] = []
        address = ""
        spoke = False
        message = job.message
        beside = bool(plan.best) and host.name not in plan.best
        while pending:
            envelope = _envelope(job, sender, pending, requiretls=message.requiretls and host.port != 0)
            try:
                outcome = await self._transport.deliver(
                    plan, host, envelope, content, message.size_bytes, self._clock()
                )
            except Refused as refused:
                reply = refused.reply
                answered = isinstance(refused, NoWay) and bool(refused.address)
                at = host.at(refused.address) if isinstance(refused, NoWay) and refused.address else host
                if message.requiretls and unsafe(reply):
                    reply = replace(_UNSAFE, text=f"{_UNSAFE.text}: {reply.text}", cause=reply.cause)
                for index in pending:
                    known = said[index]
                    # Somebody who may take it later outweighs somebody who never will.
                    if known is None or known.reply.permanent:
                        said[index] = Said(reply, at.relay, beside=beside)
                if reply.status == "5.4.6" and not reply.host:
                    return [], "", spoke  # it is this very machine: hosts behind it would give the mail back
                return left + pending, at.address if answered else address, spoke
            spoke = True
            address = outcome.host.address
            host = outcome.host
            crowded: list[int] = []
            decided = False
            for index, reply in zip(pending, outcome.replies, strict=True):
                ours = reply.permanent and not reply.host  # our own conclusion about this host: another may be able to
                known = said[index]
                if not ours or known is None or known.reply.permanent:
                    handed = _handed(plan, outcome) if reply.ok else HERE
                    said[index] = Said(reply, host.relay, outcome.tls, handed, beside)
                if ours:
                    left.append(index)
                elif reply.temporary and reply.stage in _EARLY:
                    (crowded if reply.code == 452 and reply.stage == "rcpt" else left).append(index)
                else:
                    decided = decided or reply.stage == "final" or reply.permanent
            if not decided or _cancelled():
                return left + crowded, address, spoke
            pending = crowded  # RFC 5321 4.5.3.1.10: too many recipients; the others at once
        return left, address, spoke


def _may_do_without_tls(message: Message) -> bool:
    """RFC 8689 4.2.2, for mail of our own house: a stranger's header opens no route of ours."""
    return message.tls_optional and not message.requiretls and message.peer.source != "smtp"


def _each(plan: Remote, change: Callable[[Requirement], Requirement]) -> Remote:
    return replace(plan, hosts=tuple(replace(host, tls=change(host.tls)) for host in plan.hosts))


def _cancelled() -> bool:
    """Whether this task was told to end and only goes on to report what was done."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def late(message: Message, now: float) -> bool:
    """Whether it must not be delivered any more (RFC 2852 4.2, by-mode R)."""
    return message.by_mode == "R" and now >= message.by_at


def _handed(plan: Remote, outcome: Outcome) -> Handed:
    return HERE if plan.scheme == "lmtp" else Handed(True, outcome.offers_dsn, outcome.offers_by)


def _envelope(job: Job, sender: str, pending: Sequence[int], *, requiretls: bool) -> Envelope:
    message = job.message
    recipients = tuple(Rcpt(to.address, to.notify, to.orcpt) for to in (job.recipients[index] for index in pending))
    return Envelope(
        sender,
        recipients,
        message.body,
        message.smtputf8,
        message.ret,
        message.envid,
        requiretls,
        message.priority,
        0.0,
        message.by_at,
        message.by_mode,
        message.by_trace,
        signed=message.signed,
    )
