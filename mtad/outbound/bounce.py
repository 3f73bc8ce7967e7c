"""Reports to the sender about what became of a message (RFC 3461, 3464). Pure: decides who is told what, once."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address, ip_network

from mtad.config import Config
from mtad.mail import dsn, headers
from mtad.mail.address import domain_of, same
from mtad.mail.dsn import Action, DsnInput, DsnRecipient
from mtad.mail.envelope import Attempt, Content, Message, NewMessage, Peer, Recipient, State
from mtad.mail.ident import Ids
from mtad.mail.reply import Refused, Reply
from mtad.queue.store import Merge

RECIPIENTS_MAX = 200  # of one report

_NO_REPLY = Reply(0, "", "")


@dataclass(frozen=True, slots=True)
class Waiting:
    """A report in the queue that is not tried before `due_at`: what else fails until then may go into it."""

    id: str
    recipients: tuple[DsnRecipient, ...]
    due_at: float


@dataclass(frozen=True, slots=True)
class Reports:
    """New mail to be stored with the outcome; `nobody`: why a failure is told to nobody ("" = it is, or need not).
    `waiting` is what a later call may put more into."""

    messages: tuple[NewMessage, ...] = ()
    merges: tuple[Merge, ...] = ()
    waiting: Mapping[Action, Waiting] = field(default_factory=dict)
    nobody: str = ""
    double: bool = False  # they go to the postmaster


@dataclass(frozen=True, slots=True)
class Addressee:
    """Who is told. `targets` are the final addresses of `to`; none: nobody, and `nobody` says why."""

    to: str = ""
    targets: tuple[str, ...] = ()
    double: bool = False  # the postmaster, in place of a sender who cannot be told
    nobody: str = ""


@dataclass(frozen=True, slots=True)
class Handed:
    """What became of our duties towards a recipient that was delivered."""

    onward: bool = False  # another system has it now, and it may not be the last
    dsn: bool = False  # which reports on delivery
    by: bool = False  # which minds the time of DELIVERBY


HERE = Handed()


def due(message: Message, before: Recipient, after: Recipient, handed: Handed) -> Action | None:
    """What the sender is to hear of this recipient now."""
    notify = after.notify.upper().split(",") if after.notify else []
    if after.state is State.FAILED:
        return "failed" if not notify or "FAILURE" in notify else None
    if after.warned_at != before.warned_at:
        return "delayed" if not notify or "DELAY" in notify else None
    if after.state is not State.DONE or not message.sender:
        return None
    if "SUCCESS" in notify and not (handed.onward and handed.dsn):
        # RFC 3461 5.2.2 and 5.2.7.2
        return "relayed" if handed.onward else "delivered" if after.domain else "expanded"
    if message.by_mode and handed.onward and (message.by_trace or not handed.by) and "NEVER" not in notify:
        return "relayed"  # RFC 2852 4.2
    return None


def reports(
    message: Message,
    content: Content,
    before: Sequence[Recipient],
    after: Sequence[Recipient],
    attempts: Sequence[Attempt],
    handed: Mapping[int, Handed],
    config: Config,
    now: float,
    ids: Ids,
    expand: Callable[[str], tuple[str, ...]],
    *,
    verified: bool = True,
    due_at: float = 0.0,
    earlier: Mapping[Action, Waiting] | None = None,
) -> Reports:
    """At most one report of a kind about one settled job. `handed`: by their numbers, recipients that went on.

    `expand` gives the final addresses of the sender, when it is one of ours: () when there is none. `verified`: the
    mail came from somebody we know, or its sender is what it says; else telling it would be backscatter.
    A report that is due later than `now` waits for more of its kind about the same message; `earlier` are those that
    do. The sender of a mail without one, or of a report, is never told: the postmaster is, and of that, nobody.
    """
    told: dict[Action, list[DsnRecipient]] = {}
    for old, new, attempt in zip(before, after, attempts, strict=True):
        action = due(message, old, new, handed.get(new.n, HERE))
        if action is not None:
            told.setdefault(action, []).append(_recipient(message, new, attempt, action))
    if not told:
        return Reports()
    who = addressee(message, after, config, expand, verified=verified)
    if who.double:
        told = {kind: about for kind, about in told.items() if kind == "failed"}
        if not told:
            return Reports()
    if not who.targets:
        return Reports(nobody=who.nobody if "failed" in told else "")
    made: list[NewMessage] = []
    merges: list[Merge] = []
    waiting: dict[Action, Waiting] = {}
    for kind, about in told.items():
        begun = (earlier or {}).get(kind)
        new_id, at = ids.new(), max(due_at, now)
        alone = _report(message, content, about, who, config, now, new_id, at)
        if begun is None or len(begun.recipients) + len(about) > RECIPIENTS_MAX:
            made.append(alone)
            waiting[kind] = Waiting(new_id, tuple(about), at)
            continue
        at = min(at, begun.due_at)
        together = (*begun.recipients, *about)
        merges.append(Merge(_report(message, content, together, who, config, now, begun.id, at), alone))
        waiting[kind] = Waiting(begun.id, together, at)
    return Reports(tuple(made), tuple(merges), waiting, double=who.double)


def known(message: Message, trusted: Sequence[str]) -> bool:
    """Whether we know who gave us the mail: a program of this host, a user, a trusted network, or ourselves."""
    peer = message.peer
    if peer.source != "smtp" or peer.user or not peer.ip:
        return True
    address = ip_address(peer.ip.partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in ip_network(network, strict=False) for network in trusted)


def addressee(
    message: Message,
    failed: Sequence[Recipient],
    config: Config,
    expand: Callable[[str], tuple[str, ...]],
    *,
    verified: bool,
) -> Addressee:
    """Who is told of a mail. `failed`: its recipients, which show whether it was for the postmaster already."""
    if not verified:
        return Addressee(nobody="it came from outside, and its sender is not verified")
    if message.sender and message.peer.source != "internal":
        targets = _targets(message.sender, expand)
        if targets:
            return Addressee(message.sender, targets)
        why = "its sender does not exist here"
    else:
        why = "it has no sender"
    postmaster = f"postmaster@{(config.domains or (config.hostname,))[0]}"
    stranger = message.peer.source == "smtp" and not message.sender
    if config.delivery.double_bounce != "postmaster" or stranger:
        return Addressee(nobody=why)
    if any(same(one.original or one.address, postmaster) for one in failed):
        return Addressee(nobody=f"{why}, and it was for the postmaster")
    return Addressee(postmaster, _targets(postmaster, expand), double=True, nobody=why)


def _targets(sender: str, expand: Callable[[str], tuple[str, ...]]) -> tuple[str, ...]:
    try:
        return expand(sender)
    except Refused:  # an alias that grew beyond measure
        return (sender,)


def _recipient(message: Message, recipient: Recipient, attempt: Attempt, action: Action) -> DsnRecipient:
    return DsnRecipient(
        recipient.address,
        action,
        recipient.last or _NO_REPLY,
        recipient.orcpt,
        recipient.original,
        attempt.started_at,
        message.expires_at if action == "delayed" else 0.0,
        attempt.reply if attempt.reply is not recipient.last else None,
    )


def _report(
    message: Message,
    content: Content,
    told: Sequence[DsnRecipient],
    who: Addressee,
    config: Config,
    now: float,
    new_id: str,
    due_at: float,
) -> NewMessage:
    body = content.body if isinstance(content.body, bytes) else b""
    # A body in a file is larger than what a report gives back; without it, neither is the head taken for all of it.
    # What came encrypted does not go back where it could be read (RFC 8689 5), and binary content is no text.
    whole = isinstance(content.body, bytes) and not message.requiretls and message.body != "BINARYMIME"
    ret = message.ret if whole else "HDRS"
    head, text = dsn.build(
        DsnInput(
            id=new_id,
            hostname=config.hostname,
            to=who.to,
            message_id=message.id,
            arrived_at=message.accepted_at,
            now=now,
            recipients=tuple(told),
            header_id=message.header_id,
            envid=message.envid,
            ret=ret,
            head=content.head,
            body=body,
            double=who.double,
        )
    )
    return NewMessage(
        Message(
            id=new_id,
            sender="",
            size_bytes=len(head) + len(text),
            accepted_at=now,
            expires_at=now + config.delivery.expire_s,
            peer=Peer("internal"),
            body="7BIT" if head.isascii() and text.isascii() else "8BITMIME",
            smtputf8=not (head.isascii() and all(target.isascii() for target in who.targets)),
            requiretls=message.requiretls,
            priority=message.priority,
            header_id=headers.message_id(head),
            subject=headers.subject(head),
            digest=hashlib.sha256(text + head).digest(),
        ),
        tuple(
            Recipient(new_id, n, target, who.to, domain_of(target), next_at=due_at)
            for n, target in enumerate(who.targets, 1)
        ),
        head,
        text,
    )
