"""The whole way out with the real store: leased, delivered, settled."""

import asyncio
import os
import random
import ssl
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import dns.message
import dns.rcode
import pytest
from dns_server import serving as dns_serving
from smtp_peer import Peer, certificate, serving

from mtad.accounts.account import StoredUser
from mtad.accounts.aliases import load_aliases
from mtad.accounts.directory import Directory
from mtad.accounts.users import Users
from mtad.config import Address, Config, Delivery, Dns, Listen, Local, Paths, RouteRule, Target
from mtad.dkim.keys import Keys
from mtad.dns.resolver import Resolver
from mtad.events import Events
from mtad.mail import headers
from mtad.mail.envelope import Message, NewMessage, Recipient, State
from mtad.mail.envelope import Peer as From
from mtad.mail.ident import Ids
from mtad.outbound.connection import Timeouts
from mtad.outbound.policies import Policies
from mtad.outbound.scheduler import Scheduler
from mtad.outbound.security import Security
from mtad.outbound.sites import Sites
from mtad.outbound.suspensions import Suspensions
from mtad.outbound.tlsreports import TlsReports
from mtad.queue.pace import FAILURES_MAX
from mtad.queue.sqlite import open_store
from mtad.queue.store import Selector, StoreError
from mtad.tls.contexts import client_context

HEAD = b"From: a@x.test\r\nSubject: hi\r\nMessage-ID: <m@x.test>\r\n\r\n"
BODY = b"the body\r\n"
EVERY = ("active", "ready", "deferred", "held", "done", "failed", "trashed")


class Clock:
    """Real time, and what a test adds to it."""

    ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


class House:
    """A store, a scheduler over it, and what they told."""

    def __init__(self, root: Path, users: Users, **settings) -> None:
        local = settings.pop("local", Local())
        resolver_port = settings.pop("dns", 0)
        paths = Paths("", str(root / "data"), str(root / "run"))
        self.config = Config(
            "mail.own.test",
            ("own.test",),
            paths,
            delivery=Delivery(**settings),
            local=local,
            dns=Dns((Address("127.0.0.1", resolver_port),) if resolver_port else (), 2.0),
        )
        self.clock = Clock()
        self.rng = random.Random(1)
        self.ids = Ids(self.clock, self.rng)
        self.lines: list[str] = []
        self.told = asyncio.Condition()
        self.events = Events(self.clock, self.lines.append)
        self.store = open_store(paths, self.clock)
        self.directory = Directory(self.config, users, load_aliases(())[0])
        self.scheduler: Scheduler | None = None

    def schedule(self, store=None, **options) -> Scheduler:
        resolver = Resolver(self.config.dns, self.clock)
        policies = Policies(self.config, resolver, self.store, self.events, self.clock)
        keys = Keys(self.config.paths.dkim)
        self.reports = TlsReports(
            self.config, self.store, resolver, keys, self.events, self.ids, self.clock, lambda at: None
        )
        self.suspensions = Suspensions(self.store, self.clock)
        self.sites = Sites(self.config, self.store, self.suspensions, self.events, self.clock, self.rng)
        self.scheduler = Scheduler(
            self.config,
            store or self.store,
            resolver,
            self.directory,
            self.events,
            self.clock,
            self.rng,
            self.ids,
            Security(self.config, resolver, policies, self.events, self.clock),
            self.reports.seen,
            self.sites,
            **{"monotonic": lambda: time.monotonic() + self.clock.ahead, **options},  # no leap: so much time passed
        )
        return self.scheduler

    async def put(
        self,
        *to: str,
        sender="a@x.test",
        body=BODY,
        expires_s=86400.0,
        notify="",
        age_s=0.0,
        source="smtp",
        peer_user="",
        **more,
    ) -> str:
        name = self.ids.new()
        now = self.clock() - age_s
        size = len(HEAD) + (len(body) if isinstance(body, bytes) else os.path.getsize(body))
        message = Message(
            name, sender, size, now, now + expires_s, From(source, user=peer_user), header_id="<m@x.test>", **more
        )
        recipients = tuple(
            Recipient(name, n, address, address, address.rpartition("@")[2], next_at=now, notify=notify)
            for n, address in enumerate(to, 1)
        )
        await self.store.accept(NewMessage(message, recipients, HEAD, body))
        return name

    async def rows(self, name: str = ""):
        what = Selector(ids=(name,), states=EVERY) if name else Selector(all=True, states=EVERY)
        return [row.recipient for row in await self.store.select(what, self.clock())]

    async def settled(self, name: str, tries: int = 1):
        """The recipients of a message when all of them were tried so often."""
        async with asyncio.timeout(20):
            while True:
                rows = await self.rows(name)
                if rows and all(row.tries >= tries and row.state != State.LEASED for row in rows):
                    return rows
                await asyncio.sleep(0.005)


