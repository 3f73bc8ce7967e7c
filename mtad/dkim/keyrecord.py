"""Key records, as a receiver reads them (RFC 6376 3.6.1, 6.1.2; RFC 8301; RFC 8463). Pure."""

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from mtad.dkim.taglist import first_tag, tag_list

RECORD_MAX = 8192
RECORDS_MAX = 10
RSA_BITS = range(1024, 4097)  # RFC 8301 3.2; above, a sender chooses how long we calculate
RSA_EXPONENT_MAX = 1 << 33
ALGORITHMS = {"rsa-sha256": "rsa", "ed25519-sha256": "ed25519"}  # a=, and k= of its keys

_WSP = re.compile(r"[ \t\r\n]+")

PublicKey = rsa.RSAPublicKey | ed25519.Ed25519PublicKey


@dataclass(frozen=True, slots=True)
class Key:
    """`testing`: the domain asks that its mail be taken for unsigned, whether the signature is right or not (t=y)."""

    public: PublicKey
    testing: bool


class BadKey(ValueError):  # noqa: N818  (it names what was found)
    """There is no key for a signature. The words say why."""


def fitting(records: Sequence[str], tags: Mapping[str, str]) -> Key:
    """The key for a signature with these tags (a, d, and i where it names a user), from the first record that fits.

    Raises BadKey, with what is wrong with the first record.
    """
    first: BadKey | None = None
    for text in records[:RECORDS_MAX]:
        try:
            return _key(text, tags)
        except BadKey as bad:
            first = first or bad
    raise first or BadKey("there is no key record")


def octets_of(value: str) -> bytes | None:
    """The octets of a base64 value with blanks in it; None where it is none."""
    try:
        return base64.b64decode(_WSP.sub("", value), validate=True)
    except ValueError:
        return None


def words(value: str) -> set[str]:
    """The parts of a value that is a list with colons."""
    return {word.strip() for word in value.split(":")}


def _key(text: str, tags: Mapping[str, str]) -> Key:
    record = tag_list(text) if text.isascii() and len(text) <= RECORD_MAX else None
    if record is None:
        raise BadKey("the key record is no tag list")
    if "v" in record and first_tag(record) != "v":
        raise BadKey("v= is not the first tag of the key record")
    kind = record.get("k", "rsa")
    if record.get("v", "DKIM1") != "DKIM1" or "p" not in record:
        raise BadKey("malformed key record")
    if kind != ALGORITHMS[tags["a"]]:
        raise BadKey(f"the key is not for {tags['a']}")
    if not record["p"]:
        raise BadKey("the key is revoked")
    if "sha256" not in words(record.get("h", "sha256")):
        raise BadKey("the key does not allow sha256")
    if not {"*", "email"} & words(record.get("s", "*")):
        raise BadKey("the key is not for mail")
    flags = words(record.get("t", ""))
    user_domain = tags.get("i", f"@{tags['d']}").rpartition("@")[2].lower()
    if "s" in flags and user_domain != tags["d"].lower():
        raise BadKey("the key does not allow a sub-domain in i=")
    octets = octets_of(record["p"])
    if octets is None:
        raise BadKey("malformed p= in the key record")
    return Key(_public(kind, octets), "y" in flags)


def _public(kind: str, octets: bytes) -> PublicKey:
    try:
        if kind == "ed25519":
            return ed25519.Ed25519PublicKey.from_public_bytes(octets)
        key = serialization.load_der_public_key(octets)  # SubjectPublicKeyInfo, or the bare RSAPublicKey of RFC 8017
    except (ValueError, UnsupportedAlgorithm, InternalError):
        raise BadKey("malformed key") from None
    if not isinstance(key, rsa.RSAPublicKey):
        raise BadKey("the record holds another kind of key")
    if key.key_size not in RSA_BITS or key.public_numbers().e > RSA_EXPONENT_MAX:
        raise BadKey(f"a key of {key.key_size} bits is not accepted")
    return key
