"""The nouns that every room shares. Frozen data, no behaviour but what follows from the fields.

Times are float unix seconds UTC (`_at`), durations `_s`, sizes `_bytes`. Absent text is "".
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Literal

from mtad.mail.reply import Reply

Clock = Callable[[], float]
"""Unix seconds, UTC. Injected everywhere a decision depends on the time."""

TIME_MAX = 1e11
"""The year 5138: a time beyond it is none."""

Source = Literal["smtp", "submission", "submissions", "local", "maildrop", "internal"]
"""How a message came in; "internal" is mail that the daemon wrote itself."""

BodyType = Literal["7BIT", "8BITMIME", "BINARYMIME"]

ByMode = Literal["", "R", "N"]
"""DELIVERBY (RFC 2852): return the mail when it is late, only notify of it, or "" = no such wish."""


class State(IntEnum):
    """Delivery state of one recipient. "deferred" is READY with a later time, "active" is LEASED: display words.

    LEASED is owned by a running daemon and does not survive it. The numbers are stored: never renumber.
    """

    READY = 0
    LEASED = 1
    HELD = 2
    DONE = 3
    FAILED = 4
    TRASHED = 5


@dataclass(frozen=True, slots=True)
class Rcpt:
    """One RCPT TO as the peer said it. `notify`, `orcpt` are RFC 3461 values; orcpt in its own case, xtext-encoded."""

    address: str
    notify: str = ""  # "" (the default of RFC 3461), "NEVER", or a comma list of SUCCESS, FAILURE, DELAY
    orcpt: str = ""


@dataclass(frozen=True, slots=True)
class Envelope:
    """What the peer said. `sender` is "" for the null sender."""

    sender: str
    recipients: tuple[Rcpt, ...]
    body: BodyType = "7BIT"
    smtputf8: bool = False
    ret: str = ""  # "", "FULL", "HDRS"
    envid: str = ""  # xtext, as it came
    requiretls: bool = False
    priority: int = 0  # MT-PRIORITY (RFC 6710), -9..9
    hold_until: float = 0.0  # FUTURERELEASE (RFC 4865): not tried before; 0 = now
    by_at: float = 0.0  # DELIVERBY (RFC 2852): to be delivered by then; 0 with by_mode ""
    by_mode: ByMode = ""
    by_trace: bool = False  # and the sender wants to hear of each hop
    key: str = ""  # of this submission (XKEY); "" = none
    signed: str = ""  # on the way out, as in Message


@dataclass(frozen=True, slots=True)
class Peer:
    """What we know of who said it."""

    source: Source
    ip: str = ""
    port: int = 0
    helo: str = ""
    esmtp: bool = True
    tls: str = ""  # "TLSv1.3 TLS_AES_256_GCM_SHA384", "" = clear text
    user: str = ""  # the authenticated user
    uid: int = -1  # SO_PEERCRED, or the owner of a maildrop file


@dataclass(frozen=True, slots=True)
class Message:
    """One accepted mail, without its recipients and octets. `size_bytes` counts what is stored: head and body."""

    id: str
    sender: str
    size_bytes: int
    accepted_at: float
    expires_at: float
    peer: Peer
    body: BodyType = "7BIT"
    smtputf8: bool = False
    ret: str = ""
    envid: str = ""
    requiretls: bool = False
    header_id: str = ""  # the Message-ID field, for selectors and trace
    subject: str = ""
    digest: bytes = b""  # SHA-256 over the body and then the head, which is written last
    priority: int = 0  # this and what follows as in Envelope
    hold_until: float = 0.0
    by_at: float = 0.0
    by_mode: ByMode = ""
    by_trace: bool = False
    tls_optional: bool = False  # the sender wrote "TLS-Required: No" (RFC 8689 3)
    signed: str = ""  # by which keys of ours, each as domain/selector, with blanks between


@dataclass(frozen=True, slots=True)
class Recipient:
    """THE unit of delivery state. `id` is "<message id>.<n>"; `original` is the address before aliases."""

    message_id: str
    n: int
    address: str
    original: str
    # A-label, lower case: the key by which deliveries are grouped. "": an alias, expanded into others;
    # "smtp://host:25": an operator redirected it there.
    domain: str
    state: State = State.READY
    tries: int = 0
    next_at: float = 0.0
    notify: str = ""
    orcpt: str = ""
    warned_at: float = 0.0  # when a delay report went out; 0 = not yet
    last: Reply | None = None
    # Of one that was read: the class of `last` (mtad.mail.errorclass). It follows from it, so nobody else sets it.
    error: str = field(default="", compare=False)

    @property
    def id(self) -> str:
        return f"{self.message_id}.{self.n}"


@dataclass(frozen=True, slots=True)
class NewMessage:
    """The argument of Store.accept: everything that must become durable together.

    `head` is the whole header block, its ending empty line included; the octets of the mail are head + body.
    `body` is the octets after it, or the path of a file that already lies, fsynced, in `data/queue/`
    (named by the message id).
    """

    message: Message
    recipients: tuple[Recipient, ...]
    head: bytes
    body: bytes | str
    key: str = ""  # of the submission: the same user's second mail with it is not stored


@dataclass(frozen=True, slots=True)
class Content:
    """The octets of one stored message: head + body. `body` is a path when the body is large."""

    head: bytes
    body: bytes | str


@dataclass(frozen=True, slots=True)
class Job:
    """A lease: one message, one destination, the recipients that go there together. Owned until `until`."""

    message: Message
    domain: str
    recipients: tuple[Recipient, ...]
    until: float
    lease: int  # fences a late settle: the engine's lease number


@dataclass(frozen=True, slots=True)
class Attempt:
    """The record of one try of one recipient."""

    n: int
    started_at: float
    took_s: float
    reply: Reply  # reply.host is the remote's name
    relay: str = ""  # "mx.example.net[192.0.2.1]:25", "maildir", "lmtp:/run/x.sock"
    tls: str = ""  # "TLSv1.3 TLS_AES_256_GCM_SHA384 verified|unverified"
    error: str = field(default="", compare=False)  # that of `reply`, as in Recipient
