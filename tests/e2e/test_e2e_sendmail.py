"""sendmail with the daemon as it is: receipts, waiting, keys, verifying; up, down, and dying at the worst moment."""

import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from peer_mtad import BIN, REPOSITORY, Mtad

MAIL = b"Subject: hello\n\ntext\n"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mtad]:
    root = Path("/tmp") / f"mtad-{tmp_path_factory.getbasetemp().name}-{tmp_path_factory.mktemp('s').name}"
    host = Mtad(root, extra=f'aliases = ["{root}/aliases"]\n')
    (root / "aliases").write_text("team: alice, bob\n")
    for name in ("alice", "bob"):
        host.mtactl("user", "add", f"{name}@example.test", text="correct horse battery staple\n")
    yield host.start()
    host.stop()
    assert "Traceback" not in host.log
    subprocess.run(["rm", "-rf", root], check=True)


class Said:
    """What a run printed and how it ended."""

    def __init__(self, done: subprocess.CompletedProcess[bytes]) -> None:
        self.code = done.returncode
        self.out = done.stdout.decode()
        self.error = done.stderr.decode()

    @property
    def receipt(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out.splitlines()[0])
        return found


def sendmail(host: Mtad, *words: str, mail: bytes = MAIL, env: Mapping[str, str] | None = None) -> Said:
    return Said(
        subprocess.run(
            [BIN / "python", "-IS", REPOSITORY / "deploy" / "bin" / "mtad-sendmail", *words],
            input=mail, capture_output=True, timeout=60, check=False,
            env={"MTA_ROOT": str(host.root), **(env or {})},
        )
    )  # fmt: skip


def test_a_receipt_names_what_is_in_the_queue(host: Mtad) -> None:
    said = sendmail(host, "--receipt", "json", "alice", "bob@example.test")
    assert (said.code, said.error) == (0, "")
    assert said.receipt == {
        "queue_id": said.receipt["queue_id"],
        "recipients": ["alice", "bob@example.test"],
        "stored": "queue",
        "repeated": False,
    }
    [row] = host.rows("queue", "show", said.receipt["queue_id"])
    assert [one["address"] for one in row["recipients"]] == ["alice@example.test", "bob@example.test"]


def test_a_receipt_leaves_out_who_was_refused(host: Mtad) -> None:
    said = sendmail(host, "--receipt=json", "nobody", "alice")
    assert (said.code, said.receipt["recipients"]) == (67, ["alice"])
    assert sendmail(host, "--receipt=json", "nobody").out == ""


def test_a_receipt_into_a_closed_pipe_does_no_harm(host: Mtad) -> None:
    command = ["bash", "-c", '"$@" >&- ; echo $?', "-", BIN / "python", "-IS",
               REPOSITORY / "deploy" / "bin" / "mtad-sendmail", "--receipt=json", "alice"]  # fmt: skip
    done = subprocess.run(command, input=MAIL, capture_output=True, timeout=60, env={"MTA_ROOT": str(host.root)})
    assert done.stdout == b"0\n"


def test_waiting_for_the_outcome(host: Mtad) -> None:
    said = sendmail(host, "--wait", "30s", "--receipt", "json", "alice", "bob")
    assert (said.code, said.error) == (0, "")
    outcome = json.loads(said.out.splitlines()[1])
    assert (outcome["queue_id"], outcome["outcome"]) == (said.receipt["queue_id"], "delivered")
    assert {one["state"] for one in outcome["recipients"]} == {"done"}


def test_waiting_in_vain(host: Mtad) -> None:
    """remote.test: its DNS does not answer, so the mail is deferred; then an operator gives it up."""
    said = sendmail(host, "--wait=1s", "--receipt=json", "x@remote.test")
    assert said.code == 75
    assert said.error == "sendmail: it still waits for x@remote.test\n"
    assert json.loads(said.out.splitlines()[1])["outcome"] == "waiting"
    message = said.receipt["queue_id"]
    host.mtactl("queue", "purge", message, "--yes")
    done = host.mtactl("queue", "wait", message, check=False)
    assert (done.returncode, done.stderr) == (69, "mtactl: not delivered to x@remote.test\n")
    assert done.stdout.startswith(f"{message} failed\n  trashed   x@remote.test")


def test_queue_wait_says_what_is_wrong(host: Mtad) -> None:
    for words, code in ((["0123456789ab"], 1), ([], 64), (["--key", "never"], 1), (["0", "--timeout", "2h"], 64)):
        assert host.mtactl("queue", "wait", *words, check=False).returncode == code, words


def test_the_same_key_is_the_same_mail(host: Mtad) -> None:
    words = ("--receipt=json", "--idempotency-key", "order 4711", "alice")
    first, second = (sendmail(host, *words, mail=b"Subject: keyed\n\n%d\n" % n) for n in (1, 2))
    assert (first.code, second.code) == (0, 0)
    assert second.receipt == {**first.receipt, "repeated": True}
    assert host.mtactl("queue", "wait", "--key", "order 4711").stdout.startswith(first.receipt["queue_id"])
    other = sendmail(host, "--idempotency-key", "order 4711", "bob")
    assert (other.code, "another sender or recipients" in other.error) == (65, True)
    assert len([mail for mail in host.mails("alice") if b"Subject: keyed" in mail]) == 1
    assert host.log.count(": repeated, client=local[uid=") == 1


