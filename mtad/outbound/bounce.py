"""Reports to the sender about what became of a message (RFC 3461, 3464). Pure: decides who is told what, once."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mtad.config import Config
from mtad.mail import dsn, headers
from mtad.mail.address import domain_of
from mtad.mail.dsn import Action, DsnInput, DsnRecipient
from mtad.mail.envelope import Attempt, Content, Message, NewMessage, Peer, Recipient, State
from mtad.mail.ident import Ids
from mtad.mail.reply import Refused, Reply

_NO_REPLY = Reply(0, "", "")


@dataclass(frozen=True, slots=True)
class Reports:
    """New mail to be stored with the outcome; `nobody`: why a failure is told to nobody ("" = it is, or need not)."""

    messages: tuple[NewMessage, ...] = ()
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
) -> Reports:
    """At most one report of a kind about one settled job. `handed`: by their numbers, recipients that went on.

    `expand` gives the final addresses of the sender, when it is one of ours: () when there is none.
    Nothing is ever reported about a mail without a sender or about a report.
    """
    told: dict[Action, list[DsnRecipient]] = {}
    for old, new, attempt in zip(before, after, attempts, strict=True):
        action = due(message, old, new, handed.get(new.n, HERE))
        if action is not None:
            told.setdefault(action, []).append(_recipient(message, new, attempt, action))
    if not told:
        return Reports()
    failed = "failed" in told
    if not message.sender or message.peer.source == "internal":
        return Reports(nobody="it has no sender" if failed else "")
    targets = _targets(message.sender, expand)
    if not targets:
        return Reports(nobody="its sender does not exist here" if failed else "")
    return Reports(tuple(_report(message, content, told[kind], targets, config, now, ids.new()) for kind in told))


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
    )


def _report(
    message: Message,
    content: Content,
    told: Sequence[DsnRecipient],
    targets: Sequence[str],
    config: Config,
    now: float,
    new_id: str,
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
            to=message.sender,
            message_id=message.id,
            arrived_at=message.accepted_at,
            now=now,
            recipients=tuple(told),
            header_id=message.header_id,
            envid=message.envid,
            ret=ret,
            head=content.head,
            body=body,
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
            smtputf8=not (head.isascii() and all(target.isascii() for target in targets)),
            requiretls=message.requiretls,
            priority=message.priority,
            header_id=headers.message_id(head),
            subject=headers.subject(head),
            digest=hashlib.sha256(text + head).digest(),
        ),
        tuple(
            Recipient(new_id, n, target, message.sender, domain_of(target), next_at=now)
            for n, target in enumerate(targets, 1)
        ),
        head,
        text,
    )
