"""Nouns <-> rows. The order of what is written is the order of the columns, as the migrations made them."""

from typing import Any

from mtad.mail import ident
from mtad.mail.classify import classify
from mtad.mail.envelope import Attempt, Message, Peer, Recipient, State
from mtad.mail.reply import Reply

Row = tuple[Any, ...]

MESSAGE = (
    "m.id, m.sender, m.size_bytes, m.accepted_at, m.expires_at, m.source, m.ip, m.port, m.helo, m.esmtp, m.tls, m.user,"
    " m.uid, m.body, m.smtputf8, m.ret, m.envid, m.requiretls, m.header_id, m.subject, m.digest, m.priority,"
    " m.hold_until, m.by_at, m.by_mode, m.by_trace, m.tls_optional, m.signed"
)
MESSAGE_WIDTH = 28
RECIPIENT = (
    "r.n, r.address, r.original, r.domain, r.state, r.tries, r.next_at, r.notify, r.orcpt, r.warned_at,"
    " r.last_code, r.last_status, r.last_text, r.last_host, r.last_stage, r.last_cause, r.error"
)

_STATES = {int(state): state for state in State}
_NO_REPLY = (0, "", "", "", "", "")


def of_message(number: int, message: Message, finished_at: float | None) -> Row:
    peer = message.peer
    return (
        number,
        message.sender,
        message.size_bytes,
        message.accepted_at,
        message.expires_at,
        peer.source,
        peer.ip,
        peer.port,
        peer.helo,
        peer.esmtp,
        peer.tls,
        peer.user,
        peer.uid,
        message.body,
        message.smtputf8,
        message.ret,
        message.envid,
        message.requiretls,
        message.header_id,
        message.subject,
        message.digest,
        finished_at,
        message.priority,
        message.hold_until,
        message.by_at,
        message.by_mode,
        message.by_trace,
        message.tls_optional,
        message.signed,
    )


def of_recipient(number: int, recipient: Recipient, priority: int) -> Row:
    """`priority` is the message's: it is kept with each recipient, in the index of what is due."""
    return (
        number,
        recipient.n,
        recipient.address,
        recipient.original,
        recipient.domain,
        stored_state(recipient.state),
        recipient.tries,
        recipient.next_at,
        recipient.notify,
        recipient.orcpt,
        recipient.warned_at,
        *of_reply(recipient.last),
        priority,
        error_of(recipient.last),
    )


def of_reply(reply: Reply | None) -> Row:
    if reply is None:
        return _NO_REPLY
    return reply.code, reply.status, reply.text, reply.host, reply.stage, reply.cause


def error_of(reply: Reply | None) -> str:
    """The class of the trouble; what succeeds at once costs nothing."""
    return "" if reply is None else classify(reply)


def of_attempt(number: int, attempt: Attempt) -> Row:
    return (
        None,
        number,
        attempt.n,
        attempt.started_at,
        attempt.took_s,
        *of_reply(attempt.reply),
        attempt.relay,
        attempt.tls,
        error_of(attempt.reply),
    )


def stored_state(state: State) -> int:
    """LEASED is a matter of the running daemon: what is stored is READY."""
    return int(State.READY if state is State.LEASED else state)


def message_of(row: Row) -> Message:
    """From a row that begins with the columns of MESSAGE."""
    return Message(
        id=ident.from_int(row[0]),
        sender=row[1],
        size_bytes=row[2],
        accepted_at=row[3],
        expires_at=row[4],
        peer=Peer(row[5], row[6], row[7], row[8], bool(row[9]), row[10], row[11], row[12]),
        body=row[13],
        smtputf8=bool(row[14]),
        ret=row[15],
        envid=row[16],
        requiretls=bool(row[17]),
        header_id=row[18],
        subject=row[19],
        digest=row[20],
        priority=row[21],
        hold_until=row[22],
        by_at=row[23],
        by_mode=row[24],
        by_trace=bool(row[25]),
        tls_optional=bool(row[26]),
        signed=row[27],
    )


def recipient_of(message_id: str, row: Row, leased: bool) -> Recipient:
    """From a row that begins with the columns of RECIPIENT."""
    state = _STATES[row[4]]
    return Recipient(
        message_id,
        row[0],
        row[1],
        row[2],
        row[3],
        State.LEASED if leased and state is State.READY else state,
        row[5],
        row[6],
        row[7],
        row[8],
        row[9],
        Reply(*row[10:16]) if row[10] else None,
        row[16],
    )


def attempt_of(row: Row) -> Attempt:
    """From n, started_at, took_s, code, status, text, host, stage, cause, relay, tls, error."""
    return Attempt(row[0], row[1], row[2], Reply(*row[3:9]), row[9], row[10], row[11])
