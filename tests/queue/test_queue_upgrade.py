"""A queue that a released version left opens, and its mail is delivered; what it was is kept beside it. Each file of
fixtures/ is a dump of what a daemon of that schema left: mail that waits, is held, purged, done, failed."""

import re
import sqlite3
from pathlib import Path

import pytest
from peer_mtad import BIN, Mtad
from sink import Sink

from mtad.config import Paths
from mtad.queue import database
from mtad.queue.sqlite import open_store
from mtad.queue.store import Selector, StoreError

FIXTURES = sorted((Path(__file__).parent / "fixtures").glob("schema_*.sql"))
NOW = 1_800_000_000.0


def lay(dump: Path, data: Path) -> int:
    """Make a database of a dump. Its schema."""
    data.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(data / "mta.db")
    connection.executescript(dump.read_text())
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    connection.close()
    return int(version)


def version_of(path: Path) -> int:
    connection = sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return int(connection.execute("PRAGMA user_version").fetchone()[0])
    finally:
        connection.close()


def test_there_is_one_of_the_first_release() -> None:
    assert [re.sub(r"\D", "", path.name) for path in FIXTURES][:1] == ["0004"]


@pytest.mark.parametrize("dump", FIXTURES, ids=lambda dump: dump.stem)
def test_its_mail_is_delivered(dump: Path, short_dir: Path) -> None:
    version = lay(dump, short_dir / "m" / "data")
    connection = sqlite3.connect(short_dir / "m" / "data" / "mta.db")
    connection.execute("UPDATE message SET accepted_at = unixepoch(), expires_at = unixepoch() + 86400")
    connection.commit()
    connection.close()
    with Sink() as sink:
        route = f'[[delivery.route]]\nmatch = "*"\nto = "smtp://127.0.0.1:{sink.port}"\n'
        host = Mtad(short_dir / "m", delivery=route)
        host.start()
        try:
            host.mtactl("queue", "flush", "--all", check=False)
            host.mtactl("queue", "release", "--all")
            host.mtactl("queue", "restore", "--last", check=False)
            host.mtactl("queue", "restore", "--all", check=False)
            host.mtactl("queue", "flush", "--all", check=False)
            host.empty()
            assert sink.taken == {"old.0": 1, "old.1": 1, "old.2": 1, "old.3": 2}
            assert [row["name"] for row in host.rows("user", "list")] == ["alice@example.test"]
        finally:
            host.stop()
        assert "Traceback" not in host.log
        assert version_of(host.root / "data" / f"backup-schema-{version}.db") == version
        assert version_of(host.root / "data" / "mta.db") == max(database.migrations())
    assert BIN.exists()


async def test_a_few_copies_stay(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    data = Path(paths.data)
    lay(FIXTURES[0], data)
    for number in (1, 2, 3):
        (data / f"backup-schema-{number}.db").write_bytes(b"")
    (data / "backup-schema-x.db").write_bytes(b"")
    store = open_store(paths, lambda: NOW)
    assert len(await store.select(Selector(all=True), NOW)) == 4
    await store.close()
    left = sorted(path.name for path in data.glob("backup-schema-*"))
    assert len(left) == database.KEPT_COPIES + 1
    assert "backup-schema-4.db" in left


async def test_without_room_for_the_copy_nothing_is_changed(paths: Paths) -> None:
    data = Path(paths.data)
    version = lay(FIXTURES[0], data)
    (data / f"backup-schema-{version}.db").mkdir()  # stands for whatever keeps it from being written
    with pytest.raises(StoreError, match=r"cannot be copied to .*backup-schema-4\.db"):
        open_store(paths, lambda: NOW)
    assert version_of(data / "mta.db") == version
