"""The way back: the machine dies at any step of it, files come back readable for whom they are, and nothing is lost."""

import io
import os
import sqlite3
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from mtad.backup.archive import Member, Packer
from mtad.backup.journal import mark
from mtad.backup.restore import NotEmptyError, Restored, Wish, restore
from mtad.config.places import Place, locate
from mtad.queue.database import RESTORING, migrations, open_writable
from mtad.queue.store import StoreError

NOW = 1_700_000_000.0
SETTINGS = ("mtad.toml", "aliases", "relay.password")
STEPS = ("rename", "rmdir", "sync", "unlink")
ABOUT = (
    '{"format": 1, "hostname": "m.test", "created_at": 1, "mtad": "1", "schema": %d, "config": "/etc/mtad/mtad.toml",'
    ' "counts": {}}'
)
BLOCK = "INSERT INTO block VALUES (?, '', '', 1, 0, 1)"
LINE = "35cy1n2cc9rt: to=<a@b.test>, relay=x, delay=1, status=sent (250 ok), error="


def backup(tmp_path: Path, *more: tuple[str, bytes, int]) -> bytes:
    place = locate(str(tmp_path / "old"), environ={})
    os.makedirs(place.paths.data)
    connection = open_writable(place.paths)
    connection.execute(BLOCK, ("192.0.2.1",))
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    members = (
        ("backup.json", (ABOUT % max(migrations())).encode(), 0o600),
        ("mta.db", Path(place.paths.database).read_bytes(), 0o600),
        ("mtad.toml", b'hostname = "m.test"\n', 0o640),
        ("files/etc/mtad/aliases", b"root: alice\n", 0o644),
        ("files/etc/mtad/relay.password", b"geheim12\n", 0o600),
        *more,
        ("dkim/b.test/s1.pem", b"no key, but a file\n", 0o600),
        ("queue/000000000001", b"a body\n", 0o600),
    )
    out = io.BytesIO()
    packer = Packer(out, None)
    for name, octets, mode in members:
        packer.add(Member(name, len(octets), mode, 1), io.BytesIO(octets))
    packer.finish(2.0)
    return out.getvalue()


def bring_back(octets: bytes, place: Place, owner: tuple[int, int] = (-1, -1)) -> Restored:
    return restore(io.BytesIO(octets), None, place, Wish(), lambda: NOW, owner=lambda: owner)


def is_whole(place: Place) -> bool:
    data, folder = place.paths.data, os.path.dirname(place.paths.config)
    for path in (f"{data}/queue/000000000001", f"{data}/dkim/b.test/s1.pem", f"{folder}/mtad.toml",
                 f"{folder}/aliases", f"{folder}/relay.password"):  # fmt: skip
        if not os.path.getsize(path):
            return False
    connection = sqlite3.connect(place.paths.database)
    found = connection.execute("SELECT count(*) FROM block").fetchone()
    connection.close()
    return bool(found == (1,))


