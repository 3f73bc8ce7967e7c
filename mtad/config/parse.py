"""One setting's text or TOML value -> its parsed form: words, numbers, durations, sizes, secrets, lists of them.

Pure; every failure is BadValue. Who and where: mtad.config.names; where a route leads: mtad.config.routing.
"""

import base64
import re
from collections.abc import Callable
from typing import Any

from mtad.config.tree import Rate

SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
OCTETS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
DURATION_MAX_S = 366 * 86400.0
COUNT_MAX = 1_000_000

_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)\s*([smhdw]?)")
_SIZE = re.compile(r"(\d{1,12})\s*([KMG]?)(?:I?B)?")
_PLACEHOLDER = re.compile(r"<.*>|change[-_ ]?me.*|example.*|secret|password|token|your[-_ ].*|x{3,}|\*+", re.IGNORECASE)


class BadValue(ValueError):  # noqa: N818
    """The value cannot be taken: what is wrong, and what to write instead."""

    def __init__(self, text: str, hint: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.hint = hint


def text(value: Any) -> str:
    if not isinstance(value, str):
        raise BadValue(f"{_kind(value)} where text is expected", 'write it in quotes: "..."')
    if any(ord(character) < 32 or ord(character) == 127 for character in value):
        raise BadValue("holds control characters")
    return value


def flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in {"true", "yes", "on", "1", "false", "no", "off", "0"}:
        return value.lower() in {"true", "yes", "on", "1"}
    raise BadValue(f"{_kind(value)} where true or false is expected")


def count(value: Any) -> int:
    """A whole number from 1 to COUNT_MAX."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 12:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadValue(f"{_kind(value)} where a whole number is expected")
    if not 1 <= value <= COUNT_MAX:
        raise BadValue(f"{value} is out of range", f"1 to {COUNT_MAX}")
    return value


def number(value: Any) -> int:
    """A whole number from 0 to COUNT_MAX."""
    return 0 if value in (0, "0") and not isinstance(value, bool) else count(value)


def rate(value: Any) -> Rate:
    """ "20/10m": so many within a window; 0 is no limit."""
    if value in (0, "0") and not isinstance(value, bool):
        return Rate()
    many, slash, window = value.partition("/") if isinstance(value, str) else ("", "", "")
    if not slash:
        raise BadValue(f"{_kind(value)} where a rate is expected", '"20/10m", or 0 for no limit')
    return Rate(count(many.strip()), positive_duration(window if window[:1].isdigit() else f"1{window}"))


def factor(value: Any) -> float:
    """A number from 1 to 10: what something grows by."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadValue(f"{_kind(value)} where a number is expected", "1.5 is half as much again")
    if not 1 <= value <= 10:
        raise BadValue(f"{value} is out of range", "1 to 10")
    return float(value)


def port(value: Any) -> int:
    number = count(value)
    if number > 65535:
        raise BadValue(f"{number} is not a port", "1 to 65535")
    return number


def duration(value: Any) -> float:
    """Seconds. "90s" "15m" "2h" "3d" "1w"; a bare number is refused but for 0."""
    if not isinstance(value, bool) and value == 0:
        return 0.0
    hint = 'a number with a unit: "90s" "15m" "2h" "3d"'
    if not isinstance(value, str):
        raise BadValue(f"{_kind(value)} where a time is expected", hint)
    match = _DURATION.fullmatch(value.strip().lower())
    if match is None or (not match[2] and float(match[1]) != 0):
        raise BadValue(f"{value!r} is no time", hint)
    seconds = float(match[1]) * SECONDS[match[2] or "s"]
    if seconds > DURATION_MAX_S:
        raise BadValue(f"{value!r} is longer than a year")
    return seconds


def positive_duration(value: Any) -> float:
    seconds = duration(value)
    if seconds <= 0:
        raise BadValue("must be more than 0")
    return seconds


def bare_duration(value: Any) -> float:
    """As positive_duration, but a bare number means seconds: how a container's variable is often written."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = f"{value}s"
    if isinstance(value, str) and re.fullmatch(r"\d+(\.\d+)?", value.strip()):
        value = f"{value.strip()}s"
    return positive_duration(value)


def size(value: Any) -> int:
    """Octets. 1000, "4k", "50M", "1G"; k, M, G are powers of 1024."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    match = _SIZE.fullmatch(value.strip().upper()) if isinstance(value, str) else None
    if match is None:
        raise BadValue(f"{value!r} is no size", 'octets, or a number with a unit: "500k" "50M" "1G"')
    octets = int(match[1]) * OCTETS[match[2]]
    if not 1024 <= octets <= 1 << 40:
        raise BadValue(f"{value!r} is out of range", "1k to 1024G")
    return octets


def optional_size(value: Any) -> int:
    """As size; 0 is none."""
    return 0 if value in (0, "0") and not isinstance(value, bool) else size(value)


def line_length(value: Any) -> int:
    """Octets of a line; 0 is no limit. Less than 998 would refuse what every mailer may send (RFC 5321 4.5.3.1.6)."""
    if isinstance(value, int) and not isinstance(value, bool) and (value == 0 or 998 <= value < 1024):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and value < 998:
        raise BadValue(f"{value!r} is too short", "998 or more, or 0 for no limit")
    return size(value)


def pin(value: Any) -> str:
    """A SHA-256 digest in hexadecimal; read in base64 and with colons too."""
    given = text(value).strip()
    bare = given.removeprefix("sha256:").replace(":", "")
    try:
        octets = bytes.fromhex(bare) if len(bare) == 64 else base64.b64decode(bare, validate=True)
    except ValueError:
        octets = b""
    if len(octets) != 32:
        hint = "openssl x509 -pubkey -noout -in cert.pem | openssl pkey -pubin -outform DER | sha256sum"
        raise BadValue(f"{given!r} is no SHA-256 digest", hint)
    return octets.hex()


def token(value: Any) -> str:
    """A secret that somebody made up on purpose: empty (off), or long and no placeholder."""
    given = text(value).strip()
    if not given:
        return ""
    hint = "make one: openssl rand -hex 32"
    if _PLACEHOLDER.fullmatch(given):
        raise BadValue("is a placeholder", hint)
    if len(given) < 16:
        raise BadValue("is shorter than 16 characters", hint)
    return given


def delimiter(value: Any) -> str:
    given = text(value)
    if len(given) > 1 or given in {"@", ".", '"', " "} or not given.isascii():
        raise BadValue(f"{given!r} cannot separate a sub-address", 'one character, as "+"; empty turns it off')
    return given


def one_of(*choices: str) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        given = text(value).strip().lower()
        if given not in choices:
            raise BadValue(f"{given!r} is unknown", "one of: " + ", ".join(choices))
        return given

    return parse


def several(parse: Callable[[Any], Any], *, required: bool = False) -> Callable[[Any], tuple[Any, ...]]:
    """A list of what `parse` takes, in order; a text is split at commas (variables)."""

    def parse_all(value: Any) -> tuple[Any, ...]:
        if isinstance(value, str):
            value = [part.strip() for part in value.split(",") if part.strip()]
        if not isinstance(value, list):
            raise BadValue(f"{_kind(value)} where a list is expected", '["...", "..."]')
        if required and not value:
            raise BadValue("is empty", "it needs at least one entry")
        if len(value) > 10_000:
            raise BadValue("has more than 10000 entries")
        return tuple(parse(entry) for entry in value)

    return parse_all


def _kind(value: Any) -> str:
    match value:
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return f"{value[:60]!r}"
        case list():
            return "a list"
        case dict():
            return "a table"
        case _:
            return "a date or time"
