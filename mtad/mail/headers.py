"""The header block of a message as octets: found, read and cut, never rewritten (RFC 5322 2.2).

A block is the octets up to and including the empty line. Fields are slices of it, folded as they came. Lines that are
no field (a From_ line, text before the first field) are left where they are and only reported. Everything is linear
in the size of the block and never raises on hostile octets.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

from mtad.mail.addrlist import addresses
from mtad.mail.text import clean

# Name and value with its folded lines. Octets of a name: RFC 5322 3.6.8; blanks before the colon: 4.5.
_FIELD = re.compile(rb"^([!-9;-~]++)[ \t]*+:([^\n]*+(?:\n[ \t][^\n]*+)*+)\n?", re.MULTILINE)
_TIDY = re.compile(rb"(?:[!-9;-~]++[ \t]*+:[^\n]*+(?:\n[ \t][^\n]*+)*+(?:\n|\Z))*+(?:\r?\n)?")
_FOLD = re.compile(rb"\r?\n(?=[ \t])")
_ENCODED_WORD = re.compile(r"=\?[!-<>-~]+\?[BbQq]\?[!->@-~]*\?=")
_VALUE_MAX = 64 * 1024  # octets of one value that are looked at
_SHOWN_MAX = 200
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Field(NamedTuple):
    """One field: block[start:end] with its last line end. `name` is lower case."""

    name: bytes
    start: int
    end: int


def end_of_head(octets: bytes) -> int:
    """Where the body begins; -1 while no empty line is there."""
    if octets.startswith(b"\r\n"):
        return 2
    found = octets.find(b"\r\n\r\n")
    return found + 4 if found >= 0 else -1


def split(octets: bytes) -> tuple[bytes, bytes]:
    """(block, body). Without an empty line everything is the block, and the empty line is added to it."""
    end = end_of_head(octets)
    if end >= 0:
        return octets[:end], octets[end:]
    return octets + (b"\r\n" if not octets or octets.endswith(b"\r\n") else b"\r\n\r\n"), b""


def fields(head: bytes) -> list[Field]:
    """All fields, in order."""
    return [Field(found[1].lower(), found.start(), found.end()) for found in _FIELD.finditer(head)]


def values(head: bytes, name: bytes) -> list[bytes]:
    """The unfolded values of the fields called `name` (lower case), in order, without the blanks around them."""
    return [_value(found) for found in _named(head, name)]


def has(head: bytes, name: bytes) -> bool:
    """Whether there is a field called `name` (lower case)."""
    return next(_named(head, name), None) is not None


def count(head: bytes, name: bytes) -> int:
    """How many fields are called `name` (lower case)."""
    return sum(1 for _ in _named(head, name))


def longest(head: bytes, name: bytes) -> int:
    """The octets of the longest field called `name` (lower case), name and folds included; 0 if there is none."""
    return max((found.end() - found.start() for found in _named(head, name)), default=0)


def remove(head: bytes, names: frozenset[bytes]) -> bytes:
    """The block without the fields of these names (lower case), folded lines included."""
    spans = sorted(found.span() for name in names for found in _named(head, name))
    if not spans:
        return head
    kept = []
    at = 0
    for start, end in spans:
        kept.append(head[at:start])
        at = end
    kept.append(head[at:])
    return b"".join(kept)


def malformed(head: bytes) -> bool:
    """Whether the block has lines that are neither a field nor part of one."""
    return _TIDY.fullmatch(head) is None


def count_received(head: bytes) -> int:
    """The hops so far (RFC 5321 6.3)."""
    return count(head, b"received")


def message_id(head: bytes) -> str:
    """The first Message-ID with its angle brackets, fit to show; "" if there is none."""
    return clean(_first(head, b"message-id").decode("utf-8", "replace"), _SHOWN_MAX)


def subject(head: bytes) -> str:
    """The first Subject in plain characters (RFC 2047 decoded), fit to show, cut to 200; "" if there is none."""
    text = _first(head, b"subject")[: 4 * _SHOWN_MAX].decode("utf-8", "replace")
    return clean(_decode_words(text) if "=?" in text else text, _SHOWN_MAX)


def first_addresses(head: bytes, name: bytes) -> list[str]:
    """The addr-specs of the first field called `name` (lower case), as they stand."""
    return [spec for _, spec in addresses(_first(head, name).decode("utf-8", "replace"))]


def date(at: float) -> str:
    """A moment (unix seconds) as RFC 5322 3.3 writes it, in UTC and in no locale."""
    t = datetime.fromtimestamp(at, UTC)
    return f"{_DAYS[t.weekday()]}, {t.day:02} {_MONTHS[t.month - 1]} {t.year:04} {t:%H:%M:%S} +0000"


def _named(head: bytes, name: bytes) -> Iterator[re.Match[bytes]]:
    line = b"\n" + name
    lines = b"\n" + head.lower()  # so that a place in it is the place in `head` of the line after the "\n"
    at = lines.find(line)
    while at >= 0:
        found = _FIELD.match(head, at)
        if found is not None and len(found[1]) == len(name):
            yield found
        at = lines.find(line, at + 1)


def _first(head: bytes, name: bytes) -> bytes:
    found = next(_named(head, name), None)
    return _value(found) if found is not None else b""


def _value(found: re.Match[bytes]) -> bytes:
    raw = found[2][:_VALUE_MAX]
    if b"\n" in raw:
        raw = _FOLD.sub(b"", raw)
    return raw.strip(b" \t\r\n")


def _decode_words(text: str) -> str:
    from email.errors import HeaderParseError
    from email.header import decode_header, make_header

    if not _ENCODED_WORD.search(text):
        return text
    try:
        return str(make_header(decode_header(text)))
    except (HeaderParseError, LookupError, ValueError):
        return text
