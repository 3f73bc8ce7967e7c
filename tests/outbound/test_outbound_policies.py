"""MTA-STS from DNS and HTTPS to the host that is used: real sockets, a private authority, the real store."""

import asyncio
from dataclasses import replace

import dns.rdataset as rdataset
import private_ca
import pytest
from dns_server import serving as dns_serving
from private_ca import Web
from private_ca import serving as web_serving

from mtad.config import Address, Config, Delivery, Dns, Paths, Tls, TlsRule
from mtad.dns.resolver import MxAnswer, Resolver
from mtad.events import Events
from mtad.outbound.policies import AGAIN_S, Policies
from mtad.outbound.route import Host, Remote
from mtad.outbound.security import Security
from mtad.queue.sqlite import open_store
from mtad.tls.mta_sts import Known
from mtad.tls.tlsrpt import Fault

ZONE = """
$ORIGIN example.
@ 60 SOA ns hostmaster 1 60 60 60 60
_mta-sts.d 60 TXT "v=STSv1; id=1;"
mta-sts.d 60 A 127.0.0.1
_mta-sts.two 60 TXT "v=STSv1; id=1;"
_mta-sts.two 60 TXT "v=STSv1; id=2;"
_mta-sts.lost 60 TXT "v=STSv1; id=1;"
plain 60 TXT "v=spf1 -all"
"""
POLICY = b"version: STSv1\nmode: enforce\nmx: mx.d.example\nmx: *.wild.example\nmax_age: 1000000\n"


class World:
    """A resolver over the zone, a web server for mta-sts.d.example, and a store. `now` is the time."""

    def __init__(self, root, dns_port: int, ca_file: str, web: Web) -> None:
        self.now = 1_000_000.0
        self.web = web
        self.paths = Paths("", str(root / "data"), str(root / "run"))
        self.config = Config(
            "own.test",
            ("own.test",),
            self.paths,
            tls=Tls(server_ca=ca_file),
            dns=Dns((Address("127.0.0.1", dns_port),), 2.0),
            delivery=Delivery(allow_private_addresses=True),
        )
        self.lines: list[str] = []
        self.events = Events(self.clock, self.lines.append)
        self.store = open_store(self.paths, self.clock)
        self.policies = self.opened()

    def clock(self) -> float:
        return self.now

    def opened(self, config: Config | None = None) -> Policies:
        resolver = Resolver((config or self.config).dns, self.clock)
        return Policies(config or self.config, resolver, self.store, self.events, self.clock, self.web.port)

    async def security(self, *rules: TlsRule, mta_sts: bool = True) -> Security:
        config = replace(self.config, delivery=replace(self.config.delivery, tls=rules, mta_sts=mta_sts))
        resolver = Resolver(config.dns, self.clock)
        return Security(config, resolver, self.policies, self.events, self.clock)


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sts")
    root = private_ca.make("root", ca=True)
    (folder / "root.pem").write_bytes(root.pem())
    return private_ca.make("mta-sts.d.example", root).context(folder), str(folder / "root.pem")


@pytest.fixture
async def dns():
    async with dns_serving(ZONE) as server:
        yield server


@pytest.fixture
async def world(tmp_path, dns, pki):
    async with web_serving(Web().says(POLICY), pki[0]) as web:
        made = World(tmp_path, dns.port, pki[1], web)
        yield made
        await made.policies.close()
        await made.store.close()


def announce(dns, record: str) -> None:
    dns.zone.get_node("_mta-sts.d.example.").rdatasets[:] = [rdataset.from_text("IN", "TXT", 60, f'"{record}"')]


async def needs(security: Security, *hosts: str, domain: str = "d.example"):
    plan = Remote(tuple(Host(name, "127.0.0.1", 25) for name in hosts))
    secured = await security.secured(domain, MxAnswer(()), plan)
    return [host.tls for host in secured.hosts]


async def test_a_policy_is_fetched_once_and_says_which_hosts_may_be_used(world):
    security = await world.security()
    listed, wild, deep, other = await needs(security, "mx.d.example", "a.wild.example", "a.b.wild.example", "evil.test")
    assert (str(listed), listed.level) == ("verify (MTA-STS enforce of d.example)", "verify")
    assert wild == listed
    for need in (deep, other):
        assert (need.refusal.code, need.refusal.status) == (451, "4.7.5")
        assert need.fault.result == "validation-failure"
    assert listed.steps == ("verify",)
    assert listed.report.type == "sts"
    assert len(world.web.asked) == 1
    assert world.web.asked[0].startswith(b"GET /.well-known/mta-sts.txt HTTP/1.1\r\nHost: mta-sts.d.example\r\n")
    assert 'mtad_sts_policies_total{result="ok"}' in world.events.counters


