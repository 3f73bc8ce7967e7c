"""A DMARC record as data (RFC 9989 4.7, 4.8). Pure."""

import re
from dataclasses import dataclass
from typing import Literal

Policy = Literal["none", "quarantine", "reject"]

RECORD_MAX = 8192
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^\s,!]+")
_POLICIES: dict[str, Policy] = {"none": "none", "quarantine": "quarantine", "reject": "reject"}


@dataclass(frozen=True, slots=True)
class Record:
    """`invalid` names the policy tags whose values are none: p, sp, np. `tags` is everything as it was written."""

    text: str
    p: Policy = "none"
    sp: Policy | None = None
    np: Policy | None = None
    testing: bool = False  # t=y
    psd: Literal["y", "n", "u"] = "u"
    strict_dkim: bool = False
    strict_spf: bool = False
    rua: tuple[str, ...] = ()  # URIs that could be one
    ruf: tuple[str, ...] = ()
    invalid: tuple[str, ...] = ()
    tags: tuple[tuple[str, str], ...] = ()

    @property
    def usable(self) -> bool:
        """A record with an invalid policy counts as p=none where it names an address for reports, else not at all."""
        return not self.invalid or bool(self.rua)


def parse(text: str) -> Record | None:
    """The record, or None when it is not one: it must begin with v=DMARC1, in this case (RFC 9989 4.8)."""
    tags: dict[str, str] = {}
    if len(text) > RECORD_MAX:
        return None
    for n, part in enumerate(text.split(";")):
        name, equals, value = (word.strip(" \t") for word in part.partition("="))
        if n == 0 and (name != "v" or value != "DMARC1"):
            return None
        if equals and name:
            tags.setdefault(name.lower(), value)
    lower = {name: value.lower() for name, value in tags.items()}
    invalid = tuple(name for name in ("p", "sp", "np") if name in lower and lower[name] not in _POLICIES)
    psd = lower.get("psd", "u")
    return Record(
        text,
        "none" if invalid else _POLICIES.get(lower.get("p", "none"), "none"),
        None if invalid else _POLICIES.get(lower.get("sp", "")),
        None if invalid else _POLICIES.get(lower.get("np", "")),
        lower.get("t") == "y",
        "y" if psd == "y" else "n" if psd == "n" else "u",
        lower.get("adkim") == "s",
        lower.get("aspf") == "s",
        _uris(tags.get("rua", "")),
        _uris(tags.get("ruf", "")),
        invalid,
        tuple(tags.items()),
    )


def _uris(text: str) -> tuple[str, ...]:
    """What follows a "!" is obsolete and ignored (RFC 9989 4.7)."""
    found = (part.strip(" \t").partition("!")[0] for part in text.split(","))
    return tuple(uri for uri in found if _URI.fullmatch(uri))
