"""DNS as the daemon needs it: typed answers, a bounded cache, one query at a time for one question, a deadline.

dnspython does the messages; it costs 75 ms to import, so it is loaded when the first question is asked.
"""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mtad.config import Dns
from mtad.dns.words import of_failure, of_network
from mtad.mail.envelope import Clock

if TYPE_CHECKING:
    from dns.asyncresolver import Resolver as Asker

CACHE_MAX = 20_000  # records; an answer without any counts as one, a long text as several
TEXT_BYTES = 512  # of a text count as one record
TTL_MAX_S = 86_400.0
TTL_MIN_S = 5.0  # a TTL of 0 still serves the burst that asked for it
NEGATIVE_MAX_S = 900.0
TEMPORARY_S = 5.0  # a failing server is not asked again by every mail of a burst
RECORDS_MAX = 100  # of one answer
SYSTEM_S = 30.0  # the C library tells no TTL
SIGNED = "."  # is there and signed for everybody
BOGUS = "dnssec-failed.org"  # kept broken by its owner, for such tests
_SYSTEM = "system"  # a kind of question beside the types of records


class DnsTemporary(Exception):  # noqa: N818  (the names are the design's)
    """No answer now: timeout, SERVFAIL, garbage. Holds the cause for the log."""


class NoSuchName(Exception):  # noqa: N818
    """NXDOMAIN: the name does not exist, whatever the type. Also a name that cannot exist."""


class NoData(Exception):  # noqa: N818
    """The name exists, but has no record of this type. `secure`: and that is validated."""

    def __init__(self, cause: str = "", *, secure: bool = False) -> None:
        super().__init__(cause)
        self.secure = secure


@dataclass(frozen=True, slots=True)
class MxAnswer:
    """MX records as (preference, host), in no order that matters. A null MX (RFC 7505) is the one host ""."""

    hosts: tuple[tuple[int, str], ...]
    secure: bool = False  # validated with DNSSEC, by a resolver that we trust


TlsaRecord = tuple[int, int, int, bytes]
"""Usage, selector, matching type and data (RFC 6698 2.1)."""


@dataclass(frozen=True, slots=True)
class Found:
    """Records, and at which name they are: behind the CNAMEs of the one that was asked for."""

    records: tuple[Any, ...]
    name: str
    secure: bool


@dataclass(frozen=True, slots=True)
class _Answer:
    """One cached outcome: records, or the failure to raise."""

    records: tuple[Any, ...]
    secure: bool
    expires_at: float
    failure: type[Exception] | None = None
    cause: str = ""
    name: str = ""  # where the records are: behind the CNAMEs of the name that was asked for


