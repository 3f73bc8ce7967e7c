"""What the parameters of MAIL become: who may use them, and what is stored."""

from dataclasses import replace

import pytest
from inbound_house import STRANGER, House, codes, say

from mtad.inbound.conversation import Conversation
from mtad.mail.envelope import Peer
from mtad.queue.store import Row

USER = Peer("submission", ip="192.0.2.9", tls="TLSv1.3 X", user="alice@example.test", helo="c")
HERE = Peer("local", uid=1000)
TLS = replace(STRANGER, tls="TLSv1.3 X")
NOW = 1_800_000_000.0


async def send(talk: Conversation, parameters: str, text: str = "Subject: x\r\n\r\nbody", *, to: str = "") -> list[str]:
    sender = "alice@example.test" if talk.peer.source != "smtp" else "x@far.test"
    said = await say(talk, "EHLO c", f"MAIL FROM:<{sender}> {parameters}", to or "RCPT TO:<bob@example.test>")
    return [*said[1:2], *(await say(talk, "DATA", text, "."))[-1:]]


async def one(house: House, peer: Peer, parameters: str, text: str = "Subject: x\r\n\r\nbody") -> Row:
    house.now = NOW
    assert (await send(house.talk(peer), parameters, text))[-1] == "250 2.0.0"
    (row,) = await house.rows()
    return row


@pytest.mark.parametrize("peer", [USER, HERE])
async def test_release_in_the_future(house: House, peer: Peer) -> None:
    row = await one(house, peer, "HOLDFOR=3600")
    assert row.message.hold_until == row.recipient.next_at == NOW + 3600
    assert row.message.expires_at == NOW + 3600 + house.config.delivery.expire_s
    assert await house.store.next_due(NOW) == NOW + 3600
    assert await house.store.lease(NOW + 3599, NOW + 4000, 5) == []
    assert len(await house.store.lease(NOW + 3600, NOW + 4000, 5)) == 1


@pytest.mark.parametrize(
    ("peer", "parameters", "said"),
    [
        (USER, "HOLDFOR=2592000", "250 2.1.0"),
        (USER, "HOLDFOR=2592001", "501 5.5.4"),
        (USER, "HOLDUNTIL=2027-01-15T08:00:01Z", "250 2.1.0"),
        (USER, "BY=9;R", "501 5.5.4"),
        (USER, "BY=10;R", "250 2.1.0"),
        (STRANGER, "HOLDFOR=1", "555 5.5.4"),
        (STRANGER, "BY=60;R", "555 5.5.4"),
        (STRANGER, "REQUIRETLS", "555 5.5.4"),
        (TLS, "REQUIRETLS", "250 2.1.0"),
        (USER, "REQUIRETLS", "250 2.1.0"),
        (HERE, "REQUIRETLS", "250 2.1.0"),
        (HERE, "XKEY=order+204711", "250 2.1.0"),
        (HERE, "XKEY=", "501 5.5.4"),
        (HERE, "XKEY=+0A", "501 5.5.4"),
        (USER, "XKEY=a", "555 5.5.4"),
        (STRANGER, "XKEY=a", "555 5.5.4"),
        (USER, "MT-PRIORITY=9", "250 2.1.0"),
        (HERE, "MT-PRIORITY=9", "250 2.1.0"),
        (STRANGER, "MT-PRIORITY=-9", "250 2.1.0"),
        (STRANGER, "MT-PRIORITY=0", "250 2.1.0"),
        (STRANGER, "MT-PRIORITY=1", "250 2.3.6"),
        (Peer("smtp", ip="10.0.0.1"), "MT-PRIORITY=4", "250 2.3.6"),
    ],
)
async def test_who_may_ask_for_what(house: House, peer: Peer, parameters: str, said: str) -> None:
    house.now = NOW
    sender = "x@far.test" if peer.source == "smtp" else "alice@example.test"
    assert (await say(house.talk(peer), "EHLO c", f"MAIL FROM:<{sender}> {parameters}"))[-1] == said


async def test_a_priority_that_was_changed_is_said_and_stored(house: House) -> None:
    talk = house.talk()
    await say(talk, "EHLO c")
    assert b"0 is the new priority" in await talk.feed(b"MAIL FROM:<x@far.test> MT-PRIORITY=7\r\n")
    await say(talk, "RCPT TO:<bob@example.test>", "DATA", "", "body", ".")
    (row,) = await house.rows()
    assert row.message.priority == 0


async def test_wishes_are_stored(house: House) -> None:
    row = await one(house, USER, "MT-PRIORITY=3 BY=120;RT REQUIRETLS RET=HDRS ENVID=aB+2B")
    message = row.message
    assert (message.priority, message.by_at, message.by_mode, message.by_trace) == (3, NOW + 120, "R", True)
    assert (message.requiretls, message.ret, message.envid, message.hold_until) == (True, "HDRS", "aB+2B", 0.0)
    assert not message.tls_optional


