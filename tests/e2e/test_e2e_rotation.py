"""A rotation under constant mail: whatever happens, each mail verifies by what DNS serves when it arrives."""

import contextlib
import smtplib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dkim
import peer_knot_pair
import pytest
from aiosmtpd.controller import Controller
from peer_knot_pair import HOSTS, KEY, SECRET, KnotPair
from peer_mtad import Make, Mtad
from peer_process import free_port, wait_for

from mtad.dkim.verify import verify

pytestmark = [
    pytest.mark.peer,
    pytest.mark.skipif(bool(peer_knot_pair.missing()), reason=peer_knot_pair.missing() or "-"),
]

SETTINGS = """
[dkim]
check = "0.2s"
margin = "0s"
[limits]
session_timeout = "1s"
"""


class Receiver:
    """The MX of everybody else: judges each mail on arrival by each of the two servers, and by dkimpy."""

    def __init__(self, dns: KnotPair) -> None:
        self.dns = dns
        self.open = threading.Event()  # for those who are asked to come later
        self.bad: list[str] = []
        self.good: list[tuple[str, ...]] = []  # the selectors of each mail
        self.late: list[tuple[str, ...]] = []

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        if address.startswith("late") and not self.open.is_set():
            return "451 4.7.1 come again"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        mail = bytes(envelope.content)
        for host in HOSTS:
            results = verify(mail, lambda name, host=host: self.dns.txt(host, name), time.time())
            if not results or any(result.result != "pass" for result in results):
                self.bad.append(f"{host}: {results}")
            if not dkim.verify(mail, dnsfunc=lambda name, timeout=5, host=host: self._txt(host, name)):
                self.bad.append(f"{host}: dkimpy says no")
        selectors = tuple(result.selector for result in results)
        (self.late if envelope.rcpt_tos[0].startswith("late") else self.good).append(selectors)
        return "250 2.0.0 OK"

    def _txt(self, host: str, name: bytes) -> bytes:
        return next(iter(self.dns.txt(host, name.decode().rstrip("."))), "").encode()


@pytest.fixture
def pair(short_dir: Path) -> Iterator[KnotPair]:
    servers = KnotPair(short_dir / "knot", "example.test").start()
    yield servers
    servers.stop()


@pytest.fixture
def receiver(pair: KnotPair) -> Iterator[tuple[Receiver, int]]:
    judge, port = Receiver(pair), free_port()
    controller = Controller(judge, hostname="127.0.0.1", port=port)
    controller.start()
    yield judge, port
    controller.stop()


def host_of(mtad: Make, pair: KnotPair, sink: int, more: str = "") -> Mtad:
    route = f'[[delivery.route]]\nmatch = "remote.test"\nto = "smtp://127.0.0.1:{sink}"\n'
    servers = ", ".join(f'"{host}:{pair.port}"' for host in HOSTS)
    host = mtad(
        listeners=("smtp",), dns_port=pair.port, delivery='retry = ["1s"]\nexpire = "10m"', extra=route + SETTINGS
    )
    toml = host.root / "mtad.toml"
    toml.write_text(toml.read_text().replace("[dns]\n", f"[dns]\nauthorities = [{servers}]\n") + more)
    return host


class Writer:
    """Sends mail all the time, whether somebody takes it or not."""

    def __init__(self, port: int) -> None:
        self.accepted = 0
        self._port = port
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Writer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def _run(self) -> None:
        while not self._stop.wait(0.02):
            with contextlib.suppress(OSError, smtplib.SMTPException):
                self.send("bob@remote.test")
                self.accepted += 1

    def send(self, to: str) -> None:
        with smtplib.SMTP("127.0.0.1", self._port, timeout=10) as client:
            client.sendmail("alice@example.test", [to], b"From: alice@example.test\r\nSubject: hi\r\n\r\ntext\r\n")


def stages(host: Mtad) -> dict[str, str]:
    return {row["selector"]: row["stage"] for row in host.rows("dkim", "status", "example.test")}


def waits(host: Mtad, selector: str) -> str:
    rows = host.rows("dkim", "status", "example.test")
    return str(next(row["waits_for"] for row in rows if row["selector"] == selector))


def looked_again(host: Mtad, selector: str) -> None:
    """Until the daemon has looked at DNS from now on."""
    begun = time.time()
    wait_for(
        "another look",
        lambda: any(
            row["selector"] == selector and (row["looked"] or 0) > begun
            for row in host.rows("dkim", "status", "example.test")
        ),
    )


