"""Tag lists (RFC 6376 3.2): the form of signatures, of key records and of ARC's fields."""

import re
from collections.abc import Mapping

_TAG = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_SECONDS = re.compile(r"[0-9]{1,12}")


def tag_list(text: str) -> dict[str, str] | None:
    """Name and value of each tag, in order; blanks around values are gone, those within are kept. None where it is no
    such list, or has a tag twice."""
    found: dict[str, str] = {}
    parts = text.split(";")
    if not parts[-1].strip():
        parts.pop()
    for part in parts:
        name, equals, value = part.partition("=")
        name = name.strip()
        if not equals or not _TAG.fullmatch(name) or name in found:
            return None
        found[name] = value.strip()
    return found


def first_tag(tags: Mapping[str, str]) -> str:
    """The name of the first tag, which v= has to be wherever it stands in a key record (3.6.1)."""
    return next(iter(tags), "")


def expired(tags: Mapping[str, str], now: float) -> bool:
    """Whether the time of a signature is over (x=, 3.5). ValueError says what is wrong with its t= and x=."""
    if any(_SECONDS.fullmatch(tags[name]) is None for name in ("t", "x") if name in tags):
        raise ValueError("malformed t= or x=")
    if "x" not in tags:
        return False
    if int(tags["x"]) < int(tags.get("t", "0")):
        raise ValueError("x= is before t=")
    return int(tags["x"]) < now
