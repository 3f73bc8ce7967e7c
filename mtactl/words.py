"""Values -> words: ages, moments, sizes, and the aligned pairs of a card. Everything remote is made safe here."""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mtad.mail.text import clean

Row = Mapping[str, Any]

_TITLES = {"uptime_s": "uptime", "size_bytes": "size"}
SHUT_SHOWN = 5
_SENTENCES = {"notes", "problems"}


def age(seconds: float) -> str:
    """ "45s" "12m" "3h" "6d"."""
    seconds = max(seconds, 0.0)
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length * (2 if unit == "d" else 1):
            return f"{int(seconds // length)}{unit}"
    return f"{int(seconds)}s"


def moment(at: float | None) -> str:
    """Local time, "2026-11-22 08:05"; "-" for none."""
    return "-" if at is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(at))


def shut(waiting: Sequence[Row]) -> str:
    """Where some of it has to wait nevertheless: the first few."""
    said = []
    for one in waiting[:SHUT_SHOWN]:
        until = f" until {moment(one['until'])}" if one["until"] else ", which is suspended"
        said.append(
            f"; {one['recipients']} {'waits' if one['recipients'] == 1 else 'wait'} for {clean(one['site'])}{until}"
        )
    more = f"; and more for {len(waiting) - SHUT_SHOWN} other sites" if len(waiting) > SHUT_SHOWN else ""
    return "".join(said) + more


def size(octets: int) -> str:
    """ "812" "4.1k" "12M"."""
    if octets < 1024:
        return str(octets)
    for unit in "kMGTPE":
        octets_f = octets / 1024
        if octets_f < 9.95:
            return f"{octets_f:.1f}{unit}"
        if octets_f < 1023.5 or unit == "E":
            return f"{octets_f:.0f}{unit}"
        octets = int(octets_f)
    return str(octets)


def sparkline(counts: Sequence[int]) -> str:
    """A character for each: a blank for nothing, and eight heights up to the most. "#" where there are no blocks."""
    blocks = " ▁▂▃▄▅▆▇█" if "utf" in (sys.stdout.encoding or "").lower() else " .......#"
    most = max(counts, default=0)
    return "".join(blocks[-(-count * 8 // most)] if count else " " for count in counts)


def plain(value: object) -> str:
    match value:
        case None | "":
            return "-"
        case bool():
            return "yes" if value else "no"
        case list():
            return ", ".join(plain(one) for one in value) or "-"
        case dict():
            return " ".join(plain(one) for one in value.values())
        case _:
            return str(value)


def lines(title: str, values: Sequence[str]) -> list[tuple[str, str]]:
    return list(zip([title] + [""] * (len(values) - 1), values, strict=True)) if values else []


def pairs(them: Sequence[tuple[str, str]], indent: str = "") -> Iterator[str]:
    width = max((len(name) for name, _ in them), default=0)
    for name, value in them:
        yield f"{indent}{clean(name)}{':' if name else ' '}{'':<{width - len(name)}} {clean(value, 2000)}"


def facts(name: str, value: object, now: float) -> list[tuple[str, str]]:
    """What a card says of a member: sentences have a line each."""
    title = _TITLES.get(name, name)
    if name in _SENTENCES and isinstance(value, list) and value:
        return list(zip([title] + [""] * (len(value) - 1), map(str, value), strict=True))
    return [(title, fact(name, value, now))]


def fact(name: str, value: object, now: float) -> str:
    match name, value:
        case ("uptime_s", int() | float() as seconds):
            return age(seconds)
        case ("oldest", int() as at):
            return f"{moment(at)} ({age(now - at)})"
        case ("size_bytes", int() as octets):
            return size(octets)
        case ("domains", list() as many) if many and isinstance(many[0], dict):
            return ", ".join(f"{one['domain']} {one['recipients']}" for one in many)
        case _:
            return plain(value)
