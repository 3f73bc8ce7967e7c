"""Signing in: SCRAM with and without its channel, certificates, accounts that are closed, and what never leaks."""

import gc
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from inbound_house import PASSWORD, House, codes, say
from scram_client import ScramClient

from mtad.accounts.users import fingerprint
from mtad.inbound.conversation import Conversation
from mtad.mail.envelope import Peer
from mtad.tls.binding import bindings, end_point, mailboxes

USER = Peer("submission", ip="203.0.113.5", port=1)
ALICE = "alice@example.test"


@pytest.fixture
def ours(house: House) -> bytes:
    """The listeners' certificate in DER."""
    pem = Path(house.config.tls.cert).read_bytes()
    from cryptography.hazmat.primitives.serialization import Encoding

    return x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)


def secured(house: House, **known: bytes) -> Conversation:
    talk = house.talk(USER)
    talk.secured("TLSv1.3 X", **known)
    return talk


async def line(talk: Conversation, text: str) -> str:
    return (await talk.feed(text.encode() + b"\r\n")).decode().removesuffix("\r\n")


async def scram(talk: Conversation, client: ScramClient, *, plus: bool = False) -> str:
    """The whole exchange; the server's proof is checked on the way. The last reply."""
    name = "SCRAM-SHA-256-PLUS" if plus else "SCRAM-SHA-256"
    said = await line(talk, f"AUTH {name} {b64encode(client.first.encode()).decode()}")
    if not said.startswith("334 "):
        return said
    last = client.final(b64decode(said[4:]).decode())
    said = await line(talk, b64encode(last.encode()).decode())
    if not said.startswith("334 "):
        return said
    assert b64decode(said[4:]).decode() == client.expected
    return await line(talk, "")


async def test_what_is_offered(house: House, ours: bytes) -> None:
    for known, offered in (
        ({}, "SCRAM-SHA-256 PLAIN LOGIN"),
        ({"ours": ours}, "SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN"),
        ({"ours": ours, "theirs": ours}, "SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN EXTERNAL"),
    ):
        said = (await secured(house, **known).feed(b"EHLO x\r\n")).decode().splitlines()
        assert any(line[4:] == f"AUTH {offered}" for line in said), said


async def test_scram(house: House, ours: bytes) -> None:
    talk = secured(house)
    await say(talk, "EHLO x")
    assert (await scram(talk, ScramClient(ALICE, "wrong")))[:9] == "535 5.7.8"
    assert (await scram(talk, ScramClient("nobody", PASSWORD)))[:9] == "535 5.7.8"
    assert (await scram(talk, ScramClient("alice", PASSWORD)))[:9] == "235 2.7.0"
    assert talk.peer.user == ALICE
    assert any("SASL SCRAM-SHA-256 authentication failed: user=alice@example.test" in line for line in house.log)


async def test_scram_in_steps_and_cancelled(house: House) -> None:
    talk = secured(house)
    client = ScramClient(ALICE, PASSWORD)
    first = b64encode(client.first.encode()).decode()
    await say(talk, "EHLO x")
    assert await line(talk, "AUTH SCRAM-SHA-256") == "334 "
    assert (await line(talk, first)).startswith("334 ")
    assert (await line(talk, "*"))[:9] == "501 5.7.0"
    said = await line(talk, f"AUTH SCRAM-SHA-256 {first}")
    said = await line(talk, b64encode(client.final(b64decode(said[4:]).decode()).encode()).decode())
    assert said.startswith("334 ")
    assert (await line(talk, b64encode(b"more").decode()))[
        :9
    ] == "501 5.5.2"  # nothing may follow our proof but nothing
    assert talk.peer.user == ""
    assert (await line(talk, "AUTH SCRAM-SHA-256 ="))[:9] == "501 5.5.2"
    assert (await line(talk, "NOOP"))[:9] == "250 2.0.0"


