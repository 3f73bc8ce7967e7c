"""Rows 20, 22 to 25 and 39: what is in an address, a parameter, a name."""

import re
from pathlib import Path

import pytest
from inbound_house import House
from security_rows import prove
from security_target import Ours, Target, hold, plain

from mtad.control.operation import UsageError, check
from mtad.control.operations import BY_NAME
from mtad.queue.store import Selector

# How one asks a server to carry mail elsewhere: L is ours.
RELAY = [
    "user@remote.test",
    "user%remote.test@example.test",
    "user%remote.test",
    "remote.test!user@example.test",
    "remote.test!user",
    "@example.test:user@remote.test",
    "@example.test,@x.test:user@remote.test",
    '"user@remote.test"',
    '"user@remote.test"@example.test',
    "user@remote.test@example.test",
    "user@[127.0.0.1]",
    "user@[192.0.2.1]",
    "user@[IPv6:::1]",
    "user@localhost",
    "user@remote.test.",
    "example.test!remote.test!user",
    "user@sub.example.test",
    "user@XN--bcher-kva.test",
    "user@b\u00fccher.test",
    "user@example.test@",
    "user@example.test@remote.test",
    "user",
    "user@",
    "@remote.test",
    "user@remote.test ",
    " user@remote.test",
    "alice@example.test,user@remote.test",
    "alice@example.test> <user@remote.test",
    '"alice@example.test"@remote.test',
    "alice%remote.test@example.test",
    "alice!remote.test@example.test",
    "user@127.0.0.1",
    "user@remote.test#example.test",
    "user@remote.test/example.test",
    "user@example.test\\@remote.test",
]
SENDERS = ["", "x@far.test", "alice@example.test", "x@[127.0.0.1]", "postmaster@mx.example.test"]
NAMES = ["client.test", "example.test", "mx.example.test", "localhost", "[127.0.0.1]"]


@pytest.mark.parametrize("sender", SENDERS)
async def test_row_25_no_open_relay(house: House, sender: str) -> None:
    """Every way round, from every sender and under every name: no 250, and no 354."""

    async def relay(target: Target) -> None:
        before = len(await target.stored())
        taken = []
        for name in NAMES:
            for start in range(0, len(RELAY), 9):  # fewer than the errors that end a session
                async with target.connect() as wire:
                    await wire.answer()
                    await wire.say(f"EHLO {name}")
                    parameters = "" if name == NAMES[0] else " SMTPUTF8"
                    if (await wire.say(f"MAIL FROM:<{sender}>{parameters}")).no:
                        continue
                    for address in RELAY[start : start + 9]:
                        answer = await wire.say(f"RCPT TO:<{address}>")
                        taken += [address] if answer.yes else []
                    answer = await wire.say("DATA")
                    taken += ["DATA"] if answer.code == 354 else []
        hold(not taken, f"taken: {taken}")
        hold(len(await target.stored()) == before, "something was stored")

    await prove(25, relay, house, errors=30)


async def test_row_25_our_own_are_served(house: House) -> None:
    """The other half: without it, a server that refuses all would be safe."""

    async def own(target: Target) -> None:
        async with target.greeted() as wire:
            await wire.say("MAIL FROM:<x@far.test>")
            for address in (
                "alice@example.test",
                "ALICE@EXAMPLE.TEST",
                "postmaster@other.test",
                "postmaster",
                "team@example.test",
            ):
                hold((await wire.say(f"RCPT TO:<{address}>")).code == 250, address)

    await prove(25, own, house, safe_there=True)


INJECTED = [
    "MAIL FROM:<x@far.test> ENVID=a+0D+0Ab",
    "MAIL FROM:<x@far.test> ENVID=a+00b",
    "MAIL FROM:<x@far.test> ENVID=a\tb",
    "MAIL FROM:<x@far.test> AUTH=a+0D+0A",
    "MAIL FROM:<x@far.test> RET=FULL+0D",
    "MAIL FROM:<x@far.test> BODY=8BITMIME\x0bX=1",
    "MAIL FROM:<x\u2028@far.test> SMTPUTF8",
]


async def test_row_20_no_line_end_in_an_envelope(house: House) -> None:
    async def inject(target: Target) -> None:
        for line in INJECTED:
            async with target.greeted() as wire:
                hold((await wire.say(line)).no, f"taken: {line!a}")
        async with target.greeted() as wire:
            await wire.say("MAIL FROM:<x@far.test>")
            for parameter in ("ORCPT=rfc822;a+0D+0Ab@x", "ORCPT=x+0Ay;b", "NOTIFY=SUCCESS+0D", "ORCPT=rfc822;a+0"):
                hold((await wire.say(f"RCPT TO:<alice@example.test> {parameter}")).no, f"taken: {parameter}")

    await prove(20, inject, house)


SHELL = [
    "|touch${IFS}/tmp/pwned",
    "/tmp/pwned",
    ":include:/etc/passwd",
    "${run{/bin/touch /tmp/x}}",
    "$(touch /tmp/x)",
    "`id`",
    "() { :; }; x",
]


