"""What is required of a host is what it must show, whatever it does to the handshake: else it gets no mail."""

import asyncio
import hashlib
import ssl
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import private_ca
import pytest
from smtp_peer import Peer, reading, serving

from mtad.config import Config, Delivery, Paths
from mtad.mail.envelope import Content, Envelope, Rcpt
from mtad.mail.reply import Refused
from mtad.outbound.connection import Timeouts
from mtad.outbound.route import Host, Remote
from mtad.outbound.security import by_dane, by_policy
from mtad.outbound.transport import Transport
from mtad.tls.contexts import client_context
from mtad.tls.dane import Tlsa
from mtad.tls.mta_sts import Known, Policy
from mtad.tls.requirement import OPPORTUNISTIC, WITHOUT, Requirement, for_requiretls

CONFIG = Config("me.test", ("me.test",), Paths("", "/d", "/r"), delivery=Delivery(max_per_domain=3))
ENVELOPE = Envelope("a@x.test", (Rcpt("b@d.example"),))
CONTENT = Content(b"Subject: secret\r\n\r\n", b"body\r\n")
QUICK = Timeouts(connect_s=2, command_s=1, data_s=1, block_s=1, final_s=1, idle_s=5)
NAME = "mx.d.example"


class Pki:
    def __init__(self, folder) -> None:
        self.root = private_ca.make("root", ca=True)
        self.middle = private_ca.make("middle", self.root, ca=True)
        self.leaf = private_ca.make(NAME, self.middle)
        self.good = self.leaf.context(folder / "good", self.middle)
        self.self_signed = private_ca.make(NAME).context(folder / "self")
        self.misnamed = private_ca.make("other.example", self.root).context(folder / "name")
        self.expired = private_ca.make(NAME, self.root, start=-2 * private_ca.DAY, end=-private_ca.DAY).context(
            folder / "expired"
        )
        self.ca_file = str(folder / "root.pem")
        (folder / "root.pem").write_bytes(self.root.pem())


