"""scripts/backup.sh as cron runs it: online, offline, verified, pruned."""

import fcntl
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from peer_mtad import Mtad

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "backup.sh"


@pytest.fixture
def mtad(short_dir: Path) -> Iterator[Mtad]:
    host = Mtad(short_dir / "root")
    yield host
    host.stop()


def backup(host: Mtad, *words: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SCRIPT, *words], capture_output=True, text=True, timeout=60, check=False,
        env={"MTA_ROOT": str(host.root), "PATH": os.environ["PATH"], "HOME": "/nonexistent", **env},
    )  # fmt: skip


def in_place_of_mtactl(place: Path, script: str) -> Path:
    """A shell script that is called instead; the real one is $real."""
    path = place / "mtactl"
    path.write_text(f"#!/bin/sh\nreal='{SCRIPT.parents[1] / '.venv' / 'bin' / 'mtactl'}'\n{script}")
    path.chmod(0o755)
    return path


def unpacked(target: Path, into: Path) -> Path:
    (archive,) = target.glob("mtad-*.tar.gz")
    assert archive.stat().st_mode & 0o777 == 0o600
    into.mkdir()
    subprocess.run(["tar", "xzf", archive, "-C", into], check=True, timeout=60)
    return into


@pytest.mark.parametrize("online", [True, False])
def test_everything_is_in_it(mtad: Mtad, tmp_path: Path, online: bool) -> None:
    mtad.mtactl("dkim", "generate", "example.test", "--selector", "s1")
    mtad.start()
    mtad.sendmail("-fa@example.test", "b@nowhere.invalid", mail=b"Subject: kept\n\ntext\n")
    if not online:
        mtad.stop()
    target = tmp_path / "out"
    done = backup(mtad, target)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    found = unpacked(target, tmp_path / "found")
    assert (found / "mtad.toml").read_bytes() == (mtad.root / "mtad.toml").read_bytes()
    key = "dkim/example.test/s1.pem"
    assert (found / key).read_bytes() == (mtad.root / "data" / key).read_bytes()
    database = sqlite3.connect(found / "mta.db")
    try:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        dump = "\n".join(database.iterdump())
    finally:
        database.close()
    assert "b@nowhere.invalid" in dump
    assert not list((mtad.root / "data").glob(".backup*"))
    assert [path.name for path in target.glob(".*")] == [".lock"]


def test_only_old_files_of_its_own_go(mtad: Mtad, tmp_path: Path) -> None:
    mtad.start()
    names = {
        "mtad-20200101T000000Z.tar.gz": 31, "mtad-20200102T000000Z.tar.gz": 29, "other.tar.gz": 99, ".mtad-x.part": 0,
    }  # fmt: skip
    for name, days in names.items():
        (tmp_path / name).write_text("")
        age = (tmp_path / name).stat().st_mtime - days * 86400 - 3600
        os.utime(tmp_path / name, (age, age))
    assert backup(mtad, BACKUP_DIR=str(tmp_path)).returncode == 0
    left = {path.name for path in tmp_path.iterdir()} & names.keys()
    assert left == {"mtad-20200102T000000Z.tar.gz", "other.tar.gz"}
    assert backup(mtad, tmp_path, KEEP_DAYS="10").returncode == 0
    assert not (tmp_path / "mtad-20200102T000000Z.tar.gz").exists()


def test_a_damaged_database_is_not_kept(mtad: Mtad, tmp_path: Path) -> None:
    """An mtactl whose copy is broken: the script judges what was written, not what was said."""
    mtad.start()
    bad = in_place_of_mtactl(
        tmp_path,
        '"$real" "$@" || exit $?\n[ "$2" != create ] || printf x | dd of="$3" bs=1 seek=200 conv=notrunc status=none\n',
    )
    done = backup(mtad, tmp_path / "out", MTACTL=str(bad))
    assert done.returncode == 65, done.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".lock"]


def test_what_could_not_be_looked_at_is_kept(mtad: Mtad, tmp_path: Path) -> None:
    """A full $TMPDIR says nothing against a backup."""
    mtad.start()
    fake = in_place_of_mtactl(
        tmp_path,
        '[ "$2" != verify ] || { echo "mtactl: $TMPDIR: No space left on device" >&2; exit 75; }\nexec "$real" "$@"\n',
    )
    (tmp_path / "out" / "mtad-verify-x").mkdir(parents=True)
    done = backup(mtad, tmp_path / "out", MTACTL=str(fake))
    assert done.returncode == 75
    assert done.stderr.endswith(f"and is kept: mtactl: {tmp_path}/out: No space left on device\n")
    assert len(list((tmp_path / "out").glob("mtad-*"))) == 1


def test_one_at_a_time(mtad: Mtad, tmp_path: Path) -> None:
    mtad.start()
    with open(tmp_path / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert backup(mtad, tmp_path).returncode == 75
    assert backup(mtad, tmp_path).returncode == 0


def test_encrypted(mtad: Mtad, tmp_path: Path) -> None:
    mtad.start()
    key = tmp_path / "key"
    key.write_bytes(os.urandom(32))
    assert backup(mtad, tmp_path / "out", BACKUP_KEY_FILE=str(key)).returncode == 0
    (archive,) = (tmp_path / "out").glob("mtad-*Z.tar.gz.sealed")
    assert mtad.mtactl("backup", "verify", str(archive), "--key-file", str(key)).returncode == 0


@pytest.mark.parametrize(
    ("words", "env", "code"),
    [(["a", "b"], {}, 64), (["--help"], {}, 64), ([], {"KEEP_DAYS": "x"}, 64), (["/proc/nothing"], {}, 73)],
)
def test_wrong_use(mtad: Mtad, words: list[str], env: dict[str, str], code: int) -> None:
    mtad.start()
    done = backup(mtad, *words, **env)
    assert done.returncode == code
    assert done.stderr.startswith("backup.sh: ")
