"""The rare work on a submitted header: recipients for -t, a From field with the full name, odd recipient arguments."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

PLAIN = frozenset("!#$%&'*+-/=?^_`{|}~ ")  # atext and space: what needs no quotes in a display name (RFC 5322 3.2.3)
RECIPIENT_FIELDS = frozenset((b"to", b"cc", b"bcc"))
RESENT_FIELDS = frozenset((b"resent-to", b"resent-cc", b"resent-bcc"))


def recipients(fields: "Iterable[tuple[bytes, bytes]]") -> list[str]:
    """The addresses of To, Cc and Bcc; of the Resent- fields alone as soon as there is one (RFC 5322 3.6.6).

    `fields` are (lower-case name, whole field) pairs.
    """
    fields = list(fields)
    wanted = RESENT_FIELDS if any(name in RESENT_FIELDS for name, _ in fields) else RECIPIENT_FIELDS
    found: list[str] = []
    for name, field in fields:
        if name in wanted:
            value = field[field.find(b":") + 1 :].replace(b"\n", b"").decode("utf-8", "surrogateescape")
            found += listed(value)
    return found


def listed(value: str) -> list[str]:
    """The addr-specs of an address list: comma lists, display names, groups, comments."""
    from mtad.mail.addrlist import addresses

    return [address for _, address in addresses(value)]


def from_field(name: str, address: str) -> bytes:
    """A From field. The name is quoted or encoded (RFC 2047) as it needs; control characters are gone."""
    name = " ".join("".join(c if c.isprintable() else " " for c in name).split())
    if not name:
        return f"From: {address}\n".encode("utf-8", "surrogateescape")
    if not name.isascii():
        phrase = "\n ".join(_encoded_words(name))
    elif all(c.isalnum() or c in PLAIN for c in name):
        phrase = name
    else:
        phrase = '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return f"From: {phrase} <{address}>\n".encode("utf-8", "surrogateescape")


def _encoded_words(name: str) -> list[str]:
    """RFC 2047 words of at most 75 characters, split between characters."""
    import binascii

    words: list[str] = []
    part = b""
    for c in name:
        octets = c.encode("utf-8", "replace")
        if len(part) + len(octets) > 45:  # 60 characters of base64
            words.append(binascii.b2a_base64(part, newline=False).decode())
            part = b""
        part += octets
    words.append(binascii.b2a_base64(part, newline=False).decode())
    return [f"=?utf-8?B?{word}?=" for word in words]


def full_name(gecos: str, login: str) -> str:
    """The name in a passwd comment field: up to the first comma, "&" is the login name with a capital."""
    return gecos.partition(",")[0].replace("&", login.capitalize())
