"""A planned failover: the queue of one host goes to another, whole, once, whatever is cut off on the way."""

import shlex
import smtplib
from pathlib import Path

from peer_mtad import BIN, Make, Mtad
from sink import Sink

MAILS = 12


def filled(mtad: Make, sink: Sink) -> tuple[Mtad, Mtad]:
    """Two hosts; the first has mail that waits."""
    route = f'[[delivery.route]]\nmatch = "*"\nto = "smtp://127.0.0.1:{sink.port}"\n'
    old, new = mtad("old", delivery=route).start(), mtad("new", delivery=route).start()
    for host in (old, new):
        host.mtactl("suspend", "add", "--domain", "remote.test")
    for n in range(MAILS):
        text = b"text\n" * (50_000 if n == 0 else 10)
        old.sendmail("-fa@example.test", f"r{n}@remote.test", mail=b"Message-ID: <m.%d@x>\n\n" % n + text)
    return old, new


def test_more_than_goes_into_one_transaction(mtad: Make) -> None:
    many = 120
    old, new = mtad("old", listeners=("smtp",)).start(), mtad("new").start()
    for host in (old, new):
        host.mtactl("suspend", "add", "--domain", "remote.test")
    with smtplib.SMTP("127.0.0.1", old.ports["smtp"], timeout=30) as client:
        for n in range(many):
            client.sendmail("a@example.test", [f"r{n}@remote.test"], b"Subject: x\r\n\r\n")
    before = waiting(old)
    assert len(before) == many
    old.mtactl("queue", "export", "--all", "--to-command", there(new))
    assert waiting(new) == before


def there(host: Mtad) -> str:
    return f"{shlex.quote(str(BIN / 'mtactl'))} --root {shlex.quote(str(host.root))} queue import"


def waiting(host: Mtad) -> set[tuple[str, int]]:
    return {(row["queue_id"], row["arrival_time"]) for row in host.rows("queue", "list")}


def state(host: Mtad) -> str:
    return next((row["state"] for row in host.rows("transfer", "list")), "")


def delivered(host: Mtad, sink: Sink) -> None:
    """All mail went out once."""
    host.mtactl("suspend", "remove", "--domain", "remote.test")
    host.mtactl("queue", "flush", "--all", check=False)
    host.empty()
    assert sink.taken == {f"m.{n}": 1 for n in range(MAILS)}


def test_with_one_command(mtad: Make) -> None:
    with Sink() as sink:
        old, new = filled(mtad, sink)
        before = waiting(old)
        old.mtactl("queue", "export", "--all", "--to-command", there(new))
        assert waiting(old) == set()
        assert waiting(new) == before
        assert (state(old), state(new)) == ("confirmed", "active")
        assert list((old.root / "data" / "queue").iterdir()) == []
        # And back again, to a host that is stopped while it sends.
        new.stop()
        new.mtactl("queue", "export", "--all", "--to-command", there(old))
        assert waiting(old) == before
        delivered(old, sink)


def test_cut_off_at_every_step(mtad: Make, short_dir: Path) -> None:
    with Sink() as sink:
        old, new = filled(mtad, sink)
        before = waiting(old)
        begun = old.mtactl("queue", "export", "--all")
        sent = begun.stdout
        (transfer,) = (row["id"] for row in old.rows("transfer", "list"))
        assert waiting(old) == set()
        old.mtactl("queue", "release", "--all", check=False)
        assert waiting(old) == set()

        # Cut off or changed on the way: nothing is there, and all of it is here again when it is wanted.
        lines = sent.splitlines(keepends=True)
        for wrong, code in (("".join(lines[:-1]), 65), ("".join(lines[:3] + lines[4:]), 65), ("{}", 65), ("", 1),
                            (sent.replace('"sender":"a@', '"sender":"b@'), 65)):  # fmt: skip
            done = new.mtactl("queue", "import", text=wrong, check=False)
            assert done.returncode == code, (wrong[:80], done.stderr)
            assert "Traceback" not in done.stderr
            assert waiting(new) == set()
        old.mtactl("queue", "export", "--abort", transfer)
        assert waiting(old) == before

        # The receipt is lost: received twice is received once, and it cannot be made active without the other side.
        sent = old.mtactl("queue", "export", "--all").stdout
        transfer = old.rows("transfer", "list")[-1]["id"]
        first = new.mtactl("queue", "import", text=sent).stdout
        again = old.mtactl("queue", "export", "--resume", transfer).stdout
        assert new.mtactl("queue", "import", text=again).stdout == first
        assert new.mtactl("queue", "import", "--activate", f"{transfer}-{'0' * 32}", check=False).returncode == 65
        assert waiting(old) == waiting(new) == set()
        old.kill()
        new.kill()
        old.start()
        new.start()
        assert waiting(old) == waiting(new) == set()

        # The confirmation is lost: it is the other host's by now, and cannot come back.
        receipt = first.removeprefix("receipt: ").strip()
        wrong = old.mtactl("queue", "export", "--confirm", receipt[:-1] + "x", check=False)
        assert wrong.returncode == 65
        old.mtactl("queue", "export", "--confirm", receipt)
        assert old.mtactl("queue", "export", "--abort", transfer, check=False).returncode == 65
        assert waiting(old) == waiting(new) == set()
        confirmed = old.mtactl("queue", "export", "--confirm", receipt).stdout
        for _ in range(2):  # said twice is said once
            new.mtactl("queue", "import", text=confirmed)
        assert waiting(new) == before
        assert new.mtactl("queue", "import", "--discard", transfer, check=False).returncode == 65
        delivered(new, sink)


def test_the_other_side_fails(mtad: Make) -> None:
    with Sink() as sink:
        old, new = filled(mtad, sink)
        before = waiting(old)
        for command in ("exit 3", "head -c 100 > /dev/null", "echo receipt: x; cat > /dev/null"):
            done = old.mtactl("queue", "export", "--all", "--to-command", command, check=False)
            assert done.returncode in (65, 75), done.stderr
            assert "Traceback" not in done.stderr
            old.mtactl("queue", "export", "--abort", old.rows("transfer", "list")[-1]["id"])
            assert waiting(old) == before
        # It goes away after the mail was confirmed, before it heard of that.
        until_end = f"sed '/^{{\"end\"/q' | {there(new)}"
        done = old.mtactl("queue", "export", "--all", "--to-command", until_end, check=False)
        assert done.returncode == 75, done.stderr
        assert state(new) == "received"
        transfer = old.rows("transfer", "list")[-1]
        assert waiting(old) == waiting(new) == set()
        old.mtactl("queue", "export", "--resume", transfer["id"], "--to-command", there(new))
        delivered(new, sink)
