"""The log's lines about a mail, as text: the same for what happens now (mtad.events) and for what the history tells.

They begin with the message id and go on as key=value, in the shapes that readers of Postfix logs know. All that came
from outside is cleaned; values with blanks are quoted.
"""

from mtad.mail.envelope import Attempt, Message, Peer, Recipient, State
from mtad.mail.reply import Reply
from mtad.mail.text import clean


def accepted(message: Message, recipients: int) -> str:
    """`recipients` is how many."""
    peer = message.peer
    return (
        f"{message.id}: from=<{clean(message.sender)}>, size={message.size_bytes}, nrcpt={recipients} "
        f"(queue active), source={peer.source}, client={host_of(peer)}"
        + (f", helo={quoted(peer.helo)}" if peer.helo else "")
        + (f", user={quoted(peer.user)}" if peer.user else "")
        + (f", tls={quoted(peer.tls)}" if peer.tls else "")
        + (f", message-id={quoted(message.header_id)}" if message.header_id else "")
    )


def attempt(message: Message, recipient: Recipient, tried: Attempt, status: str, error: str) -> str:
    reply = tried.reply
    waited = max(tried.started_at - message.accepted_at, 0.0)
    relay = clean(tried.relay, 200) or "none"
    original = f", orig_to=<{clean(recipient.original)}>" if recipient.original not in ("", recipient.address) else ""
    said = words_of(reply)
    if reply.host and not reply.ok:
        command = f" (in reply to {clean(reply.stage.upper(), 20)})" if reply.stage else ""
        said = f"host {clean(reply.host, 200)} said: {said}{command}"
    return (
        f"{message.id}: to=<{clean(recipient.address)}>{original}, relay={relay}, "
        f"delay={waited + tried.took_s:.2f}, delays=0/{waited:.2f}/0/{tried.took_s:.2f}, "
        f"dsn={clean(reply.status, 20) or _class(reply)}, status={status} ({said})"
        + (f", error={error}" if error else "")
        + (f", tls={quoted(tried.tls)}" if tried.tls else "")
        + (f", cause={quoted(reply.cause)}" if reply.cause else "")
    )


def report(of: str, new_id: str, to: str) -> str:
    return f"{of}: report={new_id}, to=<{clean(to)}>"


def operator(caller: str, operation: str, selector: str, reason: str, changed: int) -> str:
    return (
        f"operator: caller={quoted(caller)}, operation={quoted(operation)}, selector={quoted(selector)}, "
        f"reason={quoted(reason)}, changed={changed}"
    )


def outcome(reply: Reply, state: State) -> tuple[str, str]:
    """(Postfix's word, ours) for what an attempt led to."""
    match state:
        case State.DONE:
            return "sent", "delivered"
        case State.FAILED:
            return "bounced", "failed"
        case State.READY | State.LEASED | State.HELD | State.TRASHED:
            return ("sent", "delivered") if reply.ok else ("deferred", "deferred")


def quoted(text: str) -> str:
    """A value as it stands, or quoted where a reader of key=value would lose its way."""
    if text.isprintable() and not (set(' ",') & set(text)) and len(text) <= 500:
        return text or '""'
    return '"' + clean(text.replace('"', "'")) + '"'


def host_of(peer: Peer) -> str:
    """Postfix's "name[address]:port"; programs of this host are known by their user."""
    if peer.ip:
        return f"unknown[{clean(peer.ip, 60)}]:{peer.port}"
    return f"local[uid={peer.uid}]" if peer.uid >= 0 else "local"


def words_of(reply: Reply) -> str:
    """A reply in one line."""
    return clean(str(reply).replace("\n", " "))


def _class(reply: Reply) -> str:
    return "2.0.0" if reply.ok else "5.0.0" if reply.permanent else "4.0.0"