async def test_scram_plus(house: House, ours: bytes) -> None:
    digest = bindings(ours)["tls-server-end-point"]
    header = "p=tls-server-end-point,,"
    talk = secured(house, ours=ours)
    await say(talk, "EHLO x")
    assert (await scram(talk, ScramClient(ALICE, PASSWORD, header=header, binding=b"x" * 32), plus=True))[:3] == "535"
    assert (await scram(talk, ScramClient(ALICE, PASSWORD, header=header, binding=digest), plus=True))[:3] == "235"


async def test_a_downgrade_is_noticed(house: House, ours: bytes) -> None:
    """The client could bind, and believes that we cannot: somebody changed our EHLO."""
    talk = secured(house, ours=ours)
    await say(talk, "EHLO x")
    assert (await scram(talk, ScramClient(ALICE, PASSWORD, header="y,,")))[:9] == "535 5.7.8"
    assert (await scram(talk, ScramClient(ALICE, PASSWORD, header="n,,")))[:9] == "235 2.7.0"


async def test_without_a_binding_there_is_no_plus(house: House) -> None:
    talk = secured(house)
    await say(talk, "EHLO x")
    assert (await line(talk, "AUTH SCRAM-SHA-256-PLUS"))[:9] == "504 5.5.4"
    assert (await line(talk, "AUTH EXTERNAL ="))[:9] == "504 5.5.4"
    assert (await scram(talk, ScramClient(ALICE, PASSWORD, header="y,,")))[:9] == "235 2.7.0"


async def test_external(house: House, ours: bytes) -> None:
    def b64(text: str) -> str:
        return b64encode(text.encode()).decode()

    talk = secured(house, theirs=ours)
    await say(talk, "EHLO x")
    assert (await line(talk, "AUTH EXTERNAL ="))[:9] == "535 5.7.8"
    await house.users.update("alice", lambda form: replace(form, certificates=(fingerprint(ours),)))
    assert (await line(talk, f"AUTH EXTERNAL {b64('bob')}"))[:9] == "535 5.7.8"
    assert await line(talk, "AUTH EXTERNAL") == "334 "
    assert (await line(talk, ""))[:9] == "235 2.7.0"
    assert talk.peer.user == ALICE
    again = secured(house, theirs=ours)
    await say(again, "EHLO x")
    assert (await line(again, f"AUTH EXTERNAL {b64('alice')}"))[:9] == "235 2.7.0"


def test_the_end_point_of_a_certificate(ours: bytes) -> None:
    import hashlib

    assert end_point(ours) == hashlib.sha256(ours).digest()
    assert mailboxes(ours) == ()
    assert mailboxes(b"no certificate") == ()
    assert bindings(b"") == {}
    assert bindings(b"", b"exported") == {"tls-exporter": b"exported"}


# Accounts that are closed


async def plain(talk: Conversation, password: str, name: str = "alice") -> str:
    return await line(talk, f"AUTH PLAIN {b64encode(f'{chr(0)}{name}{chr(0)}{password}'.encode()).decode()}")


async def test_who_is_disabled_learns_it_with_the_right_password_only(house: House) -> None:
    await house.users.disable("alice", "stolen password, call us")
    for mechanism in (plain, lambda talk, password: scram(talk, ScramClient("alice", password))):
        talk = secured(house)
        await say(talk, "EHLO x")
        assert (await mechanism(talk, "wrong"))[:9] == "535 5.7.8"
        assert await mechanism(talk, PASSWORD) == "525 5.7.13 This account is disabled: stolen password, call us"
        assert talk.peer.user == ""
    assert any("525 5.7.13" in line and "subject=alice" in line for line in house.log)


async def test_app_passwords_work_with_each_mechanism(house: House) -> None:
    _, password = await house.users.add_app_password("alice", "phone")
    for mechanism in (plain, lambda talk, password: scram(talk, ScramClient("alice", password))):
        talk = secured(house)
        await say(talk, "EHLO x")
        assert (await mechanism(talk, password))[:9] == "235 2.7.0"


async def disable(house: House) -> None:
    await house.users.disable("alice", "gone")