@pytest.mark.parametrize(
    ("fields", "parameters", "optional"),
    [
        ("TLS-Required: No", "", True),
        ("tls-required:  no ", "", True),
        ("TLS-Required: No", "REQUIRETLS", False),
        ("TLS-Required: Yes", "", False),
        ("TLS-Required: No\r\nTLS-Required: No", "", False),
        ("X: y", "", False),
    ],
)
async def test_tls_required_no(house: House, fields: str, parameters: str, optional: bool) -> None:
    row = await one(house, USER, parameters, f"{fields}\r\n\r\nbody")
    assert row.message.tls_optional == optional


@pytest.mark.parametrize(
    ("notify", "rows"),
    [
        ("", [("alice", ""), ("bob", ""), ("carol", "")]),
        ("NOTIFY=NEVER", [("alice", "NEVER"), ("bob", "NEVER"), ("carol", "NEVER")]),
        ("NOTIFY=DELAY", [("alice", "DELAY"), ("bob", "DELAY"), ("carol", "DELAY")]),
        ("NOTIFY=SUCCESS", [("team", "SUCCESS"), ("alice", "NEVER"), ("bob", "NEVER"), ("carol", "NEVER")]),
        (
            "NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;Team+2Bx@Example.Test",
            [("team", "SUCCESS"), ("alice", "FAILURE"), ("bob", "FAILURE"), ("carol", "FAILURE")],
        ),
    ],
)
async def test_an_alias_reports_its_expansion(house: House, notify: str, rows: list[tuple[str, str]]) -> None:
    await send(house.talk(TLS), "", to=f"RCPT TO:<team@example.test> {notify}")
    found = [row.recipient for row in await house.rows()]
    assert [(one.address.partition("@")[0], one.notify) for one in found] == rows
    assert [one.n for one in found] == list(range(1, len(rows) + 1))
    assert {one.orcpt for one in found} == {"rfc822;Team+2Bx@Example.Test" if "ORCPT" in notify else ""}
    assert [one.domain for one in found if one.address == "team@example.test"] == [""] * ("SUCCESS" in notify)


async def test_one_target_keeps_the_wish_for_success(house: House) -> None:
    await send(house.talk(TLS), "", to="RCPT TO:<both@example.test> NOTIFY=SUCCESS")
    assert [(row.recipient.address, row.recipient.notify) for row in await house.rows()] == [
        ("alice@example.test", "SUCCESS")
    ]


@pytest.mark.parametrize(("length", "said"), [(998, "250 2.0.0"), (999, "500 5.6.0")])
async def test_the_limit_of_a_line(house: House, length: int, said: str) -> None:
    talk = house.talk(host=house.with_limits(line_length_bytes=998))
    assert (await send(talk, "", "A: b\r\n\r\n" + "x" * length))[-1] == said
    octets = b"A: b\r\n\r\n" + b"x" * length
    envelope = b"MAIL FROM:<x@far.test>\r\nRCPT TO:<bob@example.test>\r\n"
    assert codes(await talk.feed(envelope + b"BDAT %d LAST\r\n" % len(octets) + octets))[-1] == said


async def test_a_long_line_is_taken_as_it_is_up_to_the_limit(house: House) -> None:
    talk = house.talk()
    assert (await send(talk, "", "A: b\r\n\r\n" + "x" * (1 << 20)))[-1] == "250 2.0.0"
    _, content = await house.only()
    assert b"\r\n\r\n" + b"x" * (1 << 20) + b"\r\n" in content
    assert (await send(talk, "", "A: b\r\n\r\n" + "x" * ((1 << 20) + 1)))[-1] == "500 5.6.0"


async def test_limits_of_a_session_are_those_that_ehlo_names(house: House) -> None:
    talk = house.talk(host=house.with_limits(recipients=100))
    assert b"LIMITS RCPTMAX=100\r\n" in await talk.feed(b"EHLO c\r\nMAIL FROM:<x@far.test>\r\n")
    said = codes(await talk.feed(b"RCPT TO:<bob@example.test>\r\n" * 101))
    assert said == ["250 2.1.5"] * 100 + ["452 4.5.3"]


async def test_ehlo_names_the_last_moment_of_a_release(house: House) -> None:
    house.now = NOW + 1800
    said = await house.talk(USER).feed(b"EHLO c\r\n")
    assert b"250-FUTURERELEASE 2592000 2027-02-14T08:00:00Z\r\n" in said
    assert b"250-DELIVERBY 10\r\n" in said
    house.now = NOW + 3600
    assert b"2027-02-14T09:00:00Z" in await house.talk(USER).feed(b"EHLO c\r\n")
    host = house.with_limits(hold_max_s=0.0)
    assert b"FUTURERELEASE" not in await house.talk(USER, host).feed(b"EHLO c\r\n")
