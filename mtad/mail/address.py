"""Mail addresses as RFC 5321 4.1.2 writes them, with RFC 6531 on request.

An address is a `str` in canonical form: "" (the null sender), "postmaster", or "local@domain" where the local part
keeps its case and is quoted only if it must be, and the domain is lower case. U-labels stay U-labels; `domain_of`
gives the A-label form. Everything that is not in the grammar is refused, controls first of all.
"""

import re
from functools import lru_cache

LOCAL_MAX = 64  # octets, RFC 5321 4.5.3.1.1
PATH_MAX = 256  # octets with the brackets, RFC 5321 4.5.3.1.3
DOMAIN_MAX = 253  # octets of the A-label form: the 255 of RFC 5321 4.5.3.1.2 less what DNS adds
_LABEL_MAX = 63

_ATEXT = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~\-"
# What RFC 6531 adds, without what can lie to a reader or break a line: C1, bidi controls, separators, surrogates.
_WIDE = (
    r"\u00a0-\u200d\u2010-\u2027\u202f-\u205f\u2070-\ud7ff\ue000-\ufdcf\ufdf0-\ufefe\uff00-\uffef\U00010000-\U000dffff"
)
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DOMAIN = rf"{_LABEL}(?:\.{_LABEL})*"
_LITERAL = r"\[[A-Za-z0-9.:-]{1,64}\]"


def _grammar(wide: str) -> tuple[re.Pattern[str], re.Pattern[str], re.Pattern[str]]:
    """(source route, mailbox, dot-string), each to be matched at a position."""
    atoms = rf"[{_ATEXT}{wide}]+(?:\.[{_ATEXT}{wide}]+)*"
    quoted = rf'"(?:[ !#-\[\]-~{wide}]|\\[ -~])*"'
    # A name with wide characters is only cut out here and judged by to_ascii.
    name = rf"[A-Za-z0-9.{wide}-]+" if wide else _DOMAIN
    return (
        re.compile(rf"@(?:{name})(?:,@(?:{name}))*:"),
        re.compile(rf"({atoms}|{quoted})@({name}|{_LITERAL})"),
        re.compile(atoms),
    )


_ASCII = _grammar("")
_UTF8 = _grammar(_WIDE)
_DOMAIN_ONLY = re.compile(_DOMAIN)
_IPV4 = re.compile(r"(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?:\.(?=\d)|$)){4}", re.ASCII)
_UNQUOTE = re.compile(r"\\(.)")
_QUOTE = re.compile(r'(["\\])')


class AddressError(ValueError):
    """Not an address. The message is fit for a reply; `status` is 5.1.3 (bad syntax), 5.1.2 (bad domain) or
    5.6.7 (needs SMTPUTF8, RFC 6531 3.5)."""

    def __init__(self, text: str, status: str = "5.1.3") -> None:
        super().__init__(text)
        self.status = status


def parse_path(text: str, *, utf8: bool) -> tuple[str, str]:
    """The address of a path and what follows it, the parameters. `text` begins with "<". Raises AddressError.

    "<>" is "", a source route is read and dropped (RFC 5321 3.3, 4.1.1.3), "<Postmaster>" is "postmaster".
    """
    if not text.startswith("<"):
        raise AddressError("a path begins with <")
    if text.startswith("<>"):
        return "", _parameters(text, 2)
    if text[1:12].lower() == "postmaster>":
        return "postmaster", _parameters(text, 12)
    route, mailbox, _ = _UTF8 if utf8 else _ASCII
    start = 1
    if text.startswith("@", 1):
        stripped = route.match(text, 1)
        if stripped is None:
            raise _refusal(text, utf8)
        start = stripped.end()
    found = mailbox.match(text, start)
    if found is None or not text.startswith(">", found.end()):
        raise _refusal(text, utf8)
    if _octets(text[: found.end() + 1]) > PATH_MAX:
        raise AddressError("path is too long")
    return _canonical(found[1], found[2]), _parameters(text, found.end() + 1)


def parse(text: str, *, utf8: bool = False) -> str:
    """The canonical form of a bare addr-spec, "local@domain". Raises AddressError."""
    found = (_UTF8 if utf8 else _ASCII)[1].fullmatch(text)
    if found is None:
        raise _refusal(text, utf8)
    if _octets(text) > PATH_MAX - 2:
        raise AddressError("address is too long")
    return _canonical(found[1], found[2])


def split(address: str) -> tuple[str, str]:
    """(local part, domain) of a canonical address; the domain is "" for "" and "postmaster"."""
    local, at, domain = address.rpartition("@")
    return (local, domain) if at else (address, "")


def domain_of(address: str) -> str:
    """The domain as A-labels, or the address literal, lower case; "" if there is none. Raises AddressError."""
    domain = address.rpartition("@")[2] if "@" in address else ""
    return domain.lower() if domain.isascii() else to_ascii(domain)


