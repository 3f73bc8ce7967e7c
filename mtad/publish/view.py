"""DNS as everybody sees it: what each authoritative server of a domain says, what the resolver has, and what is true.

One for each check. Every question is asked once. Names outside of the domain are asked of the resolver alone.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

from mtad.config.tree import Address
from mtad.dns.authority import Authority, Outcome, Server, ServerAnswer, Survey
from mtad.dns.resolver import DnsTemporary, NoData, NoSuchName, Resolver
from mtad.mail.text import clean
from mtad.publish.finding import Finding, found

QUERY_S = 2.0
SHOWN_MAX = 120  # of a value in a finding
_USABLE = frozenset({Outcome.ANSWER, Outcome.ALIAS, Outcome.NO_DATA, Outcome.NO_NAME})


@dataclass(frozen=True, slots=True)
class Seen:
    """What is to be taken for true of a name: what the servers with the newest zone say, else what the resolver says.

    `records` are rdata of dnspython. `problem`: nobody could tell. `secure`: the resolver validated it.
    """

    name: str
    kind: str
    records: tuple[Any, ...] = ()
    exists: bool = True  # the name, whatever the type
    problem: str = ""
    secure: bool = False

    def texts(self) -> tuple[str, ...]:
        """TXT records, each one's strings joined without a space; any octet is a character."""
        return tuple(b"".join(record.strings).decode("latin-1") for record in self.records)

    def values(self) -> tuple[str, ...]:
        """The records as a zone file has them."""
        return values_of(self.records)


@dataclass(slots=True)
class Zone:
    """The zone of the domain, as its servers showed themselves."""

    name: str = ""
    servers: tuple[Server, ...] = ()
    answers: tuple[ServerAnswer, ...] = ()  # on SOA, over both transports
    problem: str = ""
    live: tuple[Server, ...] = ()
    serials: dict[str, int] = field(default_factory=dict)  # by address and port