@asynccontextmanager
async def house(tmp_path, *, users=(), **settings):
    class NoStore:
        async def load_users(self):
            return [StoredUser(name, "", 0.0) for name in users]

        async def install_secret(self):
            return b"install"

    accounts = Users(NoStore(), time.time, random.Random(1))
    await accounts.load()
    made = House(tmp_path, accounts, **settings)
    try:
        yield made
    finally:
        await made.store.close()


@asynccontextmanager
async def running(made: House, **options):
    scheduler = made.schedule(**options)
    task = asyncio.create_task(scheduler.run())
    try:
        yield scheduler
    finally:
        await scheduler.drain(5)
        await asyncio.wait_for(task, 5)


def to(port: int, **more) -> tuple[RouteRule, ...]:
    return (RouteRule("*", Target("smtp", "127.0.0.1", port), **more),)


async def test_sent(tmp_path):
    async with serving(Peer()) as peer, house(tmp_path, routes=to(peer.port)) as made, running(made):
        name = await made.put("b@y.test", "c@y.test", "d@z.test")
        made.scheduler.wake()
        rows = await made.settled(name)
        assert {row.state for row in rows} == {State.DONE}
        assert sorted(mail.recipients for mail in peer.mails) == [["b@y.test", "c@y.test"], ["d@z.test"]]
        assert peer.mails[0].octets == HEAD + BODY
        attempts = await made.store.attempts(name)
        assert [attempt.n for attempt in attempts] == [1, 2, 3]
        assert {attempt.relay for attempt in attempts} == {f"127.0.0.1[127.0.0.1]:{peer.port}"}
        assert sum(f"{name}: to=<" in line and "status=sent" in line for line in made.lines) == 3


async def test_what_waited_before_the_start_goes_out(tmp_path):
    async with serving(Peer()) as peer, house(tmp_path, routes=to(peer.port)) as made:
        names = [await made.put(f"b{n}@y{n % 3}.test") for n in range(200)]
        async with running(made):
            for name in names:
                [row] = await made.settled(name)
                assert row.state == State.DONE
        assert len(peer.mails) == 200
        assert peer.most <= made.config.delivery.max_per_domain


@pytest.mark.parametrize(("workers", "cap", "domains"), [(1, 1, 1), (1, 5, 7), (4, 1, 3), (5, 5, 1), (20, 3, 40)])
async def test_limits_hold_and_nothing_is_left(tmp_path, workers, cap, domains):
    settings = {"workers": workers, "max_per_domain": cap, "interval_s": 60.0}
    async with serving(Peer()) as peer, house(tmp_path, routes=to(peer.port), **settings) as made:
        for n in range(150):
            await made.put(f"b@y{n % domains}.test")
        async with running(made):
            async with asyncio.timeout(20):
                while len(peer.mails) < 150:
                    await asyncio.sleep(0.005)
        assert peer.most <= min(workers, cap)
        assert len({mail.recipients[0] for mail in peer.mails}) == domains
        assert made.scheduler.active() == 0


async def test_later(tmp_path):
    says = {"RCPT": "450 4.2.1 not now"}
    async with serving(Peer(says=says)) as peer, house(tmp_path, routes=to(peer.port), retry_s=(100.0,)) as made:
        async with running(made):
            name = await made.put("b@y.test")
            made.scheduler.wake()
            [row] = await made.settled(name)
            assert row.state == State.READY
            assert 80 < row.next_at - made.clock() < 120
            assert str(row.last) == "450 4.2.1 not now"
            assert row.last.host == "127.0.0.1"
            assert any("status=deferred" in line for line in made.lines)
            peer.says.clear()
            made.clock.ahead = 200
            made.scheduler.wake()
            [row] = await made.settled(name, 2)
            assert row.state == State.DONE


async def test_refused_makes_a_report_that_goes_out_itself(tmp_path):
    says = {"RCPT TO:<b@": "550 5.1.1 who?"}
    async with serving(Peer(says=says)) as peer, house(tmp_path, routes=to(peer.port)) as made, running(made):
        name = await made.put("b@y.test", "c@y.test")
        made.scheduler.wake()
        rows = await made.settled(name)
        assert [row.state for row in rows] == [State.FAILED, State.DONE]
        async with asyncio.timeout(10):
            while not any(mail.recipients == ["a@x.test"] for mail in peer.mails):
                await asyncio.sleep(0.005)
        [report] = [mail for mail in peer.mails if mail.recipients == ["a@x.test"]]
        assert report.sender.startswith("MAIL FROM:<>")
        assert headers.values(report.octets, b"in-reply-to") == [b"<m@x.test>"]
        assert b"Final-Recipient: rfc822; b@y.test" in report.octets
        assert any(f"{name}: report=" in line for line in made.lines)


