"""The server's side of one AUTH exchange (RFC 4954), without a socket: it ends in a claim to check, or in a reply.

PLAIN (RFC 4616), LOGIN, SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677), EXTERNAL (RFC 4422 A).
"""

import binascii
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from mtad.accounts import scram
from mtad.mail.reply import Reply

MECHANISMS = ("SCRAM-SHA-256", "PLAIN", "LOGIN")  # wherever one may sign in at all
PLUS = "SCRAM-SHA-256-PLUS"
EXTERNAL = "EXTERNAL"

CANCELLED = Reply(501, "5.7.0", "Authentication cancelled", stage="auth")
NOT_BASE64 = Reply(501, "5.5.2", "Cannot decode the base64", stage="auth")
BAD_MESSAGE = Reply(501, "5.5.2", "Not a message of this mechanism", stage="auth")
AUTH_FAILED = Reply(535, "5.7.8", "Authentication credentials invalid", stage="auth")
UNKNOWN_MECHANISM = Reply(504, "5.5.4", "Unknown authentication mechanism", stage="auth")

_ASK_NOTHING = b"334 \r\n"
_ASK_NAME = b"334 VXNlcm5hbWU6\r\n"  # "Username:"
_ASK_PASSWORD = b"334 UGFzc3dvcmQ6\r\n"  # "Password:"


@dataclass(frozen=True, slots=True, repr=False)
class Channel:
    """What TLS proves: the bindings by name, and the peer's certificate (DER, verified; b"" if it showed none)."""

    bindings: Mapping[str, bytes] = field(default_factory=dict)
    certificate: bytes = b""

    @property
    def mechanisms(self) -> tuple[str, ...]:
        plus = (PLUS,) if self.bindings else ()
        external = (EXTERNAL,) if self.certificate else ()
        return (*plus, *MECHANISMS, *external)


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """What the peer claims. Not printable on purpose."""

    name: str
    password: str


@dataclass(frozen=True, slots=True)
class Proven:
    """The peer has proved to know the password of that label ("" is the account's own)."""

    name: str
    label: str


@dataclass(frozen=True, slots=True)
class Certified:
    """The peer wants to be whom its certificate names; `name` says who, "" leaves it to us."""

    name: str


Claim = Credentials | Proven | Certified
Step = bytes | Claim | Reply
"""A challenge to send, the claim to check, or the reply that ends the exchange."""


class Exchange:
    """One AUTH command. `start` takes its arguments, `answer` each line that follows.

    `challenge` is how SCRAM asks for a name, `nonce` fresh and random.
    """

    __slots__ = ("_challenge", "_channel", "_name", "_nonce", "_proven", "_scram", "mechanism")

    def __init__(self, channel: Channel, challenge: Callable[[str], scram.Challenge], nonce: str) -> None:
        self._channel = channel
        self._challenge = challenge
        self._nonce = nonce
        self._name: str | None = None  # LOGIN has said it
        self._scram: scram.Server | None = None
        self._proven = False
        self.mechanism = ""

    @property
    def name(self) -> str:
        """Who the peer wants to be, as far as it said."""
        return self._name or (self._scram.name if self._scram is not None else "")

    def start(self, arguments: str) -> Step:
        """`arguments` is "MECHANISM" or "MECHANISM initial-response"; the name in any case (RFC 4954 4)."""
        mechanism, _, initial = arguments.partition(" ")
        self.mechanism = mechanism.upper()
        if self.mechanism not in self._channel.mechanisms:
            return UNKNOWN_MECHANISM
        initial = initial.strip(" ")
        if initial:
            return self._take("" if initial == "=" else initial)  # "=" is the empty initial response
        return _ASK_NAME if self.mechanism == "LOGIN" else _ASK_NOTHING

    def answer(self, line: str) -> Step:
        return CANCELLED if line == "*" else self._take(line)

    def _take(self, coded: str) -> Step:
        try:
            text = b64decode(coded, validate=True).decode("utf-8")
        except (binascii.Error, ValueError):
            return NOT_BASE64
        match self.mechanism:
            case "PLAIN":
                return self._take_plain(text)
            case "LOGIN":
                return self._take_login(text)
            case "EXTERNAL":
                self._name = text
                return BAD_MESSAGE if "\0" in text else Certified(text)
            case _:
                try:
                    return self._take_scram(text)
                except scram.ScramSyntax:
                    return BAD_MESSAGE
                except scram.ScramWrong:
                    return AUTH_FAILED

    def _take_plain(self, text: str) -> Step:
        parts = text.split("\0")
        if len(parts) != 3 or not parts[1]:
            return BAD_MESSAGE
        authorise_as, self._name, password = parts
        if authorise_as not in ("", self._name):
            return AUTH_FAILED  # acting for another user is not offered
        return Credentials(self._name, password)

    def _take_login(self, text: str) -> Step:
        if self._name is None:
            self._name = text
            return _ASK_PASSWORD
        return Credentials(self._name, text)

    def _take_scram(self, text: str) -> Step:
        server = self._scram
        if server is None:
            server = self._scram = scram.Server(
                self._challenge,
                self._nonce,
                plus=self.mechanism == PLUS,
                plus_offered=PLUS in self._channel.mechanisms,
                bindings=self._channel.bindings,
            )
            return _challenge(server.first(text))
        if not self._proven:
            last = _challenge(server.final(text))
            self._proven = True
            return last
        # SMTP's success reply has no room for our own proof, so it went before, and is answered by nothing.
        return BAD_MESSAGE if text else Proven(server.name, server.label)


def _challenge(text: str) -> bytes:
    return b"334 " + b64encode(text.encode()) + b"\r\n"
