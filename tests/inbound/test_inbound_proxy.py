"""The PROXY protocol: bytes -> the client."""

import struct
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.inbound.proxy import BLOCK_MAX, LINE_MAX, SIGNATURE, Malformed, Proxied, parse


def v2(command: int = 0x21, family: int = 0x11, block: bytes = b"", length: int | None = None) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(block) if length is None else length) + block


V4 = IPv4Address("192.0.2.7").packed + IPv4Address("198.51.100.1").packed + struct.pack("!HH", 4242, 25)
V6 = IPv6Address("2001:db8::7").packed + IPv6Address("2001:db8::1").packed + struct.pack("!HH", 4242, 25)
MAPPED = IPv6Address("::ffff:192.0.2.7").packed + V6[16:]
NOTE = b"\x04\x00\x03abc"

GOOD = [
    (b"PROXY TCP4 192.0.2.7 198.51.100.1 4242 25\r\n", ("192.0.2.7", 4242)),
    (b"PROXY TCP6 2001:db8::7 2001:db8::1 4242 25\r\n", ("2001:db8::7", 4242)),
    (b"PROXY TCP6 ::ffff:192.0.2.7 2001:db8::1 4242 25\r\n", ("192.0.2.7", 4242)),
    (b"PROXY UNKNOWN\r\n", ("", 0)),
    (b"PROXY UNKNOWN ffff:f...f:ffff 65535 65535\r\n", ("", 0)),
    (v2(block=V4), ("192.0.2.7", 4242)),
    (v2(block=V4 + NOTE), ("192.0.2.7", 4242)),
    (v2(family=0x21, block=V6), ("2001:db8::7", 4242)),
    (v2(family=0x21, block=MAPPED), ("192.0.2.7", 4242)),
    (v2(0x20, 0x00), ("", 0)),
    (v2(0x20, 0x11, V4), ("", 0)),
    (v2(0x21, 0x00, NOTE), ("", 0)),
]


@pytest.mark.parametrize(("octets", "client"), GOOD)
def test_says_who_it_is(octets: bytes, client: tuple[str, int]) -> None:
    assert parse(octets + b"EHLO x\r\n") == Proxied(*client, b"EHLO x\r\n")
    for end in range(len(octets)):
        assert parse(octets[:end]) is None


@pytest.mark.parametrize(
    "octets",
    [
        b"EHLO x\r\n",
        b"PROXY\tTCP4",
        b"PROXYTCP4",
        b"proxy TCP4 192.0.2.7 198.51.100.1 4242 25\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 4242\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 4242 25 1\r\n",
        b"PROXY TCP4  192.0.2.7 198.51.100.1 4242 25\r\n",
        b"PROXY TCP5 192.0.2.7 198.51.100.1 4242 25\r\n",
        b"PROXY TCP4 2001:db8::7 2001:db8::1 4242 25\r\n",
        b"PROXY TCP6 192.0.2.7 198.51.100.1 4242 25\r\n",
        b"PROXY TCP4 300.0.2.7 198.51.100.1 4242 25\r\n",
        b"PROXY TCP4 192.0.2.7 localhost 4242 25\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 65536 25\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 -1 25\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 042 25\r\n",
        b"PROXY TCP4 \xff 198.51.100.1 42 25\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 4242 25\n" + b"x" * LINE_MAX,
        b"PROXY " + b"x" * LINE_MAX,
        b"PROXY \r\n",
        v2(0x11, block=V4),
        v2(0x22, block=V4),
        v2(family=0x12, block=V4),
        v2(family=0x31, block=b"x" * 216),
        v2(block=V4[:-1]),
        v2(family=0x21, block=V4),
        v2(length=BLOCK_MAX + 1),
        SIGNATURE[:-1] + b"\r",
        b"\r\n\r\n",
    ],
)
def test_is_no_header(octets: bytes) -> None:
    if octets == b"\r\n\r\n":
        assert parse(octets) is None
        octets += b"EHLO"
    with pytest.raises(Malformed):
        parse(octets)


@given(st.one_of(st.binary(max_size=300), st.binary(max_size=60).map(lambda end: b"PROXY " + end),
                 st.binary(max_size=300).map(lambda end: SIGNATURE + end)))  # fmt: skip
def test_anything_is_a_header_or_not(octets: bytes) -> None:
    try:
        said = parse(octets)
    except Malformed:
        return
    assert said is None or octets.endswith(said.rest)