async def test_a_refused_report_is_the_end(tmp_path):
    says = {"RCPT": "550 5.1.1 who?"}
    async with serving(Peer(says=says)) as peer, house(tmp_path, routes=to(peer.port)) as made, running(made):
        name = await made.put("b@y.test")
        made.scheduler.wake()
        await made.settled(name)
        async with asyncio.timeout(10):
            while not any("double bounce" in line for line in made.lines):
                await asyncio.sleep(0.005)
        # The mail, the report to its sender, and that about the report to the postmaster.
        assert [to.address for to in await made.rows()] == ["b@y.test", "a@x.test", "postmaster@own.test"]


async def test_expired(tmp_path):
    async with serving(Peer(says={"RCPT": "450 4.2.1 not now"})) as peer:
        async with house(tmp_path, routes=to(peer.port)) as made, running(made):
            name = await made.put("b@y.test", expires_s=-1.0, sender="")
            made.scheduler.wake()
            [row] = await made.settled(name)
            assert row.state == State.FAILED
            assert row.last.status == "5.4.7"
            assert any("status=expired" in line for line in made.lines)


async def test_a_delay_is_told_once(tmp_path):
    async with serving(Peer(says={"RCPT TO:<b@": "450 4.2.1 not now"})) as peer:
        settings = {"routes": to(peer.port), "delay_warning_s": 100.0, "retry_s": (1000.0,)}
        async with house(tmp_path, **settings) as made, running(made):
            name = await made.put("b@y.test", age_s=200.0)
            for tries in (1, 2):
                made.scheduler.wake()
                [row] = await made.settled(name, tries)
                assert row.state == State.READY
                assert row.warned_at
                made.clock.ahead += 2000
            assert len({recipient.message_id for recipient in await made.rows()}) == 2


async def test_nobody_listens_and_the_next_host_takes_it(tmp_path):
    async with serving(Peer()) as gone:
        pass
    async with house(tmp_path, routes=to(gone.port)) as made, running(made):
        name = await made.put("b@y.test")
        made.scheduler.wake()
        [row] = await made.settled(name)
        assert row.state == State.READY
        assert str(row.last) == "451 4.4.1 Connection refused"


@pytest.mark.parametrize("too_many", ["452 4.5.3 too many", "552 5.5.3 too many"])
async def test_too_many_recipients_at_once(tmp_path, too_many):
    async with serving(Peer()) as peer, house(tmp_path, routes=to(peer.port)) as made:
        peer.once = {f"RCPT TO:<b{n}@": too_many for n in (2, 3, 4)}
        async with running(made):
            name = await made.put(*(f"b{n}@y.test" for n in range(5)))
            made.scheduler.wake()
            rows = await made.settled(name)
        assert [row.state for row in rows] == [State.DONE] * 5
        assert [len(mail.recipients) for mail in peer.mails] == [2, 3]
        assert peer.connections == 1


async def test_no_lesser_host_than_ourselves(tmp_path):
    """An MX that turns out to be this host: the one behind it would give the mail back (RFC 5321 5.1)."""
    zone = "$ORIGIN test.\n@ 60 SOA ns h 1 1 1 1 1\n@ 60 NS ns\ny 60 MX 1 one\ny 60 MX 2 us\ny 60 MX 3 two\n"
    zone += "one 60 A 127.0.0.9\nus 60 A 127.0.0.1\ntwo 60 A 127.0.0.2\n"
    ourselves, other = Peer(), Peer()
    async with dns_serving(zone) as dns, serving(ourselves):
        server = await asyncio.start_server(other.serve, "127.0.0.2", ourselves.port)
        settings = {"dns": dns.port, "port": ourselves.port, "allow_private_addresses": True}
        async with house(tmp_path, **settings) as made:
            made.config = replace(made.config, listen=Listen((Address("0.0.0.0", ourselves.port),)))
            async with running(made):
                name = await made.put("b@y.test")
                made.scheduler.wake()
                [row] = await made.settled(name)
        server.close()
    assert (row.state, str(row.last)) == (State.READY, "451 4.4.1 Connection refused")
    assert other.mails == []


async def test_a_strangers_host_says_nothing_of_the_site_that_he_names_first(tmp_path):
    """His MX records begin with those of somebody large, and what his own host says must not close that site."""
    zone = "$ORIGIN test.\n@ 60 SOA ns h 1 1 1 1 1\n@ 60 NS ns\nlarge 60 MX 1 mx.large\n"
    zone += "evil 60 MX 1 mx.large\nevil 60 MX 2 mx.evil\nmx.large 60 A 127.0.0.1\nmx.evil 60 A 127.0.0.2\n"
    large = Peer(says={"RCPT TO:<x@evil": "451 4.7.1 not now"})
    evil = Peer(says={"MAIL": "421 4.7.0 your IP is rate limited, try again in 4 hours"})
    async with dns_serving(zone) as dns, serving(large):
        server = await asyncio.start_server(evil.serve, "127.0.0.2", large.port)
        settings = {"dns": dns.port, "port": large.port, "allow_private_addresses": True}
        async with house(tmp_path, **settings) as made, running(made):
            name = await made.put("x@evil.test")
            made.scheduler.wake()
            [row] = await made.settled(name)
            assert row.last.host == "mx.evil.test"
            site = made.sites.of("evil.test")
            assert (site.name, site.hosts, site.pace.open) == ("mx.large.test", ("mx.large.test",), False)
            name = await made.put("b@large.test")
            made.scheduler.wake()
            [row] = await made.settled(name)
        server.close()
    assert row.state == State.DONE


