"""mtactl as a process, against a control server that runs in this one."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "control"))

from cli_run import Run
from control_daemon import Daemon


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
