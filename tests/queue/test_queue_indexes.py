"""A database whose indexes alone are damaged is mended without a loss; one whose tables are is left for a backup."""

import asyncio
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from queue_mails import NOW, OK, mail, outcome

from mtad.config import Paths
from mtad.mail.envelope import State
from mtad.queue import check, indexes
from mtad.queue.sqlite import open_store
from mtad.queue.store import StoreError, Unsound

PAGE = 8192
TABLES = ("message", "recipient", "body", "attempt")


async def filled(paths: Paths, first: int = 0, count: int = 400) -> None:
    store = open_store(paths, lambda: NOW)
    mails = [mail(number, f"u{number}@r{number % 3}.test") for number in range(first, first + count)]
    await asyncio.gather(*map(store.accept, mails))
    for job in await store.lease(NOW, NOW + 60, count // 4):
        await store.settle(outcome(job, State.DONE, OK))
    await store.close()


def rows(path: str) -> list[list[tuple[object, ...]]]:
    with closing(sqlite3.connect(path)) as connection:
        return [connection.execute(f"SELECT * FROM {table} NOT INDEXED").fetchall() for table in TABLES]


def root(path: str, name: str) -> int:
    """Where the first page of a table or index begins."""
    with closing(sqlite3.connect(path)) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (name,)).fetchone()
    return (int(page) - 1) * PAGE


def leaf(path: str, name: str) -> int:
    """Where the last page of a table or index of at most two levels begins."""
    at = root(path, name)
    octets = Path(path).read_bytes()[at : at + PAGE]
    return (int.from_bytes(octets[8:12], "big") - 1) * PAGE if octets[0] in (2, 5) else at


