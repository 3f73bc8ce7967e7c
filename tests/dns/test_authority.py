"""Each authoritative server by itself: found by NS, asked over UDP and TCP; every misbehaviour is an outcome."""

import asyncio
import contextlib
import errno
import socket
from collections.abc import AsyncIterator

import dns.asyncquery
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from dns_server import DnsServer, serving

from mtad.config import Address, Dns
from mtad.dns.authority import Authority, Outcome, Server, ServerAnswer, Survey
from mtad.dns.resolver import NoSuchName, Resolver

ZONE = """
$ORIGIN example.test.
$TTL 300
@ 600 SOA ns1 host 1 3600 600 86400 120
@ NS ns1
@ NS ns2
ns1 A 127.0.0.1
ns2 A 127.0.0.2
text TXT "v=DKIM1; " "k=rsa"
text TXT "two"
alias CNAME text
away 60 CNAME key.esp.test.
loop CNAME pool
pool CNAME loop
deep.er TXT "x"
www CNAME example.test.
"""
ESP = """
$ORIGIN esp.test.
$TTL 300
@ SOA ns1 host 1 3600 600 86400 90
@ NS ns1
ns1 A 127.0.0.3
key TXT "esp"
"""


class Zones:
    """Stands for a resolver: NS and addresses from one table."""

    def __init__(self, table: dict[str, tuple[str, ...]]) -> None:
        self._resolver_table = table

    async def ns(self, zone: str) -> tuple[str, ...]:
        return self._found(f"NS {zone}")

    async def addresses(self, host: str) -> tuple[str, ...]:
        return self._found(host)

    def _found(self, key: str) -> tuple[str, ...]:
        if key not in self._resolver_table:
            raise NoSuchName(key)
        return self._resolver_table[key]


TABLE = {
    "NS example.test": ("ns1.example.test", "ns2.example.test"),
    "ns1.example.test": ("127.0.0.1",),
    "ns2.example.test": ("127.0.0.2",),
    "NS esp.test": ("ns1.esp.test",),
    "ns1.esp.test": ("127.0.0.3",),
}


@pytest.fixture
async def pair() -> AsyncIterator[tuple[DnsServer, DnsServer]]:
    """Two servers of example.test, at one port of two addresses, as on the Internet."""
    async with serving(ZONE) as first, serving(ZONE, "127.0.0.2", first.port) as second:
        first.authoritative = second.authoritative = True
        yield first, second


def authority(port: int, table: dict[str, tuple[str, ...]] = TABLE, **more: float) -> Authority:
    return Authority(Zones(table), port=port, **{"query_s": 0.25, **more})


def told(survey: Survey) -> set[tuple[str, str, str]]:
    return {(answer.server.address, answer.via, answer.outcome.value) for answer in survey.answers}


def everywhere(outcome: str) -> set[tuple[str, str, str]]:
    return {(address, via, outcome) for address in ("127.0.0.1", "127.0.0.2") for via in ("udp", "tcp")}


async def test_every_server_is_asked_over_both_transports(pair: tuple[DnsServer, DnsServer]) -> None:
    survey = await authority(pair[0].port).ask_all("Text.Example.TEST.", "TXT")
    assert (survey.name, survey.zone, survey.problem) == ("text.example.test", "example.test", "")
    assert told(survey) == everywhere("answer")
    assert all(set(answer.texts()) == {b"v=DKIM1; k=rsa", b"two"} for answer in survey.answers)
    assert {answer.ttl_s for answer in survey.answers} == {300.0}
    assert str(survey.answers[0].server) == f"ns1.example.test [127.0.0.1] port {pair[0].port}"


@pytest.mark.parametrize(
    ("name", "outcome"), [("nothing.example.test", "no such name"), ("ns1.example.test", "no data")]
)
async def test_nothing_there(pair: tuple[DnsServer, DnsServer], name: str, outcome: str) -> None:
    survey = await authority(pair[0].port).ask_all(name, "TXT")
    assert told(survey) == everywhere(outcome)
    assert {answer.ttl_s for answer in survey.answers} == {120.0}  # the minimum of the SOA, not its TTL
    assert all(answer.outcome.negative for answer in survey.answers)


