"""SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, the server's side (RFC 5802, RFC 7677). Pure: messages in, messages out.

Every account has one salt and one number of iterations for all its passwords (its own and the app passwords), so that
the server can say them before it knows which one the client holds. A name that nobody has gets the same kind of salt.
"""

import base64
import binascii
import hashlib
import hmac
import re
import stringprep
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

SALT_BYTES = 16
ITERATIONS_MIN = 4096  # RFC 7677 4
ITERATIONS_MAX = 1_000_000

BINDINGS = ("tls-exporter", "tls-server-end-point")  # what we may know (RFC 9266, RFC 5929)

_NONCE = re.compile(r"[!-+\--~]{1,256}\Z")  # printable, no comma
_ESCAPE = re.compile("=2C|=3D|=")
_BINDING_NAME = re.compile(r"[A-Za-z0-9.-]{1,64}\Z")


class ScramSyntax(ValueError):  # noqa: N818
    """The message is none of SCRAM, or not the one that is due. Says nothing of accounts."""


class ScramWrong(ValueError):  # noqa: N818
    """The client does not prove what it must: the password, or the channel."""


@dataclass(frozen=True, slots=True, repr=False)
class Keys:
    """What the server keeps of a password: enough to check it, not to be the client. Not printable on purpose."""

    stored_key: bytes
    server_key: bytes


@dataclass(frozen=True, slots=True, repr=False)
class Challenge:
    """What a name is asked with. `keys` by label ("" is the account's own password); none for a name nobody has."""

    salt: bytes
    iterations: int
    keys: Sequence[tuple[str, Keys]] = ()


def salt_of(name: str, install: bytes) -> bytes:
    """The salt of a name, whether somebody has it or not. `install` is this installation's secret."""
    return hmac.digest(install, name.encode("utf-8", "surrogatepass"), "sha256")[:SALT_BYTES]


def derive(password: str, salt: bytes, iterations: int) -> Keys:
    """The keys of a password. Takes as long as `iterations` says."""
    salted = hashlib.pbkdf2_hmac("sha256", prepared(password), salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    return Keys(hashlib.sha256(client_key).digest(), hmac.digest(salted, b"Server Key", "sha256"))


def prepared(password: str) -> bytes:
    """SASLprep (RFC 4013) where it can be done; what it forbids stays as it is in NFC, as other servers do it."""
    if password.isascii():
        return password.encode()
    mapped = "".join(
        " " if stringprep.in_table_c12(char) else char for char in password if not stringprep.in_table_b1(char)
    )
    text = unicodedata.normalize("NFKC", mapped)
    if any(forbidden(char) for char in text for forbidden in _FORBIDDEN) or _mixed(text):
        text = unicodedata.normalize("NFC", password)
    return text.encode("utf-8", "surrogatepass")


_FORBIDDEN = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


def _mixed(text: str) -> bool:
    """Whether right-to-left text breaks RFC 3454 6."""
    if not any(stringprep.in_table_d1(char) for char in text):
        return False
    ends = stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1])
    return not ends or any(stringprep.in_table_d2(char) for char in text)


