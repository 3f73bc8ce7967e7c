"""Operator's values: text -> its parsed form. Pure, and light: it is on the start-up path of mtactl."""

from binascii import a2b_base64

TEXT_MAX = 1000
PATH_MAX = 4096
ITEMS_MAX = 50_000
COUNT_MAX = 1_000_000_000
MOMENT_MIN, MOMENT_MAX = 1_000_000_000, 32_503_680_000  # 2001 to 3000

STATES = ("active", "deferred", "held", "trashed", "ready", "done", "failed")

GROUPS = ("error", "domain", "user", "sender", "ip")

EVENTS = (
    "accepted",
    "delivered",
    "deferred",
    "failed",
    "expired",
    "report",
    "refused",
    "sign-in",
    "sign-in-failed",
    "blocked",
    "tls",
    "site",
    "suppressed",
    "dkim",
    "operator",
    "daemon",
    "warning",
    "error",
)
"""Kinds of events: those of mtad.mail.event."""

LINE_MAX = 4096
KEY_FILE_MAX = 32_768
OCTETS_MAX = 512 * 1024
DEFAULT = -1
"""What `quota` makes of "default"."""

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_OCTETS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_ID_LETTERS = frozenset("0123456789abcdefghjkmnpqrstvwxyz")  # Crockford's base32
_DIGITS_MAX = 9


class BadValue(ValueError):  # noqa: N818  (it names what was found)
    """The text is not of that kind. The words are for the operator."""


def _number(digits: str) -> int | None:
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= _DIGITS_MAX else None


def text(given: object, limit: int = TEXT_MAX) -> str:
    """Words on one line: not empty, no control characters, no lone surrogates, at most `limit` characters."""
    if not isinstance(given, str):
        raise BadValue("is not text")
    if not given.strip():
        raise BadValue("is empty")
    if len(given) > limit:
        raise BadValue(f"is longer than {limit} characters")
    if any(char < " " or "\x7f" <= char <= "\x9f" or "\ud800" <= char <= "\udfff" for char in given):
        raise BadValue("holds control characters or is not UTF-8")
    return given


def flag(given: object) -> bool:
    if not isinstance(given, bool):
        raise BadValue("is neither true nor false")
    return given


def count(given: object) -> int:
    """A whole number from 1 to COUNT_MAX: a limit of 0 could be read as no limit."""
    if isinstance(given, bool) or not isinstance(given, int):
        raise BadValue("is not a whole number")
    if not 1 <= given <= COUNT_MAX:
        raise BadValue(f"is not between 1 and {COUNT_MAX}")
    return given


def quota(given: object) -> int:
    """A number from 0 (any number) to COUNT_MAX, or "default", which is DEFAULT. Written as text."""
    words = text(given, 20).strip().lower()
    if words == "default":
        return DEFAULT
    number = _number(words)
    if number is None or number > COUNT_MAX:
        raise BadValue('is no limit: write a number, 0 for any number, or "default"')
    return number


def fingerprint(given: object) -> str:
    """SHA-256 in hex, in any case, with or without colons; in lower case without them."""
    words = text(given, 200).strip().replace(":", "").lower()
    if len(words) != 64 or not set(words) <= set("0123456789abcdef"):
        raise BadValue("is not a SHA-256 fingerprint: 64 hexadecimal digits")
    return words


def line(given: object) -> tuple[int, str]:
    """A line of a file after its number and a blank: "12 alice:{SSHA}..."."""
    number, blank, rest = text(given, LINE_MAX).partition(" ")
    counted = _number(number)
    if not blank or not counted:
        raise BadValue("is not a number, a blank, and a line")
    return counted, rest


def key_file(given: object) -> tuple[str, str]:
    """The name of a file, a blank, and the private key in PEM form that it holds."""
    if not isinstance(given, str) or len(given) > KEY_FILE_MAX:
        raise BadValue("is no private key in PEM form")
    name, blank, rest = given.partition(" ")
    if not blank or "-----BEGIN " not in rest or not all(char.isprintable() or char in "\r\n\t" for char in given):
        raise BadValue("is no private key in PEM form")
    return name, rest


def moment(given: object) -> int:
    """Unix seconds. Whoever types a time has a clock and a place: mtactl makes the number of it."""
    if isinstance(given, bool) or not isinstance(given, int) or not MOMENT_MIN <= given <= MOMENT_MAX:
        raise BadValue("is not a moment, in seconds since 1970")
    return given


def duration(given: object) -> float:
    """Seconds. "90s" "15m" "2h" "3d" "1w" and sums as "1h30m"; a number without a unit is refused."""
    words = text(given).strip().lower()
    total, digits = 0, ""
    for char in words:
        if char in _SECONDS:
            number = _number(digits)
            if number is None:
                break
            total, digits = total + number * _SECONDS[char], ""
        else:
            digits += char
    else:
        if not digits:
            return float(total)
    raise BadValue('is not an age: write "90s", "15m", "2h" or "3d"')


def size(given: object) -> int:
    """Octets, "4k" is 4096; also a plain number."""
    words = text(given).strip().lower()
    bare = words.removesuffix("b").removesuffix("i") if words[-1:] == "b" else words
    unit = bare[-1:] if bare[-1:].isalpha() else ""
    number = _number(bare[: len(bare) - len(unit)])
    if number is None or unit not in _OCTETS:
        raise BadValue('is not a size: write "4096", "4k", "10M" or "1G"')
    return number * _OCTETS[unit]


def compare(given: object) -> tuple[str, int]:
    """A comparison with a count or size: ">4k" "<=3" "=0"; without a sign it means "=". The sign is one of < = >."""
    words = text(given).strip()
    sign = words[:2] if words[:2] in {">=", "<="} else words[:1] if words[:1] in {"<", "=", ">"} else ""
    try:
        number = size(words[len(sign) :])
    except BadValue:
        raise BadValue('is not a comparison: write ">4k", "<10M", ">=3" or "0"') from None
    if sign == ">=":
        return ">", number - 1
    if sign == "<=":
        return "<", number + 1
    return sign or "=", number


def octets(given: object) -> bytes:
    """Octets in base64, at most OCTETS_MAX of them."""
    if not isinstance(given, str) or len(given) > OCTETS_MAX * 4 // 3 + 4:
        raise BadValue("is not base64, or too long")
    try:
        return a2b_base64(given, strict_mode=True)
    except ValueError:
        raise BadValue("is not base64") from None


def identifier(given: object) -> str:
    """A queue id, a recipient's id ("<id>.2"), or the beginning of an id; in lower case."""
    words = text(given, 64).strip().lower()
    message, dot, n = words.partition(".")
    if not message or len(message) > 12 or not set(message) <= _ID_LETTERS or (dot and not _number(n)):
        raise BadValue("is not a queue id")
    return words


def domain(given: object) -> str:
    """A domain as somebody types it: in any case, A- or U-labels. Nothing in it can leave a directory."""
    words = text(given, 255).strip().removesuffix(".")
    if any(char in words for char in " /\\@:,;<>\"'%*?") or not all(words.split(".")) or words.startswith("-"):
        raise BadValue("is not a domain name")
    return words


def user(given: object) -> str:
    """A user's name: an address or a bare local part."""
    words = text(given, 320).strip()
    if any(char.isspace() for char in words):
        raise BadValue("is not a user name")
    return words


def path(given: object) -> str:
    words = text(given, PATH_MAX)
    if not words.startswith("/"):
        raise BadValue("is not an absolute path")
    return words
