"""mtactl as a process, against a control server that runs in this one."""

import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "control"))

from cli_run import Run
from control_daemon import Daemon

from mtactl import cli


@pytest.fixture
def daemon(short_dir: Path) -> Iterator[Daemon]:
    with Daemon(short_dir) as running:
        yield running


@pytest.fixture
def mtactl(short_dir: Path, repository: Path) -> Run:
    """Run mtactl for the daemon of this test. `stdin` is text; without it standard input is empty."""

    def run(*words: str, stdin: str = "", **environ: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "mtactl", *words],
            cwd=repository,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(short_dir),
                "MTA_ROOT": str(short_dir),
                "TZ": "UTC",
                **environ,
            },
        )

    return run


@pytest.fixture
def here(short_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The same within this process, for what is asked of every command: a process for each would take minutes."""
    monkeypatch.setenv("MTA_ROOT", str(short_dir))
    monkeypatch.setenv("HOME", str(short_dir))

    def run(*words: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        streams = [io.TextIOWrapper(io.BytesIO(octets), encoding="utf-8") for octets in (stdin.encode(), b"", b"")]
        with monkeypatch.context() as patch:
            for name, stream in zip(("stdin", "stdout", "stderr"), streams, strict=True):
                patch.setattr(sys, name, stream)
            before = signal.getsignal(signal.SIGPIPE)
            try:
                code = cli.main(words)
            finally:
                signal.signal(signal.SIGPIPE, before)
        out, err = (stream.seek(0) or stream.read() for stream in streams[1:])
        return subprocess.CompletedProcess(words, code, out, err)

    return run
