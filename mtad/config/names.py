"""Who and where in a setting: domains, hosts, addresses of mail and of the network, and the patterns over them.

Pure, as mtad.config.parse is; every failure is BadValue.
"""

import ipaddress
import re
from typing import Any

from mtad.config.parse import BadValue, port, text
from mtad.config.tree import Address
from mtad.mail import address as addresses

_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")


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


def optional_address(value: Any) -> str:
    given = text(value).strip()
    if not given:
        return ""
    try:
        return addresses.parse(given, utf8=True)
    except addresses.AddressError as error:
        raise BadValue(f"{given!r} is no mail address: {error}", 'for example "alice@example.org"') from None


def optional_domain(value: Any) -> str:
    return "" if value == "" else domain(value)


def ip(value: Any) -> str:
    """An IP address of this host."""
    given = text(value).strip()
    try:
        return str(ipaddress.ip_address(given))
    except ValueError:
        raise BadValue(f"{given!r} is no IP address", '"192.0.2.7" or "2001:db8::7"') from None


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
