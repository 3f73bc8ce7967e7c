"""The octets of DATA, both ways: find their end and undo dot-stuffing coming in, stuff dots going out.

The end of data is CRLF "." CRLF and nothing else (RFC 5321 4.1.1.4). What only looks like it to some servers (a bare
CR or LF next to a dot) neither ends the message nor is let through: the whole message is refused at its true end,
so it cannot be read in two ways further on.
"""

from mtad.mail.reply import Reply

_END = b"\r\n.\r\n"

BARE_NEWLINE = Reply(550, "5.6.11", "Message has a CR or LF that is not part of CRLF", stage="final")
NUL_OCTET = Reply(550, "5.6.11", "Message has a NUL octet", stage="final")
TOO_BIG = Reply(552, "5.3.4", "Message is too big", stage="final")


class DataDecoder:
    """Decodes one message, in chunks of any size; at most 4 octets are kept between calls.

    After `done`: `rest` is what followed the end (pipelined commands), and `refused` the reply to give instead of
    storing the message, or None. The same octets give the same result however they are cut into chunks.
    `size_max` limits the decoded octets; 0 = no limit. `size_bytes` counts them, also the ones not given out.
    """

    __slots__ = ("_bare", "_first", "_held", "_nul", "_size_max", "done", "refused", "rest", "size_bytes")

    def __init__(self, size_max: int = 0) -> None:
        self.done = False
        self.rest = b""
        self.refused: Reply | None = None
        self.size_bytes = 0
        self._size_max = size_max
        # The data begins at the start of a line: pretend that a CRLF came before it, and take it off again.
        self._held = b"\r\n"
        self._first = True
        self._bare = False
        self._nul = False

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
        return self._decode(data)

    def _decode(self, data: bytes) -> bytes:
        """`data` without a part of an end, so a CR at its end is not followed by LF."""
        crlf = data.count(b"\r\n")
        if data.count(b"\n") != crlf or data.count(b"\r") != crlf:
            self._bare = True
        if b"\0" in data:
            self._nul = True
        body = data.replace(b"\r\n.", b"\r\n")
        if self._first and body:
            self._first = False
            body = body[2:]
        self.size_bytes += len(body)
        too_big = 0 < self._size_max < self.size_bytes
        if not (self._bare or self._nul or too_big):
            return body
        if self.done:
            self.refused = BARE_NEWLINE if self._bare else NUL_OCTET if self._nul else TOO_BIG
        return b""


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
