"""Who may send what to whom."""

import pytest
from inbound_house import House, say

from mtad.inbound.limits import Connections, client_key
from mtad.inbound.policy import Networks, standing
from mtad.mail.envelope import Peer

OUTSIDE = Peer("smtp", ip="203.0.113.9")


@pytest.mark.parametrize(
    "to",
    [
        "<user@far.test>",
        "<user%far.test@example.test>",
        "<user%far.test>",
        "<far.test!user>",
        "<far.test!user@example.test>",
        "<@example.test:user@far.test>",
        "<@example.test,@x.test:user@far.test>",
        '<"user@far.test">',
        '<"user@far.test"@example.test>',
        "<user@far.test@example.test>",
        "<user@[127.0.0.1]>",
        "<alice@[127.0.0.1]>",
        "<user@[IPv6:::1]>",
        "<user@localhost>",
        "<alice@example.test.>",
        "<user@far.test.>",
        "<example.test!far.test!user>",
        "<alice@sub.example.test>",
        "<alice@XN--EXAMPLE-9D0B.test>",
        "<alice@example.test@>",
        "<nobody@example.test>",
        "<alice>",
        "<>",
        "alice@example.test",
        "<alice@example.test",
        "< alice@example.test>",
    ],
)
@pytest.mark.parametrize("sender", ["", "x@far.test", "alice@example.test", "postmaster", "x@[203.0.113.9]"])
async def test_a_stranger_relays_nothing(house: House, to: str, sender: str) -> None:
    talk = house.talk(OUTSIDE)
    said = await say(talk, "EHLO example.test", f"MAIL FROM:<{sender}>", f"RCPT TO:{to}", "DATA")
    assert said[1] == "250 2.1.0"
    assert said[2].startswith("5")
    assert said[3] == "554 5.5.1"


@pytest.mark.parametrize("local", ["user%far.test", '"user@far.test"', "far.test!user"])
async def test_a_catch_all_takes_no_old_routing_from_strangers(house: House, local: str) -> None:
    house.directory._catch_all = "alice@example.test"
    assert (await say(house.talk(OUTSIDE), "EHLO x", "MAIL FROM:<>", f"RCPT TO:<{local}@example.test>"))[2] == (
        "550 5.7.1"
    )
    assert (await say(house.talk(OUTSIDE), "EHLO x", "MAIL FROM:<>", "RCPT TO:<any@example.test>"))[2] == "250 2.1.5"


@pytest.mark.parametrize(
    "to",
    [
        "alice@example.test",
        "ALICE@EXAMPLE.TEST",
        "alice+news@example.test",
        "team@example.test",
        "postmaster",
        "postmaster@other.test",
        "abuse@example.test",
    ],
)
async def test_a_stranger_reaches_who_lives_here(house: House, to: str) -> None:
    assert (await say(house.talk(OUTSIDE), "EHLO x", "MAIL FROM:<>", f"RCPT TO:<{to}>"))[2] == "250 2.1.5"


@pytest.mark.parametrize(
    ("peer", "who", "relays"),
    [
        (Peer("smtp", ip="203.0.113.9"), "stranger", False),
        (Peer("smtp", ip="10.2.3.4"), "trusted", True),
        (Peer("smtp", ip="::ffff:10.2.3.4"), "trusted", True),
        (Peer("submission", ip="10.2.3.4", tls="x"), "stranger", None),
        (Peer("submission", ip="203.0.113.9", tls="x", user="alice@example.test"), "user", True),
        (Peer("local", uid=1000), "local", True),
        (Peer("maildrop", uid=1000), "local", True),
    ],
)
async def test_standing_decides_relaying(house: House, peer: Peer, who: str, relays: bool | None) -> None:
    assert standing(peer, Networks(house.config.access.trusted_networks)) == who
    said = await say(house.talk(peer), "EHLO x", "MAIL FROM:<alice@example.test>", "RCPT TO:<user@far.test>")
    assert said[2] == {True: "250 2.1.5", False: "550 5.7.1", None: "503 5.5.1"}[relays]


async def test_a_trusted_network_is_no_user_on_the_submission_listener(house: House) -> None:
    said = await say(house.talk(Peer("submission", ip="10.2.3.4", tls="x")), "EHLO x", "MAIL FROM:<alice@example.test>")
    assert said == ["250", "530 5.7.0"]


def test_networks() -> None:
    networks = Networks(("127.0.0.0/8", "::1", "2001:db8::/32"))
    assert "127.9.9.9" in networks
    assert "::1" in networks
    assert "2001:db8:1::5" in networks
    assert "fe80::1%eth0" not in networks
    assert "192.0.2.1" not in networks
    assert "" not in networks


def test_client_keys() -> None:
    assert client_key("192.0.2.1") == "192.0.2.1"
    assert client_key("::ffff:192.0.2.1") == "192.0.2.1"
    assert client_key("2001:db8:1:2:3::9") == client_key("2001:db8:1:2::1%eth0")
    assert client_key("2001:db8:1:2::1") != client_key("2001:db8:1:3::1")
    assert client_key("", 1000) == "uid 1000"


def test_connections_are_counted() -> None:
    open_now = Connections(3, 2)
    assert open_now.enter("a") is None
    assert open_now.enter("a") is None
    refusal = open_now.enter("a")
    assert refusal is not None
    assert refusal.status == "4.7.0"
    assert open_now.enter("b") is None
    refusal = open_now.enter("c")
    assert refusal is not None
    assert refusal.status == "4.3.2"
    open_now.leave("a")
    assert open_now.enter("c") is None
    open_now.resize(1, 1)
    assert open_now.total == 3


def test_root_may_open_as_many_as_there_are() -> None:
    open_now = Connections(10, 1)
    assert [open_now.enter("uid 0") for _ in range(5)] == [None] * 5
