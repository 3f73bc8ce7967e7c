"""The octets of a mail, both ways: DATA and BDAT coming in, dots stuffed going out.

The end of DATA is CRLF "." CRLF and nothing else (RFC 5321 4.1.1.4). What only looks like it to some servers (a bare
CR or LF next to a dot) neither ends the message nor is let through: the whole message is refused at its true end,
so it cannot be read in two ways further on. Or, where that is asked for, it is made CRLF, and ends nothing either.
BDAT counts its octets (RFC 3030); what is text there is held to the same rules, for it may go on as DATA.
"""

import re
from collections.abc import Iterable

from mtad.mail.reply import Reply

LINE_MAX = 998  # octets of a line that every server must take, without its CRLF (RFC 5321 4.5.3.1.6)

_END = b"\r\n.\r\n"
_BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n")

BARE_NEWLINE = Reply(550, "5.6.11", "Message has a CR or LF that is not part of CRLF", stage="final")
NUL_OCTET = Reply(550, "5.6.11", "Message has a NUL octet", stage="final")
TOO_BIG = Reply(552, "5.3.4", "Message is too big", stage="final")
LONG_LINE = Reply(500, "5.6.0", "Message has a line that is too long", stage="final")  # RFC 5321 4.5.3.1.10


class _Judge:
    """Looks at the octets of a message as they come, cut anywhere but within a CRLF. A limit of 0 is none."""

    __slots__ = ("_bad", "_line_max", "_long", "_run", "_size_max", "_text", "size_bytes")

    def __init__(self, size_max: int, line_max: int, *, text: bool = True) -> None:
        """`text`: CR and LF only come together, NUL not at all, and lines have a limit."""
        self.size_bytes = 0
        self._size_max = size_max
        self._line_max = line_max
        self._text = text
        self._bad: Reply | None = None
        self._long = False
        self._run = 0  # octets of the line that is not over yet

    def look(self, octets: bytes) -> bool:
        """Whether all is well so far."""
        self.size_bytes += len(octets)
        if self._text:
            crlf = octets.count(b"\r\n")
            if octets.count(b"\n") != crlf or octets.count(b"\r") != crlf:
                self._bad = BARE_NEWLINE
            elif b"\0" in octets and self._bad is None:
                self._bad = NUL_OCTET
            if self._line_max:
                self._measure(octets)
        return self._bad is None and not self._long and not 0 < self._size_max < self.size_bytes

    def verdict(self) -> Reply | None:
        """What is wrong with it, the worst first."""
        if self._bad is not None:
            return self._bad
        if 0 < self._size_max < self.size_bytes:
            return TOO_BIG
        return LONG_LINE if self._long or 0 < self._line_max < self._run else None

    def _measure(self, octets: bytes) -> None:
        longest = self._run + len(octets)
        last = octets.rfind(b"\n")
        if last < 0:
            self._run = longest
        else:
            self._run = len(octets) - 1 - last
            if longest > self._line_max:
                lines = octets.split(b"\n")
                longest += len(lines[0]) - len(octets)
                longest = max(longest, *map(len, lines[1:]))
        if longest > self._line_max + 1:  # one for the CR
            self._long = True


class DataDecoder:
    """Decodes one message, in chunks of any size; at most 4 octets are kept between calls.

    After `done`: `rest` is what followed the end (pipelined commands), and `refused` the reply to give instead of
    storing the message, or None. The same octets give the same result however they are cut into chunks.
    `size_max` limits the decoded octets and `line_max` those of a line; 0 = no limit. `normalize`: a CR or LF that is
    not part of CRLF becomes CRLF, and is no reason to refuse.
    """

    __slots__ = ("_first", "_held", "_judge", "_normalize", "done", "refused", "rest")

    def __init__(self, size_max: int = 0, line_max: int = 0, *, normalize: bool = False) -> None:
        self.done = False
        self.rest = b""
        self.refused: Reply | None = None
        self._judge = _Judge(size_max, line_max)
        self._normalize = normalize
        # The data begins at the start of a line: pretend that a CRLF came before it, and take it off again.
        self._held = b"\r\n"
        self._first = True

    @property
    def size_bytes(self) -> int:
        """Decoded octets so far, also the ones not given out."""
        return self._judge.size_bytes

    def feed(self, chunk: bytes) -> bytes:
        """The body octets that `chunk` completes; b"" once the message is known to be refused.

        ValueError after `done`: what came later is not data.
        """
        if self.done:
            raise ValueError("the data has ended")
        data = self._held + chunk if self._held else chunk
        end = data.find(_END)
        if end >= 0:
            self.done = True
            self.rest = data[end + 5 :]
            self._held = b""
            data = data[: end + 2]
        else:
            held = _partial_end(data)
            self._held = data[len(data) - held :]
            if held:
                data = data[:-held]
        body = data.replace(b"\r\n.", b"\r\n")
        if self._first and body:
            self._first = False
            body = body[2:]
        if self._normalize:  # after the dots: a sender stuffs those behind CRLF, and no others
            body = _BARE.sub(b"\r\n", body)
        if self._judge.look(body):
            return body
        if self.done:
            self.refused = self._judge.verdict()
        return b""


