"""Any answer of a name server: records of the kind that was asked for, or one of the three failures."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable

import dns.exception
import dns.message
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset
from dns_server import serving
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mtad.config import Address, Dns
from mtad.dns.resolver import RECORDS_MAX, DnsTemporary, NoData, NoSuchName, Resolver

ZONE = "$ORIGIN test.\n$TTL 300\n@ SOA ns host 1 3600 600 86400 60\n@ NS ns\nns A 127.0.0.1\n"
KINDS = ("MX", "A", "AAAA", "TXT", "TLSA", "NS", "CNAME", "SOA")
NUMBERS = itertools.count()
RDATA = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(
        [
            b"\0\0\0", b"\0\x0a\x01.\0", b"\0\x0a\x03a\0b\0", b"\0\x0a\x02\xc3\xa9\x04test\0", b"\0\x0a\xc0\x0c",
            b"\0\x0a\x3f" + b"x" * 63 + b"\0",
            b"\x7f\0\0\1", b"\0" * 16, b"\0" * 15 + b"\1", b"\xfe\x80" + b"\0" * 14, b"\x03abc", b"\xff",
            b"\x03\x01\x01" + b"x" * 32,
            b"\x05\x1b[2Jx", b"\0",
        ]
    ),
)  # fmt: skip


def wire(query: dns.message.Message, kind: str, rdata: list[bytes], changes: list[tuple[int, bytes]]) -> bytes:
    """An answer with these records, whatever they hold, and then with octets behind its head written over."""
    response = dns.message.make_response(query)
    octets = bytearray(response.to_wire())
    question = len(octets) - 11 if query.edns >= 0 else len(octets)  # OPT goes, the records come
    octets[6:12] = len(rdata).to_bytes(2) + b"\0\0\0\0"
    del octets[question:]
    number = int(dns.rdatatype.from_text(kind)).to_bytes(2)
    for one in rdata:
        octets += b"\xc0\x0c" + number + b"\0\1\0\0\1\x2c" + len(one).to_bytes(2) + one
    for at, new in changes:
        place = question + at % max(1, len(octets) - question)
        octets[place : place + len(new)] = new
    return bytes(octets)


ASKED: dict[str, Callable[[Resolver, str], Awaitable[object]]] = {
    "MX": Resolver.mx, "A": Resolver.addresses, "TXT": Resolver.txt, "TLSA": Resolver.tlsa, "NS": Resolver.ns,
    "CNAME": Resolver.tlsa_bases,
}  # fmt: skip


@settings(max_examples=20, deadline=None)
@given(
    asked=st.sampled_from(sorted(ASKED)),
    kind=st.sampled_from(KINDS) | st.none(),
    rdata=st.lists(RDATA, max_size=4),
    changes=st.lists(st.tuples(st.integers(0, 200), st.binary(min_size=1, max_size=3)), max_size=3),
)
@example(asked="MX", kind=None, rdata=[b"\0\0\0"] * (RECORDS_MAX + 5), changes=[])
@example(asked="TXT", kind=None, rdata=[b""], changes=[])
@example(asked="A", kind=None, rdata=[b"\x7f\0\0\1"], changes=[])
def test_any_answer_is_records_or_a_failure(
    asked: str, kind: str | None, rdata: list[bytes], changes: list[tuple[int, bytes]]
) -> None:
    async def ask() -> None:
        async with serving(ZONE) as server:
            name = f"n{next(NUMBERS)}.test"
            server.wrong[name] = lambda query: wire(
                query, kind or dns.rdatatype.to_text(query.question[0].rdtype), rdata, changes
            )
            resolver = Resolver(Dns((Address("127.0.0.1", server.port),), timeout_s=0.05), lambda: 1.0)
            try:
                found = await ASKED[asked](resolver, name)
            except (DnsTemporary, NoSuchName, NoData):
                return
            if asked == "MX":
                assert len(found.hosts) <= RECORDS_MAX
                assert all(host.isascii() for _, host in found.hosts)
            if asked == "A":
                assert len(found) <= 2 * RECORDS_MAX

    asyncio.run(ask())
