"""The wheel, installed: the submit command lies where the units and links expect it, and finds its package."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("package")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    for words in (
        ["wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(base), str(REPOSITORY)],
        [
            "install",
            "--ignore-installed",
            "--no-deps",
            "--no-index",
            "--find-links",
            str(base),
            "--prefix",
            str(base / "opt"),
            "mtad",
        ],
    ):
        done = subprocess.run([*pip, *words], capture_output=True, text=True, timeout=100, check=False)
        assert done.returncode == 0, done.stderr
    return base / "opt"


@pytest.mark.parametrize("name", ["mtad-sendmail", "mtad-mailq", "mtad-newaliases"])
def test_the_stubs_are_programs(prefix: Path, name: str) -> None:
    stub = prefix / "bin" / name
    assert os.access(stub, os.X_OK)
    assert stub.read_text().startswith("#!/usr/bin/python3 -IS\n")  # and not what pip makes of an entry point


def test_the_installed_sendmail_stands_alone(prefix: Path, short_dir: Path) -> None:
    """With the package of its prefix, through a link from elsewhere, from a directory that holds traps."""
    (short_dir / "mtactl").mkdir()
    (short_dir / "mtactl" / "sendmail.py").write_text("raise SystemExit('the wrong one')\n")
    (short_dir / "sendmail").symlink_to(prefix / "bin" / "mtad-sendmail")
    done = subprocess.run(
        [sys.executable, "-IS", short_dir / "sendmail", "-i", "b@example.test"],
        input=b"Subject: x\n\n", capture_output=True, timeout=60, check=False, cwd=short_dir,
        env={"MTA_ROOT": str(short_dir), "PYTHONPATH": str(short_dir)},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(list((short_dir / "data" / "maildrop").glob("*.mail"))) == 1


@pytest.mark.parametrize(
    "path",
    [
        "share/man/man8/mtactl.8",
        "share/man/man1/mtad-sendmail.1",
        "share/man/man5/mtad.toml.5",
        "share/bash-completion/completions/mtactl",
        "share/zsh/site-functions/_mtactl",
        "share/fish/vendor_completions.d/mtactl.fish",
    ],
)
def test_pages_and_completions_lie_where_they_are_looked_for(prefix: Path, path: str) -> None:
    assert (prefix / path).stat().st_size > 100
