"""A mail with 8-bit content made 7-bit, for a host that takes no other (RFC 6152 3): text becomes quoted-printable,
anything else base64, inside whatever multiparts there are. Pure, on octets; what needs no change stays as it is.

Never touched: what somebody signed or encrypted as a whole (multipart/signed, multipart/encrypted). A mail that cannot
be converted without harm is not converted at all. Header fields with octets above 127, of the mail or of its parts, are
passed along: 8BITMIME is about bodies (RFC 6152 3), nobody agreed on what such octets mean, and hosts take them.
"""

import base64
import re
from dataclasses import dataclass

from mtad.mail import headers

DEPTH_MAX = 20  # multiparts and messages within each other
PARTS_MAX = 2000
LINE_MAX = 76

_TYPE = re.compile(rb"\s*([!#$&+.^_`{|}~0-9A-Za-z-]+)/([!#$&+.^_`{|}~0-9A-Za-z-]+)")
_BOUNDARY = re.compile(rb";\s*boundary\s*=\s*(?:\"((?:[^\"\\]|\\.)*)\"|([^\s;\"]+))", re.IGNORECASE)
_LITERAL = re.compile(rb"[^\t !-<>-~]")  # all that quoted-printable writes as =XX
_ENCODINGS = frozenset({b"", b"7bit", b"8bit", b"binary"})
_UNTOUCHED = frozenset({b"signed", b"encrypted"})
_SEVEN_ONLY = frozenset({b"partial", b"external-body", b"delivery-status"})


class Impossible(Exception):  # noqa: N818  (what it is)
    """It cannot be made 7-bit without harm. The words are for a person."""


@dataclass(slots=True)
class _Count:
    parts: int = 0


def convert(head: bytes, body: bytes) -> tuple[bytes, bytes]:
    """Header block and body in which octets above 127 are in header fields only. Raises Impossible."""
    return _entity(head, body, b"text/plain", 0, _Count())


def _entity(head: bytes, body: bytes, default: bytes, depth: int, count: _Count) -> tuple[bytes, bytes]:
    """One entity: the mail itself, or a part of it."""
    count.parts += 1
    if depth > DEPTH_MAX or count.parts > PARTS_MAX:
        raise Impossible("its parts are nested too deeply or are too many")
    encoding = next(iter(headers.values(head, b"content-transfer-encoding")), b"").strip().lower()
    kind, of, value = _type(head, default)
    if body.isascii():
        return head, body
    if encoding not in _ENCODINGS:
        raise Impossible("a part is not in the encoding that it names")
    if kind == b"multipart":
        if of in _UNTOUCHED:
            raise Impossible("a signed or encrypted part holds 8-bit text")
        return _composite(head, _multipart(body, value, of, depth, count))
    if kind == b"message":
        if of in _SEVEN_ONLY:
            raise Impossible(f"a part of type message/{of.decode()} holds 8-bit text")
        inner_head, inner_body = headers.split(body)
        return _composite(head, b"".join(_entity(inner_head, inner_body, b"text/plain", depth + 1, count)))
    if kind == b"text":
        return _labelled(head, b"quoted-printable"), quoted_printable(body)
    return _labelled(head, b"base64"), _base64(body)


def _composite(head: bytes, inner: bytes) -> tuple[bytes, bytes]:
    """An entity of others: what holds 8-bit header fields still is not called 7bit."""
    return (_labelled(head, b"7bit") if inner.isascii() else head), inner


def _type(head: bytes, default: bytes) -> tuple[bytes, bytes, bytes]:
    """(type, subtype, whole value) in lower case but for the value."""
    value = next(iter(headers.values(head, b"content-type")), default)
    found = _TYPE.match(value)
    if found is None:
        return b"text", b"plain", value  # RFC 2045 5.2
    return found[1].lower(), found[2].lower(), value


def _multipart(body: bytes, value: bytes, of: bytes, depth: int, count: _Count) -> bytes:
    found = _BOUNDARY.search(value)
    boundary = re.sub(rb"\\(.)", rb"\1", found[1]) if found and found[1] is not None else found[2] if found else b""
    if not boundary or len(boundary) > 200:
        raise Impossible("a multipart names no boundary")
    delimiter = re.compile(rb"(?:\A|\r\n)--" + re.escape(boundary) + rb"(--)?[ \t]*(?:\r\n|\Z)")
    made: list[bytes] = []
    at, inside = 0, False
    start = 0
    while (mark := delimiter.search(body, at)) is not None:
        chunk = body[start : mark.start()]
        made += [_part(chunk, of, depth, count) if inside else _aside(chunk), mark[0]]
        start = mark.end()
        # The line end behind one delimiter may be that before the next.
        at = start - 2 if body[start - 2 : start] == b"\r\n" else start
        if at == start - 2 and delimiter.match(body, at) is None:
            at = start
        inside = True
        if mark[1]:
            made.append(_aside(body[start:]))
            return b"".join(made)
    rest = body[start:]
    made.append(_part(rest, of, depth, count) if inside else _aside(rest))  # its end is missing
    return b"".join(made)


def _part(octets: bytes, of: bytes, depth: int, count: _Count) -> bytes:
    default = b"message/rfc822" if of == b"digest" else b"text/plain"
    if octets.isascii():
        return octets
    if headers.end_of_head(octets) < 0:
        raise Impossible("a part has no end of its header")
    head, body = headers.split(octets)
    return b"".join(_entity(head, body, default, depth + 1, count))


def _aside(octets: bytes) -> bytes:
    """What is before and behind the parts, which no reader shows."""
    if octets.isascii():
        return octets
    raise Impossible("there is 8-bit text outside of the parts")


def _labelled(head: bytes, encoding: bytes) -> bytes:
    """The header block with this encoding; what RFC 2045 wants beside it is added where nothing says what it is."""
    field = b"Content-Transfer-Encoding: %b\r\n" % encoding
    before = headers.remove(head, frozenset({b"content-transfer-encoding"}))
    end = len(before) - 2  # in front of the empty line
    if not headers.has(before, b"content-type") and encoding == b"quoted-printable":
        field = b"Content-Type: text/plain; charset=unknown-8bit\r\n" + field  # RFC 1428 3
        if headers.has(before, b"from") and not headers.has(before, b"mime-version"):
            field = b"MIME-Version: 1.0\r\n" + field
    return before[:end] + field + before[end:]


def quoted_printable(octets: bytes) -> bytes:
    """RFC 2045 6.7, of text with CRLF line ends."""
    return b"\r\n".join(_line(line) for line in octets.split(b"\r\n"))


def _line(line: bytes) -> bytes:
    if len(line) <= LINE_MAX and line[-1:] not in (b" ", b"\t") and not _LITERAL.search(line):
        return line
    coded = _LITERAL.sub(lambda found: b"=%02X" % found[0][0], line)
    if coded[-1:] in (b" ", b"\t"):
        coded = coded[:-1] + b"=%02X" % coded[-1]
    pieces: list[bytes] = []
    while len(coded) > LINE_MAX:
        cut = LINE_MAX - 1  # room for the "=" at its end
        if b"=" in coded[cut - 2 : cut]:
            cut = coded.index(b"=", cut - 2)
        pieces.append(coded[:cut] + b"=")
        coded = coded[cut:]
    return b"\r\n".join((*pieces, coded))


def _base64(octets: bytes) -> bytes:
    return base64.encodebytes(octets).replace(b"\n", b"\r\n")
