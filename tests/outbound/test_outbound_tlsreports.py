"""From a connection to the report in the postbox of who asked for it: real store, DNS, HTTPS."""

import email
import gzip
import json
import random
from dataclasses import replace
from zlib import crc32

import dkim
import private_ca
import pytest
from dns_server import serving as dns_serving
from private_ca import Web
from private_ca import serving as web_serving

from mtad.config import Address, Config, Delivery, Dns, Paths, Tls
from mtad.dkim.keys import Keys, record
from mtad.dns.resolver import Resolver
from mtad.events import Events
from mtad.mail.ident import Ids
from mtad.outbound.route import Host
from mtad.outbound.tlsreports import DAY_S, SPREAD_S, TlsReports
from mtad.queue.sqlite import open_store
from mtad.queue.store import Selector, StoreError
from mtad.tls.requirement import WITHOUT, Requirement
from mtad.tls.tlsrpt import Fault, Policy

ZONE = """
$ORIGIN example.
@ 60 SOA ns hostmaster 1 60 60 60 60
_smtp._tls.d 60 TXT "v=TLSRPTv1; rua=mailto:tls@d.example,mailto:bad address"
_smtp._tls.web 60 TXT "v=TLSRPTv1; rua=https://reports.web.example/in?x=1"
reports.web 60 A 127.0.0.1
"""
DAY = 20_000
UNTRUSTED = Fault("certificate-not-trusted", "The host's certificate cannot be verified", "secret cause")


class World:
    def __init__(self, root, dns_port: int, ca_file: str, web: Web) -> None:
        self.now = DAY * DAY_S + 3600.0
        paths = Paths("", str(root / "data"), str(root / "run"))
        self.config = Config(
            "mail.own.test",
            ("own.test",),
            paths,
            tls=Tls(server_ca=ca_file),
            dns=Dns((Address("127.0.0.1", dns_port),), 2.0),
            delivery=Delivery(allow_private_addresses=True),
        )
        self.lines: list[str] = []
        self.events = Events(self.clock, self.lines.append)
        self.store = open_store(paths, self.clock)
        self.keys = Keys(paths.dkim)
        self.ids = Ids(self.clock, random.Random(1))
        self.web = web
        self.reports = self.opened()

    def clock(self) -> float:
        return self.now

    def opened(self) -> TlsReports:
        resolver = Resolver(self.config.dns, self.clock)
        return TlsReports(
            self.config,
            self.store,
            resolver,
            self.keys,
            self.events,
            self.ids,
            self.clock,
            lambda at: None,
            self.web.port,
        )

    def see(self, domain: str, fault: Fault | None = None, count: int = 1, level="verify") -> None:
        need = Requirement(level, "MTA-STS", "MTA-STS enforce", report=Policy(domain, "sts", ("x",)))
        for _ in range(count):
            self.reports.seen(Host(f"mx.{domain}", "198.51.100.1", 25, need), "192.0.2.1", fault)

    def sign(self) -> None:
        self.keys.generate("own.test", selector="sel", algorithm="ed25519", now=self.now)
        self.keys.load()

    def next_day(self) -> None:
        self.now = (DAY + 1) * DAY_S + SPREAD_S + 1.0

    async def queued(self):
        return await self.store.select(Selector(all=True), self.now)


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rpt")
    root = private_ca.make("root", ca=True)
    (folder / "root.pem").write_bytes(root.pem())
    return private_ca.make("reports.web.example", root).context(folder), str(folder / "root.pem")


@pytest.fixture
async def world(tmp_path, pki):
    async with dns_serving(ZONE) as dns, web_serving(Web().says(b""), pki[0]) as web:
        made = World(tmp_path, dns.port, pki[1], web)
        yield made
        await made.store.close()


