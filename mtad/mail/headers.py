"""The header block of a message as octets: found, read and cut, never rewritten (RFC 5322 2.2).

A block is the octets up to and including the empty line. Fields are slices of it, folded as they came. Lines that are
no field (a From_ line, text before the first field) are left where they are and only reported. Everything is linear
in the size of the block and never raises on hostile octets.
"""

import re
from typing import NamedTuple

from mtad.mail.addrlist import addresses
from mtad.mail.text import clean

# A field and its folded lines. Octets of a field name: RFC 5322 3.6.8; blanks before the colon: 4.5.
_FIELD = re.compile(rb"^([!-9;-~]++)[ \t]*+:[^\n]*+(?:\n[ \t][^\n]*+)*+\n?", re.MULTILINE)
_FOLD = re.compile(rb"\r?\n(?=[ \t])")
_ENCODED_WORD = re.compile(r"=\?[!-<>-~]+\?[BbQq]\?[!->@-~]*\?=")
_VALUE_MAX = 64 * 1024  # octets of one field that are looked at
_SHOWN_MAX = 200


class Field(NamedTuple):
    """One field: block[start:end] with its last line end. `name` is lower case."""

    name: bytes
    start: int
    end: int


class Summary(NamedTuple):
    """What accepting a message needs to know of its block."""

    names: frozenset[bytes]
    message_id: str
    subject: str
    received: int
    malformed: bool


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
    return [_value(head, field) for field in fields(head) if field.name == name]


def has(head: bytes, name: bytes) -> bool:
    """Whether there is a field called `name` (lower case)."""
    return count(head, name) > 0


def count(head: bytes, name: bytes) -> int:
    """How many fields are called `name` (lower case)."""
    return sum(field.name == name for field in fields(head))


def remove(head: bytes, names: frozenset[bytes]) -> bytes:
    """The block without the fields of these names (lower case), folded lines included."""
    kept = []
    at = 0
    for field in fields(head):
        if field.name in names:
            kept.append(head[at : field.start])
            at = field.end
    return b"".join(kept) + head[at:] if at else head


def malformed(head: bytes) -> bool:
    """Whether the block has lines that are neither a field nor part of one."""
    return _malformed(head, fields(head))


def count_received(head: bytes) -> int:
    """The hops so far (RFC 5321 6.3)."""
    return count(head, b"received")


def message_id(head: bytes) -> str:
    """The first Message-ID with its angle brackets, fit to show; "" if there is none."""
    found = values(head, b"message-id")
    return _shown_id(found[0]) if found else ""


def subject(head: bytes) -> str:
    """The first Subject in plain characters (RFC 2047 decoded), fit to show, cut to 200; "" if there is none."""
    found = values(head, b"subject")
    return _shown_text(found[0]) if found else ""


def first_addresses(head: bytes, name: bytes) -> list[str]:
    """The addr-specs of the first field called `name` (lower case)."""
    found = values(head, name)
    return [spec for _, spec in addresses(found[0].decode("utf-8", "replace"))] if found else []


def summary(head: bytes) -> Summary:
    """All of it in one pass."""
    found = fields(head)
    first: dict[bytes, Field] = {}
    received = 0
    for field in found:
        if field.name == b"received":
            received += 1
        first.setdefault(field.name, field)
    wanted_id, wanted_subject = first.get(b"message-id"), first.get(b"subject")
    return Summary(
        frozenset(first),
        _shown_id(_value(head, wanted_id)) if wanted_id else "",
        _shown_text(_value(head, wanted_subject)) if wanted_subject else "",
        received,
        _malformed(head, found),
    )


def _value(head: bytes, field: Field) -> bytes:
    raw = head[head.index(b":", field.start) + 1 : min(field.end, field.start + _VALUE_MAX)]
    if b"\n" in raw:
        raw = _FOLD.sub(b"", raw)
    return raw.strip(b" \t\r\n")


def _malformed(head: bytes, found: list[Field]) -> bool:
    covered = sum(field.end - field.start for field in found)
    empty = 2 if head == b"\r\n" or head.endswith(b"\n\r\n") else 1 if head == b"\n" or head.endswith(b"\n\n") else 0
    return covered + empty != len(head)


def _shown_id(value: bytes) -> str:
    return clean(value.decode("utf-8", "replace"), _SHOWN_MAX)


def _shown_text(value: bytes) -> str:
    text = value[: 4 * _SHOWN_MAX].decode("utf-8", "replace")
    if "=?" in text:
        text = _decode_words(text)
    return clean(text, _SHOWN_MAX)


def _decode_words(text: str) -> str:
    from email.errors import HeaderParseError
    from email.header import decode_header, make_header

    if not _ENCODED_WORD.search(text):
        return text
    try:
        return str(make_header(decode_header(text)))
    except (HeaderParseError, LookupError, ValueError):
        return text