async def test_a_strangers_dns_says_nothing_of_the_site_that_he_names(tmp_path):
    """His mail went to somebody's hosts before his name servers fell silent: that is no trouble of those hosts."""

    def servfail(query: dns.message.Message) -> bytes:
        answer = dns.message.make_response(query)
        answer.set_rcode(dns.rcode.SERVFAIL)
        return answer.to_wire()

    zone = "$ORIGIN test.\n@ 60 SOA ns h 1 1 1 1 1\n@ 60 NS ns\nlarge 60 MX 1 mx.large\n"
    zone += "evil 60 MX 1 mx.large\nmx.large 60 A 127.0.0.1\n"
    async with dns_serving(zone) as server, serving(Peer()) as large:
        settings = {"dns": server.port, "port": large.port, "allow_private_addresses": True}
        async with house(tmp_path, **settings) as made, running(made):
            await made.put("x@evil.test")
            made.scheduler.wake()
            await made.settled("")
            made.clock.ahead = 100.0
            server.wrong["evil.test"] = servfail
            for n in range(FAILURES_MAX):
                name = await made.put(f"x{n}@evil.test")
                made.scheduler.wake()
                [row] = await made.settled(name)
                assert row.last.status == "4.4.3"
            assert not made.sites.find("mx.large.test").pace.open
            name = await made.put("b@large.test")
            made.scheduler.wake()
            [row] = await made.settled(name)
    assert row.state == State.DONE


async def test_a_password_that_is_wrong_is_not_shown_with_each_mail(tmp_path):
    """A smarthost may lock who fails too often."""
    (tmp_path / "secret").write_text("s3cret\n")
    peer = Peer(says={"AUTH": "535 5.7.8 no"}, offers=("PIPELINING", "AUTH PLAIN"))
    async with serving(peer):
        target = Target("smtp", "127.0.0.1", peer.port, user="u")
        routes = (RouteRule("*", target, password_file=str(tmp_path / "secret")),)
        async with house(tmp_path, routes=routes) as made:
            names = [await made.put(f"b@y{n}.test") for n in range(30)]
            async with running(made):
                async with asyncio.timeout(10):
                    while not any("breaker open" in line for line in made.lines):
                        await asyncio.sleep(0.005)
            rows = [row for name in names for row in await made.rows(name)]
    assert {row.state for row in rows} == {State.READY}
    assert sum(command.startswith("AUTH") for command in peer.commands) == 3


async def test_one_recipient_at_a_time_and_some_refused(tmp_path):
    """A refusal is a step forward too: the others do not wait for the next try."""
    peer = Peer(offers=("PIPELINING", "LIMITS RCPTMAX=1"), says={"RCPT TO:<bad": "550 5.1.1 who?"})
    async with serving(peer), house(tmp_path, routes=to(peer.port)) as made, running(made):
        name = await made.put("bad1@y.test", "bad2@y.test", "c@y.test", sender="")
        made.scheduler.wake()
        rows = await made.settled(name)
    assert [row.state for row in rows] == [State.FAILED, State.FAILED, State.DONE]


async def test_a_lesser_host_that_can_not_ends_no_mail_for_the_one_that_may(tmp_path):
    """The first MX is down, the second one has less room: that is no reason to give up."""
    zone = "$ORIGIN test.\n@ 60 SOA ns h 1 1 1 1 1\n@ 60 NS ns\ny 60 MX 1 one\ny 60 MX 2 two\n"
    zone += "one 60 A 127.0.0.9\ntwo 60 A 127.0.0.1\n"
    small = Peer(offers=("PIPELINING", "SIZE 5"))
    async with dns_serving(zone) as dns, serving(small):
        settings = {"dns": dns.port, "port": small.port, "allow_private_addresses": True}
        async with house(tmp_path, **settings) as made, running(made):
            name = await made.put("b@y.test")
            made.scheduler.wake()
            [row] = await made.settled(name)
    assert (row.state, str(row.last)) == (State.READY, "451 4.4.1 Connection refused")
    assert small.commands[0] == "EHLO mail.own.test"


