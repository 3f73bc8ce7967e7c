"""What the authoritative servers of a name say, each one by itself: no cache and no resolver in between.

The servers are found by walking up to the zone's NS records, or are those that the operator named. Each is asked over
UDP and over TCP, without recursion. Whatever a server does (silence, lameness, garbage, truncation) is an outcome in
the answer, never an exception; time and numbers are bounded.
"""

import asyncio
import errno
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from mtad.config.tree import Address
from mtad.dns.resolver import DnsTemporary, NoData, NoSuchName
from mtad.dns.words import of_network
from mtad.mail.text import clean

if TYPE_CHECKING:
    from dns.message import Message, QueryMessage
    from dns.name import Name

NAMES_MAX = 13  # name servers of one zone
ADDRESSES_MAX = 4  # of one name server
SERVERS_MAX = 32  # addresses of one zone
ALIASES_MAX = 5  # of a chain of CNAMEs
RECORDS_MAX = 100  # of one answer
QUERY_S = 3.0
UDP_TRIES = 2
SURVEY_S = 30.0  # for everything that one question leads to
PARALLEL = 8
PAYLOAD_BYTES = 1232  # what passes everywhere unfragmented (DNS flag day 2020)

T = TypeVar("T")

_NO_ROUTE = frozenset({errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})

Via = Literal["udp", "tcp"]


class Outcome(StrEnum):
    """What became of one question to one server."""

    ANSWER = "answer"  # it has such records
    ALIAS = "alias"  # it says that the name is another name
    NO_DATA = "no data"  # the name is there, records of this type are not
    NO_NAME = "no such name"
    TRUNCATED = "truncated"  # over UDP: TCP decides
    LAME = "lame"  # it does not serve the zone
    FAILED = "failed"  # SERVFAIL and its kin
    SILENT = "silent"  # no answer in time, or the connection was refused
    NO_ROUTE = "no route"  # from this host: it has no IPv6, for example
    BROKEN = "broken"  # what came is no answer
    UNRESOLVED = "unresolved"  # the server's own name has no address

    @property
    def negative(self) -> bool:
        """It says with authority that there is nothing."""
        return self in (Outcome.NO_DATA, Outcome.NO_NAME)


@dataclass(frozen=True, slots=True)
class Server:
    """One address of one name server. `address` is "" where there is none to be had."""

    name: str
    address: str = ""
    port: int = 53

    def __str__(self) -> str:
        port = f" port {self.port}" if self.port != 53 else ""
        if not self.address or self.address == self.name:
            return f"{self.name}{port}"
        return f"{self.name} [{self.address}]{port}"


@dataclass(frozen=True, slots=True)
class ServerAnswer:
    """`records` are rdata of dnspython; `ttl_s` is how long a resolver may remember this, whatever it says."""

    server: Server
    via: Via
    outcome: Outcome
    records: tuple[Any, ...] = ()
    ttl_s: float = 0.0
    alias: str = ""
    detail: str = ""  # for people; clean

    def texts(self) -> tuple[bytes, ...]:
        """Of TXT records: the strings of each, joined without a space (RFC 7208 3.3)."""
        return tuple(b"".join(record.strings) for record in self.records)


@dataclass(frozen=True, slots=True)
class Survey:
    """What all servers of a name's zone said. `problem` says why nobody, or not everybody, could be asked."""

    name: str
    kind: str
    zone: str = ""
    answers: tuple[ServerAnswer, ...] = ()
    problem: str = ""


class Lookup(Protocol):
    """What is needed of a resolver (`dns.resolver.Resolver`)."""

    async def ns(self, zone: str) -> Sequence[str]: ...
    async def addresses(self, host: str) -> Sequence[str]: ...


