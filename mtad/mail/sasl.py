"""How we prove to a host who we are (SASL, RFC 4954): the client's side of PLAIN, LOGIN and SCRAM-SHA-256 (RFC 5802,
RFC 7677), without a socket. SCRAM comes first where it is offered: the password does not cross the wire, and the host
must prove that it knows it.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

ITERATIONS_MIN = 4096  # RFC 7677 4; with fewer, whoever plays the host guesses passwords cheaply
ITERATIONS_MAX = 200_000  # about 80 ms; more would stop all other connections
BINDINGS = ("tls-exporter", "tls-server-end-point")  # the best first (RFC 9266, RFC 5929)

_SERVER_FIRST = re.compile(r"r=([!-+\--~]{1,512}),s=([A-Za-z0-9+/=]{1,512}),i=([1-9][0-9]{0,6})(?:,.*)?")


class Distrusted(Exception):  # noqa: N818  (what it is)
    """The host does not prove itself, or speaks no SASL. The words may be shown."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """For AUTH to a smarthost."""

    user: str
    password: str = field(repr=False)
    clear: bool = False  # may they go over a connection without TLS
    prepared: bytes = field(default=b"", repr=False)  # the password after SASLprep, for SCRAM; b"": no SCRAM
    nonce: str = field(default="", repr=False)  # fresh and random, for SCRAM


class Mechanism(Protocol):
    """One exchange."""

    name: str
    complete: bool  # whether success may be believed

    def first(self) -> bytes | None:
        """The initial response; None: there is none."""

    def step(self, challenge: bytes) -> bytes:
        """The answer. Raises Distrusted."""


def choose(
    offered: Sequence[str], credentials: Credentials, bindings: Mapping[str, bytes], *, binding: bool = True
) -> Mechanism | None:
    """The best of what the host offers; None when we know none. `bindings` are the connection's, by name. `binding`
    False: leave -PLUS out, it was tried."""
    if credentials.prepared and credentials.nonce:
        kind = next((name for name in BINDINGS if name in bindings), "")
        if "SCRAM-SHA-256-PLUS" in offered and kind and binding:
            return Scram(credentials, f"p={kind},,", bindings[kind], plus=True)
        if "SCRAM-SHA-256" in offered:
            # "y": we could bind, but saw no offer. Whoever took the offer away is found out by the host.
            unseen = bool(kind) and "SCRAM-SHA-256-PLUS" not in offered
            return Scram(credentials, "y,," if unseen else "n,,", b"", plus=False)
    if "PLAIN" in offered:
        return Plain(credentials)
    return Login(credentials) if "LOGIN" in offered else None


class Plain:
    name = "PLAIN"

    def __init__(self, credentials: Credentials) -> None:
        self.complete = True
        self._message = b"\0" + credentials.user.encode() + b"\0" + credentials.password.encode()

    def first(self) -> bytes | None:
        return self._message

    def step(self, challenge: bytes) -> bytes:
        raise Distrusted("it asks for more than PLAIN has")


class Login:
    name = "LOGIN"

    def __init__(self, credentials: Credentials) -> None:
        self.complete = True
        self._left = [credentials.user.encode(), credentials.password.encode()]

    def first(self) -> bytes | None:
        return None

    def step(self, challenge: bytes) -> bytes:
        if not self._left:
            raise Distrusted("it asks for more than LOGIN has")
        return self._left.pop(0)


class Scram:
    def __init__(self, credentials: Credentials, header: str, binding: bytes, *, plus: bool) -> None:
        self.name = "SCRAM-SHA-256-PLUS" if plus else "SCRAM-SHA-256"
        self.complete = False
        self._credentials = credentials
        self._header = header
        self._binding = binding
        name = credentials.user.replace("=", "=3D").replace(",", "=2C")
        self._bare = f"n={name},r={credentials.nonce}"
        self._signature = b""  # that the host must show

    def first(self) -> bytes | None:
        return (self._header + self._bare).encode()

    def step(self, challenge: bytes) -> bytes:
        text = challenge.decode("utf-8", "replace")
        if self.complete:
            raise Distrusted("it asks for more than SCRAM has")
        return self._final(text) if self._signature else self._proof(text)

    def _proof(self, text: str) -> bytes:
        found = _SERVER_FIRST.fullmatch(text)
        nonce = self._credentials.nonce
        if found is None or not found[1].startswith(nonce) or found[1] == nonce:
            raise Distrusted("its SCRAM message is malformed")
        salt, iterations = _decoded(found[2]), int(found[3])
        if not ITERATIONS_MIN <= iterations <= ITERATIONS_MAX:
            raise Distrusted(f"it asks for {iterations} iterations of SCRAM")
        client_key, server_key = _keys(self._credentials.prepared, salt, iterations)
        bound = base64.b64encode(self._header.encode() + self._binding).decode("ascii")
        without_proof = f"c={bound},r={found[1]}"
        auth = f"{self._bare},{text},{without_proof}".encode()
        proof = hmac.digest(hashlib.sha256(client_key).digest(), auth, "sha256")
        self._signature = hmac.digest(server_key, auth, "sha256")
        shown = base64.b64encode(bytes(a ^ b for a, b in zip(client_key, proof, strict=True)))
        return without_proof.encode() + b",p=" + shown

    def _final(self, text: str) -> bytes:
        sign, _, rest = text.partition("=")
        if sign == "e":
            raise Distrusted("it refuses the proof")
        if sign != "v" or not hmac.compare_digest(_decoded(rest.partition(",")[0]), self._signature):
            raise Distrusted("it does not prove that it knows the password")
        self.complete = True
        return b""


@lru_cache(maxsize=16)  # the same for each connection to a smarthost
def _keys(password: bytes, salt: bytes, iterations: int) -> tuple[bytes, bytes]:
    salted = hashlib.pbkdf2_hmac("sha256", password, salt, iterations)
    return hmac.digest(salted, b"Client Key", "sha256"), hmac.digest(salted, b"Server Key", "sha256")


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Distrusted("its SCRAM message is malformed") from None
