"""The promise: what got 250, or exit 0 from sendmail, is delivered after any crash; what did not get it never is."""

import os
import subprocess
from pathlib import Path

import pytest
from peer_mtad import BIN, REPOSITORY, Make, Mtad
from peer_postfix import Postfix

MAIL = b"From: alice@example.test\nSubject: once\n\ntext\n"


def host_with_bob(mtad: Make) -> Mtad:
    host = mtad(delivery='retry = ["1s"]')
    host.mtactl("user", "add", "bob@example.test", text="a long password\n")
    return host


def submit(host: Mtad) -> subprocess.CompletedProcess[bytes]:
    """Without the maildrop as the way out: the exit says what the daemon did."""
    return subprocess.run(
        [BIN / "python", "-IS", REPOSITORY / "deploy/bin/mtad-sendmail", "-falice@example.test", "bob@example.test"],
        input=MAIL, capture_output=True, timeout=60, check=False,
        env={"MTA_ROOT": str(host.root), "MTA_SENDMAIL_STRICT": "1", "PATH": os.environ["PATH"]},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("fault", "code", "copies"),
    [
        ("accept.before_commit", 75, 0),
        ("accept.after_commit", 75, 1),  # committed, but nobody was told: delivered, and the sender may try again
        ("accept.before_reply", 75, 1),
        ("lease.after", 0, 1),
        ("deliver.after_250", 0, 1),  # tried again, and a Maildir knows the file by its name
        ("settle.before_commit", 0, 1),
        ("settle.after_commit", 0, 1),
    ],
)
def test_a_crash_at_each_durable_step(mtad: Make, fault: str, code: int, copies: int) -> None:
    host = host_with_bob(mtad).start(fault=fault)
    done = submit(host)
    host.wait_for_crash()
    # The crash may be faster than the reply to the final dot: then sendmail cannot know.
    assert done.returncode in {code, 75}, done.stderr
    host.start()
    host.empty()
    assert len(list((host.root / "mail").glob("bob/new/*"))) == copies
    assert copies or not (host.root / "mail").exists()


@pytest.mark.peer
@pytest.mark.parametrize(
    ("fault", "copies"),
    [("lease.after", 1), ("deliver.after_250", 2), ("settle.before_commit", 2), ("settle.after_commit", 1)],
)
def test_a_crash_while_a_peer_is_served(mtad: Make, postfix: Postfix, fault: str, copies: int) -> None:
    """The one window of the promise: the peer said 250 and we had not recorded it. Then it gets a second copy."""
    route = f'[[delivery.route]]\nmatch = "remote.test"\nto = "smtp://127.0.0.1:{postfix.port}"\n'
    host = mtad(extra=route).start(fault=fault)
    host.sendmail("-falice@example.test", "bob@remote.test", mail=MAIL)
    host.wait_for_crash()
    host.start()
    host.empty()
    assert len(postfix.mails(copies)) == copies


def test_killed_between_250_and_delivery(mtad: Make) -> None:
    """Held back by a route to a host that is down; after the restart it is gone."""
    host = host_with_bob(mtad)
    host.mtactl("user", "add", "carol@example.test", text="a long password\n")
    toml = host.root / "mtad.toml"
    good = toml.read_text()
    toml.write_text(good + '[[delivery.route]]\nmatch = "*"\nto = "smtp://127.0.0.1:1"\n')
    host.start()
    for n in range(20):
        host.sendmail("-falice@example.test", "bob@example.test", "x@elsewhere.test", mail=MAIL + b"%d\n" % n)
    host.kill()
    toml.write_text(good + '[[delivery.route]]\nmatch = "elsewhere.test"\nto = "discard:"\n')
    host.start()
    host.mtactl("queue", "flush", "--all", check=False)
    host.empty()
    bodies = {mail.replace(b"\r\n", b"\n").rsplit(b"text\n")[-1] for mail in host.mails("bob", 20)}
    assert bodies == {b"%d\n" % n for n in range(20)}


def test_down_then_up(mtad: Make) -> None:
    """Mail that was submitted while the daemon was down goes out when it starts."""
    host = host_with_bob(mtad)
    for n in range(3):
        host.sendmail("-falice@example.test", "bob@example.test", mail=MAIL + b"%d\n" % n)
    drop = host.root / "data" / "maildrop"
    assert len(list(drop.glob("*.mail"))) == 3
    host.start()
    assert len(host.mails("bob", 3)) == 3
    host.empty()
    assert [path for path in drop.rglob("*") if path.is_file()] == []


def test_a_crash_while_the_maildrop_is_drained_doubles_nothing(mtad: Make) -> None:
    host = host_with_bob(mtad)
    for n in range(3):
        host.sendmail("-falice@example.test", "bob@example.test", mail=MAIL + b"%d\n" % n)
    command = [str(BIN / "python"), "-m", "mtad", "run", "--root", str(host.root)]
    for nth in (1, 2):
        done = subprocess.run(
            command, env={"PATH": os.environ["PATH"], "MTA_FAULT": f"maildrop.accepted:{nth}"}, timeout=60,
            capture_output=True, check=False,
        )  # fmt: skip
        assert done.returncode == -9, done.stderr
    host.start()
    host.empty()
    bodies = [mail.replace(b"\r\n", b"\n").rsplit(b"text\n")[-1] for mail in host.mails("bob", 3)]
    assert sorted(bodies) == [b"0\n", b"1\n", b"2\n"]


def test_a_second_daemon_on_the_same_data_refuses(mtad: Make) -> None:
    host = host_with_bob(mtad).start()
    done = subprocess.run(
        [BIN / "python", "-m", "mtad", "run", "--root", host.root], capture_output=True, timeout=60, check=False
    )
    assert done.returncode not in (0, 1)
    assert b"Traceback" not in done.stderr
    host.sendmail("-falice@example.test", "bob@example.test", mail=MAIL)
    assert len(host.mails("bob")) == 1


def test_a_stop_loses_and_doubles_nothing(mtad: Make) -> None:
    host = host_with_bob(mtad).start()
    for n in range(10):
        host.sendmail("-falice@example.test", "bob@example.test", mail=MAIL + b"%d\n" % n)
    assert host.stop() == 0
    host.start()
    host.empty()
    assert len(host.mails("bob", 10)) == 10


def test_leftovers_of_a_crash_do_not_stop_a_start(mtad: Make) -> None:
    host = host_with_bob(mtad).start()
    host.kill()
    assert Path(host.root / "run" / "submit.sock").exists()
    host.start()
    host.sendmail("-falice@example.test", "bob@example.test", mail=MAIL)
    assert len(host.mails("bob")) == 1
