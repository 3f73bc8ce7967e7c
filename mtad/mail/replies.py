"""What an SMTP or LMTP server answers: octets -> replies -> Reply, bounded, nothing on trust (RFC 5321 4.2)."""

import re
from collections.abc import Iterator, Sequence

from mtad.mail.reply import Reply
from mtad.mail.text import clean

LINE_MAX = 4096  # RFC 5321 4.5.3.1.5 asks for 512; real servers write more
REPLY_MAX = 65536
LINES_MAX = 256
TEXT_MAX = 1000  # of a reply that is kept, in characters

# The first four octets of a line: the code, and whether the reply ends with this line.
_HEADS = {b"%d%b" % (code, mark): (code, mark != b"-") for code in range(200, 600) for mark in (b" ", b"-", b"")}
_STATUS = re.compile(rb"([245])\.([0-9]{1,3})\.([0-9]{1,3})(?: |$)")


class Malformed(Exception):  # noqa: N818  (it is what the octets are)
    """Not a reply. The text says why and holds nothing of the peer's."""


class ReplyReader:
    """Octets cut anywhere -> whole replies as (code, lines without the code)."""

    def __init__(self) -> None:
        self._partial = b""  # of a line
        self._code = 0
        self._lines: list[bytes] = []
        self._size_bytes = 0

    @property
    def unfinished(self) -> bool:
        """A reply has begun: with a part of a line, or with lines that say that another one follows."""
        return bool(self._partial or self._lines)

    def feed(self, octets: bytes) -> Iterator[tuple[int, list[bytes]]]:
        """Each reply that is complete now; raises Malformed where the first fault is, after all that came before it."""
        if self._partial:
            octets = self._partial + octets
        start = 0
        while (end := octets.find(b"\n", start)) >= 0:
            line = octets[start:end].removesuffix(b"\r")
            start = end + 1
            head = _HEADS.get(line[:4])
            if head is None:
                raise Malformed("malformed reply")
            if len(line) > LINE_MAX:
                raise Malformed("reply line too long")
            code, last = head
            if last and not self._lines:
                yield code, [line[4:]]
                continue
            if self._lines and code != self._code:
                raise Malformed("reply with two codes")
            self._code = code
            self._lines.append(line[4:])
            if last:
                lines, self._lines, self._size_bytes = self._lines, [], 0
                yield code, lines
                continue
            self._size_bytes += len(line)
            if self._size_bytes > REPLY_MAX or len(self._lines) >= LINES_MAX:
                raise Malformed("reply too long")
        self._partial = octets[start:]
        if len(self._partial) > LINE_MAX:
            raise Malformed("reply line too long")


def peer_reply(code: int, lines: Sequence[bytes], host: str, stage: str) -> Reply:
    """The peer's words, made harmless. A status whose class is not the code's is not believed (RFC 2034 4)."""
    status = b""
    if found := _STATUS.match(lines[0]):
        said = found[0].rstrip()
        status = said if said[0] == 48 + code // 100 else b""
        lines = [line[len(said) :].lstrip() if line.startswith(said) else line for line in lines]
    text: list[str] = []
    room = TEXT_MAX
    for line in lines:
        if room <= 0:
            break
        text.append(clean(line.decode("utf-8", "replace"), room))
        room -= len(text[-1]) + 1
    return Reply(code, status.decode() or f"{code // 100}.0.0", "\n".join(text), host, stage)