class Authority:
    """Asks authoritative servers. `servers` are asked instead of those that NS records name; `port` is for tests."""

    def __init__(
        self,
        resolver: Lookup,
        servers: Sequence[Address] = (),
        *,
        port: int = 53,
        query_s: float = QUERY_S,
        survey_s: float = SURVEY_S,
    ) -> None:
        self._resolver = resolver
        self._servers = tuple(Server(server.host, server.host, server.port) for server in servers)
        self._port = port
        self._query_s = query_s
        self._survey_s = survey_s
        self._slots = asyncio.Semaphore(PARALLEL)

    async def ask_all(self, name: str, kind: str) -> Survey:
        """Every server of the zone that `name` is in, over both transports. CNAMEs are followed, zone by zone, and the
        answers of all zones on the way are in the survey. Never raises for what the network does."""
        name = name.lower().rstrip(".")
        survey = Survey(name, kind)
        waiting, seen = [name], {name}
        try:
            async with asyncio.timeout(self._survey_s):
                while waiting:
                    part = await self._ask_zone(waiting.pop(), kind)
                    aliases = {answer.alias for answer in part.answers if answer.alias} - seen
                    survey = _joined(survey, part)
                    if len(seen) + len(aliases) > ALIASES_MAX:
                        return replace(survey, problem=f"{name}: more than {ALIASES_MAX} aliases")
                    seen |= aliases
                    waiting += sorted(aliases)
        except TimeoutError:
            return replace(survey, problem=f"{name}: the survey took longer than {self._survey_s:g} s")
        return survey

    async def servers(self, name: str) -> tuple[str, tuple[Server, ...], str]:
        """(the zone that `name` is in, its servers, what went wrong). The zone is "" where nobody knows it."""
        if self._servers:
            return "", self._servers, ""
        labels = name.lower().rstrip(".").split(".")
        for cut in range(len(labels)):
            zone = ".".join(labels[cut:])
            try:
                names = await self._resolver.ns(zone)
            except (NoSuchName, NoData):
                continue
            except DnsTemporary as error:
                return "", (), clean(f"the name servers of {zone} cannot be found: {error}", 300)
            found = await _together(self._addresses(host) for host in sorted(names)[:NAMES_MAX])
            servers = tuple(server for several in found for server in several)
            more = len(names) > NAMES_MAX or len(servers) > SERVERS_MAX
            return zone, servers[:SERVERS_MAX], f"{zone} has more servers than are asked" if more else ""
        return "", (), f"no zone is known that {clean(name, 255)} could be in"

    async def _addresses(self, host: str) -> tuple[Server, ...]:
        try:
            found = await self._resolver.addresses(host)
        except (NoSuchName, NoData, DnsTemporary):
            return (Server(host),)
        return tuple(Server(host, address, self._port) for address in found[:ADDRESSES_MAX])

    async def _ask_zone(self, name: str, kind: str) -> Survey:
        import dns.exception
        import dns.name

        try:
            question = dns.name.from_text(name)
        except (dns.exception.DNSException, ValueError):
            return Survey(name, kind, problem=f"{clean(name, 255)} is no domain name")
        zone, servers, problem = await self.servers(name)
        asked = [self._ask(server, via, question, kind) for server in servers for via in _VIAS]
        return Survey(name, kind, zone, await _together(asked), problem)

    async def _ask(self, server: Server, via: Via, question: "Name", kind: str) -> ServerAnswer:
        if not server.address:
            return ServerAnswer(server, via, Outcome.UNRESOLVED, detail="its name has no address")
        async with self._slots:
            for _ in range(UDP_TRIES if via == "udp" else 1):
                answer = await self._once(server, via, question, kind)
                if answer.outcome is not Outcome.SILENT:
                    break
        return answer

    async def _once(self, server: Server, via: Via, question: "Name", kind: str) -> ServerAnswer:
        import dns.asyncquery
        import dns.exception
        import dns.message

        query = dns.message.make_query(question, kind, use_edns=0, payload=PAYLOAD_BYTES)
        query.flags = 0  # no recursion: only what it knows by itself
        try:
            async with asyncio.timeout(self._query_s):
                if via == "udp":
                    # Anybody may send garbage here: it is not heard.
                    reply = await dns.asyncquery.udp(
                        query, server.address, port=server.port, ignore_unexpected=True, ignore_errors=True
                    )
                else:
                    reply = await dns.asyncquery.tcp(query, server.address, port=server.port)
            return read(server, via, query, reply)
        except (TimeoutError, dns.exception.Timeout):
            return ServerAnswer(server, via, Outcome.SILENT, detail=f"no answer within {self._query_s:g} s")
        except OSError as error:
            outcome = Outcome.NO_ROUTE if error.errno in _NO_ROUTE else Outcome.SILENT
            return ServerAnswer(server, via, outcome, detail=of_network(error))
        except EOFError:
            return ServerAnswer(server, via, Outcome.SILENT, detail="it closed the connection")
        except Exception:  # noqa: BLE001  (a parser fed by strangers)
            return ServerAnswer(server, via, Outcome.BROKEN, detail="what came is no answer")


