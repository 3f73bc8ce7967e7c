"""What an operator does all day, on a running daemon and on a stopped one's data."""

import json
import os
import smtplib
import socket
import subprocess
from pathlib import Path

import pytest
from peer_mtad import BIN, REPOSITORY, Make, Mtad
from peer_postfix import Postfix, missing
from peer_process import wait_for

from mtactl.submit.queue import mailq

DOWN = '[[delivery.route]]\nmatch = "*.down.test"\nto = "smtp://127.0.0.1:1"\n'


@pytest.fixture
def host(mtad: Make) -> Mtad:
    """With three mails that cannot go."""
    host = mtad(extra=DOWN).start()
    for name in ("a", "b", "c"):
        host.sendmail(f"-f{name}@example.test", f"{name}@x.down.test", mail=b"Subject: s\n\ntext\n")
    wait_for("all are deferred", lambda: states(host) == {"deferred"})
    return host


def states(host: Mtad) -> set[str]:
    return {row["queue_name"] for row in host.rows("queue", "list")}


def senders(host: Mtad, *words: str) -> list[str]:
    return sorted(row["sender"].partition("@")[0] for row in host.rows("queue", "list", *words))


def changed(host: Mtad, *words: str) -> int:
    """How many recipients a verb says it changed."""
    return int(json.loads(host.mtactl("queue", *words, "--json").stdout)["changed"])