class View:
    """`servers` are asked instead of those that NS records name; `port` is that of the latter, for tests."""

    def __init__(
        self,
        resolver: Resolver,
        domain: str,
        servers: Sequence[Address] = (),
        *,
        port: int = 53,
        query_s: float = QUERY_S,
    ) -> None:
        self.domain = domain
        self.zone = Zone()
        self.named = bool(servers)
        self._resolver = resolver
        self._query_s = query_s
        self._finder = Authority(resolver, servers, port=port, query_s=query_s)
        self._asker: Authority | None = None
        self._names: dict[tuple[str, int], Server] = {}
        self._asking: dict[tuple[str, str], asyncio.Task[Seen]] = {}
        self._surveys: dict[tuple[str, str], Survey] = {}
        self._stale: dict[tuple[str, str], tuple[str, ...]] = {}
        self._started: asyncio.Task[None] | None = None

    # --- questions

    async def start(self) -> Zone:
        """Find the servers and try each. Those that do not serve the zone are asked nothing more."""
        if self._started is None:
            self._started = asyncio.create_task(self._start())
        await asyncio.shield(self._started)
        return self.zone

    async def get(self, name: str, kind: str) -> Seen:
        """Never raises for what DNS says."""
        key = (name.lower().rstrip("."), kind)
        if key not in self._asking:
            self._asking[key] = asyncio.create_task(self._get(*key))
        return await asyncio.shield(self._asking[key])

    def lenient(self) -> "Lenient":
        """The same for questions that need no answer: those above the domain."""
        return Lenient(self)

    async def resolver_says(self, name: str, kind: str) -> Seen:
        """What the resolver of this host has, whoever else would know better."""
        return await self._ask_resolver(name.lower().rstrip("."), kind)

    async def close(self) -> None:
        """Give up what is not answered yet."""
        tasks = [*self._asking.values(), *([self._started] if self._started else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- as the evaluators of SPF and DMARC ask

    async def txt(self, name: str) -> Sequence[bytes]:
        return [text.encode("latin-1") for text in (await self._some(name, "TXT")).texts()]

    async def mx_names(self, name: str) -> Sequence[str]:
        return [host_of(record.exchange) for record in (await self._some(name, "MX")).records]

    async def addresses_of(self, name: str, version: int) -> Sequence[str]:
        seen = await self._some(name, "A" if version == 4 else "AAAA")
        return [str(record.address) for record in seen.records]

    async def names_of(self, ip: str) -> Sequence[str]:
        seen = await self._some(ip_address(ip).reverse_pointer, "PTR")
        return [host_of(record.target) for record in seen.records]

    async def exists(self, name: str) -> bool:
        seen = await asyncio.gather(*(self.get(name, kind) for kind in ("A", "AAAA", "MX")))
        if not any(one.records for one in seen) and any(one.problem for one in seen):
            raise DnsTemporary(next(one.problem for one in seen if one.problem))
        return any(one.records for one in seen)

    async def addresses(self, host: str) -> tuple[str, ...]:
        """Both kinds; () where there is none. Raises DnsTemporary."""
        addresses: list[str] = []
        for version in (4, 6):
            try:
                addresses += await self.addresses_of(host, version)
            except (NoData, NoSuchName):
                continue
        return tuple(addresses)

    async def _some(self, name: str, kind: str) -> Seen:
        seen = await self.get(name, kind)
        if seen.problem:
            raise DnsTemporary(seen.problem)
        if not seen.records:
            raise NoData(name) if seen.exists else NoSuchName(name)
        return seen

    # --- what the servers are at odds about

    def odds(self) -> list[Finding]:
        """A finding for each question that the servers answer in several ways, or some not at all."""
        findings = []
        for (name, kind), survey in sorted(self._surveys.items()):
            usable = [answer for answer in survey.answers if answer.outcome in _USABLE]
            sayings: dict[str, list[str]] = {}
            for answer in usable:
                sayings.setdefault(_saying(answer), []).append(str(self._name(answer.server)))
            truncated = {answer.server for answer in survey.answers if answer.outcome is Outcome.TRUNCATED}
            for answer in survey.answers:
                if answer.outcome in _USABLE or answer.outcome is Outcome.TRUNCATED or not usable:
                    continue
                server = self._name(answer.server)
                if answer.via == "tcp" and answer.server in truncated:
                    words = f"{server} has more to say on {kind} {name} than fits UDP, and over TCP: {answer.detail}"
                    findings.append(found("ns.tcp", words, f"open TCP port {server.port} of {server} to everybody"))
                elif answer.server not in truncated and answer.outcome not in (Outcome.SILENT, Outcome.NO_ROUTE):
                    sayings.setdefault(answer.detail or answer.outcome.value, []).append(str(server))
            if len(sayings) > 1:
                findings.append(self._at_odds(name, kind, sayings))
        return findings

    def _at_odds(self, name: str, kind: str, sayings: dict[str, list[str]]) -> Finding:
        newest = _saying(self._newest(self._surveys[name, kind]))
        behind = sorted({server for saying, servers in sayings.items() if saying != newest for server in servers})
        said = "; ".join(f"{', '.join(sorted(set(who)))}: {_cut(what)}" for what, who in sayings.items())
        fix = f"let {', '.join(behind)} load the zone again: check the transfer from its primary server (NOTIFY, AXFR)"
        return found("ns.disagree", f"{kind} {name}: {said}", fix)

    def stale(self) -> list[Finding]:
        """Where the resolver still has something else. Not for servers that were named."""
        if self.named:
            return []
        names = [f"{kind} {name}" for name, kind in sorted(self._stale)]
        if not names:
            return []
        what = f"the resolver of this host still has other answers than the name servers for {', '.join(names)}"
        return [found("resolver.stale", what, "wait until their TTL is over, or empty the resolver's cache")]

    # --- inside

    async def _start(self) -> None:
        name, servers, problem = await self._finder.servers(self.domain)
        zone = self.zone
        zone.name, zone.servers, zone.problem = name, servers, problem
        apex = name or self.domain
        survey = await self._finder.ask_all(apex, "SOA")
        zone.answers = tuple(answer for answer in survey.answers if answer.server in servers)
        usable = [answer for answer in zone.answers if answer.outcome in _USABLE]
        zone.live = tuple(dict.fromkeys(answer.server for answer in usable))
        for answer in usable:
            if answer.outcome is Outcome.ANSWER:
                zone.serials[_key(answer.server)] = answer.records[0].serial
        self._names = {(server.address, server.port): server for server in servers}
        if zone.live:
            addresses = [Address(server.address, server.port) for server in zone.live]
            self._asker = Authority(self._resolver, addresses, query_s=self._query_s)

    def _name(self, server: Server) -> Server:
        return self._names.get((server.address, server.port), server)

    def inside(self, name: str) -> bool:
        """Whether the servers of the domain are asked."""
        return name == self.domain or name.endswith(f".{self.domain}")

    async def _get(self, name: str, kind: str) -> Seen:
        await self.start()
        own = self._ask_servers(name, kind) if self.inside(name) and self._asker is not None else _nothing()
        theirs, survey = await asyncio.gather(self._ask_resolver(name, kind), own)
        if survey is None:
            return theirs
        usable = [answer for answer in survey.answers if answer.outcome in _USABLE]
        if not usable:
            return theirs  # cut off into a zone of its own, or nobody answers any more
        self._surveys[name, kind] = survey
        newest = self._newest(survey)
        if newest.outcome is Outcome.ALIAS:
            return theirs
        seen = Seen(name, kind, newest.records, newest.outcome is not Outcome.NO_NAME, secure=theirs.secure)
        if not theirs.problem and set(theirs.values()) != set(seen.values()):
            self._stale[name, kind] = theirs.values()
        return seen

    def _newest(self, survey: Survey) -> ServerAnswer:
        """The usable answer of the server with the newest zone; of equals what most say."""
        usable = [answer for answer in survey.answers if answer.outcome in _USABLE]
        counts: dict[str, int] = {}
        for answer in usable:
            counts[_saying(answer)] = counts.get(_saying(answer), 0) + 1
        return max(usable, key=lambda one: (self.zone.serials.get(_key(one.server), 0), counts[_saying(one)]))

    async def _ask_servers(self, name: str, kind: str) -> Survey:
        assert self._asker is not None
        survey = await self._asker.ask_all(name, kind)
        # What follows an alias may be in zones that these servers do not have: the resolver knows that way.
        first = tuple(survey.answers[: 2 * len(self.zone.live)])
        return Survey(name, kind, survey.zone, first, survey.problem)

    async def _ask_resolver(self, name: str, kind: str) -> Seen:
        try:
            got = await self._resolver.records(name, kind)
        except NoSuchName:
            return Seen(name, kind, exists=False)
        except NoData as error:
            return Seen(name, kind, secure=error.secure)
        except DnsTemporary as error:
            return Seen(name, kind, problem=clean(str(error), 300))
        return Seen(name, kind, got.records, secure=got.secure)


class Lenient:
    """What nobody answers outside of the domain counts as nothing; `problems` says so."""

    def __init__(self, view: View) -> None:
        self.problems: list[str] = []
        self._view = view

    async def txt(self, name: str) -> Sequence[bytes]:
        try:
            return await self._view.txt(name)
        except DnsTemporary as error:
            if self._view.inside(name):
                raise
            self.problems.append(str(error))
            raise NoData(name) from None

    async def exists(self, name: str) -> bool:
        return await self._view.exists(name)


async def _nothing() -> None:
    return None


def values_of(records: Sequence[Any]) -> tuple[str, ...]:
    """As a zone file has them, in a fixed order."""
    return tuple(sorted(str(record.to_text()) for record in records))


def host_of(name: Any) -> str:
    """A name of an answer: lower case, without the last dot; the root is ""."""
    return str(name.to_text(omit_final_dot=True)).lower().removesuffix(".")


def _key(server: Server) -> str:
    return f"{server.address} {server.port}"


def _saying(answer: ServerAnswer) -> str:
    match answer.outcome:
        case Outcome.ANSWER:
            return "; ".join(values_of(answer.records))
        case Outcome.ALIAS:
            return f"alias of {answer.alias}"
        case _:
            return "nothing"  # no such name, or no such record: the same for who asks


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN_MAX else f"{text[:SHOWN_MAX]}..."
