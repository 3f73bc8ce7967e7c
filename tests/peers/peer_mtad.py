"""mtad itself as a process, under a root of its own, with the settings of a test."""

import json
import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from peer_process import Process, answers, free_port, wait_for

REPOSITORY = Path(__file__).resolve().parents[2]
BIN = REPOSITORY / ".venv" / "bin"


class Mtad:
    """`ports`: smtp, submission, submissions where asked for. The mailboxes are Maildirs in `root`/mail."""

    def __init__(
        self,
        root: Path,
        *,
        hostname: str = "mail.example.test",
        domain: str = "example.test",
        listeners: tuple[str, ...] = (),
        dns_port: int = 0,
        mx_port: int = 25,
        deliver: str = "",
        extra: str = "",
        delivery: str = "",
    ) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root = root
        self.ports = {name: free_port() for name in listeners}
        self._process: Process | None = None
        self._runs = 0
        listen = "".join(
            f"{name} = {json.dumps([f'127.0.0.1:{self.ports[name]}'] if name in self.ports else [])}\n"
            for name in ("smtp", "submission", "submissions")
        )
        servers = [f"127.0.0.1:{dns_port}"] if dns_port else ["127.0.0.1:9"]
        (root / "mtad.toml").write_text(
            f'hostname = "{hostname}"\ndomains = ["{domain}"]\n[listen]\n{listen}'
            f'[dns]\nservers = {json.dumps(servers)}\ntimeout = "1s"\n'
            f"[delivery]\nport = {mx_port}\nallow_private_addresses = true\n{delivery}\n"
            f'[local]\ndeliver = "{deliver or f"maildir://{root}/mail/%u"}"\n{extra}'
        )

    @property
    def log(self) -> str:
        """Of all runs."""
        return "".join(path.read_text(errors="replace") for path in sorted(self.root.glob("log.*")))

    def start(self, fault: str = "") -> "Mtad":
        """Run it. With `fault`, it kills itself at that point (MTA_FAULT)."""
        self._run(fault).ready("mtad listens", self._up)
        return self

    def crash(self, fault: str) -> None:
        """Run it until that point kills it, however soon."""
        self._run(fault)
        self.wait_for_crash()

    def _run(self, fault: str) -> Process:
        self._runs += 1
        environ = {"PATH": os.environ["PATH"], **({"MTA_FAULT": fault} if fault else {})}
        command = [str(BIN / "python"), "-m", "mtad", "run", "--root", str(self.root)]
        self._process = Process(command, self.root / f"log.{self._runs}", env=environ)
        return self._process

    def _up(self) -> bool:
        if not all(answers(port) for port in self.ports.values()):
            return False
        return self.mtactl("status", "--json", check=False).returncode == 0

    def wait_for_crash(self) -> None:
        """Until the fault point killed it."""
        assert self._process is not None
        assert self._process.wait(30) == -9, self.log

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()

    def stop(self) -> int:
        return 0 if self._process is None else self._process.stop()

    def mtactl(self, *words: str, text: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [BIN / "mtactl", "--root", str(self.root), *words], input=text, capture_output=True, text=True, timeout=60,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}, check=False,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"mtactl {words}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def rows(self, *words: str) -> list[dict[str, Any]]:
        """What a command prints with --json."""
        done = self.mtactl(*words, "--json", check=False)
        assert done.returncode in (0, 1), done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def sendmail(self, *words: str, mail: bytes, code: int = 0, env: Mapping[str, str] | None = None) -> None:
        done = subprocess.run(
            [BIN / "python", "-IS", REPOSITORY / "deploy" / "bin" / "mtad-sendmail", *words],
            input=mail, capture_output=True, timeout=60, check=False,
            env={"MTA_ROOT": str(self.root), "PATH": os.environ["PATH"], **(env or {})},
        )  # fmt: skip
        assert done.returncode == code, f"sendmail: {done.returncode}\n{done.stderr.decode()}"

    def empty(self) -> None:
        """Until nothing waits any more."""
        wait_for("the queue is empty", lambda: not self.rows("queue", "list"))

    def mails(self, local: str, count: int = 1) -> list[bytes]:
        """What lies in a mailbox, once it is so many."""
        new = self.root / "mail" / local / "new"
        wait_for(f"{count} mails for {local}", lambda: len(list(new.glob("*"))) >= count)
        return [path.read_bytes() for path in sorted(new.iterdir())]


Make = Callable[..., Mtad]
"""The type of the fixture that starts hosts with the settings of a test."""
