"""The files for systemd, judged by systemd."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from mtad.command import EX_CANTCREAT, EX_CONFIG, EX_USAGE

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


@pytest.fixture
def units(tmp_path: Path) -> list[str]:
    """The units, with the programs where this machine has some."""
    copies = []
    for unit in sorted([*DEPLOY.glob("*.service"), *DEPLOY.glob("*.socket"), *DEPLOY.glob("*.timer")]):
        copy = tmp_path / unit.name
        text = unit.read_text().replace("/opt/mtad/bin/mtad", "/bin/true")
        copy.write_text(text.replace("/opt/mtad/scripts/backup.sh", "/bin/true"))
        copies.append(str(copy))
    return copies


@needs("systemd-analyze")
def test_units_are_clean(units: list[str]) -> None:
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, timeout=60)
    ours = [line for line in (done.stdout + done.stderr).splitlines() if "mtad" in line]
    assert (done.returncode, ours) == (0, [])


@needs("systemd-analyze")
def test_verify_would_complain(tmp_path: Path) -> None:
    """That the test above can fail."""
    unit = tmp_path / "mtad.service"
    unit.write_text((DEPLOY / "mtad.service").read_text().replace("Type=notify", "Type=notfy\nNoSuchKey=1"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, timeout=60
    )
    assert "NoSuchKey" in done.stderr


@needs("systemd-analyze")
def test_the_service_is_hardened(units: list[str]) -> None:
    service = next(unit for unit in units if unit.endswith("mtad.service"))
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=20", service],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout.splitlines()[-1:]


def test_what_does_not_pass_by_itself_is_not_tried_again() -> None:
    """And all else is, without an end: a mail server that gave up is found by its users."""
    settings = [line.partition("=") for line in (DEPLOY / "mtad.service").read_text().splitlines()]
    found = {name: value for name, _, value in settings if name.startswith(("Restart", "StartLimit"))}
    assert found.pop("RestartSec")
    assert found == {
        "Restart": "on-failure",
        "RestartPreventExitStatus": f"{EX_USAGE} {EX_CANTCREAT} {EX_CONFIG}",
        "StartLimitIntervalSec": "0",
    }


@needs("systemd-sysusers")
@needs("systemd-tmpfiles")
@pytest.mark.skipif(os.getuid() != 0, reason="needs root to create users below a root directory")
def test_users_and_directories(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    for kind in ("sysusers", "tmpfiles"):
        (tmp_path / "usr/lib" / f"{kind}.d").mkdir(parents=True)
        shutil.copy(DEPLOY / f"{kind}.d" / "mtad.conf", tmp_path / "usr/lib" / f"{kind}.d")
    subprocess.run(["systemd-sysusers", f"--root={tmp_path}"], check=True, timeout=60, capture_output=True)
    subprocess.run(["systemd-tmpfiles", "--create", f"--root={tmp_path}"], check=True, timeout=60, capture_output=True)
    users = {line.split(":")[0] for line in (tmp_path / "etc/passwd").read_text().splitlines()}
    groups = {line.split(":")[0] for line in (tmp_path / "etc/group").read_text().splitlines()}
    assert "mtad" in users
    assert {"mtad", "mtad-admin"} <= groups
    modes = {
        name: (tmp_path / name).stat().st_mode & 0o7777
        for name in ("var/lib/mtad", "var/lib/mtad/maildrop", "run/mtad", "var/backups/mtad")
    }
    assert modes == {
        "var/lib/mtad": 0o711,
        "var/lib/mtad/maildrop": 0o3733,
        "run/mtad": 0o755,
        "var/backups/mtad": 0o700,
    }
