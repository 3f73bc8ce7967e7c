"""What mtactl explain says: over a real DNS server, in the words that an operator reads."""

import json
import random
import time
from dataclasses import asdict, replace

import dns.message
import dns.rcode
import pytest
from dns_server import serving

from mtactl.views.explain import VIEWS
from mtad.accounts.account import StoredUser
from mtad.accounts.aliases import Aliases
from mtad.accounts.directory import Directory
from mtad.accounts.passwords import Cost
from mtad.accounts.users import Users
from mtad.config import Address, Config, Delivery, Dns, Local, Paths, RouteRule, Target
from mtad.dns.resolver import Resolver
from mtad.mail.reply import Reply
from mtad.outbound.explain import Pace, explain
from mtad.outbound.planner import Planner
from mtad.tls.requirement import Requirement

ZONE = """$ORIGIN .
$TTL 300
. SOA ns. host. 1 2 3 4 5
plain.test. MX 10 mx1.plain.test.
plain.test. MX 20 mx2.plain.test.
mx1.plain.test. A 8.8.8.8
mx1.plain.test. A 10.0.0.1
mx1.plain.test. AAAA 2606:4700::1
mx2.plain.test. CNAME alias.plain.test.
alias.plain.test. A 9.9.9.9
null.test. MX 0 .
implicit.test. A 8.8.8.8
self.test. MX 5 better.self.test.
self.test. MX 10 mail.own.test.
self.test. MX 20 worse.self.test.
better.self.test. A 8.8.8.8
loop.test. MX 10 mail.own.test.
lan.test. A 192.168.0.1
broken.test. A 8.8.8.8
"""
ALIASES = {
    "team": ("alice", "gone", "dave@plain.test", "ring"),
    "ring": ("rung",),
    "rung": ("ring",),
    "wide": tuple(f"x@d{n}.test" for n in range(30)),
}


class Shelf:
    async def load_users(self):
        return [StoredUser("alice@own.test", "", 0.0)]

    async def install_secret(self):
        return b"install"


class AnyTls:
    """What decides on TLS; here by a table."""

    def __init__(self, needs):
        self._needs = needs

    async def secured(self, domain, mx, plan):
        return replace(
            plan, hosts=tuple(replace(host, tls=self._needs.get(host.name, Requirement())) for host in plan.hosts)
        )


@pytest.fixture
async def ask(monkeypatch):
    """(address, ...) -> the lines that are shown."""
    monkeypatch.setenv("COLUMNS", "80")
    users = Users(Shelf(), time.time, random.Random(1), domain="own.test", cost=Cost(ln=4, r=8, p=1))
    await users.load()
    async with serving(ZONE) as server:

        def servfail(octets: dns.message.Message) -> bytes:
            response = dns.message.make_response(octets)
            response.set_rcode(dns.rcode.SERVFAIL)
            return response.to_wire()

        server.wrong["broken.test"] = servfail

        async def call(
            address, sender="", user="", *, routes=(), needs=None, pace=(), stopped=None, held=None, **local
        ) -> str:
            config = Config(
                "mail.own.test",
                ("own.test",),
                Paths("", "/d", "/r"),
                delivery=Delivery(routes=tuple(routes)),
                local=Local(deliver=Target("maildir", path="/m/%d/%u"), **local),
                dns=Dns((Address("127.0.0.1", server.port),), 2.0),
            )
            resolver = Resolver(config.dns, time.time)
            directory = Directory(config, users, Aliases(ALIASES))
            planner = Planner(config, resolver, AnyTls(needs or {}), random.Random(1))
            stops = stopped or {}

            def suppressed(user, address):
                return stops.get((user, address))

            more = (held,) if held else ()
            found = await explain(config, directory, planner, lambda *_: pace, suppressed, address, sender, user, *more)
            row = json.loads(json.dumps(asdict(found)))
            lines = list(VIEWS["explain"].card(row, 1_000_000.0))
            assert all(len(line) <= 80 for line in lines), lines
            return "\n".join(lines)

        yield call
    users.close()


async def test_the_whole_way(ask):
    assert await ask("bob@plain.test", "alice@own.test") == (
        "bob@plain.test  elsewhere\n"
        "\n"
        "plain.test (bob@plain.test)\n"
        "  route    by MX (no [[delivery.route]] matches)\n"
        "  mx 10    mx1.plain.test: 8.8.8.8, 2606:4700::1 port 25\n"
        "           TLS where it is offered\n"
        "  mx 20    mx2.plain.test: 9.9.9.9 port 25\n"
        "           TLS where it is offered\n"
        "  left out 10.0.0.1 of mx1.plain.test: private, see\n"
        "           delivery.allow_private_addresses\n"
        "  result   would be delivered now to mx1.plain.test[8.8.8.8]:25"
    )


