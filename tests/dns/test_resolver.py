import asyncio
import contextlib
import os
import subprocess
import sys

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from dns_server import serving

from mtad.config import Address, Dns
from mtad.dns.resolver import DnsTemporary, NoData, NoSuchName, Resolver

ZONE = """
$ORIGIN test.
$TTL 300
@ SOA ns host 1 3600 600 86400 60
@ NS ns
ns A 127.0.0.1
one MX 10 mx1
one MX 20 MX2.other.test.
null MX 0 .
bare A 192.0.2.7
mx1 A 192.0.2.1
mx1 AAAA 2001:db8::1
six AAAA 2001:db8::6
alias CNAME mx1
text TXT "v=spf1 " "-all"
brief 0 A 192.0.2.9
moves 30 CNAME mx1
"""


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def server():
    async with serving(ZONE) as server:
        yield server


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def resolver(server, clock):
    return Resolver(Dns((Address("127.0.0.1", server.port),), timeout_s=2.0), clock)


async def test_mx(resolver):
    answer = await resolver.mx("one.test")
    assert sorted(answer.hosts) == [(10, "mx1.test"), (20, "mx2.other.test")]
    assert not answer.secure


async def test_null_mx_is_the_empty_host(resolver):
    assert (await resolver.mx("null.test")).hosts == ((0, ""),)


async def test_secure_is_the_ad_bit_of_a_resolver_on_this_machine(server, resolver):
    server.authentic = True
    assert (await resolver.mx("one.test")).secure


async def test_addresses_ipv4_first(resolver):
    assert await resolver.addresses("mx1.test") == ("192.0.2.1", "2001:db8::1")
    assert await resolver.addresses("six.test") == ("2001:db8::6",)
    assert await resolver.addresses("alias.test") == ("192.0.2.1", "2001:db8::1")
    assert await resolver.system_addresses("mx1.test") == ("192.0.2.1", "2001:db8::1")


async def test_txt_strings_are_joined(resolver):
    assert await resolver.txt("text.test") == (b"v=spf1 -all",)


@pytest.mark.parametrize(
    ("ask", "name", "failure"),
    [
        ("mx", "bare.test", NoData),
        ("mx", "nobody.test", NoSuchName),
        ("addresses", "one.test", NoData),
        ("addresses", "nobody.test", NoSuchName),
        ("mx", "a" * 64 + ".test", NoSuchName),
        ("mx", "a..test", NoSuchName),
        ("addresses", "x." * 130, NoSuchName),
    ],
)
async def test_nothing_there(resolver, ask, name, failure):
    with pytest.raises(failure):
        await getattr(resolver, ask)(name)


def _servfail(query):
    response = dns.message.make_response(query)
    response.set_rcode(dns.rcode.SERVFAIL)
    return response.to_wire()


def _refused(query):
    response = dns.message.make_response(query)
    response.set_rcode(dns.rcode.REFUSED)
    return response.to_wire()


def _thousand_texts(query):
    response = dns.message.make_response(query)
    texts = [f'"{number} {"x" * 20}"' for number in range(1000)]
    response.answer.append(dns.rrset.from_text_list(query.question[0].name, 300, "IN", "TXT", texts))
    return response.to_wire(max_size=65535)


def _yxdomain(query):
    response = dns.message.make_response(query)
    response.set_rcode(dns.rcode.YXDOMAIN)
    return response.to_wire()


def _other_question(query):
    other = dns.message.make_query("evil.test", "MX", id=query.id)
    return dns.message.make_response(other).to_wire()


SILENT = "no answer within 0.3 s"
WRONG = {
    "silence": (lambda query: None, SILENT),
    "SERVFAIL": (_servfail, "the answer was SERVFAIL"),
    "REFUSED": (_refused, "the answer was REFUSED"),
    "YXDOMAIN": (_yxdomain, "the answer was YXDOMAIN"),
    "nothing": (lambda query: b"", SILENT),
    "garbage": (lambda query: b"\xff" * 40, SILENT),
    "half": (lambda query: dns.message.make_response(query).to_wire()[:14], SILENT),
    "another id": (lambda query: bytes(2) + dns.message.make_response(query).to_wire()[2:], SILENT),
    "another question": (_other_question, SILENT),
    "a pointer to itself": (
        lambda query: query.id.to_bytes(2) + b"\x81\x80\0\1\0\1\0\0\0\0\xc0\x0c\0\x0f\0\1",
        SILENT,  # over UDP anybody may send that, so it is not heard
    ),
}


@pytest.mark.parametrize("name", WRONG)
async def test_whatever_a_server_does_is_no_answer_for_now(server, clock, name):
    resolver = Resolver(Dns((Address("127.0.0.1", server.port),), timeout_s=0.3), clock)
    server.wrong["one.test"], words = WRONG[name]
    with pytest.raises(DnsTemporary) as raised:
        await resolver.mx("one.test")
    assert str(raised.value) == f"one.test MX: {words} (asked 127.0.0.1 port {server.port})"
    del server.wrong["one.test"]
    clock.now += 60
    assert (await resolver.mx("one.test")).hosts