async def test_the_next_host_gets_who_was_deferred(tmp_path):
    """Two MX: the first is greylisting one recipient."""
    zone = "$ORIGIN test.\n@ 60 SOA ns h 1 1 1 1 1\n@ 60 NS ns\ny 60 MX 1 one\ny 60 MX 2 two\n"
    zone += "one 60 A 127.0.0.1\ntwo 60 A 127.0.0.1\nnull 60 MX 0 .\nprivate 60 A 127.0.0.1\n"
    first, second = Peer(once={"RCPT TO:<c@": "450 4.7.1 grey"}), Peer()
    async with dns_serving(zone) as dns, serving(first):
        # Both names lead to one address and port, so the second session is of the same peer; it says yes then.
        settings = {"dns": dns.port, "port": first.port, "allow_private_addresses": True}
        async with house(tmp_path, **settings) as made, running(made):
            name = await made.put("b@y.test", "c@y.test")
            made.scheduler.wake()
            rows = await made.settled(name)
            assert [row.state for row in rows] == [State.DONE] * 2
            assert [row.last.host for row in rows] == ["one.test", "two.test"]
            assert [mail.recipients for mail in first.mails] == [["b@y.test"], ["c@y.test"]]
            refused = await made.put("a@null.test", "b@none.test", sender="")
            made.scheduler.wake()
            rows = await made.settled(refused)
            assert [f"{row.last.code} {row.last.status}" for row in rows] == ["556 5.1.10", "550 5.1.2"]
    assert second.mails == []


async def test_private_addresses_are_not_connected_to(tmp_path):
    zone = "$ORIGIN test.\n@ 60 SOA ns h 1 1 1 1 1\n@ 60 NS ns\ny 60 A 127.0.0.1\n"
    async with dns_serving(zone) as dns, serving(Peer()) as peer:
        async with house(tmp_path, dns=dns.port, port=peer.port) as made, running(made):
            name = await made.put("b@y.test", "b@[127.0.0.1]", sender="")
            made.scheduler.wake()
            rows = await made.settled(name)
            assert [row.last.status for row in rows] == ["5.4.4"] * 2
        assert peer.connections == 0


async def test_mailboxes(tmp_path):
    local = Local(deliver=Target("maildir", path=f"{tmp_path}/mail/%d/%u"))
    async with house(tmp_path, local=local, users=["al@own.test"]) as made, running(made):
        name = await made.put("al@own.test", "nobody@own.test", "postmaster@own.test", sender="")
        made.scheduler.wake()
        rows = await made.settled(name)
        assert [row.state for row in rows] == [State.DONE, State.FAILED, State.DONE]
        assert rows[1].last.status == "5.1.1"
        assert sorted(os.listdir(tmp_path / "mail" / "own.test")) == ["al", "postmaster"]
        assert any("relay=maildir" in line for line in made.lines)


async def test_reject_and_discard(tmp_path):
    routes = (RouteRule("r.test", Target("reject", text="No mail")), RouteRule("*", Target("discard")))
    async with house(tmp_path, routes=routes) as made, running(made):
        name = await made.put("b@r.test", "b@d.test", sender="")
        made.scheduler.wake()
        rows = await made.settled(name)
        assert [f"{row.last.code} {row.last.status} {row.last.text}" for row in rows] == [
            "550 5.7.1 No mail",
            "250 2.0.0 Discarded",
        ]


async def test_requiretls_means_verified(tmp_path):
    context, ca_file = certificate(tmp_path, "localhost")
    peer = Peer(tls=context, offers=("REQUIRETLS",))
    async with serving(peer):
        routes = (RouteRule("*", Target("smtp", "127.0.0.1", peer.port)),)
        async with house(tmp_path, routes=routes) as made:
            async with running(made):
                name = await made.put("b@y.test", requiretls=True)
                made.scheduler.wake()
                [row] = await made.settled(name)
                assert (row.state, row.last.status) == (State.FAILED, "5.7.10")
                [report] = [one for one in await made.rows() if one.message_id != name]
                [row] = await made.settled(report.message_id)  # it may go without verification, and says REQUIRETLS
                assert row.state == State.DONE
            assert peer.mails[0].sender == "MAIL FROM:<> REQUIRETLS"
            assert b"hi" in peer.mails[0].octets
            assert BODY not in peer.mails[0].octets
            async with running(made, tls_context=partial(client_context, ca_file=ca_file)):
                name = await made.put("b@y.test", requiretls=True)
                made.scheduler.wake()
                [row] = await made.settled(name)
                assert row.state == State.DONE
    assert peer.mails[1].sender.endswith(" REQUIRETLS")