class ChunkDecoder:
    """The chunks of one message, each announced by `expect` (BDAT, RFC 3030) and then fed until `done`.

    At the end of a chunk: `rest` is what followed it, and `refused` the reply to give in place of a success, after
    which no more must be fed. The text of a message is held to the rules of DATA, `normalize` as there; `binary` only
    to the size.
    """

    __slots__ = ("_held", "_judge", "_left", "_normalize", "_text", "last", "refused", "rest")

    def __init__(self, size_max: int = 0, line_max: int = 0, *, binary: bool = False, normalize: bool = False) -> None:
        self.last = False  # the chunk that ends the message
        self.rest = b""
        self.refused: Reply | None = None
        self._left = 0
        self._held = b""  # a CR whose LF may begin the next octets
        self._text = not binary
        self._normalize = normalize and not binary
        self._judge = _Judge(size_max, line_max, text=self._text)

    @property
    def done(self) -> bool:
        """The chunk is complete."""
        return self._left == 0

    @property
    def size_bytes(self) -> int:
        return self._judge.size_bytes

    def expect(self, octets: int, *, last: bool) -> None:
        """The next chunk. One of no octets is to be fed b""."""
        self._left = octets
        self.last = last

    def feed(self, chunk: bytes) -> bytes:
        """The octets of the message among these."""
        data, self.rest = chunk[: self._left], chunk[self._left :]
        self._left -= len(data)
        if self._text:
            data = self._held + data if self._held else data
            ends = self.last and self._left == 0
            self._held = b"\r" if data.endswith(b"\r") and not ends else b""
            if self._held:
                data = data[:-1]
            if self._normalize:
                data = _BARE.sub(b"\r\n", data)
        good = self._judge.look(data)
        if self._left == 0 and (self.last or not good):
            self.refused = self._judge.verdict()
        return data if good else b""


def _partial_end(data: bytes) -> int:
    """How many octets at the end of `data` may be the beginning of the end."""
    for size in (4, 3, 2, 1):
        if data.endswith(_END[:size]):
            return size
    return 0


def dot_stuff(octets: bytes) -> bytes:
    """A whole message with the dots at line starts doubled (RFC 5321 4.5.2). `end_of_data` comes after it."""
    stuffed = octets.replace(b"\r\n.", b"\r\n..")
    return b"." + stuffed if stuffed.startswith(b".") else stuffed


def end_of_data(octets: bytes) -> bytes:
    """What ends a message whose last octets are `octets`: the dot line, after a CRLF where it is missing."""
    return b".\r\n" if not octets or octets.endswith(b"\r\n") else b"\r\n.\r\n"


class DotStuffer:
    """`dot_stuff` for a message that comes in chunks of any size; `finish` ends it."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last = b"\r\n"  # the last two octets of the message so far

    def feed(self, chunk: bytes) -> bytes:
        if not chunk:
            return b""
        stuffed = chunk.replace(b"\r\n.", b"\r\n..")
        # Only a line break that began in an earlier chunk is not seen above.
        if self._last == b"\r\n" and chunk.startswith(b"."):
            stuffed = b"." + stuffed
        elif self._last.endswith(b"\r") and chunk.startswith(b"\n."):
            stuffed = b"\n." + stuffed[1:]
        self._last = (self._last + chunk[-2:])[-2:]
        return stuffed

    def finish(self) -> bytes:
        """The end of data."""
        return end_of_data(self._last)


def is_text(chunks: Iterable[bytes]) -> bool:
    """Whether DATA can carry it as it is: lines of at most 998 octets, CR and LF only together, no NUL."""
    decoder = ChunkDecoder(line_max=LINE_MAX)
    for chunk in chunks:
        decoder.expect(len(chunk), last=False)
        decoder.feed(chunk)
    decoder.expect(0, last=True)
    decoder.feed(b"")
    return decoder.refused is None
