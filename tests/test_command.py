"""`mtad` as a command: where its options may stand, what `check` says, and a Ctrl-C that comes early."""

import errno
import fcntl
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mtad.command import refusal
from mtad.queue.store import StoreError, StoreLocked
from mtad.tls.contexts import TlsError

TOML = 'hostname = "mail.example.test"\ndomains = ["example.test"]\n[listen]\nsmtp = ["127.0.0.1:0"]\n'


def mtad(repository: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "mtad", *words]
    return subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=60, check=False)


def test_check_says_which_file_is_good(repository: Path, short_dir: Path) -> None:
    (short_dir / "mtad.toml").write_text(TOML)
    for words in (["check", "--root", str(short_dir)], ["--root", str(short_dir), "check"]):
        done = mtad(repository, *words)
        assert (done.returncode, done.stdout) == (0, f"{short_dir}/mtad.toml: good\n")
    (short_dir / "other.toml").write_text("hostname = 5\n")
    for words in (["check", "--config", "other.toml"], ["--config", "other.toml", "check"]):
        done = mtad(repository, "--root", str(short_dir), *[w.replace("other", f"{short_dir}/other") for w in words])
        assert (done.returncode, done.stdout) == (78, "")


def test_an_early_interrupt_shows_no_traceback(repository: Path) -> None:
    # What is imported first raises the signal, so that it always comes at the same place.
    code = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell has it ignored in the background
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'mtad.command': os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
        "from mtad.__main__ import main\n"
        "sys.exit(main())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (128 + signal.SIGINT, "")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OSError(errno.EADDRINUSE, "Address already in use"), 73),
        (PermissionError(errno.EACCES, "Permission denied"), 73),
        (OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address"), 75),  # IPv6 at boot, before it is there
        (OSError(errno.ENOSPC, "No space left on device"), 75),
        (OSError(errno.EMFILE, "Too many open files"), 75),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), 73),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), 75),
        (StoreError("not a queue of mtad"), 73),
        (StoreError("no room", full=True), 75),
        (StoreLocked("another process uses the queue"), 75),
        (TlsError("no certificate"), 78),
    ],
)
def test_a_start_that_fails_says_whether_to_try_again(error: StoreError | TlsError | OSError, code: int) -> None:
    assert refusal(error) == code


def test_data_that_somebody_else_uses_just_now(repository: Path, short_dir: Path) -> None:
    """A stopped daemon's data are locked while `mtactl` works on them: a boot may fall into it."""
    (short_dir / "mtad.toml").write_text(TOML)
    (short_dir / "data").mkdir()
    with (short_dir / "data" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = mtad(repository, "run", "--root", str(short_dir))
    assert (done.returncode, done.stderr) == (75, f"mtad: another process uses the queue in {short_dir}/data\n")


@pytest.mark.parametrize("words", [[], ["nonsense"], ["run", "--nonsense"]])
def test_wrong_use(repository: Path, words: list[str]) -> None:
    assert mtad(repository, *words).returncode == 64