@pytest.mark.parametrize(("tls", "status"), [(False, "5.7.10"), (True, "5.7.30")])
async def test_requiretls_where_the_host_cannot(tmp_path, tls, status):
    context, ca_file = certificate(tmp_path, "localhost")
    async with serving(Peer(tls=context if tls else None, offers=())) as peer:
        routes = (RouteRule("y.test", Target("smtp", "127.0.0.1", peer.port)), RouteRule("*", Target("discard")))
        async with (
            house(tmp_path, routes=routes) as made,
            running(made, tls_context=partial(client_context, ca_file=ca_file)),
        ):
            name = await made.put("b@y.test", requiretls=True)
            made.scheduler.wake()
            [row] = await made.settled(name)
            assert (row.state, row.last.status) == (State.FAILED, status)
            assert any(f"{name}: report=" in line for line in made.lines)
    assert peer.mails == []


async def test_requiretls_ends_at_a_socket_of_this_machine(tmp_path):
    path = str(tmp_path / "lmtp.sock")
    async with serving(Peer(lmtp=True), path) as peer:
        routes = (RouteRule("*", Target("lmtp", path=path)),)
        async with house(tmp_path, routes=routes) as made, running(made):
            name = await made.put("b@y.test", requiretls=True)
            made.scheduler.wake()
            [row] = await made.settled(name)
            assert row.state == State.DONE
    assert "REQUIRETLS" not in peer.mails[0].sender


@pytest.mark.parametrize(
    ("optional", "source", "state"),
    [(True, "local", State.DONE), (False, "local", State.READY), (True, "smtp", State.READY)],
)
async def test_tls_required_no_makes_tls_optional_but_not_for_a_stranger(tmp_path, optional, source, state):
    async with serving(Peer()) as peer:
        routes = (RouteRule("*", Target("smtp", "127.0.0.1", peer.port), tls="encrypt"),)
        async with house(tmp_path, routes=routes) as made, running(made):
            name = await made.put("b@y.test", tls_optional=optional, source=source)
            made.scheduler.wake()
            [row] = await made.settled(name)
            assert row.state == state


# --- DELIVERBY, MT-PRIORITY, LIMITS


async def test_what_is_late_is_not_delivered_and_comes_back(tmp_path):
    async with serving(Peer(says={"RCPT": "450 4.2.0 later"})) as peer:
        routes = (RouteRule("y.test", Target("smtp", "127.0.0.1", peer.port)), RouteRule("*", Target("discard")))
        async with house(tmp_path, routes=routes, retry_s=(3000.0,)) as made, running(made):
            name = await made.put("b@y.test", by_at=made.clock() + 60, by_mode="R")
            made.scheduler.wake()
            [row] = await made.settled(name)
            assert row.state == State.READY
            assert row.next_at < made.clock() + 61  # looked at again when its time is over
            peer.says.clear()
            made.clock.ahead = 61
            made.scheduler.wake()
            [row] = await made.settled(name, 2)
            assert (row.state, row.last.status) == (State.FAILED, "5.4.7")
            assert "450 4.2.0 later" in row.last.text
            assert any(f"{name}: report=" in line for line in made.lines)
    assert peer.mails == []


async def test_notice_of_a_delay_when_the_sender_asked_for_it(tmp_path):
    async with serving(Peer(says={"RCPT": "450 4.2.0 later"})) as peer:
        routes = (RouteRule("y.test", Target("smtp", "127.0.0.1", peer.port)), RouteRule("*", Target("discard")))
        async with house(tmp_path, routes=routes, retry_s=(3000.0,)) as made, running(made):
            name = await made.put("b@y.test", by_at=made.clock() + 60, by_mode="N")
            made.scheduler.wake()
            [row] = await made.settled(name)
            assert (row.state, row.warned_at) == (State.READY, 0)
            assert row.next_at < made.clock() + 61
            assert not any("report=" in line for line in made.lines)
            made.clock.ahead = 61
            made.scheduler.wake()
            [row] = await made.settled(name, 2)
            assert (row.state, row.warned_at > 0) == (State.READY, True)
            assert any(f"{name}: report=" in line for line in made.lines)
            peer.says.clear()
            made.clock.ahead = 6000
            made.scheduler.wake()
            [row] = await made.settled(name, 3)
            assert row.state == State.DONE


@pytest.mark.parametrize(
    ("offers", "trace", "said", "reports"),
    [
        (("DELIVERBY",), False, " BY=", 0),
        (("DELIVERBY 10",), True, " BY=", 1),
        ((), False, "", 1),
        (("DELIVERBY 1000",), False, None, 1),
    ],
)
async def test_the_time_that_is_left_goes_on(tmp_path, offers, trace, said, reports):
    async with serving(Peer(offers=offers)) as peer:
        routes = (RouteRule("y.test", Target("smtp", "127.0.0.1", peer.port)), RouteRule("*", Target("discard")))
        async with house(tmp_path, routes=routes) as made, running(made):
            name = await made.put("b@y.test", by_at=made.clock() + 600, by_mode="R", by_trace=trace)
            made.scheduler.wake()
            [row] = await made.settled(name)
            made.clock.ahead = 0
            assert (row.state == State.DONE) == (said is not None)
            assert sum(f"{name}: report=" in line for line in made.lines) == reports
    for mail in peer.mails:
        assert said in mail.sender
        if said:
            seconds, mode = mail.sender.partition(" BY=")[2].split(";")
            assert 590 < int(seconds) <= 600
            assert mode == ("RT" if trace else "R")