def died_at(step: int, work: Callable[[], object]) -> bool:
    """Whether a process that does this ended before the step of that number."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    left = count(step, -1)

    def counted(real: Callable[..., object], *args: object, **given: object) -> object:
        if not next(left):
            os._exit(9)
        return real(*args, **given)

    for name in STEPS:
        setattr(os, name, partial(counted, getattr(os, name)))
    try:
        work()
    finally:
        os._exit(0)


def test_a_machine_may_die_at_any_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("sync", "fsync"):
        monkeypatch.setattr(os, name, lambda *args: None)  # what died is the process
    octets = backup(tmp_path)
    seen = {"a part": 0, "all": 0}
    for step in count(1):
        place = locate(str(tmp_path / f"{step}"), environ={})
        if not died_at(step, lambda place=place: bring_back(octets, place)):  # type: ignore[misc]
            break
        if os.path.exists(place.paths.database):
            seen["all"] += 1
            open_writable(place.paths).close()  # a daemon starts
            with pytest.raises(NotEmptyError, match=r"mta\.db"):
                bring_back(octets, place)
        else:
            seen["a part"] += 1
            with pytest.raises(StoreError, match="mtactl backup restore"):
                open_writable(place.paths)  # else it would accept mail that the next restore clears away
            bring_back(octets, place)
        assert is_whole(place)
        assert not list(Path(place.paths.config).parent.glob("*.part"))
        assert not os.path.exists(f"{place.paths.data}/{RESTORING}")
    assert seen["a part"] >= 8
    assert seen["all"] >= 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_the_service_reads_what_root_restored(tmp_path: Path) -> None:
    place = locate(str(tmp_path / "new"), environ={})
    bring_back(backup(tmp_path), place, owner=(7777, 8888))
    for folder, _, names in os.walk(place.paths.data):
        for path in (folder, *(f"{folder}/{name}" for name in names)):
            found = os.stat(path)
            assert path == place.paths.data or (found.st_uid, found.st_gid) == (7777, 8888), path
    modes = {}
    for name in SETTINGS:
        found = os.stat(tmp_path / "new" / name)
        assert (found.st_uid, found.st_gid) == (0, 8888)
        modes[name] = found.st_mode & 0o777
    assert modes == {"mtad.toml": 0o640, "aliases": 0o644, "relay.password": 0o640}


def test_ones_own_files_keep_their_modes(tmp_path: Path) -> None:
    place = locate(str(tmp_path / "new"), environ={})
    bring_back(backup(tmp_path), place)
    found = {name: os.stat(tmp_path / "new" / name).st_mode & 0o777 for name in SETTINGS}
    assert found == dict(zip(SETTINGS, (0o640, 0o644, 0o600), strict=True))


def test_a_refused_one_leaves_a_lock_that_the_service_can_open(tmp_path: Path) -> None:
    place = locate(str(tmp_path / "new"), environ={})
    me = (os.geteuid(), 8888 if os.geteuid() == 0 else os.getegid())
    with pytest.raises(ValueError, match="not a backup"):
        bring_back(b"no backup", place, owner=me)
    assert os.stat(f"{place.paths.data}/.lock").st_gid == me[1]


def test_an_archive_chooses_no_place_outside_the_settings(tmp_path: Path) -> None:
    evil = tmp_path / "etc" / "cron.d" / "evil"
    place = Place("system", locate(str(tmp_path / "new"), environ={}).paths, f"{tmp_path}/etc/aliases")
    octets = backup(tmp_path, (f"files{evil}", b"* * * * * root sh\n", 0o644),
                    (f"files{place.aliases}", b"root: bob\n", 0o644))  # fmt: skip
    done = bring_back(octets, place)
    assert not evil.exists()
    assert (tmp_path / "new" / "restored" / str(evil)[1:]).exists()
    assert any(str(evil) in note for note in done.notes)
    assert Path(place.aliases).read_text() == "root: bob\n"


def test_what_is_there_stays(tmp_path: Path) -> None:
    place = locate(str(tmp_path / "new"), environ={})
    for path in ("data/mailboxes/b.test/alice/new/1", "data/maildrop/x", "mtad.toml"):
        (tmp_path / "new" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "new" / path).write_text("mine")
    (tmp_path / "new" / "aliases").symlink_to("nowhere")
    (tmp_path / "new" / "relay.password").mkdir()
    octets = backup(tmp_path)
    done = bring_back(octets, place)
    assert len([note for note in done.notes if "was there and stays" in note]) == 3
    for path in ("data/mailboxes/b.test/alice/new/1", "data/maildrop/x", "mtad.toml"):
        assert (tmp_path / "new" / path).read_text() == "mine"
    assert (tmp_path / "new" / "aliases.restored").read_text() == "root: alice\n"
    with pytest.raises(NotEmptyError):
        bring_back(octets, place)


def test_a_log_that_comes_through_a_pipe_is_read_from_its_beginning(tmp_path: Path) -> None:
    place = locate(str(tmp_path / "new"), environ={})
    bring_back(backup(tmp_path), place)
    connection = open_writable(place.paths)
    reads, writes = os.pipe()
    with open(writes, "w") as log:
        log.write(LINE)  # the only line: none of it may be lost on the look at what the file is
    with os.fdopen(reads):
        mark(connection, f"/dev/fd/{reads}", NOW)  # else: no line of a delivery
    connection.close()