async def test_many_ask_and_one_fetches(world):
    found = await asyncio.gather(*(world.policies.policy("d.example") for _ in range(20)))
    assert {type(one) for one in found} == {Known}
    assert len(world.web.asked) == 1


async def test_a_policy_outlives_the_daemon_and_the_web_server(world):
    await world.policies.policy("d.example")
    await world.policies.close()
    world.web.octets = b""
    again = world.opened()
    await again.load()
    world.now += 999_999
    assert isinstance(await again.policy("d.example"), Known)
    world.now += 2
    assert isinstance(await again.policy("d.example"), Fault)
    await again.renew()
    assert await world.store.load_policies() == []


async def test_a_new_id_fetches_and_a_failure_keeps_the_old_policy(world, dns):
    await world.policies.policy("d.example")
    world.now += 100  # the answer of DNS is over
    announce(dns, "v=STSv1; id=2;")
    world.web.says(b"garbage")
    known = await world.policies.policy("d.example")
    assert (known.id, known.policy.mode) == ("1", "enforce")
    await world.policies.policy("d.example")
    assert len(world.web.asked) == 2  # not again at once
    world.web.says(POLICY.replace(b"enforce", b"testing"))
    world.now += AGAIN_S + 100
    known = await world.policies.policy("d.example")
    assert (known.id, known.policy.mode) == ("2", "testing")


async def test_no_record_any_more_is_no_reason_to_forget(world, dns):
    await world.policies.policy("d.example")
    world.now += 100
    dns.zone.delete_node("_mta-sts.d.example.")
    assert isinstance(await world.policies.policy("d.example"), Known)
    world.now += 100
    dns.wrong["_mta-sts.d.example"] = lambda query: b"\0"
    assert isinstance(await world.policies.policy("d.example"), Known)


@pytest.mark.parametrize("domain", ["plain.example", "absent.example", "two.example"])
async def test_no_announcement_is_no_policy(world, domain):
    assert await world.policies.policy(domain) is None
    [need] = await needs(await world.security(), "mx", domain=domain)
    assert (need.level, need.steps, need.fault, need.report.type) == ("may", ("may", "clear"), None, "no-policy-found")


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        (lambda web: web.says(POLICY, "404 Not Found"), "sts-policy-fetch-error"),
        (lambda web: web.says(POLICY, "302 Found", extra="Location: https://d.example/\r\n"), "sts-policy-fetch-error"),
        (lambda web: web.says(POLICY, media_type="text/html; charset=utf-8"), "sts-policy-invalid"),
        (lambda web: web.says(b"version: STSv1\n"), "sts-policy-invalid"),
        (lambda web: web.says(b"x: y\n" * 20_000), "sts-policy-fetch-error"),
        (lambda web: setattr(web, "octets", b""), "sts-policy-fetch-error"),
    ],
)
async def test_a_first_fetch_that_fails_leaves_mail_as_it_was_and_is_reported(world, answer, result):
    answer(world.web)
    [need] = await needs(await world.security(), "mx.d.example")
    assert (need.level, need.refusal, need.fault.result) == ("may", None, result)
    await needs(await world.security(), "mx.d.example")
    assert len(world.web.asked) == 1
    assert f'mtad_sts_policies_total{{result="{result}"}}' in world.events.counters


async def test_a_server_without_the_right_certificate_has_no_say(world):
    world.policies.reload(replace(world.config, tls=Tls()), Resolver(world.config.dns, world.clock))
    fault = await world.policies.policy("d.example")
    assert fault.result == "sts-webpki-invalid"
    assert world.web.asked == []


async def test_strangers_do_not_send_us_to_private_addresses(world):
    strict = replace(world.config, delivery=Delivery())
    world.policies.reload(strict, Resolver(world.config.dns, world.clock))
    fault = await world.policies.policy("d.example")
    assert (fault.result, world.web.asked) == ("sts-policy-fetch-error", [])
    assert (await world.policies.policy("lost.example")).result == "sts-policy-fetch-error"