async def test_priority_goes_on_and_a_host_gets_no_more_recipients_than_it_takes(tmp_path):
    async with serving(Peer(offers=("PIPELINING", "MT-PRIORITY MIXER", "LIMITS FOO=1 RCPTMAX=2"))) as peer:
        routes = (RouteRule("*", Target("smtp", "127.0.0.1", peer.port)),)
        async with house(tmp_path, routes=routes) as made, running(made):
            name = await made.put(*(f"u{n}@y.test" for n in range(5)), priority=-3)
            made.scheduler.wake()
            rows = await made.settled(name)
            assert [(row.state, row.tries) for row in rows] == [(State.DONE, 1)] * 5
    assert [len(mail.recipients) for mail in peer.mails] == [2, 2, 1]
    assert all(" MT-PRIORITY=-3" in mail.sender for mail in peer.mails)


async def test_an_expanded_alias_is_a_success_of_its_own(tmp_path):
    async with house(tmp_path, routes=(RouteRule("*", Target("discard")),)) as made, running(made):
        name = made.ids.new()
        now = made.clock()
        message = Message(name, "a@x.test", len(HEAD + BODY), now, now + 600, From("local"))
        alias = Recipient(
            name, 1, "team@own.test", "team@own.test", "", next_at=now, notify="SUCCESS", orcpt="rfc822;T"
        )
        await made.store.accept(NewMessage(message, (alias,), HEAD, BODY))
        made.scheduler.wake()
        [row] = await made.settled(name)
        assert (row.state, row.last.code) == (State.DONE, 250)
        [report] = [one for one in await made.rows() if one.message_id != name]
        content = await made.store.content(report.message_id) if report.state == State.READY else None
        assert content is None or b"Action: expanded" in content.body
        assert any("relay=aliases" in line for line in made.lines)
        assert made.sites.of("").local  # its pace is ours


# --- trouble


class Moody:
    """The real store behind calls that fail on order: `fails[name]` times each."""

    def __init__(self, store, **fails: int) -> None:
        self._store = store
        self.fails = fails

    def __getattr__(self, name):
        method = getattr(self._store, name)

        async def call(*args, **more):
            if self.fails.get(name, 0) > 0:
                self.fails[name] -= 1
                raise StoreError("disk I/O error")
            return await method(*args, **more)

        return call


async def test_an_outcome_is_recorded_even_if_the_store_needs_a_while(tmp_path):
    async with serving(Peer()) as peer, house(tmp_path, routes=to(peer.port)) as made:
        moody = Moody(made.store, settle=3)
        async with running(made, store=moody):
            name = await made.put("b@y.test")
            made.scheduler.wake()
            [row] = await made.settled(name)
        assert row.state == State.DONE
        assert len(peer.mails) == 1
        assert made.events.counters["mtad_store_errors_total"] == 3
        assert sum("disk I/O error" in line for line in made.lines) == 1  # it is the same each time


async def test_octets_that_cannot_be_read_wait(tmp_path):
    async with serving(Peer()) as peer, house(tmp_path, routes=to(peer.port)) as made:
        async with running(made, store=Moody(made.store, content=1)):
            name = await made.put("b@y.test")
            made.scheduler.wake()
            [row] = await made.settled(name)
        assert (row.state, row.last.status) == (State.READY, "4.3.0")
        assert "disk" not in row.last.text


async def test_what_nobody_thought_of_is_temporary(tmp_path):
    class Broken:
        def ours(self, domain):
            raise RuntimeError("a bug")

        expand = resolve = ours

    local = Local(deliver=Target("maildir", path=f"{tmp_path}/mail/%u"))
    async with house(tmp_path, local=local) as made:
        made.directory = Broken()
        async with running(made):
            name = await made.put("al@own.test")
            made.scheduler.wake()
            [row] = await made.settled(name)
        assert (row.state, row.last.status) == (State.READY, "4.3.0")
        assert any("RuntimeError: a bug" in line for line in made.lines)


async def test_no_failure_without_its_report(tmp_path):
    """The bug is in the directory, which is asked where the report goes; who got the mail is not asked again."""

    class Broken:
        def expand(self, address):
            raise RuntimeError("a bug")

        def sender_for(self, sender, original, address):
            return sender

    async with serving(Peer(says={"RCPT TO:<b@": "550 5.1.1 who?"})) as peer:
        async with house(tmp_path, routes=to(peer.port)) as made:
            made.directory = Broken()
            async with running(made):
                name = await made.put("b@y.test", "c@y.test")
                made.scheduler.wake()
                rows = await made.settled(name)
            assert [row.state for row in rows] == [State.READY, State.DONE]
            assert len(peer.mails) == 1
            assert any("internal error in bounce" in line for line in made.lines)


