"""The relaxed canonical forms of RFC 6376 3.4, in linear time whatever the blanks."""

import hashlib
from collections.abc import Callable
from functools import partial

from mtad.mail.digest import feed

_FLUSH = 32 * 1024  # held line ends are written in pieces of this many


class RelaxedBody:
    """The relaxed form (3.4.4) of a body that comes in chunks of any size, given piecewise to `write`. Flat memory.

    Lines end in CRLF; a body that does not end in one is taken as if it did, as it goes over the wire.
    """

    __slots__ = ("_ends", "_started", "_tail", "_write")

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._tail = b""  # what only the next octets decide: at most one blank and a CR
        self._ends = 0  # CRLFs not written yet: at the end of the body all but one are dropped
        self._started = False

    def update(self, chunk: bytes) -> None:
        """The next octets of the body."""
        text = collapse(self._tail + chunk).replace(b" \r\n", b"\r\n")
        cut = len(text)
        if text.endswith(b"\r"):
            cut -= 1
        if text.endswith(b" ", 0, cut):
            cut -= 1
        self._tail = text[cut:]
        if self._tail:
            text = text[:cut]
        solid = without_line_ends(text)
        ends = (len(text) - solid) // 2
        if solid:
            self._line_ends()
            self._write(text[:solid])
            self._started = True
            self._ends = ends
        else:
            self._ends += ends

    def finish(self) -> None:
        """The body ends here."""
        if self._tail.endswith(b"\r"):  # a lone CR is no line end
            self._line_ends()
            self._write(self._tail)
            self._started = True
        self._tail, self._ends = b"", 0
        if self._started:
            self._write(b"\r\n")

    def _line_ends(self) -> None:
        while self._ends:
            count = min(self._ends, _FLUSH)
            self._write(b"\r\n" * count)
            self._ends -= count


class BodyHash:
    """SHA-256 over the relaxed form of a body: what bh= holds."""

    __slots__ = ("_body", "_hash", "update")

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._body = RelaxedBody(partial(feed, self._hash))
        self.update = self._body.update
        """Takes the next octets of the body, in chunks of any size."""

    def digest(self) -> bytes:
        """The hash of the whole body. To be asked once, at the end."""
        self._body.finish()
        return self._hash.digest()


def relaxed_field(name: bytes, field: bytes) -> bytes:
    """A field in relaxed form (3.4.2): name in lower case, unfolded, runs of blanks as one, none around the value."""
    value = field.partition(b":")[2].rstrip(b"\r\n")
    if b"\n" in value:
        value = value.replace(b"\r\n", b"").replace(b"\n", b"")
    if b"\t" in value or b"  " in value:
        value = collapse(value)
    return b"%b:%b\r\n" % (name, value.strip(b" "))


def collapse(text: bytes) -> bytes:
    """Each run of blanks and tabs as one blank. Every turn halves the runs, so few turns suffice for any length."""
    if b"\t" in text:
        text = text.replace(b"\t", b" ")
    while b"  " in text:
        text = text.replace(b"  ", b" ")
    return text


def without_line_ends(text: bytes) -> int:
    """The length of `text` without the CRLFs at its end."""
    rest = len(text.rstrip(b"\r\n"))
    ends = len(text) - rest
    if not ends % 2 and text.endswith(b"\r\n" * (ends // 2)):
        return rest
    cut = len(text)  # a stray CR or LF among them
    while text.endswith(b"\r\n", 0, cut):
        cut -= 2
    return cut