async def test_one_failing_type_is_no_harm_and_no_proof_of_absence(server, clock):
    only_a = Resolver(Dns((Address("127.0.0.1", server.port),), timeout_s=0.5), clock)

    def broken(query):
        if query.question[0].rdtype == 28:
            return _servfail(query)
        del server.wrong["mx1.test"]
        octets = server.answer(query.to_wire(), stream=False)
        server.wrong["mx1.test"] = broken
        return octets

    server.wrong["mx1.test"] = broken
    assert await only_a.addresses("mx1.test") == ("192.0.2.1",)
    server.wrong["six.test"] = _servfail
    with pytest.raises(DnsTemporary):
        await only_a.addresses("six.test")


async def test_nobody_listens(clock):
    resolver = Resolver(Dns((Address("127.0.0.1", 1),), timeout_s=0.3), clock)
    with pytest.raises(DnsTemporary, match=r"^one.test MX: no answer within 0.3 s \(asked 127.0.0.1 port 1\)$"):
        await resolver.mx("one.test")


async def test_truncated_goes_over_tcp(server, resolver):
    server.truncate = True
    assert len((await resolver.mx("one.test")).hosts) == 2


async def test_many_ask_once(server, resolver):
    answers = await asyncio.gather(*(resolver.mx("one.test") for _ in range(20)))
    assert len(set(answers)) == 1
    assert server.asked == [("one.test", "MX")]


async def test_case_and_the_last_dot_are_one_name(server, resolver):
    await resolver.mx("one.test")
    await resolver.mx("ONE.test.")
    assert len(server.asked) == 1


async def test_a_caller_that_gives_up_does_not_take_the_answer_from_others(server, resolver):
    first = asyncio.create_task(resolver.mx("one.test"))
    second = asyncio.create_task(resolver.mx("one.test"))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).hosts
    assert len(server.asked) == 1


async def test_kept_as_long_as_the_ttl(server, resolver, clock):
    for later, asked in ((0, 1), (299, 1), (2, 2)):
        clock.now += later
        await resolver.mx("one.test")
        assert len(server.asked) == asked


async def test_absence_is_kept_as_long_as_the_soa_says(server, resolver, clock):
    for later, asked in ((0, 1), (59, 1), (2, 2)):
        clock.now += later
        with pytest.raises(NoSuchName):
            await resolver.mx("nobody.test")
        assert len(server.asked) == asked


async def test_failure_is_kept_for_moments(server, resolver, clock):
    server.wrong["one.test"] = _servfail
    for _ in range(2):
        with pytest.raises(DnsTemporary):
            await resolver.mx("one.test")
    asked = len(server.asked)
    clock.now += 6
    with pytest.raises(DnsTemporary):
        await resolver.mx("one.test")
    assert len(server.asked) > asked


async def test_an_alias_is_remembered_no_longer_than_it_says(server, clock, resolver):
    """It may point elsewhere before what it pointed to is to be forgotten (RFC 2181 5.2: each set has its own TTL)."""
    await resolver.addresses("moves.test")
    clock.now += 29
    await resolver.addresses("moves.test")
    assert len(server.asked) == 2
    clock.now += 2
    await resolver.addresses("moves.test")
    assert len(server.asked) == 4


async def test_bounded(server, clock):
    resolver = Resolver(Dns((Address("127.0.0.1", server.port),), timeout_s=2.0), clock, cache_max=3)
    for name in ("one.test", "null.test", "text.test", "one.test"):
        with contextlib.suppress(NoData):
            await resolver.mx(name)
    assert [name for name, _ in server.asked] == ["one.test", "null.test", "text.test", "one.test"]


async def test_what_a_zone_holds_is_bounded_too(server, clock):
    """A zone of others may have a hundred records at each of its names, or texts of 60,000 octets."""
    for name in ("one.test", "two.test"):
        server.wrong[name] = _thousand_texts
    resolver = Resolver(Dns((Address("127.0.0.1", server.port),), timeout_s=2.0), clock, cache_max=200)
    for name in ("one.test", "two.test", "one.test", "one.test"):
        assert len(await resolver.txt(name)) == 100
    assert [name for name, _ in server.asked] == ["one.test", "two.test", "one.test"]


def test_dnspython_is_loaded_at_the_first_question_only(repository):
    code = "import sys, mtad.dns.resolver; sys.exit('dns.resolver' in sys.modules or 'dns' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=repository, env=dict(os.environ)).returncode == 0


async def test_the_systems_resolver_is_asked_once_for_a_burst(clock, monkeypatch):
    """Each question holds a thread for as long as the C library likes; the mail that comes in needs threads too."""
    loop = asyncio.get_running_loop()
    real, asked = loop.getaddrinfo, []

    async def counted(host, *args, **more):
        asked.append(host)
        return await real(host, *args, **more)

    monkeypatch.setattr(loop, "getaddrinfo", counted)
    resolver = Resolver(Dns((), timeout_s=5.0), clock)
    found = await asyncio.gather(*(resolver.system_addresses("localhost") for _ in range(20)))
    assert "127.0.0.1" in found[0]
    assert set(found) == {found[0]}
    assert asked == ["localhost"]
    clock.now += 60.0
    await resolver.system_addresses("localhost")
    assert len(asked) == 2


async def test_a_name_the_system_does_not_know_is_temporary(clock):
    with pytest.raises(DnsTemporary, match=f"^{'x' * 70}: not a host name$"):
        await Resolver(Dns((), timeout_s=5.0), clock).system_addresses("x" * 70)
