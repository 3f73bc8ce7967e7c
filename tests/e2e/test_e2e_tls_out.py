"""DANE and MTA-STS as the world has them: Knot signs, Unbound validates, a web server has the policy, Postfix takes
the mail, and an attacker sits in between."""

import hashlib
import os
import socket
import sqlite3
import ssl
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import peer_knot
import peer_postfix
import peer_unbound
import pytest
from peer_knot import Knot
from peer_mtad import Make, Mtad
from peer_postfix import Postfix
from peer_process import wait_for
from peer_unbound import Unbound

from mtad.config import Address, Dns
from mtad.dns.resolver import DnsTemporary, NoData, Resolver

sys.path.append(str(Path(__file__).resolve().parents[1] / "tls"))
import private_ca

WEB, ATTACKER, UNUSED = (f"127.{os.getpid() % 200 + 20}.{os.getpid() // 200 % 250}.{n}" for n in (1, 2, 3))
SIGNED = ("signed.test", "bogus.test", "_tcp.lost.signed.test")
DOMAINS = (
    "signed.test anchor.signed.test wrong.signed.test none.signed.test lostmx.signed.test alias.signed.test plain.test"
    " sts.test"
)
POLICY = "version: STSv1\nmode: enforce\nmx: mx.sts.test\nmx: *.strip.test\nmax_age: 86400\n"


def zones(port: int, leaf: private_ca.Holder, root: private_ca.Holder) -> dict[str, str]:
    key, authority = hashlib.sha256(leaf.spki).hexdigest(), hashlib.sha256(root.der).hexdigest()
    tlsa = f"_{port}._tcp"
    return {
        "signed.test": (
            f"@ MX 10 mx\nmx A 127.0.0.1\n{tlsa}.mx TLSA 3 1 1 {key}\n"
            f"anchor MX 10 mx2\nmx2 A 127.0.0.1\n{tlsa}.mx2 TLSA 2 0 1 {authority}\n"
            f"wrong MX 10 mx3\nmx3 A 127.0.0.1\n{tlsa}.mx3 TLSA 3 1 1 {'00' * 32}\n"
            f"none MX 10 mx4\nmx4 A 127.0.0.1\n"
            f"lostmx MX 10 lost\nlost A 127.0.0.1\n_tcp.lost NS ns\n_tcp.lost DS 1 13 2 {'00' * 32}\n"
            f"alias MX 10 other\nother CNAME mx\n"
        ),
        "bogus.test": "@ MX 10 mx.signed.test.\n",
        "_tcp.lost.signed.test": f"_{port} TLSA 3 1 1 {key}\n",
        "plain.test": f"@ MX 10 mx\nmx A 127.0.0.1\n{tlsa}.mx TLSA 3 1 1 {'00' * 32}\n",
        "sts.test": f'@ MX 10 mx\nmx A 127.0.0.1\n_mta-sts TXT "v=STSv1; id=1;"\nmta-sts A {WEB}\n',
        "strip.test": f'@ MX 10 mx\nmx A {ATTACKER}\n_mta-sts TXT "v=STSv1; id=1;"\nmta-sts A {WEB}\n',
        "evil.test": f'@ MX 10 mx.plain.test.\n_mta-sts TXT "v=STSv1; id=1;"\nmta-sts A {WEB}\n',
    }


@dataclass
class Listener:
    """Serves one connection after the other in a thread, until it is closed."""

    address: str
    port: int
    heard: list[bytes] = field(default_factory=list)
    context: ssl.SSLContext | None = None
    gone: bool = False  # it takes connections and says nothing

    def __enter__(self) -> "Listener":
        self._socket = socket.create_server((self.address, self.port))
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(10)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                if self.gone:
                    continue
                connection.settimeout(10)
                try:
                    self._web(connection) if self.context else self._mail(connection)
                except OSError:
                    continue

    def _web(self, connection: socket.socket) -> None:
        assert self.context is not None
        with self.context.wrap_socket(connection, server_side=True) as tls:
            self.heard.append(tls.recv(65536))
            head = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {len(POLICY)}\r\n\r\n"
            tls.sendall(head.encode() + POLICY.encode())

    def _mail(self, connection: socket.socket) -> None:
        """A server from whose greeting STARTTLS was cut out; it takes all that it is given."""
        connection.sendall(b"220 mx.strip.test\r\n")
        while octets := connection.recv(65536):
            self.heard.append(octets)
            connection.sendall(b"354 go\r\n" if octets.endswith(b"DATA\r\n") else b"250 ok\r\n")