async def remove(house: House) -> None:
    await house.users.remove("alice")


async def receive_only(house: House) -> None:
    await house.users.update("alice", lambda form: replace(form, receive_only=True))


@pytest.mark.parametrize("close", [disable, remove, receive_only])
@pytest.mark.parametrize(
    "before", [(), (f"MAIL FROM:<{ALICE}>",), (f"MAIL FROM:<{ALICE}>", "RCPT TO:<x@far.test>", "DATA", "Subject: x")]
)
async def test_open_sessions_of_a_closed_account_end(
    house: House, close: Callable[[House], object], before: Sequence[str]
) -> None:
    talk = secured(house)
    await say(talk, "EHLO x")
    await plain(talk, PASSWORD)
    await say(talk, *before)
    await house.users.add("carol", PASSWORD)  # somebody else's change ends nothing
    await close(house)  # type: ignore[misc]
    said = await say(talk, "." if "DATA" in before else "NOOP")
    assert said == ["421 4.7.0"]
    assert talk.closing
    assert await house.rows() == []


async def test_a_changed_account_that_stands_stays(house: House) -> None:
    talk = secured(house)
    await say(talk, "EHLO x")
    await plain(talk, PASSWORD)
    await house.users.disable("bob", "gone")
    await house.users.set_password("alice", "another password")
    assert await say(talk, "NOOP", f"MAIL FROM:<{ALICE}>") == ["250 2.0.0", "250 2.1.0"]


# What never leaks


@pytest.mark.parametrize("wrong", [False, True])
async def test_a_password_is_nowhere(house: House, wrong: bool, capfd: pytest.CaptureFixture[str]) -> None:
    """Not in a log line, a reply, or the printed form of anything that is alive: neither the words nor their base64."""
    secret = "Tr0ub4dor&3 horse" if wrong else PASSWORD
    said = b""
    coded = b64encode(secret.encode())
    blob = b64encode(b"\0alice\0" + secret.encode())
    client = ScramClient("alice", secret)
    for lines in (
        [b"AUTH PLAIN " + blob],
        [b"AUTH PLAIN", blob],
        [b"AUTH PLAIN " + blob + b"!"],  # bad base64
        [b"AUTH PLAIN " + b64encode(b"no nul " + secret.encode())],
        [b"AUTH LOGIN", b64encode(b"alice"), coded],
        [b"AUTH LOGIN " + b64encode(b"alice"), coded],
        [b"AUTH X-UNKNOWN " + blob, coded, secret.encode()],  # refused, and the client goes on as if it were not
        [b"AUTH SCRAM-SHA-256 " + b64encode(client.first.encode()), coded],
    ):
        talk = secured(house)
        said += await talk.feed(b"EHLO x\r\n")
        for text in lines:
            said += await talk.feed(text + b"\r\n")
        assert secret not in repr(vars(talk))
    clear = house.talk(USER)
    said += await clear.feed(b"EHLO x\r\nAUTH PLAIN " + blob + b"\r\n" + coded + b"\r\n" + secret.encode() + b"\r\n")
    heap = "".join(repr(thing) for thing in gc.get_objects() if str(type(thing).__module__).startswith("mtad."))
    shown = capfd.readouterr()
    everything = "\n".join([said.decode(), *house.log, heap, shown.out, shown.err, repr(house.users.list())])
    for trace in (secret, coded.decode(), blob.decode(), blob.decode().rstrip("="), secret.encode().hex()):
        assert trace not in everything
    assert codes(said).count("235 2.7.0") == (0 if wrong else 4)


async def test_a_bug_in_the_middle_does_not_print_the_password(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(name: str, password: str) -> None:
        raise RuntimeError("the disk is on fire")

    monkeypatch.setattr(house.users, "verify", broken)
    talk = secured(house)
    await say(talk, "EHLO x")
    assert (await plain(talk, PASSWORD))[:9] == "454 4.7.0"
    assert any("the disk is on fire" in line for line in house.log)
    assert PASSWORD not in "\n".join(house.log)