async def test_aliases_step_by_step_with_a_loop_and_srs(ask):
    text = await ask("team@own.test", "news@shop.test")
    assert (
        "team@own.test        alias of 4 addresses\n"
        "  alice@own.test     mailbox\n"
        "  gone@own.test      nobody of that name\n"
        "  dave@plain.test    elsewhere\n"
        "  ring@own.test      alias of 1 address\n"
        "    rung@own.test    alias of 1 address\n"
        "      ring@own.test  a loop: it is being expanded already; mail goes to the\n"
        "                     mailbox of that name\n"
    ) in text
    assert "maildir /m/own.test/alice and 1 more" in text.replace("\n           ", " ")
    assert "news@shop.test is not ours" in text.replace("\n           ", " ")
    assert "sender   SRS0=" in text


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("a@null.test", "would be returned to its sender: 556 5.1.10 The domain accepts no mail (null MX)"),
        ("a@implicit.test", "its own address, as it has no MX"),
        ("a@self.test", "mx 10 mail.own.test: this host itself"),
        ("a@self.test", "mx 20 worse.self.test: not better than this host itself"),
        ("a@loop.test", "would be returned to its sender: 554 5.4.6"),
        ("a@lan.test", "192.168.0.1 of lan.test: private, see delivery.allow_private_addresses"),
        ("a@lan.test", "would be returned to its sender: 550 5.4.4"),
        ("a@broken.test", "would wait: 451 4.4.3"),
        ("a@gone.test", "would be returned to its sender: 550 5.1.2"),
        ("a@[127.0.0.1]", "127.0.0.1 of [127.0.0.1]: private"),
        ("nobody@own.test", "it would be refused: 550 5.1.1"),
        ("alice+x@own.test", "mailbox of alice@own.test"),
        ("abuse@own.test", "mailbox (always there)"),
        ("wide@own.test", "and 10 more domains"),
    ],
)
async def test_each_reason_is_told(ask, address, said):
    assert said in (await ask(address)).replace("\n           ", " ")


async def test_catch_all(ask):
    assert "local.catch_all takes it" in await ask("nobody@own.test", catch_all="alice@own.test")


async def test_routes_and_their_conditions(ask):
    routes = (
        RouteRule("*", Target("smtp", "127.0.0.1", 2600, user="u"), senders=("@news.test",), users=("al@*",)),
        RouteRule("pipe.test", Target("pipe"), command=("/bin/x", "%u")),
        RouteRule("no.test", Target("reject", text="Not here")),
        RouteRule("nothing.test", Target("discard")),
    )
    text = await ask("b@far.test", "a@news.test", "al@own.test", routes=routes)
    assert "smtp://u@127.0.0.1:2600 ([[delivery.route]] 1: match *; from" in text
    assert "delivered now to 127.0.0.1[127.0.0.1]:2600" in text
    assert "to the program /bin/x" in await ask("b@pipe.test", routes=routes)
    assert "returned to its sender: 550 5.7.1 Not here" in await ask("b@no.test", routes=routes)
    assert "would be discarded now" in await ask("b@nothing.test", routes=routes)


async def test_tls_and_its_origin(ask):
    from mtad.outbound.security import refused

    needs = {
        "mx1.plain.test": refused("validation-failure", "The host is not listed", "MTA-STS", "MTA-STS enforce", None),
        "mx2.plain.test": Requirement("verify", "MTA-STS", "MTA-STS enforce of plain.test"),
    }
    text = (await ask("b@plain.test", needs=needs)).replace("\n           ", " ")
    assert "not used now: The host is not listed (MTA-STS enforce)" in text
    assert "TLS required, with a certificate for its name: MTA-STS enforce of plain.test" in text
    assert "delivered now to mx2.plain.test[9.9.9.9]:25" in text
    needs["mx2.plain.test"] = needs["mx1.plain.test"]
    assert "would wait: 451 4.7.5" in await ask("b@plain.test", needs=needs)


async def test_a_suspended_site_waits(ask):
    pace = (Pace("suspended", "a test", wait=True, until=1_003_600.0), Pace("3 of 20 connections"))
    text = await ask("b@plain.test", pace=pace)
    assert "pace     suspended, until" in text
    assert "(in 1h) (a test)" in text
    assert "pace     3 of 20 connections" in text
    assert "result   would wait: suspended (a test)" in text


async def test_an_address_that_is_not_tried_for_this_user(ask):
    stopped = {("al@own.test", "b@plain.test"): Reply(550, "5.1.0", "Not tried: suppressed since 2026-11-01")}
    assert "returned to its sender: 550 5.1.0 Not tried" in await ask(
        "b@plain.test", user="al@own.test", stopped=stopped
    )
    assert "would be delivered now" in await ask("b@plain.test", user="bob@own.test", stopped=stopped)
    text = await ask("team@own.test", user="al@own.test", stopped=stopped)
    assert "left out gone@own.test: 550 5.1.1 No such mailbox" in text


async def test_hostile_words_are_only_words(ask):
    text = await ask(
        '"\x1b[2J"@plain.test', "\u202e@x.test", routes=(RouteRule("*", Target("reject", text="\x1b[2J")),)
    )
    assert text.replace("\n", "").isprintable()


async def test_what_a_hold_rule_would_hold(ask):
    shown = await ask("b@plain.test", "alice@own.test", held=lambda address: "held by rule 3: look at it")
    assert "would wait: held by rule 3: look at it" in " ".join(shown.split())
