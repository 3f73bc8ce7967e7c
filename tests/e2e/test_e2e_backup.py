"""A backup under load, restored elsewhere: what was accepted before it is there and held, and after the release nothing
was sent twice that a journal knows of. BACKUP_ROUNDS=20 makes more rounds of it."""

import os
import shutil
import smtplib
import threading
import time
from pathlib import Path

import pytest
from peer_mtad import Make, Mtad
from peer_process import wait_for
from sink import Sink

ROUNDS = int(os.environ.get("BACKUP_ROUNDS", "2"))
MAILS = 60
DOMAINS = ("now.test", "later.test", "now.test", "never.test")  # of the mails, in turn


def host(mtad: Make, name: str, sink: Sink) -> Mtad:
    route = f'[[delivery.route]]\nmatch = "*"\nto = "smtp://127.0.0.1:{sink.port}"\n'
    return mtad(name, listeners=("smtp",), delivery=route)


class Load(threading.Thread):
    """Sends mails, and remembers when each was accepted. Every third one is large: its body is a file."""

    def __init__(self, port: int, prefix: str) -> None:
        super().__init__()
        self.accepted: dict[str, float] = {}
        self.half = threading.Event()
        self._port, self._prefix = port, prefix

    def run(self) -> None:
        with smtplib.SMTP("127.0.0.1", self._port, timeout=30) as client:
            for n in range(MAILS):
                name = f"{self._prefix}.{n}"
                text = b"text of some length\r\n" * (10_000 if n % 3 == 0 else 10)
                client.sendmail(
                    "a@example.test", [f"r{n}@{DOMAINS[n % 4]}"], b"Message-ID: <%s@x>\r\n\r\n" % name.encode() + text
                )
                self.accepted[name] = time.monotonic()
                if n == MAILS // 2:
                    self.half.set()


@pytest.mark.parametrize("number", range(ROUNDS))
def test_nothing_accepted_is_lost_and_nothing_is_sent_twice(mtad: Make, short_dir: Path, number: int) -> None:
    backup = short_dir / "backup.tar.gz"
    with Sink() as sink:
        old = host(mtad, "old", sink).start()
        for domain in ("later.test", "never.test"):
            old.mtactl("suspend", "add", "--domain", domain)
        load = Load(old.ports["smtp"], str(number))
        load.start()
        assert load.half.wait(30)
        began = time.monotonic()
        old.mtactl("backup", "create", str(backup))
        load.join(60)
        before = {name for name, at in load.accepted.items() if at < began}
        assert len(load.accepted) == MAILS
        assert len(before) >= MAILS // 2

        # A half of what waited when the backup was made is delivered after it.
        old.mtactl("suspend", "remove", "--domain", "later.test")
        wait_for("three of four are sent", lambda: sink.taken.total() == MAILS * 3 // 4)
        wait_for("and that is known", lambda: old.rows("queue", "stats")[0]["done"] == MAILS * 3 // 4)
        if number % 2:
            old.stop()
        else:
            old.kill()

        new = host(mtad, "new", sink)
        new.ports = old.ports
        (new.root / "mtad.toml").unlink()
        journal = [old.root / "data"]
        if number % 2:  # the disk is lost, the log is not
            shutil.rmtree(old.root / "data")
            journal = sorted(old.root.glob("log.*"))
        words = [word for path in journal for word in ("--journal", str(path))]
        (done,) = new.rows("backup", "restore", str(backup), *words)
        new.start()
        held = {one["message_id"].strip("<>").partition("@")[0] for one in shown(new)}
        assert held
        assert before - set(sink.taken) <= held
        assert not held & set(sink.taken)
        assert done["held"] == len(held)

        for domain in ("later.test", "never.test"):
            new.mtactl("suspend", "remove", "--domain", domain)
        new.mtactl("queue", "release", "--all")
        new.empty()
        assert before <= set(sink.taken)
        assert {name: count for name, count in sink.taken.items() if count > 1} == {}


def shown(host: Mtad) -> list[dict[str, str]]:
    ids = [row["queue_id"] for row in host.rows("queue", "list")]
    return host.rows("queue", "show", *ids) if ids else []
