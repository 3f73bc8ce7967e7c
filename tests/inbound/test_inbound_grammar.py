"""Addresses as RFC 5321 4.1.2 writes them, at RCPT: what the grammar makes comes out equal; what it does not make is
never taken for another address."""

import asyncio
import re
import xml.etree.ElementTree as ET
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from inbound_house import House, codes

from mtad.mail.envelope import Peer

SUITE = Path(__file__).resolve().parents[3] / "shared" / "suites" / "addr-isemail" / "tests.xml"
RELAY = Peer("smtp", ip="10.0.0.1")  # may send to any domain: only the grammar decides
MANY = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


async def ask(house: House, text: str) -> tuple[str, str]:
    """The reply to RCPT TO with this text in its brackets, and the recipient of the mail ("" when there is none)."""
    talk = house.talk(RELAY)
    await talk.feed(b"EHLO client.test\r\nMAIL FROM:<x@far.test>\r\n")
    said = await talk.feed(b"RCPT TO:<" + text.encode("utf-8", "surrogatepass") + b">\r\n")
    replies = codes(said)
    assert len(replies) == (1 if "\n" not in text else 2), said
    if not replies[0].startswith("2"):
        talk.abandon()
        return replies[0], ""
    before = {row.message.id for row in await house.rows()}
    assert codes(await talk.feed(b"DATA\r\n\r\nx\r\n.\r\n"))[-1] == "250 2.0.0"
    (row,) = [row for row in await house.rows() if row.message.id not in before]
    await house.store.sweep(house.clock() + 1e9, 0, 0)
    return replies[0], row.recipient.address


# The grammar, as the RFC has it.
ATEXT = "abcXYZ019!#$%&'*+-/=?^_`{|}~"
DOT_STRING = st.lists(st.text(ATEXT, min_size=1, max_size=8), min_size=1, max_size=4).map(".".join)
QTEXT = [chr(code) for code in (*range(32, 34), *range(35, 92), *range(93, 127))]
QUOTED = st.lists(
    st.one_of(st.sampled_from(QTEXT), st.integers(32, 126).map(lambda code: "\\" + chr(code))), max_size=20
).map(lambda parts: '"' + "".join(parts) + '"')
LABEL = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9-]{0,10}[A-Za-z0-9])?", fullmatch=True)
DOMAIN = st.lists(LABEL, min_size=1, max_size=5).map(".".join)
LITERAL = st.one_of(
    st.ip_addresses(v=4).map(lambda ip: f"[{ip}]"),
    st.ip_addresses(v=6).map(lambda ip: f"[IPv6:{ip}]"),
    st.ip_addresses(v=6).map(lambda ip: f"[IPv6:{ip.exploded}]"),
)
MAILBOX = st.tuples(DOT_STRING | QUOTED, DOMAIN | LITERAL).map("@".join)

_ATEXT = r"[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~]+"
_DOMAIN = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*"
_PATH = re.compile(
    rf'(?:@{_DOMAIN}(?:,@{_DOMAIN})*:)?({_ATEXT}(?:\.{_ATEXT})*|"(?:[ !#-\[\]-~]|\\[ -~])*")@({_DOMAIN}|\[[^\]\\]*\])'
)


def meaning(text: str) -> tuple[str, str] | None:
    """(what the local part says, the domain in lower case) of a path, read by the RFC; None when it is none."""
    found = _PATH.fullmatch(text)
    if found is None:
        return ("postmaster", "example.test") if text.lower() == "postmaster" else None
    local, domain = found[1], found[2].lower()
    if local.startswith('"'):
        local = re.sub(r"\\(.)", r"\1", local[1:-1])
    if domain.startswith("["):
        try:
            ip = domain[1:-1]
            return local, str(IPv6Address(ip[5:]) if ip.startswith("ipv6:") else IPv4Address(ip))
        except AddressValueError:
            return None
    return local, domain


@MANY
@given(MAILBOX)
@example('""@b.test')
@example('"@"@b.test')
@example("postmaster@[IPv6:::1]")
def test_what_the_grammar_makes_comes_out_equal(runner: asyncio.Runner, steady: House, text: str) -> None:
    reply, address = runner.run(ask(steady, text))
    if len(text.rpartition("@")[0]) > 64:
        return
    if text.rpartition("@")[2].lower() in ("example.test", "other.test"):
        return
    assert reply == "250 2.1.5", text
    assert meaning(address) == meaning(text), (text, address)


MUTATION = st.sampled_from([*'<>@,:;."\\[]() \t\r\0', "\x7f", "\u00e9", "\u202e", "", "..", "@@", '""', "\udc80"])


@MANY
@given(
    text=MAILBOX, changes=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 3), MUTATION), min_size=1, max_size=3)
)
@example(text="a@b.test", changes=[(8, 0, ">")])
@example(text="a@b.test", changes=[(0, 0, "@c.test:")])
def test_a_slip_never_becomes_another_address(
    runner: asyncio.Runner, steady: House, text: str, changes: list[tuple[int, int, str]]
) -> None:
    for at, gone, new in changes:
        at = min(at, len(text))
        text = text[:at] + new + text[at + gone :]
    reply, address = runner.run(ask(steady, text))
    assert reply[0] in "25", reply
    if reply[0] == "2":
        assert meaning(text) is not None, f"{text!r} was taken as {address!r}"
        assert meaning(address) == meaning(text)


VALID = {"ISEMAIL_VALID_CATEGORY", "ISEMAIL_DNSWARN", "ISEMAIL_RFC5321"}
DISAGREE = {"71"}  # an IPv6 literal whose :: stands for one group, which RFC 4291 lets it


@pytest.mark.skipif(not SUITE.exists(), reason="the isemail suite is not here")
def test_the_isemail_suite_at_rcpt(runner: asyncio.Runner, steady: House) -> None:
    wrong, cases = {}, 0
    for test in ET.parse(SUITE).getroot().iter("test"):
        text = "".join(chr(ord(c) - 0x2400) if "\u2400" <= c < "\u2420" else c for c in test.findtext("address") or "")
        if "\n" in text:
            continue  # it would be two commands
        cases += 1
        reply, _ = runner.run(ask(steady, text))
        if reply.startswith("2") != (test.findtext("category") in VALID):
            wrong[test.get("id", "")] = (text, reply)
    assert cases > 130
    assert set(wrong) == DISAGREE, wrong
