"""A DNS server of one zone text on loopback, UDP and TCP, for tests; `wrong` makes it misbehave for some names."""

import asyncio
from collections.abc import Callable
from contextlib import asynccontextmanager

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import dns.zone

Wrong = Callable[[dns.message.Message], bytes | None]


class DnsServer:
    """`asked` counts the questions as (name, type). `wrong[name]` gives the octets to answer with; None = silence."""

    def __init__(self, zone: str) -> None:
        self.zone = dns.zone.from_text(zone, relativize=False, check_origin=False)
        self.asked: list[tuple[str, str]] = []
        self.wrong: dict[str, Wrong] = {}
        self.truncate = False
        self.authentic = False
        self.authoritative = False
        self.port = 0

    def answer(self, octets: bytes, *, stream: bool) -> bytes | None:
        query = dns.message.from_wire(octets)
        [question] = query.question
        name = question.name.to_text(omit_final_dot=True)
        self.asked.append((name, dns.rdatatype.to_text(question.rdtype)))
        if name in self.wrong:
            return self.wrong[name](query)
        response = dns.message.make_response(query)
        if self.truncate and not stream:
            response.flags |= dns.flags.TC
            return response.to_wire()
        if self.authentic:
            response.flags |= dns.flags.AD
        if self.authoritative:
            response.flags |= dns.flags.AA
        self._fill(response, question.name, question.rdtype)
        if not response.answer:
            response.authority.append(self.zone.find_rrset(self.zone.origin, "SOA"))
        return response.to_wire(max_size=65535)

    def _fill(self, response, name, kind) -> None:
        node = self.zone.get_node(name)
        if node is None:
            response.set_rcode(dns.rcode.NXDOMAIN)
            return
        if alias := self.zone.get_rrset(name, "CNAME"):
            response.answer.append(alias)
            self._fill(response, alias[0].target, kind)
        elif found := self.zone.get_rrset(name, kind):
            response.answer.append(found)


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServer) -> None:
        self.server = server

    def connection_made(self, transport) -> None:
        self.transport = transport

    def datagram_received(self, data, addr) -> None:
        if (octets := self.server.answer(data, stream=False)) is not None:
            self.transport.sendto(octets, addr)


@asynccontextmanager
async def serving(zone: str, host: str = "127.0.0.1", port: int = 0):
    server = DnsServer(zone)

    async def stream(reader, writer) -> None:
        try:
            octets = server.answer(await reader.readexactly(int.from_bytes(await reader.readexactly(2))), stream=True)
            if octets is not None:
                writer.write(len(octets).to_bytes(2) + octets)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    tcp = await asyncio.start_server(stream, host, port)
    server.port = tcp.sockets[0].getsockname()[1]
    udp, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: _Udp(server), (host, server.port))
    try:
        yield server
    finally:
        udp.close()
        tcp.close()
        await tcp.wait_closed()