async def test_a_broken_handshake_is_told(tmp_path):
    async with serving(Peer(tls=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))) as peer:
        async with house(tmp_path, routes=to(peer.port)) as made, running(made):
            name = await made.put("b@y.test")
            made.scheduler.wake()
            [row] = await made.settled(name)
            assert row.state == State.DONE
            assert any("TLS failed" in line for line in made.lines)


async def test_drain_lets_what_runs_end(tmp_path):
    gate = asyncio.Event()
    async with serving(Peer(gate=gate)) as peer, house(tmp_path, routes=to(peer.port)) as made:
        scheduler = made.schedule()
        task = asyncio.create_task(scheduler.run())
        names = [await made.put("b@y.test") for _ in range(3)]
        scheduler.wake()
        await peer.seen("DATA")
        draining = asyncio.create_task(scheduler.drain(5))
        await asyncio.sleep(0)
        gate.set()
        await draining
        await task
        assert len(peer.mails) >= 1
        rows = [row for name in names for row in await made.rows(name)]
        assert sum(row.state == State.DONE for row in rows) == len(peer.mails)


async def test_drain_cuts_what_does_not_end(tmp_path):
    async with serving(Peer(gate=asyncio.Event())) as peer, house(tmp_path, routes=to(peer.port)) as made:
        scheduler = made.schedule()
        task = asyncio.create_task(scheduler.run())
        name = await made.put("b@y.test")
        scheduler.wake()
        await peer.seen("DATA")
        await scheduler.drain(0.05)
        await task
        peer.gate.set()
        [row] = await made.rows(name)
        assert row.tries == 0


async def test_drain_while_leases_come_in_leaves_nothing_behind(tmp_path):
    async with serving(Peer()) as peer, house(tmp_path, routes=to(peer.port)) as made:
        for _ in range(50):
            await made.put("b@y.test")
        scheduler = made.schedule()
        task = asyncio.create_task(scheduler.run())
        await asyncio.sleep(0)  # it has asked for leases now
        await scheduler.drain(5)
        await task
        assert scheduler.active() == 0
        assert sum(row.state == State.DONE for row in await made.rows()) == len(peer.mails)


async def test_a_slow_domain_does_not_hold_up_the_others(tmp_path):
    gate = asyncio.Event()
    slow = Peer(gate=gate)
    async with serving(slow), serving(Peer()) as fast:
        routes = (RouteRule("slow.test", Target("smtp", "127.0.0.1", slow.port)), *to(fast.port))
        settings = {"workers": 6, "max_per_domain": 2, "interval_s": 60.0}
        async with house(tmp_path, routes=routes, **settings) as made:
            for _ in range(60):
                await made.put("b@slow.test")
            for n in range(30):
                await made.put(f"b@fast{n}.test")
            async with running(made):
                async with asyncio.timeout(20):
                    while len(fast.mails) < 30:
                        await asyncio.sleep(0.005)
                assert slow.mails == []
                gate.set()
                async with asyncio.timeout(20):
                    while len(slow.mails) < 60:
                        await asyncio.sleep(0.005)
        assert slow.most <= 2


async def test_killed_after_the_peers_250_it_goes_out_again(tmp_path, repository):
    """At most one more copy, never none."""
    code = f"""
import asyncio, sys
sys.path[:0] = [{str(repository)!r}, *({str(repository / "tests")!r} + room for room in ("/outbound", "/dns"))]
from test_scheduler import house, running, to
from pathlib import Path
async def main():
    async with house(Path({str(tmp_path)!r}), routes=to(int(sys.argv[1]))) as made:
        await made.put("b@y.test")
        async with running(made):
            made.scheduler.wake()
            await asyncio.sleep(30)
asyncio.run(main())
"""
    async with serving(Peer()) as peer:
        env = {**os.environ, "MTA_FAULT": "deliver.after_250"}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, str(peer.port), env=env, stderr=subprocess.DEVNULL
        )
        assert await asyncio.wait_for(process.wait(), 30) == -9
        assert len(peer.mails) == 1
        async with house(tmp_path, routes=to(peer.port)) as made, running(made):
            [row] = await made.rows()
            [row] = await made.settled(row.message_id)
            assert row.state == State.DONE
    assert len(peer.mails) == 2


async def test_timeouts_reach_the_wire(tmp_path):
    quick = replace(Timeouts(), final_s=0.1)
    async with serving(Peer(says={". ": ""})) as peer, house(tmp_path, routes=to(peer.port)) as made:
        async with running(made, timeouts=quick):
            name = await made.put("b@y.test")
            made.scheduler.wake()
            [row] = await made.settled(name)
    assert (row.state, row.last.status, row.last.stage) == (State.READY, "4.4.2", "final")