async def test_an_alias_within_the_zone_and_one_that_leaves_it(pair: tuple[DnsServer, DnsServer]) -> None:
    ask = authority(pair[0].port)
    assert told(await ask.ask_all("alias.example.test", "TXT")) == everywhere("answer")
    async with serving(ESP, "127.0.0.3", pair[0].port) as esp:
        esp.authoritative = True
        survey = await ask.ask_all("away.example.test", "TXT")
    esp_said = {("127.0.0.3", "udp", "answer"), ("127.0.0.3", "tcp", "answer")}
    assert told(survey) == everywhere("alias") | esp_said
    assert {answer.alias for answer in survey.answers} == {"key.esp.test", ""}


async def test_aliases_in_a_circle_end(pair: tuple[DnsServer, DnsServer]) -> None:
    for server in pair:
        server.wrong["loop.example.test"] = lambda query: cname(query, "pool.example.test.")
        server.wrong["pool.example.test"] = lambda query: cname(query, "loop.example.test.")
    survey = await authority(pair[0].port).ask_all("loop.example.test", "TXT")
    assert told(survey) == everywhere("alias")
    assert len(survey.answers) == 8


def cname(query: dns.message.Message, target: str) -> bytes:
    reply = dns.message.make_response(query)
    reply.flags |= dns.flags.AA
    reply.answer.append(dns.rrset.from_text(query.question[0].name, 60, "IN", "CNAME", target))
    return reply.to_wire()


def says(rcode: dns.rcode.Rcode, flags: int = dns.flags.AA) -> object:
    def answer(query: dns.message.Message) -> bytes:
        reply = dns.message.make_response(query)
        reply.set_rcode(rcode)
        reply.flags |= flags
        return reply.to_wire()

    return answer


def another_question(query: dns.message.Message) -> bytes:
    return dns.message.make_response(dns.message.make_query("evil.test", "TXT", id=query.id)).to_wire()


@pytest.mark.parametrize(
    ("wrong", "udp", "tcp", "words"),
    [
        (says(dns.rcode.REFUSED), "lame", "lame", "REFUSED"),
        (says(dns.rcode.NOERROR, 0), "lame", "lame", "without authority"),
        (says(dns.rcode.SERVFAIL), "failed", "failed", "SERVFAIL"),
        (says(dns.rcode.NOERROR, dns.flags.AA | dns.flags.TC), "truncated", "broken", "truncated"),
        (lambda query: None, "silent", "silent", ""),
        (lambda query: b"\x00garbage", "silent", "broken", ""),  # over UDP: anybody may send that, so it is not heard
        (another_question, "silent", "broken", ""),
        (lambda query: b"", "silent", "broken", ""),
    ],
)  # fmt: skip
async def test_whatever_a_server_does_is_an_outcome(
    pair: tuple[DnsServer, DnsServer], wrong: object, udp: str, tcp: str, words: str
) -> None:
    pair[1].wrong["text.example.test"] = wrong  # type: ignore[assignment]
    survey = await authority(pair[0].port).ask_all("text.example.test", "TXT")
    good = {("127.0.0.1", "udp", "answer"), ("127.0.0.1", "tcp", "answer")}
    assert told(survey) == good | {("127.0.0.2", "udp", udp), ("127.0.0.2", "tcp", tcp)}
    bad = [answer for answer in survey.answers if answer.server.address == "127.0.0.2"]
    assert all(answer.detail.isprintable() and answer.detail for answer in bad)
    assert any(words in answer.detail for answer in bad)


async def test_truncation_over_udp_is_told_and_tcp_has_it_all(pair: tuple[DnsServer, DnsServer]) -> None:
    pair[0].truncate = True
    survey = await authority(pair[0].port).ask_all("text.example.test", "TXT")
    assert ("127.0.0.1", "udp", "truncated") in told(survey)
    assert ("127.0.0.1", "tcp", "answer") in told(survey)