async def test_testing_never_enforces(world):
    world.web.says(POLICY.replace(b"enforce", b"testing"))
    listed, other = await needs(await world.security(), "mx.d.example", "evil.test")
    assert listed.steps == ("verify", "may", "clear")
    assert (other.steps, other.refusal, other.fault.result) == (("may", "clear"), None, "validation-failure")


async def test_mode_none_asks_for_nothing(world):
    world.web.says(b"version: STSv1\nmode: none\nmax_age: 100\n")
    [need] = await needs(await world.security(), "mx.d.example")
    assert (need.level, need.testing, need.fault) == ("may", False, None)


async def test_policies_in_use_are_renewed_before_they_end(world):
    await world.policies.policy("d.example")
    world.now += 86_000
    await world.policies.renew()
    assert len(world.web.asked) == 1
    world.now += 500
    await world.policies.renew()
    assert len(world.web.asked) == 2
    [known] = world.policies.list()
    assert known.fetched_at == world.now
    world.web.octets = b""
    world.now += 90_000
    await world.policies.renew()  # in vain
    assert isinstance(await world.policies.policy("d.example"), Known)


async def test_the_operator_has_the_first_word(world):
    rules = (
        TlsRule("d.example", "may"),
        TlsRule("*.example", "verify", mx=("*.ok.example",)),
        TlsRule("pinned.test", "pinned", pins=("00" * 32,)),
    )
    security = await world.security(*rules)
    [need] = await needs(security, "evil.test")
    assert str(need) == "may (the settings for d.example)"
    good, bad = await needs(security, "mx.ok.example", "mx.bad.example", domain="x.example")
    assert (good.level, good.refusal) == ("verify", None)
    assert bad.refusal.status == "4.7.5"
    [need] = await needs(security, "mx", domain="pinned.test")
    assert (need.level, need.pins) == ("pinned", ("00" * 32,))
    assert world.web.asked == []


async def test_off_is_off(world):
    [need] = await needs(await world.security(mta_sts=False), "mx.d.example")
    assert need.level == "may"
    assert world.web.asked == []


async def test_a_policy_that_was_fetched_meanwhile_is_not_set_back(world):
    """While DNS is asked for one mail, the daily renewal brings the policy again."""
    await world.policies.policy("d.example")
    world.now += 90_000
    asking = asyncio.create_task(world.policies.policy("d.example"))
    await asyncio.sleep(0)
    fetched = replace(world.policies.list()[0], fetched_at=world.now)
    world.policies._known["d.example"] = fetched
    await asking
    assert world.policies.list()[0].fetched_at == world.now


async def test_a_life_of_nothing_is_no_order_to_fetch_for_each_mail(world):
    """RFC 8461 3.2 allows max_age: 0. The policy holds until a next fetch is allowed, and no longer."""
    world.web.says(POLICY.replace(b"1000000", b"0"))
    for _ in range(10):
        known = await world.policies.policy("d.example")
        assert (type(known), known.policy.max_age_s) == (Known, 0)
        world.now += 29
    assert len(world.web.asked) == 1
    world.now += 11
    await world.policies.policy("d.example")
    assert len(world.web.asked) == 2
    world.web.octets = b""
    world.now += 299
    assert isinstance(await world.policies.policy("d.example"), Known)
    world.now += 2
    for _ in range(5):
        assert isinstance(await world.policies.policy("d.example"), Fault)
        world.now += 50
    assert len(world.web.asked) == 3


async def test_ids_that_change_with_each_question_are_not_followed_one_by_one(world, dns):
    """A name server may make up a new id for each question; the web server that is fetched from may be a stranger's."""
    for number in range(10):
        announce(dns, f"v=STSv1; id={number};")
        world.policies.reload(world.config, Resolver(world.config.dns, world.clock))
        assert isinstance(await world.policies.policy("d.example"), Known)
        world.now += 5
    assert len(world.web.asked) == 1
    world.now += 60
    assert (await world.policies.policy("d.example")).id == "9"
    world.web.octets = b""
    for number in range(10, 20):
        world.now += 61 if number == 10 else 5
        announce(dns, f"v=STSv1; id={number};")
        world.policies.reload(world.config, Resolver(world.config.dns, world.clock))
        assert (await world.policies.policy("d.example")).id == "9"
    assert len(world.web.asked) == 3
