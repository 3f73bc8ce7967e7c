"""`mtad` as a command: where its options may stand, what `check` says, and a Ctrl-C that comes early."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

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
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'mtad.command': os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
        "from mtad.__main__ import main\n"
        "sys.exit(main())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (128 + signal.SIGINT, "")


@pytest.mark.parametrize("words", [[], ["nonsense"], ["run", "--nonsense"]])
def test_wrong_use(repository: Path, words: list[str]) -> None:
    assert mtad(repository, *words).returncode == 64