def test_a_large_mail_with_a_known_key_leaves_no_file(host: Mtad) -> None:
    mail = b"Subject: large\n\n" + b"0123456789abcde\n" * 40_000
    words = ("--receipt=json", "--idempotency-key=large", "--wait=30s", "x@remote.test")
    first = sendmail(host, *words[:2], words[3], mail=mail)
    assert sendmail(host, *words[:2], words[3], mail=mail).receipt["repeated"]
    assert [path.name for path in (host.root / "data" / "queue").iterdir()] == [first.receipt["queue_id"]]
    host.mtactl("queue", "purge", first.receipt["queue_id"], "--yes")


def test_verifying(host: Mtad) -> None:
    said = sendmail(host, "-bv", "alice", "nobody@example.test", "Team <team>", "x@remote.test")
    assert (said.code, said.error) == (67, "")
    assert said.out.splitlines() == [
        "alice: deliverable, to alice@example.test",
        "nobody@example.test: undeliverable: 550 5.1.1 No such user here",
        "team: deliverable, to alice@example.test, bob@example.test",
        "x@remote.test: deliverable",
    ]
    said = sendmail(host, "-bt", mail=b"alice\n\nbob@example.test\n")
    assert (said.code, len(said.out.splitlines())) == (0, 2)
    assert sendmail(host, "-bv", mail=b"").code == 64
    assert not host.rows("queue", "list", "--from", "<>")


def test_an_error_can_be_mailed(host: Mtad) -> None:
    assert sendmail(host, "-oem", "-f", "alice@example.test", "nobody", "bob", mail=b"Subject: lost?\n\n").code == 67
    assert sendmail(host, "-oee", "-f", "alice@example.test", "nobody", mail=b"Subject: lost?\n\n").code == 0
    host.mtactl("queue", "flush", "--all", check=False)
    assert sendmail(host, "--wait=30s", "alice", mail=b"Subject: last\n\n").code == 0
    reports = [mail for mail in host.mails("alice") if b"Subject: Your mail could not be sent" in mail]
    assert len(reports) == 2
    for report in reports:
        assert b"Return-Path: <>\n" in report
        assert b"    nobody: 550 5.1.1 No such user here\n" in report.replace(b"\r\n", b"\n")
        assert b"Subject: lost?" in report
    quiet = sendmail(host, "-oeq", "nobody")
    assert (quiet.code, quiet.error) == (67, "")


def test_down_and_up_again(short_dir: Path) -> None:
    """Receipts of the maildrop are true: the mail gets that id. A key works over it, and across the restart."""
    host = Mtad(short_dir / "m")
    host.mtactl("user", "add", "alice@example.test", text="correct horse battery staple\n")
    first = sendmail(host, "--receipt=json", "alice")
    assert (first.receipt["stored"], len(first.receipt["queue_id"])) == ("maildrop", 12)
    for _ in range(2):
        keyed = sendmail(host, "--receipt=json", "--idempotency-key=k", "alice")
        assert (keyed.receipt["stored"], keyed.receipt["queue_id"]) == ("maildrop", "")
    assert sendmail(host, "--wait=1s", "alice").code == 75
    strict = sendmail(host, "alice", env={"MTA_SENDMAIL_STRICT": "1"})
    assert (strict.code, "nothing was stored" in strict.error) == (75, True)
    host.start()
    try:
        waited = host.mtactl("queue", "wait", first.receipt["queue_id"])
        assert waited.stdout.startswith(f"{first.receipt['queue_id']} delivered\n")
        again = sendmail(host, "--receipt=json", "--wait=30s", "--idempotency-key=k", "alice")
        assert (again.code, again.receipt["stored"], again.receipt["repeated"]) == (0, "queue", True)
        assert len(host.mails("alice", 3)) == 3
        assert not list((host.root / "data" / "maildrop").glob("*.mail"))
    finally:
        host.stop()


@pytest.mark.parametrize("point", ["accept.after_commit", "accept.before_commit"])
def test_a_key_makes_the_worst_moment_harmless(short_dir: Path, point: str) -> None:
    """The daemon dies between the final dot and its reply. With a key it does not matter whether it has the mail."""
    host = Mtad(short_dir / "m")
    host.mtactl("user", "add", "alice@example.test", text="correct horse battery staple\n")
    host.start(fault=point)
    said = sendmail(host, "--receipt=json", "--idempotency-key=k", "alice")
    assert (said.code, said.error, said.receipt["stored"]) == (0, "", "maildrop")
    host.wait_for_crash()
    host.start()
    try:
        assert host.mtactl("queue", "wait", "--key", "k").returncode == 0
        assert sendmail(host, "--receipt=json", "--idempotency-key=k", "alice").receipt["repeated"]
        assert len(host.mails("alice")) == 1
    finally:
        host.stop()