async def test_a_day_is_reported_once_by_signed_mail(world):
    world.sign()
    world.see("d.example", count=2)
    world.see("d.example", UNTRUSTED, count=3)
    await world.reports.flush()
    world.see("d.example", UNTRUSTED)
    await world.reports.flush()
    assert await world.reports.send() == 0  # the day is not over
    world.next_day()
    world.reports = world.opened()  # and the daemon was started again
    assert await world.reports.send() == 1
    [row] = await world.queued()
    assert (row.message.sender, row.recipient.address) == ("postmaster@own.test", "tls@d.example")
    assert (row.recipient.notify, row.message.tls_optional, row.message.peer.source) == ("NEVER", True, "internal")
    content = await world.store.content(row.message.id)
    octets = content.head + content.body
    assert row.message.size_bytes == len(octets)
    [key] = world.keys.keys("own.test")
    assert dkim.verify(octets, dnsfunc=lambda name, timeout=5: record(key).encode())

    attached = email.message_from_bytes(octets).get_payload()[1].get_payload(decode=True)
    [policy] = json.loads(gzip.decompress(attached))["policies"]
    assert policy["summary"] == {"total-successful-session-count": 2, "total-failure-session-count": 4}
    assert b"secret cause" not in gzip.decompress(attached)
    assert await world.reports.send() == 0
    assert len(await world.queued()) == 1
    assert 'mtad_tls_reports_total{result="ok"}' in world.events.counters


async def test_reports_are_spread_over_the_night(world):
    world.sign()
    world.see("d.example")
    await world.reports.flush()
    at = (DAY + 1) * DAY_S + crc32(b"mail.own.test d.example") % SPREAD_S
    world.now = at - 1.0
    assert await world.reports.send() == 0
    world.now = float(at)
    assert await world.reports.send() == 1


async def test_by_https(world):
    world.see("web.example", UNTRUSTED)
    await world.reports.flush()
    world.next_day()
    world.web.says(b"", "503 later")
    assert await world.reports.send() == 0
    world.web.says(b"", "201 Created")
    assert await world.reports.send() == 1
    request = world.web.asked[-1]
    assert request.startswith(b"POST /in?x=1 HTTP/1.1\r\nHost: reports.web.example\r\n")
    assert b"\r\nContent-Type: application/tlsrpt+gzip\r\n" in request
    [policy] = json.loads(gzip.decompress(request.partition(b"\r\n\r\n")[2]))["policies"]
    assert policy["summary"]["total-failure-session-count"] == 1
    assert await world.reports.send() == 0
    assert 'mtad_tls_reports_total{result="failed"}' in world.events.counters


async def test_who_does_not_ask_gets_none_and_nothing_is_kept(world):
    world.see("silent.example")
    await world.reports.flush()
    assert await world.store.tls_days(DAY + 1) == [(DAY, "silent.example")]
    world.next_day()
    assert await world.reports.send() == 0
    assert await world.store.tls_days(DAY + 1) == []
    assert await world.queued() == []


async def test_without_a_key_to_sign_with_there_is_no_report_and_the_operator_hears_why(world):
    world.see("d.example")
    await world.reports.flush()
    world.next_day()
    assert await world.reports.send() == 0
    assert await world.queued() == []
    assert any("mtactl dkim generate" in line for line in world.lines)
    world.now += 4 * DAY_S
    assert await world.reports.send() == 0
    assert await world.store.tls_days(DAY + 9) == []


async def test_what_reports_meet_with_is_not_counted(world):
    world.reports.seen(Host("mx.d.example", "198.51.100.1", 25, WITHOUT), "192.0.2.1", UNTRUSTED)
    await world.reports.flush()
    assert await world.store.tls_days(DAY + 1) == []


async def test_off_is_off(world):
    world.reports.reload(
        replace(world.config, delivery=replace(world.config.delivery, tls_reports=False)),
        Resolver(world.config.dns, world.clock),
    )
    world.see("d.example")
    await world.reports.flush()
    assert await world.store.tls_days(DAY + 1) == []


async def test_counts_survive_a_store_that_fails(world):
    class Failing:
        async def count_tls(self, counted):
            raise StoreError("full", full=True)

    world.see("d.example", count=5)
    store, world.reports._store = world.reports._store, Failing()
    with pytest.raises(StoreError):
        await world.reports.flush()
    world.reports._store = store
    await world.reports.flush()
    assert [one.count for one in await world.store.tls_counted(DAY, "d.example")] == [5]


async def test_operators_hear_of_what_was_required_and_failed(world):
    world.see("d.example", UNTRUSTED)
    world.see("d.example", UNTRUSTED, level="may")
    [line] = [line for line in world.lines if "no mail without" in line]
    assert line == (
        'warning: mx.d.example[198.51.100.1]:25: no mail without "MTA-STS enforce": '
        "The host's certificate cannot be verified"
    )
    assert (
        world.events.counters['mtad_tls_policy_failures_total{origin="mta-sts",result="certificate-not-trusted"}'] == 1
    )