@pytest.fixture(scope="module")
def pki(tmp_path_factory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


class Way:
    """A transport, and what it told of TLS: the result of each connection, "" for success."""

    def __init__(self, executor, ca_file: str) -> None:
        self.seen: list[str] = []
        self.transport = Transport(
            CONFIG,
            executor,
            partial(client_context, ca_file=ca_file),
            QUICK,
            lambda host, ip, fault: self.seen.append(fault.result if fault else ""),
        )

    async def send(self, port: int, need: Requirement, **options) -> str:
        """What came of it: "verified", "unverified", "clear", or the reply."""
        host = Host(NAME, "127.0.0.1", port, need)
        try:
            outcome = await self.transport.deliver(Remote((host,), **options), host, ENVELOPE, CONTENT, 30)
        except Refused as refused:
            reply = refused.reply
            assert reply.temporary
            return f"{reply.code} {reply.status}"
        [reply] = outcome.replies
        assert reply.ok, reply
        return outcome.tls.rpartition(" ")[2] or "clear"


@pytest.fixture
async def way(pki):
    with ThreadPoolExecutor(2) as executor:
        made = Way(executor, pki.ca_file)
        yield made
        made.transport.close()
        await asyncio.sleep(0)


def tlsa(*records: tuple[int, int, int, bytes]) -> Requirement:
    return by_dane("d.example", NAME, NAME, [Tlsa(*record) for record in records])


def sha256(octets: bytes) -> bytes:
    return hashlib.sha256(octets).digest()


ENFORCE = by_policy(Known("d.example", "1", Policy("enforce", (NAME,), 100), 0), NAME)
TESTING = by_policy(Known("d.example", "1", Policy("testing", (NAME,), 100), 0), NAME)
STRICT = {
    "encrypt": Requirement("encrypt", "configured"),
    "verify": Requirement("verify", "configured"),
    "MTA-STS": ENFORCE,
    "REQUIRETLS": for_requiretls(OPPORTUNISTIC),
    "pinned": Requirement("pinned", "configured", pins=("00" * 32,)),
    "DANE": tlsa((3, 1, 1, bytes(32))),
    "DANE, unusable": tlsa((1, 1, 1, bytes(32)), (3, 1, 9, b"x")),
}


def in_clear(heard: list[bytes]) -> bool:
    octets = b"".join(heard).upper()
    return any(word in octets for word in (b"MAIL", b"RCPT", b"DATA", b"BDAT", b"SECRET"))


HELLO = [(b"", b"220 mx\r\n"), (b"EHLO", b"250-mx\r\n250 STARTTLS\r\n")]
ATTACKS = {
    "stripped": [(b"", b"220 mx\r\n"), (b"EHLO", b"250 mx\r\n"), (b"MAIL", b"250 ok\r\n")],
    "refused for now": [*HELLO, (b"STARTTLS", b"454 not now\r\n"), (b"MAIL", b"250 ok\r\n")],
    "refused": [*HELLO, (b"STARTTLS", b"502 what\r\n"), (b"MAIL", b"250 ok\r\n")],
    "no TLS behind 220": [*HELLO, (b"STARTTLS", b"220 go\r\n"), (b"\x16", b"250 not TLS at all\r\n")],
    "cut in the handshake": [*HELLO, (b"STARTTLS", b"220 go\r\n"), (b"\x16", b"")],
    "answers before TLS": [*HELLO, (b"STARTTLS", b"220 go\r\n250-mx\r\n250 PIPELINING\r\n")],
    "220 to EHLO": [(b"", b"220 mx\r\n"), (b"EHLO", b"220 go\r\n250 ok\r\n250 ok\r\n354 go\r\n250 ok\r\n")],
}


@pytest.mark.parametrize("attack", ATTACKS)
async def test_nothing_of_a_mail_goes_in_clear_where_tls_is_required(way, attack):
    for name, need in STRICT.items():
        async with reading(ATTACKS[attack]) as (port, heard):
            said = await way.send(port, need)
            assert said.startswith("4"), (name, said)
            assert not in_clear(heard), (name, heard)
    assert "" not in way.seen


@pytest.mark.parametrize(
    ("attack", "seen"),
    [
        ("stripped", "starttls-not-supported"),
        ("refused for now", "starttls-not-supported"),
        ("refused", "starttls-not-supported"),
        ("no TLS behind 220", "validation-failure"),
        ("cut in the handshake", "validation-failure"),
    ],
)
async def test_what_a_report_says_of_each(way, attack, seen):
    async with reading(ATTACKS[attack]) as (port, _):
        await way.send(port, ENFORCE)
    assert way.seen == [seen]


async def test_the_words_before_tls_are_not_believed(way):
    """CVE-2021-38371: what came in clear behind the 220 is no answer to what we say in TLS. Not even "may" goes on."""
    async with reading(ATTACKS["answers before TLS"]) as (port, heard):
        assert await way.send(port, OPPORTUNISTIC) == "451 4.5.0"
        assert not in_clear(heard)


async def test_opportunistic_takes_any_and_goes_on_in_clear_without(way, pki):
    for context in (pki.self_signed, pki.misnamed, pki.expired, pki.good):
        async with serving(Peer(tls=context)) as peer:
            assert await way.send(peer.port, OPPORTUNISTIC) == "unverified"
    for peer in (Peer(), Peer(tls=pki.good, says={"STARTTLS": "454 not now"})):
        async with serving(peer):
            assert await way.send(peer.port, OPPORTUNISTIC) == "clear"
    broken = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # it has no certificate
    async with serving(Peer(tls=broken)) as peer:
        assert await way.send(peer.port, OPPORTUNISTIC) == "clear"
        assert peer.connections == 3  # with the session of before, anew, and in clear
    assert way.seen == ["", "", "", "", "starttls-not-supported", "starttls-not-supported", "validation-failure"]


@pytest.mark.parametrize(
    ("which", "said", "seen"),
    [
        ("good", "verified", ""),
        ("self_signed", "454 4.7.5", "certificate-not-trusted"),
        ("misnamed", "454 4.7.5", "certificate-host-mismatch"),
        ("expired", "454 4.7.5", "certificate-expired"),
    ],
)
async def test_verify_and_enforce_ask_for_authority_name_and_dates(way, pki, which, said, seen):
    async with serving(Peer(tls=getattr(pki, which))) as peer:
        assert await way.send(peer.port, ENFORCE) == said
        assert len(peer.mails) == (said == "verified")
    assert way.seen == [seen]


@pytest.mark.parametrize(("which", "seen"), [("good", ""), ("self_signed", "certificate-not-trusted")])
async def test_testing_reports_and_delivers(way, pki, which, seen):
    async with serving(Peer(tls=getattr(pki, which))) as peer:
        assert await way.send(peer.port, TESTING) == ("verified" if not seen else "unverified")
        assert peer.connections == (1 if not seen else 2)
    async with serving(Peer()) as peer:
        assert await way.send(peer.port, TESTING) == "clear"
        assert peer.connections == 1
    assert way.seen == [seen, "starttls-not-supported"]


async def test_dane_matches_the_certificate_that_is_shown(way, pki):
    end_entity = (3, 1, 1, sha256(pki.leaf.spki))
    anchor = (2, 0, 1, sha256(pki.middle.der))
    other = (3, 1, 1, bytes(32))
    for records in ((end_entity,), (anchor,), (other, end_entity), (other, anchor)):
        async with serving(Peer(tls=pki.good)) as peer:
            assert await way.send(peer.port, tlsa(*records)) == "verified"
            assert peer.mails[0].tls
    async with serving(Peer(tls=pki.self_signed)) as peer:
        for records in ((end_entity,), (anchor,)):
            assert await way.send(peer.port, tlsa(*records)) == "454 4.7.5"
        assert "MAIL" not in "".join(peer.commands)
    async with serving(Peer(tls=pki.self_signed)) as peer:
        assert await way.send(peer.port, STRICT["DANE, unusable"]) == "unverified"
    assert way.seen == ["", "", "", "", "validation-failure", "certificate-not-trusted", ""]


async def test_pins(way, pki):
    need = Requirement("pinned", "configured", pins=("00" * 32, sha256(pki.leaf.spki).hex()))
    async with serving(Peer(tls=pki.good)) as peer:
        assert await way.send(peer.port, need) == "verified"
        # The open connection is none for who asks for another key.
        assert await way.send(peer.port, STRICT["pinned"]) == "454 4.7.5"
        assert len(peer.mails) == 1
    async with serving(Peer(tls=pki.self_signed)) as peer:
        assert await way.send(peer.port, need) == "454 4.7.5"


async def test_a_connection_serves_only_what_it_was_checked_for(way, pki):
    async with serving(Peer(tls=pki.good)) as peer:
        assert await way.send(peer.port, OPPORTUNISTIC) == "unverified"
        assert await way.send(peer.port, ENFORCE) == "verified"
        assert await way.send(peer.port, ENFORCE) == "verified"
        # Another domain with another policy that asks for the same.
        again = by_policy(Known("e.example", "2", Policy("enforce", ("*.d.example",), 9), 0), NAME)
        assert await way.send(peer.port, again) == "verified"
        assert peer.connections == 2


async def test_a_host_that_must_not_be_used_is_not_called(way):
    need = by_policy(Known("d.example", "1", Policy("enforce", ("else.example",), 100), 0), NAME)
    async with reading([]) as (port, heard):
        assert await way.send(port, need) == "451 4.7.5"
        assert heard == []
    assert way.seen == ["validation-failure"]


async def test_implicit_tls_is_checked_alike(way, pki):
    async with serving(Peer(), implicit_tls=pki.good) as peer:
        assert await way.send(peer.port, Requirement("verify"), scheme="smtps") == "verified"
        assert await way.send(peer.port, OPPORTUNISTIC, scheme="smtps") == "unverified"
    async with serving(Peer(), implicit_tls=pki.self_signed) as peer:
        assert await way.send(peer.port, Requirement("verify"), scheme="smtps") == "454 4.7.5"
    async with serving(Peer()) as peer:
        assert (await way.send(peer.port, OPPORTUNISTIC, scheme="smtps")).startswith("4")


def test_requiretls_raises_what_does_not_authenticate():
    for name, need in STRICT.items():
        raised = for_requiretls(need)
        assert raised.authenticates, name
        assert (raised is need) == need.authenticates
    assert for_requiretls(TESTING).steps == ("verify",)
    assert WITHOUT.report is None


def test_what_an_operator_reads():
    assert [str(need) for need in (OPPORTUNISTIC, ENFORCE, TESTING)] == [
        "may (opportunistic)",
        "verify (MTA-STS enforce of d.example)",
        "may (MTA-STS testing of d.example)",
    ]
    assert str(STRICT["DANE"]) == f"dane (DANE: a TLSA record at {NAME})"
    unlisted = by_policy(Known("d.example", "1", Policy("enforce", ("else.example",), 100), 0), NAME)
    assert str(unlisted) == (
        "not used (MTA-STS enforce of d.example: The MX host is not one of those that the MTA-STS policy of d.example"
        " allows)"
    )
