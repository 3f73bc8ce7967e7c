"""The octets of a mail: as they are, or made harmless for a terminal."""

from base64 import b64decode
from collections.abc import Iterable
from typing import TextIO

from mtactl.words import Row
from mtad.mail.text import clean

LINE_MAX = 4000


def write(rows: Iterable[Row], out: TextIO) -> None:
    octets = (b64decode(row["octets"]) for row in rows)
    if not out.isatty():
        out.flush()
        for part in octets:
            out.buffer.write(part)
        return
    pending = b""
    for part in octets:
        *lines, pending = (pending + part).split(b"\n")
        out.writelines(shown(line) for line in lines)
    if pending:
        out.write(shown(pending))


def shown(line: bytes) -> str:
    """A line of a mail with nothing in it that a terminal would obey."""
    text = line.removesuffix(b"\r").decode("utf-8", "backslashreplace").replace("\t", "    ")
    return clean(text, LINE_MAX) + "\n"