def command(host: Mtad, name: str, *words: str) -> subprocess.CompletedProcess[str]:
    """mailq, newaliases, sendmail by name."""
    stub = REPOSITORY / "deploy" / "bin" / name
    return subprocess.run(
        [BIN / "python", "-IS", stub, *words], capture_output=True, text=True, timeout=60, check=False,
        env={"MTA_ROOT": str(host.root), "PATH": os.environ["PATH"]}, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def test_hold_release_purge_restore(host: Mtad) -> None:
    assert changed(host, "hold", "--from", "a@example.test") == 1
    assert senders(host, "--state", "held") == ["a"]
    assert changed(host, "release", "--state", "held") == 1
    assert senders(host, "--state", "held") == []
    assert changed(host, "purge", "--from", "b@example.test", "--yes") == 1
    assert senders(host) == ["a", "c"]
    assert senders(host, "--state", "trashed") == ["b"]
    assert changed(host, "restore", "--all") == 1
    assert senders(host) == ["a", "b", "c"]
    assert changed(host, "flush", "--domain", "x.down.test") == 3


def test_what_survives_a_stop(host: Mtad) -> None:
    host.mtactl("queue", "hold", "--from", "a@example.test")
    host.mtactl("queue", "purge", "--from", "b@example.test", "--yes")
    host.stop()
    assert senders(host) == ["a", "c"]  # read from the stopped daemon's data
    host.start()
    assert senders(host, "--state", "held") == ["a"]
    assert senders(host, "--state", "trashed") == ["b"]


def test_mailq(host: Mtad) -> None:
    running = command(host, "mtad-mailq")
    assert (running.returncode, running.stderr) == (0, "")
    assert running.stdout.count("@x.down.test\n") == 3
    assert running.stdout.endswith("Requests.\n")
    assert command(host, "mtad-sendmail", "-bp").stdout == running.stdout
    host.stop()
    stopped = command(host, "mtad-mailq")
    assert stopped.returncode == 0, stopped.stderr
    assert stopped.stdout == running.stdout


def test_mailq_of_nothing(mtad: Make) -> None:
    host = mtad().start()
    assert command(host, "mtad-mailq").stdout == "Mail queue is empty\n"


def test_flush_by_sendmail(host: Mtad) -> None:
    """-q and its kin make mail due; what is asked for and is not there is no error."""
    for words in (["-q"], ["-qRx.down.test"], ["-qSa@example.test"], ["-qRnothing.test"]):
        done = command(host, "mtad-sendmail", *words)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    wait_for("new tries", lambda: min(row["tries"] for row in host.rows("queue", "list")) >= 2)


def test_newaliases(mtad: Make) -> None:
    aliases = 'aliases = ["aliases"]\n'
    host = mtad(extra=aliases)
    host.mtactl("user", "add", "bob@example.test", text="a long password\n")
    host.start()
    (host.root / "aliases").write_text("team: bob\n")
    done = command(host, "mtad-newaliases")
    assert (done.returncode, done.stderr) == (0, "")
    host.sendmail("team@example.test", mail=b"Subject: to the team\n\n")
    assert b"Subject: to the team" in host.mails("bob")[0]
    (host.root / "aliases").write_text("team: bob\n  : broken\nteam\n")
    done = command(host, "mtad-newaliases")
    assert done.returncode == 65
    assert "aliases" in done.stderr
    host.stop()
    assert command(host, "mtad-sendmail", "-bi").returncode in (65, 69)


def test_a_conversation_on_standard_input(host: Mtad) -> None:
    script = b"EHLO x\r\nMAIL FROM:<d@example.test>\r\nRCPT TO:<d@x.down.test>\r\nDATA\r\n"
    done = subprocess.run(
        [BIN / "python", "-IS", REPOSITORY / "deploy/bin/mtad-sendmail", "-bs"],
        input=script + b"Subject: s\r\n\r\ntext\r\n.\r\nQUIT\r\n", capture_output=True, timeout=60, check=False,
        env={"MTA_ROOT": str(host.root)},
    )  # fmt: skip
    assert done.returncode == 0
    codes = [line[:3] for line in done.stdout.splitlines() if line[3:4] == b" "]
    assert codes == [b"220", b"250", b"250", b"250", b"354", b"250", b"221"]
    assert senders(host) == ["a", "b", "c", "d"]


def test_wrong_settings_are_told_all_at_once(mtad: Make) -> None:
    host = mtad()
    toml = host.root / "mtad.toml"
    toml.write_text(toml.read_text().replace("[delivery]", '[delivery]\nworkers = "many"\nnonsense = 1\nexpire = "x"'))
    for words in (["check"], ["run"]):
        done = subprocess.run(
            [BIN / "python", "-m", "mtad", *words, "--root", host.root],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 78
        for key in ("delivery.workers", "delivery.nonsense", "delivery.expire"):
            assert key in done.stderr + done.stdout


def test_garbage_ends_one_connection_only(host: Mtad) -> None:
    for name in ("submit.sock", "control.sock"):
        for garbage in (b"\x00\xff" * 1000 + b"\r\n", b"GET / HTTP/1.0\r\n\r\n", b"{" * 100_000 + b"\0"):
            with socket.socket(socket.AF_UNIX) as peer:
                peer.settimeout(20)
                peer.connect(str(host.root / "run" / name))
                try:
                    peer.sendall(garbage)
                    peer.shutdown(socket.SHUT_WR)
                    while peer.recv(65536):
                        pass
                except OSError:
                    continue
    assert senders(host) == ["a", "b", "c"]


@pytest.mark.peer
@pytest.mark.skipif(bool(missing()), reason=missing() or "-")
def test_mailq_is_laid_out_as_postfix_does(short_dir: Path) -> None:
    """Its own queue, from `postqueue -j`, through our layout: the very octets of `postqueue -p`."""
    settings = {
        "enable_long_queue_ids": "yes",
        "defer_transports": "smtp",
        "smtpd_sender_restrictions": "check_sender_access inline:{h@x.test=HOLD}",
    }
    postfix = Postfix(short_dir / "postfix", settings).start()
    try:
        for sender, recipients, size in [
            ("a@x.test", ["b@y.test"], 10), ("", ["c@y.test", "d@z.test"], 5000), ("h@x.test", ["e@y.test"], 100_000),
        ]:  # fmt: skip
            with smtplib.SMTP("127.0.0.1", postfix.port) as client:
                client.sendmail(sender, recipients, "Subject: x\n\n" + "y" * size + "\n")

        def queue() -> list[dict[str, object]]:
            return [json.loads(line) for line in postfix.command("postqueue", "-j").stdout.splitlines()]

        def settled() -> bool:
            return sorted(str(row["queue_name"]) for row in queue()) == ["deferred", "deferred", "hold"]

        wait_for("the mail settles", settled)
        theirs = postfix.command("postqueue", "-p").stdout.decode()
        assert "".join(mailq(queue())) == theirs
    finally:
        postfix.stop()
