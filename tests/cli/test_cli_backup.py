"""`mtactl backup` as it is typed: there and back with a key, and what cannot be read is named before the work."""

import os
from pathlib import Path

from cli_run import Run
from control_daemon import Daemon


def test_a_sealed_one_comes_back_with_its_key(here: Run, daemon: Daemon, short_dir: Path) -> None:
    daemon.accept("b@b.test")
    (short_dir / "mtad.toml").chmod(0o640)
    key = short_dir / "key"
    key.write_bytes(b"k" * 32)
    sealed, new = f"{short_dir}/today.sealed", short_dir / "new"
    assert here("backup", "create", sealed, "--key-file", str(key)).returncode == 0
    refused = here("--root", str(new), "backup", "restore", sealed)
    assert (refused.returncode, "--key-file" in refused.stderr) == (65, True)
    done = here("--root", str(new), "backup", "restore", sealed, "--key-file", str(key))
    assert done.returncode == 0, done.stderr
    assert "held:            1" in done.stdout
    assert (new / "mtad.toml").read_bytes() == (short_dir / "mtad.toml").read_bytes()
    assert (new / "mtad.toml").stat().st_mode & 0o777 == 0o640
    assert here("--root", str(new), "backup", "restore", sealed, "--key-file", str(key)).returncode == 73


def test_who_may_not_read_a_backup_is_not_told_that_it_is_damaged(here: Run, short_dir: Path) -> None:
    name = "mtad-20261125T024741Z.tar.gz"
    (short_dir / name).write_bytes(b"")
    assert "damaged" in here("backup", "list", str(short_dir)).stdout
    (short_dir / name).unlink()
    (short_dir / name).symlink_to("/proc/self/mem")  # opens, and gives an error to who reads
    assert "unreadable" in here("backup", "list", str(short_dir)).stdout


def test_what_cannot_be_read_is_named(here: Run, daemon: Daemon, short_dir: Path) -> None:
    whole, new = f"{short_dir}/today.tar.gz", short_dir / "new"
    assert here("backup", "create", whole).returncode == 0
    reads, writes = os.pipe()
    os.close(writes)
    pipe = f"/dev/fd/{reads}"
    for words, said in (
        ((whole, "--journal", "/no/where"), "mtactl: /no/where: No such file or directory"),
        ((whole, "--journal", str(short_dir)), f"mtactl: {short_dir}/mta.db: No such file or directory"),
        ((pipe,), f"mtactl: {pipe}: a backup is read from a file"),
    ):
        refused = here("--root", str(new), "backup", "restore", *words)
        assert (refused.returncode, said in refused.stderr) == (65, True), refused.stderr
    os.close(reads)
    assert not new.exists() or os.listdir(new / "data") == [".lock"]


def test_a_directory_that_is_not_there_does_not_become_a_file(here: Run, short_dir: Path) -> None:
    done = here("backup", "create", f"{short_dir}/backups")
    assert (done.returncode, "is no directory: make it" in done.stderr) == (73, True)
    assert not (short_dir / "backups").exists()
