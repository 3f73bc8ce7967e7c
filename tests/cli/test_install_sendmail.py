"""`install sendmail` and `sendmail explain`, in systems of their own below a directory."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mtactl import diversion
from mtactl.cli import main
from mtactl.steps import PATHS

needs_dpkg = pytest.mark.skipif(
    os.getuid() != 0 or not shutil.which("dpkg-divert"), reason="needs root and dpkg-divert"
)


@pytest.fixture(autouse=True)
def pipes() -> Iterator[None]:
    """mtactl ends as a filter does when nobody reads on; the tests that follow in this process must not."""
    before = signal.getsignal(signal.SIGPIPE)
    yield
    signal.signal(signal.SIGPIPE, before)


@pytest.fixture
def system(tmp_path: Path) -> Path:
    """A host with Postfix's sendmail, and ours in /opt."""
    tmp_path.chmod(0o755)
    for directory in ("usr/sbin", "usr/lib", "usr/bin", "opt/bin"):
        (tmp_path / directory).mkdir(parents=True)
    for name in ("usr/sbin/sendmail", "opt/bin/mtad-sendmail", "opt/bin/mtad-mailq", "opt/bin/mtad-newaliases"):
        (tmp_path / name).write_text(f"#!/bin/sh\necho {name}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "usr/lib/sendmail").symlink_to("../sbin/sendmail")
    (tmp_path / "usr/bin/mailq").symlink_to("../sbin/sendmail")
    return tmp_path


def tree(system: Path) -> dict[str, str]:
    return {
        str(path.relative_to(system)): os.readlink(path) if path.is_symlink() else path.read_text()
        for path in sorted((system / "usr").rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def run(system: Path, *words: str) -> int:
    return main(["install", "sendmail", "--system-root", str(system), "--target", "/opt/bin/mtad-sendmail", *words])


def there_and_back(system: Path, capsys: pytest.CaptureFixture[str], moves: str) -> None:
    before = tree(system)
    assert run(system, "--dry-run") == 0
    shown = capsys.readouterr().out
    assert tree(system) == before
    assert run(system) == 0
    assert shown == "".join(f"would {line}\n" for line in capsys.readouterr().out.splitlines())
    assert f"{moves} /usr/sbin/sendmail to /usr/sbin/sendmail.before-mtad" in shown
    for path, name in PATHS.items():
        assert os.readlink(f"{system}{path}") == f"/opt/bin/{name}"
    assert (system / "usr/sbin/sendmail.before-mtad").read_text() == before["usr/sbin/sendmail"]
    assert run(system) == 0
    assert capsys.readouterr().err == "mtactl: nothing to do: it is installed\n"
    assert run(system, "--undo") == 0
    assert tree(system) == before
    assert run(system, "--undo") == 0
    assert "it is not installed" in capsys.readouterr().err


def test_without_dpkg(system: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there_and_back(system, capsys, "rename")


@needs_dpkg
def test_with_dpkg(system: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (system / "var/lib/dpkg").mkdir(parents=True)
    (system / "var/lib/dpkg/status").touch()
    there_and_back(system, capsys, "divert")
    assert "before-mtad" not in (system / "var/lib/dpkg/diversions").read_text()


@needs_dpkg
def test_a_diversion_of_somebody_else(system: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (system / "var/lib/dpkg").mkdir(parents=True)
    (system / "var/lib/dpkg/status").touch()
    subprocess.run(
        ["dpkg-divert", "--root", system, "--local", "--rename", "--divert", "/usr/sbin/other", "--add",
         "/usr/sbin/sendmail"], check=True, capture_output=True,
    )  # fmt: skip
    assert run(system) == 73
    assert "clashes" in capsys.readouterr().err


@pytest.mark.skipif(
    os.getuid() != 0 or not shutil.which("update-alternatives"), reason="needs root and update-alternatives"
)
def test_with_alternatives(system: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As on Red Hat: sendmail with mailq and a page of the manual in one group; the other paths are nobody's."""
    for name in ("etc/alternatives", "var/lib/dpkg/alternatives", "var/log", "usr/share/man"):
        (system / name).mkdir(parents=True)
    (system / "usr/bin/mailq").unlink()
    (system / "usr/sbin/sendmail").rename(system / "usr/sbin/sendmail.postfix")
    for name in ("usr/bin/mailq.postfix", "usr/share/man/sendmail.postfix"):
        (system / name).write_text(name)
    subprocess.run(
        ["update-alternatives", "--root", system, "--install", "/usr/sbin/sendmail", "mta",
         "/usr/sbin/sendmail.postfix", "30", "--slave", "/usr/bin/mailq", "mta-mailq", "/usr/bin/mailq.postfix",
         "--slave", "/usr/share/man/sendmail", "mta-man", "/usr/share/man/sendmail.postfix"],
        check=True, capture_output=True,
    )  # fmt: skip
    before = tree(system)
    chosen = system / "etc/alternatives/mta"
    assert run(system, "--dry-run") == 0
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first == (
        "would update-alternatives --install /usr/sbin/sendmail mta /opt/bin/mtad-sendmail 100"
        " --slave /usr/bin/mailq mta-mailq /opt/bin/mtad-mailq"
    )
    assert second == "would update-alternatives --set mta /opt/bin/mtad-sendmail"
    assert tree(system) == before
    assert run(system) == 0
    assert os.readlink(chosen) == "/opt/bin/mtad-sendmail"
    assert os.readlink(system / "etc/alternatives/mta-mailq") == "/opt/bin/mtad-mailq"
    assert os.readlink(system / "usr/sbin/sendmail") == "/etc/alternatives/mta"
    assert os.readlink(system / "usr/bin/newaliases") == "/opt/bin/mtad-newaliases"
    assert run(system) == 0
    assert "it is installed" in capsys.readouterr().err
    other = ["update-alternatives", "--root", system, "--set", "mta", "/usr/sbin/sendmail.postfix"]
    subprocess.run(other, check=True, capture_output=True)
    assert run(system, "--dry-run") == 0
    assert capsys.readouterr().out == "would update-alternatives --set mta /opt/bin/mtad-sendmail\n"
    assert run(system) == 0
    assert run(system, "--undo") == 0
    assert os.readlink(chosen) == "/usr/sbin/sendmail.postfix"
    assert tree(system) == before
    assert run(system, "--undo") == 0
    assert "it is not installed" in capsys.readouterr().err


def test_what_stopped_half_way_goes_on(system: Path) -> None:
    before = tree(system)
    for step in diversion.plan(str(system), "/opt/bin/mtad-sendmail", undo=False)[:3]:
        step.run()
    assert run(system) == 0
    for step in diversion.plan(str(system), "/opt/bin/mtad-sendmail", undo=True)[:3]:
        step.run()
    assert run(system, "--undo") == 0
    assert tree(system) == before


def test_refusals(system: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (system / "opt").chmod(0o700)
    assert run(system) == 73
    assert "other users cannot reach" in capsys.readouterr().err
    (system / "opt").chmod(0o755)
    (system / "usr/sbin/sendmail").unlink()
    (system / "usr/sbin/sendmail").symlink_to("/etc/alternatives/mta")
    assert run(system) == 73
    assert "which has no record of mta" in capsys.readouterr().err
    (system / "opt/bin/mtad-mailq").unlink()
    assert run(system) == 73


def test_only_root_may(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert main(["install", "sendmail", "--dry-run"]) == 77
    assert "only root" in capsys.readouterr().err


def test_explain(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["sendmail", "explain", "--root", "/r", "--json", "--", "-i", "-Xlog", "-fa@b", "-Nnever", "c@d, e"]) == 0
    )
    facts = json.loads(capsys.readouterr().out)
    assert [(one["argument"], one["standing"]) for one in facts["arguments"]] == [
        ("-i", "honoured"), ("-Xlog", "ignored"), ("-fa@b", "honoured"), ("-Nnever", "honoured")]  # fmt: skip
    assert facts["envelope"]["recipients"] == ["c@d", "e"]
    assert facts["envelope"]["commands"][1] == "RCPT TO:<c@d> NOTIFY=NEVER"
    assert facts["envelope"]["socket"] == "/r/run/submit.sock"
    os.environ.pop("MTA_ROOT", None)


@pytest.mark.parametrize("words", [["-bd"], ["-bZ"], ["a", "-f"], ["--nonsense"], ["-f", "a, b", "c"], []])
def test_explain_what_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sendmail", "explain", "--", *words]) == 64
    assert "refused: " in capsys.readouterr().out
