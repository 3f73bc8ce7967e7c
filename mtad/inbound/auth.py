"""The server's side of one AUTH exchange: PLAIN (RFC 4616) and LOGIN. Pure: it ends in credentials, or in a reply."""

import binascii
from base64 import b64decode
from dataclasses import dataclass

from mtad.mail.reply import Reply

MECHANISMS = ("PLAIN", "LOGIN")

CANCELLED = Reply(501, "5.7.0", "Authentication cancelled", stage="auth")
NOT_BASE64 = Reply(501, "5.5.2", "Cannot decode the base64", stage="auth")
NOT_PLAIN = Reply(501, "5.5.2", "Not a PLAIN message", stage="auth")
AUTH_FAILED = Reply(535, "5.7.8", "Authentication credentials invalid", stage="auth")
UNKNOWN_MECHANISM = Reply(504, "5.5.4", "Unknown authentication mechanism", stage="auth")

_ASK_NOTHING = b"334 \r\n"
_ASK_NAME = b"334 VXNlcm5hbWU6\r\n"  # "Username:"
_ASK_PASSWORD = b"334 UGFzc3dvcmQ6\r\n"  # "Password:"


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """What the peer claims. Not printable on purpose."""

    mechanism: str
    name: str
    password: str


Step = bytes | Credentials | Reply
"""A challenge to send, the claim to verify, or the reply that ends the exchange."""


class Exchange:
    """One AUTH command. `start` takes its arguments, `answer` each line that follows."""

    __slots__ = ("_name", "mechanism")

    def __init__(self) -> None:
        self.mechanism = ""
        self._name: str | None = None

    def start(self, arguments: str) -> Step:
        """`arguments` is "MECHANISM" or "MECHANISM initial-response"; the name in any case (RFC 4954 4)."""
        mechanism, _, initial = arguments.partition(" ")
        self.mechanism = mechanism.upper()
        if self.mechanism not in MECHANISMS:
            return UNKNOWN_MECHANISM
        initial = initial.strip(" ")
        if initial:
            return self._take("" if initial == "=" else initial)  # "=" is the empty initial response
        return _ASK_NOTHING if self.mechanism == "PLAIN" else _ASK_NAME

    def answer(self, line: str) -> Step:
        return CANCELLED if line == "*" else self._take(line)

    def _take(self, coded: str) -> Step:
        try:
            text = b64decode(coded, validate=True).decode("utf-8")
        except (binascii.Error, ValueError):
            return NOT_BASE64
        return self._plain(text) if self.mechanism == "PLAIN" else self._login(text)

    def _plain(self, text: str) -> Step:
        parts = text.split("\0")
        if len(parts) != 3 or not parts[1]:
            return NOT_PLAIN
        authorise_as, name, password = parts
        if authorise_as not in ("", name):
            return AUTH_FAILED  # acting for another user is not offered
        return Credentials("PLAIN", name, password)

    def _login(self, text: str) -> Step:
        if self._name is None:
            self._name = text
            return _ASK_PASSWORD
        return Credentials("LOGIN", self._name, text)
