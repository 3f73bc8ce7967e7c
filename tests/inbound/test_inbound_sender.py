"""Who may send as whom: the envelope and From of users."""

from dataclasses import replace

import pytest
from inbound_house import PASSWORD, House, say

from mtad.inbound import policy
from mtad.inbound.host import Host
from mtad.mail.envelope import Peer

ALICE = Peer("submission", ip="203.0.113.5", port=1, helo="x", tls="TLSv1.3 X", user="alice@example.test")


@pytest.mark.parametrize(
    ("sender", "allowed"),
    [
        ("alice@example.test", True),
        ("Alice@EXAMPLE.test", True),
        ("alice+lists@example.test", True),
        ("both@example.test", True),
        ("team@example.test", True),
        ("bob@example.test", False),
        ("alice@other.test", True),  # the alias of that name leads to her
        ("info@example.test", False),
        ("ceo@bank.test", False),
        ("alice@example.test.evil.test", False),
        ("granted@far.test", True),
        ("Granted@FAR.test", True),
        ("any@shop.test", True),
        ("any@sub.shop.test", False),
        ("any@notshop.test", False),
    ],
)
async def test_who_may_send_as_whom(house: House, sender: str, allowed: bool) -> None:
    house.directory._aliases = type(house.directory._aliases)(
        {"alice@other.test": ("alice@example.test",), "both": ("alice",), "team": ("alice", "x@far.test")}
    )
    await house.users.update("alice", lambda form: replace(form, senders=("granted@far.test", "@shop.test")))
    assert (await say(house.talk(ALICE), f"MAIL FROM:<{sender}>"))[0] == ("250 2.1.0" if allowed else "553 5.7.1")
    text = f"From: Somebody <{sender}>\r\nSubject: x\r\n\r\nx\r\n."
    said = await say(house.talk(ALICE), "MAIL FROM:<alice@example.test>", "RCPT TO:<x@far.test>", "DATA", text)
    assert said[-1] == ("250 2.0.0" if allowed else "550 5.7.1")
    assert len(await house.rows()) == allowed


async def test_the_null_sender_is_everybodys(house: House) -> None:
    assert await say(house.talk(ALICE), "MAIL FROM:<>") == ["250 2.1.0"]


def mine(user: str, address: str) -> bool:
    return address == "a@x.test"


@pytest.mark.parametrize(
    ("head", "allowed"),
    [
        (b"Subject: x\r\n\r\n", True),
        (b"From: a@x.test\r\n\r\n", True),
        (b"FROM : A B <a@x.test>\r\n\r\n", True),
        (b'From: "ceo@bank.test" <a@x.test>\r\n\r\n', True),  # a name is a name
        (b"From: =?utf-8?q?ceo=40bank.test?= <a@x.test>\r\n\r\n", True),
        (b"From: (ceo@bank.test) a@x.test\r\n\r\n", True),
        (b"From: a@x.test, a@x.test\r\n\r\n", True),
        (b"From: friends: a@x.test;\r\n\r\n", True),
        (b"From: b@x.test\r\n\r\n", False),
        (b"From: a@x.test <b@x.test>\r\n\r\n", False),
        (b"From: a@x.test, b@x.test\r\n\r\n", False),
        (b"From: a@x.test\r\nfrom: b@x.test\r\n\r\n", False),
        (b"From: a@x.test\r\nX: y\r\nFrom:\r\n b@x.test\r\n\r\n", False),
        (b"From: a@x.test\r\n\t, b@x.test\r\n\r\n", False),
        (b"From: friends: a@x.test, b@x.test;\r\n\r\n", False),
        (b"From: \r\n\r\n", False),
        (b"From: undisclosed\r\n\r\n", False),
        (b"From: a@x.test b@x.test\r\n\r\n", False),
        (b"From: a@x.test\x00@bank.test\r\n\r\n", False),
        (b"From: \xff\xfe\r\n\r\n", False),
        (b"From: a@x.test" + b" " * 70_000 + b", b@x.test\r\n\r\n", False),
        (b"From: " + b"a@x.test, " * 10_000 + b"b@x.test\r\n\r\n", False),
    ],
)
def test_authors(head: bytes, allowed: bool) -> None:
    reply = policy.judge_authors("user", ALICE, head, mine)
    assert (reply is None) == allowed
    assert reply is None or (reply.code, reply.status) == (550, "5.7.1")
    for other in ("local", "trusted", "stranger"):
        assert policy.judge_authors(other, ALICE, head, mine) is None  # type: ignore[arg-type]


async def test_the_check_of_from_can_be_turned_off(house: House) -> None:
    config = replace(house.config, submission=replace(house.config.submission, check_from="off"))
    host: Host = house.make_host(config)
    mail = ("RCPT TO:<x@far.test>", "DATA", "From: ceo@bank.test\r\n\r\nx\r\n.")
    said = await say(house.talk(ALICE, host), "MAIL FROM:<ceo@bank.test>", "MAIL FROM:<alice@example.test>", *mail)
    assert said == ["553 5.7.1", "250 2.1.0", "250 2.1.5", "354", "250 2.0.0"]


async def test_a_refused_from_leaves_nothing_and_the_session_goes_on(house: House) -> None:
    talk = house.talk(ALICE)
    big = "x" * 70 + "\r\n"
    mail = ("MAIL FROM:<alice@example.test>", "RCPT TO:<x@far.test>", "DATA")
    assert (await say(talk, *mail, f"From: b@x.test\r\n\r\n{big * 4000}."))[-1] == "550 5.7.1"
    assert (await say(talk, *mail, "From: alice@example.test\r\n\r\nx\r\n."))[-1] == "250 2.0.0"
    from pathlib import Path

    assert list(Path(house.config.paths.spool).iterdir()) == []
    assert PASSWORD not in "".join(house.log)