class Resolver:
    """Safe for any number of concurrent callers of one event loop."""

    def __init__(self, config: Dns, clock: Clock, cache_max: int = CACHE_MAX) -> None:
        self._config = config
        self._clock = clock
        self._cache_max = cache_max
        self._cache: OrderedDict[tuple[str, str], _Answer] = OrderedDict()
        self._cached = 0  # as cache_max counts
        self._asking: dict[tuple[str, str], asyncio.Task[_Answer]] = {}
        self._asker: Asker | None = None

    async def mx(self, domain: str) -> MxAnswer:
        """Raises DnsTemporary, NoSuchName, or NoData (then the domain itself is the host, RFC 5321 5.1)."""
        answer = await self._ask(domain, "MX")
        return MxAnswer(tuple((record.preference, _host(record.exchange)) for record in answer.records), answer.secure)

    async def addresses(self, host: str) -> tuple[str, ...]:
        """IPv4 first, then IPv6. Raises DnsTemporary (nothing found, and one type failed), NoSuchName, NoData."""
        outcomes = await asyncio.gather(self._ask(host, "A"), self._ask(host, "AAAA"), return_exceptions=True)
        found = [
            str(record.address) for outcome in outcomes if isinstance(outcome, _Answer) for record in outcome.records
        ]
        if found:
            return tuple(found)
        failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        for kind in (DnsTemporary, NoSuchName):
            for failure in failures:
                if isinstance(failure, kind):
                    raise failure
        raise next((failure for failure in failures if not isinstance(failure, NoData)), NoData(host))

    async def system_addresses(self, host: str) -> tuple[str, ...]:
        """As `addresses`, but the hosts file of this machine counts too: for hosts that the operator named."""
        if self._config.servers:
            return await self.addresses(host)
        return (await self._ask(host, _SYSTEM)).records

    async def tlsa_bases(self, host: str) -> tuple[str, ...]:
        """At which names the TLSA records of a host may be, best first; () when its addresses are not validated, and
        so nothing is to be asked of it (RFC 7672 2.2.2). Asks what `addresses` asked."""
        outcomes = await asyncio.gather(self._ask(host, "A"), self._ask(host, "AAAA"), return_exceptions=True)
        answers = [outcome for outcome in outcomes if isinstance(outcome, _Answer)]
        if not answers:
            return ()
        name = answers[0].name
        if all(answer.secure for answer in answers):
            return tuple(dict.fromkeys((name, host)))
        if name == host:
            return ()
        try:  # the alias may be validated where what it leads to is not
            return (host,) if (await self._ask(host, "CNAME")).secure else ()
        except (NoSuchName, NoData):
            return ()

    async def tlsa(self, name: str) -> tuple[TlsaRecord, ...]:
        """The TLSA records at "_25._tcp.HOST"; () when there are none, or they are not validated. DnsTemporary also
        when they are bogus: then the host must not be used."""
        try:
            answer = await self._ask(name, "TLSA")
        except (NoSuchName, NoData):
            return ()
        if not answer.secure:
            return ()
        return tuple((record.usage, record.selector, record.mtype, bytes(record.cert)) for record in answer.records)

    async def distrust(self, signed: str = SIGNED, bogus: str = BOGUS) -> str:
        """Why the word of the name servers on DNSSEC does not count; "" when it does.

        They are tried on a name that is signed and on one whose signatures are wrong. Raises DnsTemporary when they
        do not answer at all.
        """
        if self._config.trust_ad == "no":
            return "dns.trust_ad is no"
        try:
            secure = (await self._ask(signed, "SOA")).secure
        except (NoSuchName, NoData) as error:
            secure = isinstance(error, NoData) and error.secure
        if not secure:
            return f"{self._servers()} did not validate with DNSSEC: put a validating resolver on this machine"
        try:
            await self._ask(bogus, "SOA")
        except (DnsTemporary, NoSuchName, NoData):
            return ""
        return f"{self._servers()} passed on an answer whose signature is wrong ({bogus})"

    async def txt(self, name: str) -> tuple[bytes, ...]:
        """Each record's strings joined without a space (RFC 7208 3.3)."""
        answer = await self._ask(name, "TXT")
        return tuple(b"".join(record.strings) for record in answer.records)

    async def ns(self, zone: str) -> tuple[str, ...]:
        """The name servers of a zone. Raises as `mx`; NoData where the name is no zone of its own."""
        answer = await self._ask(zone, "NS")
        return tuple(_host(record.target) for record in answer.records)

    async def records(self, name: str, kind: str) -> "Found":
        """The records of any type, as rdata of dnspython. Raises as `mx`."""
        answer = await self._ask(name, kind)
        return Found(answer.records, answer.name, answer.secure)

    # --- cache and single flight

    async def _ask(self, name: str, kind: str) -> _Answer:
        key = (name.lower().rstrip("."), kind)
        answer = self._cache.get(key)
        if answer is None or answer.expires_at <= self._clock():
            task = self._asking.get(key)
            if task is None:
                task = asyncio.create_task(self._query(*key))
                self._asking[key] = task
                task.add_done_callback(lambda _: self._asking.pop(key, None))
            # One caller that gives up must not take the answer from the others.
            answer = await asyncio.shield(task)
        else:
            self._cache.move_to_end(key)
        if answer.failure is NoData:
            raise NoData(answer.cause, secure=answer.secure)
        if answer.failure is not None:
            raise answer.failure(answer.cause)
        return answer

    async def _query(self, name: str, kind: str) -> _Answer:
        answer = await self._answer(name, kind)
        old = self._cache.pop((name, kind), None)
        self._cached += _size(answer) - (_size(old) if old is not None else 0)
        self._cache[name, kind] = answer
        while self._cached > self._cache_max:
            _, old = self._cache.popitem(last=False)
            self._cached -= _size(old)
        return answer

    async def _system(self, host: str) -> _Answer:
        """Asked of the C library, in a thread that cannot be stopped: so one question at a time, like the others."""
        try:
            async with asyncio.timeout(self._config.timeout_s):
                found = await asyncio.get_running_loop().getaddrinfo(host, None, proto=6)
        except TimeoutError:
            return self._failed(DnsTemporary, f"{host}: {self._silence()}", TEMPORARY_S)
        except UnicodeError:
            return self._failed(DnsTemporary, f"{host}: not a host name", TEMPORARY_S)
        except OSError as error:
            return self._failed(DnsTemporary, f"{host}: {of_network(error)}", TEMPORARY_S)
        addresses = sorted({str(address[0]) for *_, address in found}, key=lambda address: ":" in address)
        return _Answer(tuple(addresses), False, self._clock() + SYSTEM_S)

    async def _answer(self, name: str, kind: str) -> _Answer:
        if kind == _SYSTEM:
            return await self._system(name)
        import dns.exception
        import dns.name
        import dns.resolver

        try:
            question = dns.name.from_text(name)
        except (dns.exception.DNSException, ValueError):
            return self._failed(NoSuchName, f"{name}: not a domain name", NEGATIVE_MAX_S)
        try:
            async with asyncio.timeout(self._config.timeout_s):
                got = await self._dns().resolve(question, kind, raise_on_no_answer=False, search=False)
            secure = bool(got.response.flags & dns.flags.AD) and self._trusts(got.nameserver)
            if got.rrset is None or (kind == "NS" and got.canonical_name != question):  # an alias is no zone
                return self._failed(NoData, f"{name} {kind}: no data", _negative_ttl(got.response), secure=secure)
            return _Answer(
                tuple(got.rrset)[:RECORDS_MAX],
                secure,
                self._clock() + min(max(float(got.chaining_result.minimum_ttl), TTL_MIN_S), TTL_MAX_S),
                name=_host(got.canonical_name),
            )
        except dns.resolver.NXDOMAIN as error:
            response = next(iter((error.kwargs.get("responses") or {}).values()), None)
            return self._failed(NoSuchName, f"{name}: no such name", _negative_ttl(response))
        except Exception as error:  # noqa: BLE001  (whatever a server or the network does to us: no answer now)
            silent = isinstance(error, (TimeoutError, dns.exception.Timeout))
            words = self._silence() if silent else of_failure(error)
            return self._failed(DnsTemporary, f"{name} {kind}: {words} (asked {self._servers()})", TEMPORARY_S)

    def _silence(self) -> str:
        return f"no answer within {self._config.timeout_s:g} s"

    def _failed(self, failure: type[Exception], cause: str, ttl_s: float, *, secure: bool = False) -> _Answer:
        return _Answer((), secure, self._clock() + ttl_s, failure, cause)

    def _trusts(self, server: str | None) -> bool:
        """Whose AD bit counts: over a network, anybody could set it."""
        return self._config.trust_ad == "yes" or (self._config.trust_ad == "loopback" and _loopback(server))

    def _servers(self) -> str:
        servers = self._config.servers
        return ", ".join(f"{server.host} port {server.port}" for server in servers) or "the system's name servers"

    def _dns(self) -> "Asker":
        if self._asker is None:
            import dns.flags
            from dns.asyncresolver import Resolver as Asker
            from dns.nameserver import Do53Nameserver

            servers = self._config.servers
            asker = Asker(configure=not servers)
            if servers:
                asker.nameservers = [Do53Nameserver(server.host, server.port) for server in servers]
            asker.timeout = max(self._config.timeout_s / 3, 0.1)
            asker.lifetime = self._config.timeout_s
            asker.use_edns(0, dns.flags.DO, 1232)
            asker.flags = dns.flags.RD | dns.flags.AD
            self._asker = asker
        return self._asker


def _host(name: Any) -> str:
    """A name of an answer as text: lower case, without the last dot; the root is ""."""
    return str(name.to_text(omit_final_dot=True)).lower().removesuffix(".")


def _size(answer: _Answer) -> int:
    """What an answer takes of the cache. Whoever runs a zone decides how much there is in it."""
    texts = sum(len(text) for record in answer.records for text in getattr(record, "strings", ()))
    return max(len(answer.records), 1) + texts // TEXT_BYTES


def _loopback(server: str | None) -> bool:
    return bool(server) and (str(server).startswith("127.") or server == "::1")


def _negative_ttl(response: Any) -> float:
    """RFC 2308 5: the lesser of the SOA's own TTL and its minimum."""
    for rrset in getattr(response, "authority", ()):
        if rrset.rdtype == 6:
            return min(max(float(min(rrset.ttl, rrset[0].minimum)), TTL_MIN_S), NEGATIVE_MAX_S)
    return TTL_MIN_S
