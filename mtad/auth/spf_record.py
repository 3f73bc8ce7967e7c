"""An SPF record as data, and its macros (RFC 7208 4.6, 5, 6, 7). Pure."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Literal

Qualifier = Literal["+", "-", "~", "?"]
Network = IPv4Network | IPv6Network
Ip = IPv4Address | IPv6Address

RECORD_MAX = 8192
TERMS_MAX = 500
NAME_MAX = 253

_TERM = re.compile(r"(?P<qualifier>[-+?~]?)(?P<name>[A-Za-z][A-Za-z0-9_.-]*)(?P<rest>.*)", re.DOTALL)
_MACRO = re.compile(r"%(?:\{([A-Za-z])([0-9]*)([rR]?)([.\-+,/_=]*)\}|([%_-]))")
_TOP_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?")
_CIDR = re.compile(r"(?P<spec>.*?)(?:/(?P<v4>[0-9]+))?(?://(?P<v6>[0-9]+))?", re.DOTALL)
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")

Macros = Callable[[str], str]
"""A macro letter in lower case -> its value."""


class BadRecord(ValueError):  # noqa: N818  (it names what was found)
    """The record is not as RFC 7208 has it: permerror. The words say where."""


@dataclass(frozen=True, slots=True)
class Mechanism:
    """One directive. `domain` is the domain-spec with its macros, "" = the domain that is checked."""

    text: str  # as it stands in the record
    qualifier: Qualifier
    name: str
    domain: str = ""
    v4_bits: int = 32
    v6_bits: int = 128
    network: Network | None = None  # of ip4 and ip6


@dataclass(frozen=True, slots=True)
class Record:
    mechanisms: tuple[Mechanism, ...]
    redirect: str = ""
    exp: str = ""


def is_spf(text: str) -> bool:
    """Whether a TXT record is of SPF's version 1 (RFC 7208 4.5)."""
    return text[:6].lower() == "v=spf1" and text[6:7] in ("", " ")


def parse(text: str) -> Record:
    """The record of a text for which `is_spf` holds. Raises BadRecord."""
    if not text.isascii() or len(text) > RECORD_MAX:
        raise BadRecord("the record is not ASCII" if not text.isascii() else "the record is too long")
    mechanisms: list[Mechanism] = []
    modifiers: dict[str, str] = {}
    terms = text[6:].split(" ")
    if len(terms) > TERMS_MAX:
        raise BadRecord(f"more than {TERMS_MAX} terms")
    for term in terms:
        if not term:
            continue
        found = _TERM.fullmatch(term)
        if found is None:
            raise BadRecord(f"{term!r} is no term")
        name, rest = found["name"].lower(), found["rest"]
        if rest.startswith("=") and not found["qualifier"]:
            _modifier(term, name, rest[1:], modifiers)
        else:
            qualifier: Qualifier = found["qualifier"] or "+"  # type: ignore[assignment]
            mechanisms.append(_mechanism(term, qualifier, name, rest))
    return Record(tuple(mechanisms), modifiers.get("redirect", ""), modifiers.get("exp", ""))


def _modifier(term: str, name: str, value: str, modifiers: dict[str, str]) -> None:
    if name in ("redirect", "exp"):
        if name in modifiers:
            raise BadRecord(f"{name}= stands twice")
        modifiers[name] = _domain_spec(term, value)
    else:
        _check_macros(term, value)


def _mechanism(term: str, qualifier: Qualifier, name: str, rest: str) -> Mechanism:
    match name:
        case "all":
            if rest:
                raise BadRecord(f"{term!r}: all takes nothing")
            return Mechanism(term, qualifier, name)
        case "include" | "exists":
            if not rest.startswith(":"):
                raise BadRecord(f"{term!r}: {name} needs a domain")
            return Mechanism(term, qualifier, name, _domain_spec(term, rest[1:]))
        case "ptr":
            domain = _domain_spec(term, rest[1:]) if rest.startswith(":") else ""
            if rest and not rest.startswith(":"):
                raise BadRecord(f"{term!r} is no mechanism")
            return Mechanism(term, qualifier, name, domain)
        case "a" | "mx":
            return _with_cidr(term, qualifier, name, rest)
        case "ip4" | "ip6":
            return Mechanism(term, qualifier, name, network=_network(term, name, rest))
        case _:
            raise BadRecord(f"{term!r} is no mechanism")


