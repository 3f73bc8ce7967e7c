"""Mail text on its way from standard input to SMTP: line ends, the lone dot, dot-stuffing, the header block.

Pure, and the same result for any chunking.
"""

HELD_MAX = 4096  # carriage returns kept back for the next chunk; more of them are no line end


class Lines:
    """Octets with any line ends (LF, CRLF, CR CRLF) in; LF lines out. A stray CR becomes a space.

    With `dots`, a line that is exactly "." ends the input (sendmail without -i): `lone_dot` and `done` are then true,
    and what follows is ignored.
    """

    __slots__ = ("_dots", "_fresh", "_held", "done", "lone_dot")

    def __init__(self, dots: bool) -> None:
        self._dots = dots
        self._fresh = True  # at the start of a line
        self._held = b""  # carriage returns, or a dot at the start of a line: what they mean comes with the next octet
        self.done = False
        self.lone_dot = False

    def feed(self, chunk: bytes) -> bytes:
        """The next chunk, as LF lines; what may still be part of a line end stays here."""
        if self.done:
            return b""
        data = self._held + chunk
        keep = len(data.rstrip(b"\r"))
        if len(data) - keep > HELD_MAX:
            keep = len(data)
        if (
            self._dots
            and data[keep - 1 : keep] == b"."
            and (data[keep - 2 : keep - 1] == b"\n" or (keep == 1 and self._fresh))
        ):
            keep -= 1
        self._held = data[keep:]
        data = unix(data[:keep])
        if self._dots:
            end = 0 if self._fresh and data.startswith(b".\n") else data.find(b"\n.\n") + 1
            if end or (self._fresh and data.startswith(b".\n")):
                data = data[:end]
                self._held = b""
                self.done = self.lone_dot = True
        if data:
            self._fresh = data.endswith(b"\n")
        return data

    def end(self) -> bytes:
        """What completes the last line. Call it once, when the input ended."""
        lone_dot, self._held, self.done = self._held.startswith(b"."), b"", True
        return b"" if self._fresh or lone_dot else b"\n"


def unix(data: bytes) -> bytes:
    """CR* LF to LF, every other CR to a space. Linear for any input."""
    if b"\r" not in data:
        return data
    data = data.replace(b"\r\n", b"\n")
    if b"\r" not in data:
        return data
    lines = data.split(b"\n")
    last = lines.pop()
    data = b"".join([line.rstrip(b"\r") + b"\n" for line in lines]) + last
    return data.replace(b"\r", b" ")


class Wire:
    """LF lines in, dot-stuffed CRLF lines out (RFC 5321 4.5.2)."""

    __slots__ = ("_fresh",)

    def __init__(self) -> None:
        self._fresh = True

    def feed(self, text: bytes) -> bytes:
        if not text:
            return b""
        stuffed = text.replace(b"\n.", b"\n..")
        if self._fresh and text.startswith(b"."):
            stuffed = b"." + stuffed
        self._fresh = text.endswith(b"\n")
        return stuffed.replace(b"\n", b"\r\n")


def head_and_body(text: bytes) -> tuple[list[bytes], bytes, bool]:
    """The header fields (folded, each ending in LF), the text after the header, and whether the header ended in `text`.

    "From " and ">From " lines before the first field are dropped. The header ends at an empty line, which goes, or
    before the first line that is no field: a mail without header fields is all body.
    """
    at = 0
    while text.startswith(b"From ", _after_marks(text, at)):
        line = at
        at = text.find(b"\n", line) + 1
        if _is_field(text[line : at or len(text)]):  # "From : a@b.test" (RFC 5322 4.5)
            at = line
            break
        if not at:
            return [], b"", False
    fields: list[bytes] = []
    start = at
    while at < len(text):
        if text.startswith(b"\n", at):
            if at > start:
                fields.append(text[start:at])
            return fields, text[at + 1 :], True
        following = text.find(b"\n", at) + 1 or len(text)
        if text[at : at + 1] in b" \t" and at > start:
            at = following
            continue
        if at > start:
            fields.append(text[start:at])
            start = at
        if not _is_field(text[at:following]):
            return fields, text[at:], True
        at = following
    if at > start:
        fields.append(text[start:at])
    return fields, b"", False


def _after_marks(text: bytes, at: int) -> int:
    while text.startswith(b">", at):
        at += 1
    return at


def _is_field(line: bytes) -> bool:
    """A field begins with a name of visible ASCII and a colon (RFC 5322 2.2, 4.5). "http://" is no field."""
    name, colon, value = line.partition(b":")
    name = name.rstrip(b" \t")
    if not colon or not name or value.startswith(b"//"):
        return False
    return name.isascii() and b" " not in name and b"\t" not in name and name.decode("ascii").isprintable()


def field_name(field: bytes) -> bytes:
    """The name of a field, lower case."""
    return field[: field.find(b":")].rstrip(b" \t").lower()