World = tuple[Mtad, Postfix, Unbound, Listener, Listener]


@pytest.fixture
def world(short_dir: Path, mtad: Make) -> Iterator[World]:
    for missing in (peer_knot.missing, peer_unbound.missing, peer_postfix.missing):
        if reason := missing():
            pytest.skip(reason)
    root = private_ca.make("root", ca=True)
    leaf = private_ca.make("mx.sts.test", root, names=("mx.sts.test", "mx2.signed.test"))
    cert, key = leaf.write(short_dir / "pki", root)
    (short_dir / "pki" / "root.pem").write_bytes(root.pem())
    tls = {"smtpd_tls_chain_files": f"{key} {cert}", "smtpd_tls_security_level": "may"}
    postfix = Postfix(short_dir / "postfix", {"virtual_mailbox_domains": DOMAINS, **tls})
    postfix.start()
    all_zones = zones(postfix.port, leaf, root)
    knot = Knot(short_dir / "knot", all_zones, SIGNED).start()
    good = knot.ds("signed.test")
    bad = good.replace("signed.test.", "bogus.test.", 1)
    unbound = Unbound(short_dir / "unbound", knot.port, all_zones, [good, bad]).start()
    names = ("mta-sts.sts.test", "mta-sts.strip.test", "mta-sts.evil.test")
    web = private_ca.make("web", root, names=names).context(short_dir / "web")
    host = mtad(
        dns_port=unbound.port,
        mx_port=postfix.port,
        delivery='retry = ["1h"]',
        extra=f'[tls]\nserver_ca = "{short_dir}/pki/root.pem"\n',
    )
    try:
        with Listener(WEB, 443, context=web) as policies, Listener(ATTACKER, postfix.port) as attacker:
            yield host.start(), postfix, unbound, attacker, policies
            assert policies.heard
    except PermissionError:
        pytest.skip("port 443 needs root")
    finally:
        host.stop()
        unbound.stop()
        knot.stop()
        postfix.stop()


def test_each_host_is_held_to_what_its_domain_published(
    world: World,
) -> None:
    host, postfix, _, attacker, policies = world
    good = ("signed", "anchor.signed", "none.signed", "alias.signed", "plain", "sts")
    bad = ("wrong.signed", "lostmx.signed", "bogus", "strip", "evil")
    for domain in (*good, *bad):
        host.sendmail("-f", "a@example.test", f"x@{domain}.test", mail=b"Subject: secret\n\nbody\n")

    def tried() -> bool:
        return all(f"to=<x@{domain}.test>" in host.log for domain in (*good, *bad))

    wait_for("all mails were tried", tried)
    lines = {
        domain: next(line for line in host.log.splitlines() if f"to=<x@{domain}.test>" in line)
        for domain in (*good, *bad)
    }
    for domain in good:
        assert "status=sent" in lines[domain], lines[domain]
        word = "unverified" if domain in ("none.signed", "plain") else "verified"
        assert lines[domain].endswith(f' {word}"'), lines[domain]
    got = [mail.partition(b"X-Original-To: ")[2].split(b"\n")[0].decode() for mail in postfix.mails(len(good))]
    assert sorted(got) == sorted(f"x@{domain}.test" for domain in good)
    for domain, status, words in (
        ("wrong.signed", "4.7.5", "matches none of its TLSA records"),
        ("lostmx.signed", "4.7.5", "no answer on the host's certificate"),
        ("bogus", "4.4.3", "DNS gave no answer"),
        ("strip", "4.7.4", "TLS is required, but the host does not offer it"),
        ("evil", "4.7.5", "not one of those that the MTA-STS policy of evil.test allows"),
    ):
        line = lines[domain]
        assert f"dsn={status}, status=deferred" in line, line
        assert words in line, line
    octets = b"".join(attacker.heard).upper()
    assert octets.startswith(b"EHLO")
    assert not any(word in octets for word in (b"MAIL FROM", b"RCPT", b"DATA", b"SECRET"))
    assert "mx.strip.test" in host.log
    assert 'no mail without "MTA-STS enforce of strip.test"' in host.log
    # Policies hold on when the daemon starts again and their server is gone; what waits does not slip through.
    host.stop()
    with closing(sqlite3.connect(host.root / "data" / "mta.db")) as database:
        results = dict(database.execute("SELECT domain, result FROM tls_session").fetchall())
    assert results == results | {
        "signed.test": "",
        "sts.test": "",
        "strip.test": "starttls-not-supported",
        "evil.test": "validation-failure",
        "wrong.signed.test": "validation-failure",
        "lostmx.signed.test": "dnssec-invalid",
    }
    policies.gone = True
    host.start()
    host.mtactl("queue", "flush", "--to", "x@strip.test", "--yes")
    wait_for("another try", lambda: host.log.count("to=<x@strip.test>") == 2)
    octets = b"".join(attacker.heard).upper()
    assert octets.count(b"EHLO") == 2
    assert not any(word in octets for word in (b"MAIL FROM", b"RCPT", b"DATA", b"SECRET"))