_VIAS: tuple[Via, ...] = ("udp", "tcp")


def read(server: Server, via: Via, query: "QueryMessage", reply: "Message") -> ServerAnswer:
    """What a reply says. Pure. May raise what dnspython raises for a reply that contradicts itself."""
    import dns.flags
    import dns.rcode
    import dns.rdatatype

    rcode = reply.rcode()
    if rcode in (dns.rcode.SERVFAIL, dns.rcode.FORMERR, dns.rcode.NOTIMP, dns.rcode.BADVERS):
        return ServerAnswer(server, via, Outcome.FAILED, detail=f"it says {dns.rcode.to_text(rcode)}")
    if rcode not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        return ServerAnswer(server, via, Outcome.LAME, detail=f"it says {dns.rcode.to_text(rcode)}")
    if reply.flags & dns.flags.TC:
        if via == "tcp":
            return ServerAnswer(server, via, Outcome.BROKEN, detail="truncated over TCP")
        return ServerAnswer(server, via, Outcome.TRUNCATED, detail="truncated over UDP")
    if not reply.flags & dns.flags.AA:
        return ServerAnswer(server, via, Outcome.LAME, detail="it answers without authority")
    [question] = query.question
    name, ttl = question.name, float("inf")
    for _ in range(ALIASES_MAX):
        found = reply.get_rrset(reply.answer, name, question.rdclass, question.rdtype)
        if found is not None:
            return ServerAnswer(server, via, Outcome.ANSWER, tuple(found)[:RECORDS_MAX], float(min(ttl, found.ttl)))
        alias = reply.get_rrset(reply.answer, name, question.rdclass, dns.rdatatype.CNAME)
        if alias is None:
            break
        name, ttl = alias[0].target, min(ttl, alias.ttl)
    if name != question.name:
        target = name.to_text(omit_final_dot=True).lower()
        return ServerAnswer(server, via, Outcome.ALIAS, ttl_s=float(ttl), alias=target, detail=f"alias of {target}")
    outcome = Outcome.NO_NAME if rcode == dns.rcode.NXDOMAIN else Outcome.NO_DATA
    return ServerAnswer(server, via, outcome, ttl_s=_negative_s(reply))


def _negative_s(reply: "Message") -> float:
    """How long a resolver may remember that there is nothing (RFC 2308 5); 0 without an SOA."""
    import dns.rdatatype

    for rrset in reply.authority:
        if rrset.rdtype == dns.rdatatype.SOA:
            return float(min(rrset.ttl, rrset[0].minimum))
    return 0.0


def _joined(one: Survey, other: Survey) -> Survey:
    problem = "; ".join(part for part in (one.problem, other.problem) if part)
    return replace(one, zone=one.zone or other.zone, answers=one.answers + other.answers, problem=problem)


async def _together(works: Iterable[Awaitable[T]]) -> tuple[T, ...]:
    return tuple(await asyncio.gather(*works))