async def test_twenty_kilobytes_of_text() -> None:
    zone = ZONE + "".join(f'big TXT "{n:03} {"x" * 200}"\n' for n in range(100))
    async with serving(zone) as server:
        server.authoritative = server.truncate = True
        ask = Authority(Zones({}), [Address("127.0.0.1", server.port)], query_s=2.0)
        survey = await ask.ask_all("big.example.test", "TXT")
    over_tcp = next(answer for answer in survey.answers if answer.via == "tcp")
    assert len(over_tcp.texts()) == 100


async def test_nobody_there_and_nobody_known(pair: tuple[DnsServer, DnsServer]) -> None:
    closed = socket.socket()
    closed.bind(("127.0.0.1", 0))  # not listening
    table = TABLE | {"ns2.example.test": ("127.0.0.9",), "NS gone.test": ("ns.gone.test",)}
    ask = authority(closed.getsockname()[1], table)
    survey = await ask.ask_all("text.example.test", "TXT")
    assert {answer.outcome for answer in survey.answers} == {Outcome.SILENT}
    assert {answer.outcome for answer in (await ask.ask_all("x.gone.test", "TXT")).answers} == {Outcome.UNRESOLVED}
    unknown = await ask.ask_all("nowhere.invalid", "TXT")
    assert (unknown.answers, unknown.problem) == ((), "no zone is known that nowhere.invalid could be in")
    assert "is no domain name" in (await ask.ask_all("a..b", "TXT")).problem
    closed.close()


async def test_a_host_without_ipv6_is_no_fault_of_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    async def no_way(*_: object, **__: object) -> None:
        raise OSError(errno.ENETUNREACH, "Network is unreachable")

    monkeypatch.setattr(dns.asyncquery, "udp", no_way)
    monkeypatch.setattr(dns.asyncquery, "tcp", no_way)
    survey = await Authority(Zones({}), [Address("2001:db8::1", 53)]).ask_all("a.test", "TXT")
    assert {answer.outcome for answer in survey.answers} == {Outcome.NO_ROUTE}


async def test_time_and_numbers_are_bounded() -> None:
    names = tuple(f"ns{n}.many.test" for n in range(50))
    table = {"NS many.test": names} | {name: tuple(f"127.1.{n}.{m}" for m in range(9)) for n, name in enumerate(names)}
    ask = authority(9, table, query_s=0.05, survey_s=5.0)
    zone, servers, problem = await ask.servers("x.y.many.test")
    assert (zone, len(servers), problem) == ("many.test", 32, "many.test has more servers than are asked")
    async with asyncio.timeout(10):
        survey = await ask.ask_all("x.many.test", "TXT")
    assert len(survey.answers) == 64
    slow = Authority(Zones({}), [Address("127.0.0.1", 9)], query_s=30.0, survey_s=0.05)
    silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    silent.bind(("127.0.0.1", 0))
    slow = Authority(Zones({}), [Address("127.0.0.1", silent.getsockname()[1])], query_s=30.0, survey_s=0.05)
    with contextlib.closing(silent):
        assert "longer than" in (await slow.ask_all("a.test", "TXT")).problem


async def test_the_zone_is_found_by_the_configured_resolver(pair: tuple[DnsServer, DnsServer]) -> None:
    resolver = Resolver(Dns((Address("127.0.0.1", pair[0].port),), timeout_s=2.0), lambda: 1.0)
    ask = Authority(resolver, port=pair[0].port)
    found = await ask.servers("a.b.deep.er.example.test")
    addresses = {
        Server("ns1.example.test", "127.0.0.1", pair[0].port),
        Server("ns2.example.test", "127.0.0.2", pair[0].port),
    }
    assert (found[0], set(found[1])) == ("example.test", addresses)
    assert (await ask.servers("www.example.test"))[0] == "example.test"  # an alias of a zone is no zone


def test_how_a_server_is_named() -> None:
    assert str(Server("ns.test", "192.0.2.1")) == "ns.test [192.0.2.1]"
    assert str(Server("192.0.2.1", "192.0.2.1", 5353)) == "192.0.2.1 port 5353"
    assert ServerAnswer(Server("ns.test"), "udp", Outcome.ANSWER).texts() == ()