async def test_a_resolver_is_trusted_when_it_proved_that_it_validates(short_dir: Path) -> None:
    for missing in (peer_knot.missing, peer_unbound.missing):
        if reason := missing():
            pytest.skip(reason)
    holder = private_ca.make("mx.signed.test")
    all_zones = zones(25, holder, holder)
    knot = Knot(short_dir / "knot", all_zones, SIGNED).start()
    good = knot.ds("signed.test")
    bad = good.replace("signed.test.", "bogus.test.", 1)
    unbound = Unbound(short_dir / "unbound", knot.port, all_zones, [good, bad]).start()

    def resolver(port: int = unbound.port, trust_ad: str = "loopback") -> Resolver:
        return Resolver(Dns((Address("127.0.0.1", port),), 2.0, trust_ad=trust_ad), lambda: 0.0)

    try:
        ours = resolver()
        assert await ours.distrust("signed.test", "bogus.test") == ""
        assert (await ours.mx("signed.test")).secure
        assert not (await ours.mx("plain.test")).secure
        assert await ours.tlsa_bases("mx.signed.test") == ("mx.signed.test",)
        assert await ours.tlsa_bases("other.signed.test") == ("mx.signed.test", "other.signed.test")
        assert await ours.tlsa_bases("mx.plain.test") == ()
        [record] = await ours.tlsa("_25._tcp.mx.signed.test")
        assert record == (3, 1, 1, hashlib.sha256(holder.spki).digest())
        assert await ours.tlsa("_25._tcp.mx4.signed.test") == ()
        assert await ours.tlsa("_25._tcp.mx.plain.test") == ()  # it is there, but anybody could have written it
        for ask in (ours.mx("bogus.test"), ours.tlsa("_25._tcp.lost.signed.test")):
            with pytest.raises(DnsTemporary):
                await ask
        with pytest.raises(NoData) as no_mx:
            await ours.mx("mx.signed.test")
        assert no_mx.value.secure
        # What it says of a name whose signatures should be wrong, and are not checked: all it says counts for nothing.
        assert "whose signature is wrong" in await resolver().distrust("signed.test", "plain.test")
        assert "did not validate" in await resolver().distrust("plain.test", "bogus.test")
        assert "did not validate" in await resolver(knot.port).distrust("signed.test", "bogus.test")
        assert "trust_ad is no" in await resolver(trust_ad="no").distrust("signed.test", "bogus.test")
        assert not (await resolver(trust_ad="no").mx("signed.test")).secure
    finally:
        unbound.stop()
        knot.stop()