def to_ascii(domain: str) -> str:
    """The A-label form, lower case, of a domain or address literal. Raises AddressError.

    U-labels follow RFC 5891 with the mappings of RFC 5895 (case, width, NFC), so "ß" stays itself; joiners and
    punctuation that need context rules are refused.
    """
    if domain.isascii():
        if not (_DOMAIN_ONLY.fullmatch(domain) or _literal(domain)):
            raise AddressError("malformed domain", "5.1.2")
        result = domain.lower()
    else:
        result = _to_ascii_wide(domain)
    if len(result) > DOMAIN_MAX:
        raise AddressError("domain is too long", "5.1.2")
    return result


def same(a: str, b: str) -> bool:
    """Whether two canonical addresses mean one mailbox, as `fold` sees it."""
    return a == b or fold(a) == fold(b)


@lru_cache(maxsize=4096)  # the path of one mail asks nine times
def fold(address: str) -> str:
    """The key by which addresses are compared: local part in NFC and lower case, domain as A-labels.

    RFC 5321 2.4 leaves the case of a local part to its host; hosts that distinguish it do not exist in practice.
    """
    local, domain = split(address)
    if not local.isascii():
        import unicodedata

        local = unicodedata.normalize("NFC", local)
    return f"{local.lower()}@{to_ascii(domain)}" if domain else local.lower()


def subaddress(local: str, delimiter: str) -> tuple[str, str]:
    """(base, detail) of "base+detail" (RFC 5233). No detail when there is no delimiter or nothing before it."""
    if not delimiter or local.startswith(('"', delimiter)):
        return local, ""
    base, _, detail = local.partition(delimiter)
    return base, detail


def _canonical(local: str, domain: str) -> str:
    if _octets(local) > LOCAL_MAX:
        raise AddressError("local part is too long")
    if domain[0] == "[":
        if not _literal(domain):
            raise AddressError("malformed address literal", "5.1.2")
        domain = "[IPv6:" + domain[6:].lower() if ":" in domain else domain
    elif domain.isascii():
        domain = to_ascii(domain)
    else:
        to_ascii(domain)
        domain = ".".join(_u_label(label) for label in domain.split("."))
    if local[0] == '"':
        bare = _UNQUOTE.sub(r"\1", local[1:-1])
        local = bare if _UTF8[2].fullmatch(bare) else '"' + _QUOTE.sub(r"\\\1", bare) + '"'
    return f"{local}@{domain}"


def _literal(domain: str) -> bool:
    """RFC 5321 4.1.3. IPv4 without leading zeros, which resolvers read as octal; IPv6 as in RFC 4291."""
    if domain[:1] != "[" or domain[-1:] != "]":
        return False
    if domain[1:6].lower() != "ipv6:":
        return _IPV4.fullmatch(domain[1:-1]) is not None
    import ipaddress

    try:
        ipaddress.IPv6Address(domain[6:-1])
    except ValueError:
        return False
    return "%" not in domain


@lru_cache(maxsize=1024)
def _to_ascii_wide(domain: str) -> str:
    if len(domain) > DOMAIN_MAX:
        raise AddressError("domain is too long", "5.1.2")
    labels = []
    for label in domain.split("."):
        mapped = _u_label(label)
        if mapped.isascii():
            if not _DOMAIN_ONLY.fullmatch(mapped):
                raise AddressError("malformed domain label", "5.1.2")
            labels.append(mapped)
            continue
        coded = "xn--" + mapped.encode("punycode").decode("ascii")
        if len(coded) > _LABEL_MAX:
            raise AddressError("domain label is too long", "5.1.2")
        labels.append(coded)
    return ".".join(labels)


def _u_label(label: str) -> str:
    """The label as RFC 5895 maps it. Raises AddressError unless it is letters, digits, marks and inner hyphens."""
    if label.isascii():
        return label.lower()
    import unicodedata

    mapped = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", label).lower())
    for char in mapped:
        if char != "-" and unicodedata.category(char) not in ("Ll", "Lo", "Lm", "Mn", "Mc", "Nd"):
            raise AddressError("malformed domain label", "5.1.2")
    if (
        not mapped
        or mapped[0] == "-"
        or mapped[-1] == "-"
        or mapped[2:4] == "--"
        or unicodedata.category(mapped[0])[0] == "M"
    ):
        raise AddressError("malformed domain label", "5.1.2")
    return mapped


def _parameters(text: str, start: int) -> str:
    if len(text) == start:
        return ""
    if text[start] != " ":
        raise AddressError("a space must follow the path")
    return text[start:].strip(" ")


def _octets(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


def _refusal(text: str, utf8: bool) -> AddressError:
    """Why it did not match, as exactly as is cheap. Only on the way out, so never in the hot path."""
    if not utf8 and not text.isascii() and not any("\ud800" <= char <= "\udfff" for char in text):
        return AddressError("a non-ASCII address needs SMTPUTF8", "5.6.7")
    return AddressError("malformed address")