def test_a_rotation_by_hand(mtad: Make, pair: KnotPair, receiver: tuple[Receiver, int]) -> None:
    judge, sink = receiver
    host = host_of(mtad, pair, sink)
    host.mtactl("dkim", "generate", "example.test", "--selector", "old")
    for key in host.rows("dkim", "show", "example.test"):
        pair.publish(key["name"], key["record"])
    pair.catch_up()
    # A crash between the two new keys leaves none of them.
    host.start(fault="dkim.new_key")
    assert host.mtactl("dkim", "rotate", "example.test", "--selector", "torn", check=False).returncode != 0
    host.wait_for_crash()
    assert stages(host) == {"old": "active", "old-ed": "active", "torn": "retired"}
    host.start()
    with Writer(host.ports["smtp"]) as writer:
        made = host.rows("dkim", "rotate", "example.test", "--selector", "new")
        assert [key["stage"] for key in made] == ["pending", "pending"]
        looked_again(host, "new-ed")
        for key in made:
            pair.publish(key["name"], key["record"])
        looked_again(host, "new-ed")
        # The secondary lags: nothing moves, and everybody can see why.
        rows = {row["selector"]: row for row in host.rows("dkim", "status", "example.test")}
        assert [rows[name]["stage"] for name in ("old", "old-ed", "new", "new-ed")] == ["active"] * 2 + ["pending"] * 2
        assert rows["new"]["waits_for"] == f"its record at 127.0.0.2 [127.0.0.2 port {pair.port}] (no such record)"
        seen = {(one["server"], one["verdict"]) for one in rows["new"]["servers"]}
        assert seen == {("127.0.0.1", "right"), ("127.0.0.2", "absent")}
        # A crash before and one after each step of the way; mail goes on.
        writer.send("late@remote.test")  # signed by the old keys, delivered after the switch
        host.kill()
        pair.catch_up()
        # The queue may hold mail that is older than today's settings allow: the old keys wait for it all the same.
        toml = host.root / "mtad.toml"
        toml.write_text(toml.read_text().replace('expire = "10m"', 'expire = "2s"'))
        for fault, after in (
            ("dkim.before_state", "pending"),
            ("dkim.after_state", "published"),
            ("dkim.before_state", "published"),
            ("dkim.after_state", "active"),
        ):
            host.crash(fault)
            assert stages(host)["new"] == after
        host.start()
        assert stages(host) | {"torn": "retired"} == {
            "old": "retiring", "old-ed": "retiring", "new": "active", "new-ed": "active", "torn": "retired",
        }  # fmt: skip
        wait_for("mail with the new signature", lambda: ("new", "new-ed") in judge.good)
        wait_for("the old mail", lambda: waits(host, "old") == "old mail in the queue")
        assert not any("removed" in one for one in host.rows("status")[0]["problems"])
        judge.open.set()
        wait_for("the late mail", lambda: judge.late)
        old = host.root / "data" / "dkim" / "example.test" / "old.pem"
        assert old.exists()
        wait_for(
            "the operator is told", lambda: any("can be removed" in one for one in host.rows("status")[0]["problems"])
        )
        for name in ("old", "old-ed"):
            pair.publish(f"{name}._domainkey.example.test", "")
        pair.catch_up()
        wait_for("the end of the old keys", lambda: {stages(host)[name] for name in ("old", "old-ed")} == {"retired"})
        assert not old.exists()
        assert not any(one.startswith("dkim") for one in host.rows("status")[0]["problems"])
    host.empty()
    assert judge.late == [("old", "old-ed")]
    assert judge.bad == []
    assert set(judge.good) == {("old", "old-ed"), ("new", "new-ed")}
    assert len(judge.good) >= writer.accepted


def test_a_rotation_that_publishes_itself(mtad: Make, pair: KnotPair, receiver: tuple[Receiver, int]) -> None:
    judge, sink = receiver
    secret = f'[dns.update]\nserver = "127.0.0.1:{pair.port}"\nkey = "{KEY}"\nsecret_file = "tsig"\nttl = "1s"\n'
    host = host_of(mtad, pair, sink, secret)
    (host.root / "tsig").write_text(f"{SECRET}\n")
    (host.root / "tsig").chmod(0o600)
    toml = host.root / "mtad.toml"
    toml.write_text(toml.read_text().replace('expire = "10m"', 'expire = "2s"'))
    host.mtactl("dkim", "generate", "example.test", "--selector", "old", "--algorithm", "ed25519")
    pushed = host.rows("dns", "push")
    assert [(row["name"], row["done"]) for row in pushed] == [("old._domainkey.example.test", "set")]
    pair.catch_up()
    host.start()
    with Writer(host.ports["smtp"]):
        host.mtactl("dkim", "rotate", "example.test", "--selector", "new")
        wait_for("it is published", lambda: pair.txt(HOSTS[0], "new._domainkey.example.test"))
        assert stages(host) == {"old": "active", "new": "pending"}
        pair.catch_up()
        wait_for("the switch", lambda: stages(host) == {"old": "retiring", "new": "active"})
        wait_for("the removal", lambda: not pair.txt(HOSTS[0], "old._domainkey.example.test"))
        pair.catch_up()
        wait_for("the end", lambda: stages(host) == {"old": "retired", "new": "active"})
    host.empty()
    assert judge.bad == []
    assert set(judge.good) == {("old",), ("new",)}
    assert "dkim: domain=example.test, selector=new, stage=active" in host.log