def _with_cidr(term: str, qualifier: Qualifier, name: str, rest: str) -> Mechanism:
    found = _CIDR.fullmatch(rest)
    assert found is not None  # it takes whatever it is given
    spec = found["spec"]
    if spec and not spec.startswith(":"):
        raise BadRecord(f"{term!r} is no mechanism")
    domain = _domain_spec(term, spec[1:]) if spec else ""
    return Mechanism(term, qualifier, name, domain, _bits(term, found["v4"], 32), _bits(term, found["v6"], 128))


def _bits(term: str, given: str | None, most: int) -> int:
    if given is None:
        return most
    if len(given) > 3 or int(given) > most or (len(given) > 1 and given.startswith("0")):
        raise BadRecord(f"{term!r}: /{given[:9]} is no length of a prefix")
    return int(given)


def _network(term: str, name: str, rest: str) -> Network:
    address, slash, bits = rest[1:].partition("/")
    if not rest.startswith(":") or "%" in address or (slash and not (bits.isascii() and bits.isdigit())):
        raise BadRecord(f"{term!r} is no network")
    length = _bits(term, bits if slash else None, 32 if name == "ip4" else 128)
    try:
        ip: Ip = IPv4Address(address) if name == "ip4" else IPv6Address(address)
        return IPv4Network((int(ip), length), False) if name == "ip4" else IPv6Network((int(ip), length), False)
    except ValueError:
        raise BadRecord(f"{term!r} is no network") from None


def _domain_spec(term: str, spec: str) -> str:
    """RFC 7208 7.1: ends in a macro, or in a dot and a top label that is not all digits."""
    _check_macros(term, spec)
    if not _ends_in_macro(spec) and not _top_label(spec):
        raise BadRecord(f"{term!r}: {spec!r} is no domain")
    return spec


def _ends_in_macro(spec: str) -> bool:
    return any(found.end() == len(spec) for found in _MACRO.finditer(spec))


def _top_label(spec: str) -> bool:
    """Whether it ends in a dot and a label that is not all digits."""
    _, dot, label = spec.removesuffix(".").rpartition(".")
    return bool(dot) and not label.isdigit() and _TOP_LABEL.fullmatch(label) is not None


def _check_macros(term: str, text: str, *, explaining: bool = False) -> None:
    at = 0
    for found in _MACRO.finditer(text):
        if "%" in text[at : found.start()]:
            break
        at = found.end()
        letter = (found[1] or "").lower()
        if letter and letter not in ("slodiphvcrt" if explaining else "slodiphv"):
            raise BadRecord(f"{term!r}: there is no macro %{{{letter}}} here")
        if found[2] and not int(found[2][:9]):
            raise BadRecord(f"{term!r}: a macro keeps no part")
    if "%" in text[at:]:
        raise BadRecord(f"{term!r}: a macro is not closed")
    if not all("!" <= char <= "~" or (explaining and char == " ") for char in text):
        raise BadRecord(f"{term!r} holds characters that do not belong there")


def letters(text: str) -> frozenset[str]:
    """The macro letters of a text, in lower case."""
    return frozenset(found[1].lower() for found in _MACRO.finditer(text) if found[1])


def expand(text: str, value: Mapping[str, str]) -> str:
    """A text that was checked, with the values of its macro letters (RFC 7208 7.3)."""

    def one(found: re.Match[str]) -> str:
        if found[5]:
            return {"%": "%", "_": " ", "-": "%20"}[found[5]]
        parts = re.split(f"[{re.escape(found[4] or '.')}]", value[found[1].lower()])
        if found[3]:
            parts.reverse()
        if found[2]:
            parts = parts[-int(found[2][:9]) :]
        joined = ".".join(parts)
        return _escaped(joined) if found[1].isupper() else joined

    return _MACRO.sub(one, text)


def expand_domain(spec: str, value: Mapping[str, str]) -> str:
    """A domain-spec as a name of at most NAME_MAX octets, cut from the left at a dot (RFC 7208 7.3)."""
    name = expand(spec, value).removesuffix(".")
    if len(name) <= NAME_MAX:
        return name
    dot = name.find(".", len(name) - NAME_MAX - 1)
    return name[dot + 1 :] if dot >= 0 else name[-NAME_MAX:]


def explanation(text: str, value: Mapping[str, str]) -> str:
    """The text of exp= with its macros; "" when it is not fit to be shown."""
    if len(text) > RECORD_MAX:
        return ""
    try:
        _check_macros("exp", text, explaining=True)
    except BadRecord:
        return ""
    return expand(text, value)


def _escaped(text: str) -> str:
    return "".join(
        char if char in _UNRESERVED else "".join(f"%{octet:02X}" for octet in char.encode("utf-8", "surrogateescape"))
        for char in text
    )
