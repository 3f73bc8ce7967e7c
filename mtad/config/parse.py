"""One setting's text or TOML value -> its parsed form. Pure; every failure is BadValue."""

import base64
import ipaddress
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

from mtad.config.tree import Address, Rate, Target
from mtad.mail import address as addresses

SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
OCTETS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
PORTS = {"smtp": 25, "smtps": 465, "lmtp": 24}
DURATION_MAX_S = 366 * 86400.0
COUNT_MAX = 1_000_000

_SIGNS = "%u is the local part, %d the domain, %% a percent sign"
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)\s*([smhdw]?)")
_SIZE = re.compile(r"(\d{1,12})\s*([KMG]?)(?:I?B)?")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
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


def domain(value: Any) -> str:
    """A domain name as A-labels, lower case, without a trailing dot."""
    given = text(value).strip().removesuffix(".")
    if not given:
        raise BadValue("is empty", 'for example "example.org"')
    try:
        ascii_name = addresses.to_ascii(given).lower()
    except addresses.AddressError as error:
        raise BadValue(f"{given!r} is no domain name: {error}") from None
    labels = ascii_name.split(".")
    if len(ascii_name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise BadValue(f"{given!r} is no domain name", "letters, digits and hyphens between dots")
    if labels[-1].isdigit():
        raise BadValue(f"{given!r} is no domain name but a number or an IP address")
    return ascii_name


def domain_glob(value: Any) -> str:
    """A pattern over recipient domains: a name in which * and ? stand for anything."""
    given = text(value).strip().lower()
    if not given:
        raise BadValue("is empty", '"*" means all domains')
    if any(character in "*?" for character in given):
        if re.fullmatch(r"[a-z0-9_.*?-]+", given) is None:
            raise BadValue(f"{given!r} is no pattern", 'for example "*.lan.example" or "*"')
        return given
    return domain(given)


def host_pattern(value: Any) -> str:
    """A name, or "*." and a name: any one label below it."""
    given = text(value).strip()
    return f"*.{domain(given[2:])}" if given.startswith("*.") else domain(given)


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


def sender_glob(value: Any) -> str:
    """A pattern over senders: an address, "@domain", a glob, or "<>", the null sender; in the form that is compared."""
    given = text(value).strip()
    if given == "<>":
        return given
    if given.startswith("@"):
        return f"@{domain_glob(given[1:])}"
    if any(character in "*?" for character in given):
        return given.lower()
    if "@" not in given:
        raise BadValue(f"{given!r} is no sender", '"alice@example.org" "@example.org" "*@*.example.org" "<>"')
    return addresses.fold(optional_address(given))


def user_glob(value: Any) -> str:
    given = text(value).strip().lower()
    if not given:
        raise BadValue("is empty", '"alice@example.org", or "*@example.org"')
    return given


def ip(value: Any) -> str:
    """An IP address of this host."""
    given = text(value).strip()
    try:
        return str(ipaddress.ip_address(given))
    except ValueError:
        raise BadValue(f"{given!r} is no IP address", '"192.0.2.7" or "2001:db8::7"') from None


def word(value: Any) -> str:
    """One word of a command."""
    given = text(value)
    for sign in re.findall(r"%.?", given):
        if sign not in ("%u", "%d", "%%"):
            raise BadValue(f"{given!r}: unknown sign {sign!r}", _SIGNS)
    return given


def host_port(value: Any, default: int = 0) -> Address:
    """ "127.0.0.1:2525" or "[::1]:25"; a name is taken as it is. Without a default the port must be there."""
    given = text(value).strip()
    hint = 'host and port: "127.0.0.1:2525" "[::1]:2525"'
    match = re.fullmatch(r"\[([0-9A-Fa-f:.%\w]+)\](?::(\d{1,5}))?|([^:\[\]\s/@]*)(?::(\d{1,5}))?", given)
    if match is None:
        if given.count(":") > 1:
            hint = 'an IPv6 address needs brackets: "[::1]:25"'
        raise BadValue(f"{given!r} is no address", hint)
    host, number = match[1] or match[3] or "", match[2] or match[4] or ""
    if match[1]:
        try:
            host = str(ipaddress.IPv6Address(host))
        except ValueError:
            raise BadValue(f"{host!r} is no IPv6 address", hint) from None
    elif re.fullmatch(r"[\d.]+", host):
        try:
            host = str(ipaddress.IPv4Address(host))
        except ValueError:
            raise BadValue(f"{host!r} is no IPv4 address", hint) from None
    elif host:
        host = domain(host)
    if not host:
        raise BadValue(f"{given!r} names no host", hint)
    if not number and not default:
        raise BadValue(f"{given!r} names no port", hint)
    return Address(host, port(number) if number else default)


def listener(value: Any) -> Address:
    """As host_port; port 0 lets the system choose one."""
    given = text(value).strip()
    if given.startswith("*:"):
        raise BadValue(f"{given!r} is no address", 'all addresses are "0.0.0.0:25" and "[::]:25"')
    if given.endswith(":0"):
        return Address(host_port(given[:-1] + "1").host, 0)
    return host_port(given)


def optional_listener(value: Any) -> Address | None:
    return None if value == "" else listener(value)


def dns_server(value: Any) -> Address:
    address = host_port(value, 53)
    try:
        ipaddress.ip_address(address.host)
    except ValueError:
        raise BadValue(f"{address.host!r} is a name; a DNS server is given by its address") from None
    return address


def optional_dns_server(value: Any) -> Address | None:
    return None if value == "" else dns_server(value)


def optional_domain(value: Any) -> str:
    return "" if value == "" else domain(value)


def network(value: Any) -> str:
    given = text(value).strip()
    try:
        return str(ipaddress.ip_network(given))
    except ValueError:
        pass
    try:
        loose = ipaddress.ip_network(given, strict=False)
    except ValueError:
        raise BadValue(f"{given!r} is no network", 'for example "192.0.2.0/24" or "::1"') from None
    raise BadValue(f"{given!r} has bits set behind its prefix", f'did you mean "{loose}"?')


def target(value: Any) -> Target:
    """Where a route leads. Paths stay as they are; the loader makes nothing absolute here."""
    given = text(value).strip()
    scheme, colon, rest = given.partition(":")
    scheme = scheme.lower()
    hint = "smtp:// smtps:// lmtp:// lmtp:///path.sock maildir:///path/%u pipe: mx: reject: discard:"
    match scheme if colon else "":
        case "reject":
            return Target("reject", text=rest.strip().removeprefix("//"))
        case "discard" | "mx" | "pipe" if rest.strip("/ ") == "":
            return Target(scheme)
        case "pipe":
            raise BadValue("a pipe takes no words here", 'to = "pipe:" and command = ["/usr/bin/program", "%u@%d"]')
        case "maildir":
            return Target("maildir", path=_maildir(rest))
        case "smtp" | "smtps" | "lmtp":
            return _network_target(scheme, given, rest)
        case _:
            raise BadValue(f"{given!r} is no target", hint)


def _maildir(rest: str) -> str:
    path = rest.removeprefix("//") if rest.startswith("//") else ""  # as it is: its % are not those of URLs
    if not path.startswith("/"):
        raise BadValue("a maildir needs an absolute path", "maildir:///var/mail/%d/%u")
    return check_pattern(path.rstrip("/"))


def check_pattern(path: str) -> str:
    """A maildir pattern knows %u (local part), %d (domain) and %%; without %u, all mail shares one mailbox."""
    for sign in re.findall(r"%.?", path):
        if sign not in ("%u", "%d", "%%"):
            raise BadValue(f"{path!r}: unknown sign {sign!r}", _SIGNS)
    if ".." in path.split("/"):
        raise BadValue(f"{path!r} climbs with ..")
    return path


def _network_target(scheme: str, given: str, rest: str) -> Target:
    if not rest.startswith("//"):
        raise BadValue(f"{given!r} is no target", f"{scheme}://host:port")
    if scheme == "lmtp" and rest.startswith("///"):
        path = unquote(urlsplit(rest).path)
        if len(path.encode()) > 107:
            raise BadValue(f"{path!r} is too long for a socket", "at most 107 octets")
        return Target("lmtp", path=path)
    authority = rest.removeprefix("//").rstrip("/")
    user, _, where = authority.rpartition("@")
    if ":" in user:
        raise BadValue("a password does not belong here", "keep the user name, and put the password into password_file")
    if not where:
        raise BadValue(f"{scheme}:// names no host", f"{scheme}://host:port")
    address = host_port(where, PORTS[scheme])
    return Target(scheme, host=address.host, port=address.port, user=unquote(user))


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


def optional_address(value: Any) -> str:
    given = text(value).strip()
    if not given:
        return ""
    try:
        return addresses.parse(given, utf8=True)
    except addresses.AddressError as error:
        raise BadValue(f"{given!r} is no mail address: {error}", 'for example "alice@example.org"') from None


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
