"""The PROXY protocol, versions 1 and 2 (haproxy's proxy-protocol.txt): who the client of a load balancer is. Pure."""

from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"  # of version 2
LINE_MAX = 107  # of version 1, with its CRLF
BLOCK_MAX = 2048  # of version 2, behind its 16 octets; addresses take 216 at most, the rest are notes


class Malformed(ValueError):  # noqa: N818  (it is what the octets are)
    """No such header. The text is a constant."""


@dataclass(frozen=True, slots=True)
class Proxied:
    """`ip` is "" where the header names nobody (health checks, UNKNOWN): then the connection is the proxy's own."""

    ip: str
    port: int
    rest: bytes  # what came behind the header


def parse(octets: bytes) -> Proxied | None:
    """The header that `octets` begin with; None while more of it must come. Raises Malformed."""
    if octets[:12] == SIGNATURE[: len(octets)]:
        return _version_2(octets)
    if octets[:6] == b"PROXY "[: len(octets)]:
        return _version_1(octets)
    raise Malformed("no PROXY header")


def _version_1(octets: bytes) -> Proxied | None:
    end = octets.find(b"\r\n", 0, LINE_MAX)
    if end < 0:
        if len(octets) >= LINE_MAX:
            raise Malformed("the PROXY line is too long")
        return None
    words, rest = octets[:end].split(b" "), octets[end + 2 :]
    if words[1] == b"UNKNOWN":
        return Proxied("", 0, rest)
    if len(words) != 6 or words[1] not in (b"TCP4", b"TCP6"):
        raise Malformed("the PROXY line is of another form")
    family = IPv4Address if words[1] == b"TCP4" else IPv6Address
    try:
        source, _ = family(words[2].decode("ascii")), family(words[3].decode("ascii"))
    except (AddressValueError, UnicodeDecodeError):
        raise Malformed("the PROXY line has a bad address") from None
    port, _ = _port(words[4]), _port(words[5])
    return Proxied(_shown(source), port, rest)


def _port(word: bytes) -> int:
    if not word.isdigit() or len(word) > 5 or (word[:1] == b"0" and word != b"0") or int(word) > 65535:
        raise Malformed("the PROXY line has a bad port")
    return int(word)


def _version_2(octets: bytes) -> Proxied | None:
    if len(octets) < 16:
        return None
    version, command = octets[12] >> 4, octets[12] & 15
    length = int.from_bytes(octets[14:16], "big")
    if version != 2 or command > 1:
        raise Malformed("the PROXY header has an unknown version or command")
    if length > BLOCK_MAX:
        raise Malformed("the PROXY header is too long")
    if len(octets) < 16 + length:
        return None
    block, rest = octets[16 : 16 + length], octets[16 + length :]
    match (command, octets[13]):  # (LOCAL or PROXY, family and transport)
        case (1, 0x11) if length >= 12:
            return Proxied(str(IPv4Address(block[:4])), int.from_bytes(block[8:10], "big"), rest)
        case (1, 0x21) if length >= 36:
            return Proxied(_shown(IPv6Address(block[:16])), int.from_bytes(block[32:34], "big"), rest)
        case (1, 0x11 | 0x21):
            raise Malformed("the PROXY header has no room for its addresses")
        case (0, _) | (1, 0):
            return Proxied("", 0, rest)
        case _:
            raise Malformed("the PROXY header is not about TCP")


def _shown(address: IPv4Address | IPv6Address) -> str:
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)