async def test_row_22_nothing_in_an_address_is_run(house: House) -> None:
    async def run(target: Target) -> None:
        async with target.greeted() as wire:
            await wire.say("MAIL FROM:<x@far.test>")
            for local in SHELL:
                for form in (local, f'"{local}"'):
                    hold((await wire.say(f"RCPT TO:<{form}@example.test>")).no, f"taken: {form}")

    await prove(22, run, house, errors=100)


TRAVERSAL = [
    "../../x",
    "/etc/x",
    "a/../b",
    ".",
    "..",
    "x" * 300,
    "a\0b",
    "alice+../../x",
    "..%2fx",
    "%2e%2e/x",
    "alice/../bob",
    "~root",
]


async def test_row_23_no_way_out_of_the_tree(house: House) -> None:
    async def climb(target: Target) -> None:
        async with target.greeted() as wire:
            await wire.say("MAIL FROM:<x@far.test>")
            taken = []
            for local in TRAVERSAL:
                for address in (f"{local}@example.test", f'"{local}"@example.test', f"{local}@.."):
                    answer = await wire.say(f"RCPT TO:<{address}>")
                    # A sub-address is no path: it is delivered to the mailbox without it.
                    taken += [address] if answer.yes and "alice+" not in address else []
            hold(not taken, f"taken: {taken}")

    await prove(23, climb, house, errors=100)
    assert sorted(path.name for path in Path(house.config.paths.data).parent.iterdir()) == ["data", "run"]


@pytest.mark.parametrize("bad", ["../../x", "/etc/passwd", "..", "a/b", "%2e%2e", "x\0"])
def test_row_23_operators_cannot_climb_either(bad: str) -> None:
    for operation, given in (
        ("queue.show", {"ids": [bad]}),
        ("dkim.generate", {"domain": "example.test", "selector": bad}),
        ("dkim.generate", {"domain": bad}),
    ):
        with pytest.raises(UsageError):
            check(BY_NAME[operation], given)


QUOTES = ["o'hara", '"x\';--"', "a%", "_", "x'||'y", "1'/**/or/**/'1", '"\') or 1=1"']


async def test_row_24_no_sql_in_what_clients_say(house: House) -> None:
    async def inject(target: Target) -> None:
        async with target.signed_in() as wire:
            for local in QUOTES:
                await wire.say("EHLO ');DROP-TABLE-message;--")
                hold((await wire.say("MAIL FROM:<alice@example.test>")).yes, "MAIL")
                hold((await wire.say(f"RCPT TO:<{local}@far.test>")).yes, local)
                hold((await wire.say("DATA")).code == 354, "DATA")
                hold((await wire.say("Subject: '); DELETE FROM message; --\r\n\r\nx\r\n.")).code == 250, local)
        found = sorted(to for _, recipients, _ in await target.stored() for to in recipients)
        hold(found == sorted(f"{local}@far.test" for local in QUOTES), f"{found}")

    await prove(24, inject, house)
    for local in QUOTES:
        rows = await house.store.select(Selector(recipient=f"{local}@far.test"), house.clock())
        assert [row.recipient.address for row in rows] == [f"{local}@far.test"], "a sign of SQL is no wildcard"


async def test_row_24_no_sql_in_names_of_users(house: House) -> None:
    async def inject(target: Target) -> None:
        for name in ("' OR '1'='1", "alice@example.test' --", "%", "alice@example.tes_"):
            async with target.greeted("submission") as wire:
                hold((await wire.say(b"AUTH PLAIN " + plain(name, "x"))).no, name)

    await prove(24, inject, house)


GREETINGS = [
    "a)b",
    "a<b>",
    "x(y",
    "a;b",
    "x" * 400,
    "[IPv6:2001:db8::1]",
    "a\\b",
    'a"b',
    "\u202ea",
    "a\x1b[31mb",
    "a\x7fb",
    "a\tb",
]


async def test_row_39_a_name_cannot_break_the_trace(house: House) -> None:
    field = re.compile(rb"Received: from [A-Za-z0-9.:_?\[\]-]+ \(\[127\.0\.0\.1\]\)\r\n\tby ")

    async def name(target: Target) -> None:
        for greeting in GREETINGS:
            async with target.connect() as wire:
                await wire.answer()
                if (await wire.say(f"EHLO {greeting}")).no:
                    continue
                hold(not re.search(r"[\x00-\x1f\x7f]", greeting), f"controls in a name were taken: {greeting!a}")
                await wire.say("MAIL FROM:<x@far.test>")
                await wire.say("RCPT TO:<alice@example.test>")
                await wire.say("RCPT TO:<nobody@far.test>")  # for the log
                await wire.say("DATA")
                await wire.say("Subject: x\r\n\r\nx\r\n.")
                octets = (await target.stored())[-1][2]
                hold(not isinstance(target, Ours) or field.match(octets), f"{greeting!a}: {octets[:200]!r}")
        hold(all(line.isprintable() and "\u202e" not in line for line in target.log), "the log")

    await prove(39, name, house)
