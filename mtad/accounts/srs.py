"""Senders of forwarded mail (SRS): an address of ours in which the sender is written, signed and dated.

    SRS0=HASH=DAY=example.org=alice@our.domain           for alice@example.org
    SRS1=HASH=first.example==REST@our.domain             for SRS0=REST@first.example, which another house made

A host that an alias sends mail on to would find that we may not send for example.org (SPF); and a report from there
must find its way back to alice. Only what we signed within MAX_AGE_DAYS leads anywhere, so nobody can use the way to
send mail of their own through us. Upper and lower case make no difference: hosts on the way change it.
"""

import base64
import hmac
from collections.abc import Callable

from mtad.mail import address as addresses

MAX_AGE_DAYS = 21
HASH_CHARS = 8  # of base32: 40 bits
LOCAL_MAX = 64  # octets (RFC 5321 4.5.3.1.1)

_DAY_S = 86400
_DAYS = 1024  # then they begin again
_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_SEPARATORS = ("=", "-", "+")  # that others write behind the tag


class NotOurs(ValueError):  # noqa: N818  (what it is)
    """It is no address that we made, or one of long ago. The words are for the operator."""


def is_srs(local: str) -> bool:
    """Whether it has the form, by whomever it was made."""
    return local[:4].lower() in ("srs0", "srs1") and local[4:5] in _SEPARATORS


class Srs:
    """`key` is this installation's; `clock` gives unix seconds."""

    def __init__(self, key: bytes, clock: Callable[[], float]) -> None:
        self._key = key
        self._clock = clock

    def forward(self, sender: str, domain: str) -> str:
        """The sender to write in place of `sender`, at our `domain`; `sender` itself where that would be longer than an
        address may be, or cannot be written."""
        local, at = addresses.split(sender)
        if not at or at.startswith("[") or not sender.isascii() or '"' in local:
            return sender
        if is_srs(local):
            if local[3] == "0":
                rest = f"{at.lower()}={local[4:]}"
            else:
                first = local[5:].partition("=")[2]  # behind the hash of that house
                if "=" not in first:
                    return sender
                rest = first
            made = f"SRS1={self._hash('1', rest)}={rest}"
        else:
            rest = f"{_day(self._clock())}={at.lower()}={local}"
            made = f"SRS0={self._hash('0', rest)}={rest}"
        return f"{made}@{domain}" if len(made) <= LOCAL_MAX else sender

    def reverse(self, local: str) -> str:
        """The sender that is written in a local part. Raises NotOurs."""
        tag, sign, text = local[:4].lower(), local[4:5], local[5:]
        given, equals, rest = text.partition("=")
        if sign != "=" or not equals or tag not in ("srs0", "srs1"):
            raise NotOurs("it is not of our form")
        if not hmac.compare_digest(given.lower().encode("utf-8", "surrogatepass"), self._hash(tag[3], rest).encode()):
            raise NotOurs("its signature is not ours")
        if tag == "srs1":
            at, equals, first = rest.partition("=")
            if not equals or not at:
                raise NotOurs("it is cut")
            return _parsed(f"SRS0{first}@{at}")
        day, _, rest = rest.partition("=")
        at, equals, name = rest.partition("=")
        if not equals or not at or not name:
            raise NotOurs("it is cut")
        age_days = (_number(_day(self._clock())) - _number(day.lower())) % _DAYS
        if age_days > MAX_AGE_DAYS:
            raise NotOurs(f"it was made more than {MAX_AGE_DAYS} days ago")
        return _parsed(f"{name}@{at}")

    def _hash(self, tag: str, rest: str) -> str:
        digest = hmac.digest(self._key, f"srs{tag}={rest.lower()}".encode("utf-8", "surrogatepass"), "sha256")
        return base64.b32encode(digest).decode("ascii")[:HASH_CHARS].lower()


def _parsed(address: str) -> str:
    try:
        return addresses.parse(address)
    except addresses.AddressError:
        raise NotOurs("it holds no address") from None


def _day(now: float) -> str:
    day = int(now // _DAY_S) % _DAYS
    return _ALPHABET[day >> 5] + _ALPHABET[day & 31]


def _number(day: str) -> int:
    if len(day) != 2 or day[0] not in _ALPHABET or day[1] not in _ALPHABET:
        raise NotOurs("it has no date")
    return (_ALPHABET.index(day[0]) << 5) + _ALPHABET.index(day[1])