class Server:
    """One exchange: `first`, then `final`; then `name` is who it is and `label` which password it was.

    `plus`: the mechanism that was chosen is -PLUS. `plus_offered`: it was among those announced. `bindings` are the
    channel's by name, `nonce` is fresh and random.
    """

    __slots__ = (
        "_auth",
        "_bindings",
        "_challenge",
        "_header",
        "_lookup",
        "_nonce",
        "_plus",
        "_plus_offered",
        "_type",
        "label",
        "name",
    )

    def __init__(
        self,
        lookup: Callable[[str], Challenge],
        nonce: str,
        *,
        plus: bool,
        plus_offered: bool,
        bindings: Mapping[str, bytes],
    ) -> None:
        self._lookup = lookup
        self._nonce = nonce
        self._plus = plus
        self._plus_offered = plus_offered
        self._bindings = bindings
        self._auth = ""
        self._challenge = Challenge(b"", 0)
        self._header = ""
        self._type = ""  # of the channel binding
        self.name = ""
        self.label = ""

    def first(self, message: str) -> str:
        """client-first-message -> server-first-message."""
        flag, comma, rest = message.partition(",")
        authorise_as, comma2, bare = rest.partition(",")
        if not comma or not comma2:
            raise ScramSyntax("no GS2 header")
        self._judge_flag(flag)
        self._header = message[: len(message) - len(bare)]
        fields = bare.split(",")
        if len(fields) < 2 or not fields[0].startswith("n=") or not fields[1].startswith("r="):
            raise ScramSyntax("no name and nonce")  # "m=" (mandatory extensions, none known) lands here as well
        self.name = _unescaped(fields[0][2:])
        if not self.name:
            raise ScramSyntax("no name")
        if authorise_as and (not authorise_as.startswith("a=") or _unescaped(authorise_as[2:]) != self.name):
            raise ScramWrong("acting for another user is not offered")
        if not _NONCE.fullmatch(fields[1][2:]):
            raise ScramSyntax("bad nonce")
        self._nonce = fields[1][2:] + self._nonce
        self._challenge = self._lookup(self.name)
        answer = f"r={self._nonce},s={_b64(self._challenge.salt)},i={self._challenge.iterations}"
        self._auth = f"{bare},{answer}"
        return answer

    def _judge_flag(self, flag: str) -> None:
        """RFC 5802 6: "n" the client cannot bind, "y" it could but saw no offer, "p=" it binds."""
        if flag.startswith("p="):
            if not self._plus or not _BINDING_NAME.fullmatch(flag[2:]):
                raise ScramSyntax("channel binding without -PLUS")
            self._type = flag[2:]
            if self._type not in self._bindings:
                raise ScramWrong("this kind of channel binding is not known here")
        elif flag not in ("n", "y"):
            raise ScramSyntax("no GS2 flag")
        elif self._plus:
            raise ScramSyntax("-PLUS without channel binding")
        elif flag == "y" and self._plus_offered:
            raise ScramWrong("somebody took -PLUS out of our offer")

    def final(self, message: str) -> str:
        """client-final-message -> server-final-message, which proves us to the client."""
        without_proof, separator, proof_text = message.rpartition(",p=")
        fields = without_proof.split(",")
        if not separator or len(fields) < 2 or not fields[0].startswith("c="):
            raise ScramSyntax("no channel, nonce and proof")
        bound = self._header.encode() + self._bindings.get(self._type, b"")
        proof = _unb64(proof_text)
        same_channel = hmac.compare_digest(_unb64(fields[0][2:]), bound)
        if fields[1] != f"r={self._nonce}":
            raise ScramWrong("another exchange's nonce")
        text = f"{self._auth},{without_proof}".encode()
        for label, keys in self._challenge.keys:
            client_key = _xor(hmac.digest(keys.stored_key, text, "sha256"), proof)
            if hmac.compare_digest(hashlib.sha256(client_key).digest(), keys.stored_key) and same_channel:
                self.label = label
                return f"v={_b64(hmac.digest(keys.server_key, text, 'sha256'))}"
        raise ScramWrong("the proof is wrong")


def _xor(one: bytes, other: bytes) -> bytes:
    """Of the first's length; b"" for another length, which is nobody's key."""
    return bytes(a ^ b for a, b in zip(one, other, strict=True)) if len(one) == len(other) else b""


def _unescaped(name: str) -> str:
    """A saslname: "=2C" is a comma, "=3D" an equals sign, any other "=" a mistake (RFC 5802 5.1)."""
    if "=" not in name:
        return name
    if any(found.group() == "=" for found in _ESCAPE.finditer(name)):
        raise ScramSyntax("bad name")
    return name.replace("=2C", ",").replace("=3D", "=")


def _b64(octets: bytes) -> str:
    return base64.b64encode(octets).decode("ascii")


def _unb64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ScramSyntax("bad base64") from None