def write(path: str, at: int, octets: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(octets)


def found(paths: Paths) -> list[check.Finding]:
    return list(check.queue(paths.database, paths, check.Seen()))


async def test_every_table_may_have_rows(paths: Paths) -> None:
    """SQLite 3.40 takes each row of hard_bounce for a damaged one: no backup with one verified, or came back."""
    await filled(paths, count=4)
    with closing(sqlite3.connect(paths.database)) as connection:
        connection.execute(
            "INSERT INTO hard_bounce VALUES ('u', 'a@b.test', 1795605472.3, 7), ('v', 'a@b.test', 2.0, 8)"
        )
        connection.commit()
        assert indexes.complaints(connection, 1) == []
    assert found(paths) == []


async def test_what_is_damaged_is_seen_behind_a_false_alarm(paths: Paths) -> None:
    await filled(paths)
    with closing(sqlite3.connect(paths.database)) as connection:
        connection.executemany("INSERT INTO hard_bounce VALUES ('u', ?, 2.0, 7)", [(f"{n}@b.test",) for n in range(9)])
        connection.execute("CREATE TABLE late (here TEXT)")  # looked at after hard_bounce
        connection.execute("INSERT INTO late VALUES (NULL)")
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(
            "UPDATE sqlite_schema SET sql = 'CREATE TABLE late (here TEXT NOT NULL)' WHERE name = 'late'"
        )
        connection.commit()
    with closing(sqlite3.connect(paths.database)) as connection:
        assert indexes.complaints(connection, 1) == ["NULL value in late.here"]


@pytest.mark.parametrize("name", ["recipient_due", "recipient_open", "message_finished", "attempt_message"])
@pytest.mark.parametrize("octets", [bytes(PAGE), b"\xff" * 60, b"\x0a\x00\x00\x00\x01"])
async def test_an_index_that_cannot_be_read(paths: Paths, name: str, octets: bytes) -> None:
    await filled(paths)
    before = rows(paths.database)
    write(paths.database, root(paths.database, name), octets)
    (finding,) = found(paths)
    assert finding.cure == "index"
    assert finding.fix == "with mtad stopped, make them anew: mtactl check --repair"
    damaged = Path(paths.database).read_bytes()
    kept = indexes.mend(paths)
    assert rows(paths.database) == before
    assert Path(kept).read_bytes() == damaged
    assert os.stat(paths.database).st_mode & 0o777 == 0o600
    assert found(paths) == []
    store = open_store(paths, lambda: NOW)
    jobs = await store.lease(NOW, NOW + 60, 1000)
    assert sum(len(job.recipients) for job in jobs) == 300
    await store.close()


async def test_an_index_that_knows_a_row_wrongly(paths: Paths) -> None:
    """A flipped bit in a key: no page is unreadable, and a mail would wait for ever."""
    await filled(paths)
    before = rows(paths.database)
    at = leaf(paths.database, "recipient_due")
    octets = bytearray(Path(paths.database).read_bytes()[at : at + PAGE])
    first = int.from_bytes(octets[8:10], "big")  # its first entry
    octets[octets.index(b".test", first) + 8] ^= 1  # in the number of the message
    write(paths.database, at, octets)
    (finding,) = found(paths)
    assert (finding.cure, "recipient_due" in finding.what) == ("index", True)
    indexes.mend(paths)
    assert rows(paths.database) == before
    assert found(paths) == []


@pytest.mark.parametrize("name", ["message", "recipient", "body"])
@pytest.mark.parametrize("octets", [bytes(PAGE), b"\xff" * 60])
async def test_a_table_that_cannot_be_read_is_no_work_for_us(paths: Paths, name: str, octets: bytes) -> None:
    await filled(paths)
    write(paths.database, leaf(paths.database, name), octets)
    damaged = Path(paths.database).read_bytes()
    assert {one.cure for one in found(paths)} <= {"", "hold"}
    assert "restore a backup" in found(paths)[0].fix
    with pytest.raises(StoreError):
        indexes.mend(paths)
    assert Path(paths.database).read_bytes() == damaged
    assert not [name for name in os.listdir(paths.data) if "new" in name or "lost" in name]


@pytest.mark.parametrize("name", ["message", "recipient"])
async def test_a_table_that_is_whole_but_of_yesterday_is_no_work_for_us(paths: Paths, name: str) -> None:
    """A write that the disk lost. New indexes of it would make good of mails that are gone."""
    await filled(paths, 0, 20)
    where = leaf(paths.database, name)
    old = Path(paths.database).read_bytes()[where : where + PAGE]
    await filled(paths, 20, 2)
    assert leaf(paths.database, name) == where
    write(paths.database, where, old)
    assert "restore a backup" in found(paths)[0].fix
    with pytest.raises(Unsound, match="rows of"):
        indexes.mend(paths)


async def test_what_is_only_in_the_log_of_the_database_is_not_forgotten(paths: Paths) -> None:
    """As a daemon that was killed leaves it."""
    await filled(paths)
    store = open_store(paths, lambda: NOW)
    await store.accept(mail(9999, "last@r.test"))
    octets, log = Path(paths.database).read_bytes(), Path(f"{paths.database}-wal").read_bytes()
    await store.close()
    assert log
    before = rows(paths.database)
    Path(paths.database).write_bytes(octets)
    Path(f"{paths.database}-wal").write_bytes(log)
    write(paths.database, root(paths.database, "recipient_history"), bytes(PAGE))
    assert [one.cure for one in found(paths)] == ["index"]
    indexes.mend(paths)
    assert rows(paths.database) == before
    assert found(paths) == []


async def test_a_check_asks_for_the_recipients_of_a_mail_alone(paths: Paths) -> None:
    """Not for all that are ready, again for each mail: 30,000 took 37 s."""
    await filled(paths, 0, 1)
    with closing(sqlite3.connect(paths.database)) as connection:
        plan = [step[3] for step in connection.execute(f"EXPLAIN QUERY PLAN {check._BODIES}", (0,))]
    assert [step for step in plan if step.startswith("SEARCH r ")] == ["SEARCH r USING PRIMARY KEY (message=?)"]
