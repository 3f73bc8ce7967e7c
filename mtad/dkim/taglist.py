"""Tag lists (RFC 6376 3.2): the form of signatures, of key records and of ARC's fields."""

import re

_TAG = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def tag_list(text: str) -> dict[str, str] | None:
    """Name and value of each tag; blanks around values are gone, those within are kept. None where it is no such list,
    or has a tag twice."""
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
