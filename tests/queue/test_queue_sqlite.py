"""What is the SQLite engine's own: the lock, group commit, a full disk, damage, backup, migrations."""

import asyncio
import contextlib
import hashlib
import json
import os
import sqlite3
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from queue_mails import HEAD, LATER, NOW, OK, mail, message_id, outcome

from mtad.accounts.account import StoredUser
from mtad.accounts.blocks import Block
from mtad.config import Paths
from mtad.mail import ident
from mtad.mail.envelope import Content, State
from mtad.queue import database
from mtad.queue.contents import Contents
from mtad.queue.passage import has_room
from mtad.queue.sqlite import SqliteStore, open_read_only, open_store
from mtad.queue.store import Damaged, Hold, Place, Selector, StoreError, StoreLocked, Trash, Why
from mtad.queue.writer import Phase, Work, one_by_one

ALL = Selector(all=True)


class Gate:
    """Keeps the writer busy, so that what is asked meanwhile is taken together."""

    def __init__(self, store: SqliteStore) -> None:
        self._writer = store._writer
        self._entered = threading.Event()
        self._open = threading.Event()

    async def __aenter__(self) -> "Gate":
        work = Work("gate", one_by_one(self._hold), Phase.LONG)
        self._task = asyncio.create_task(self._writer.do(work, None))
        await asyncio.to_thread(self._entered.wait)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._open.set()
        await self._task

    def _hold(self, _: None) -> None:
        self._entered.set()
        assert self._open.wait(30)


def traced(store: SqliteStore) -> list[str]:
    said: list[str] = []
    store._connection.set_trace_callback(said.append)
    return said


# Group commit


async def test_what_comes_together_is_committed_together(sqlite_store: SqliteStore) -> None:
    said = traced(sqlite_store)
    async with Gate(sqlite_store):
        tasks = [asyncio.create_task(sqlite_store.accept(mail(number))) for number in range(100)]
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    assert said.count("COMMIT") == 1
    assert (await sqlite_store.stats(NOW)).messages == 100


async def test_only_the_guilty_one_fails(sqlite_store: SqliteStore) -> None:
    await sqlite_store.accept(mail(2))
    said = traced(sqlite_store)
    async with Gate(sqlite_store):
        tasks = [asyncio.create_task(sqlite_store.accept(mail(number))) for number in range(4)]
        await asyncio.sleep(0)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [str, str, StoreError, str]
    assert (said.count("COMMIT"), said.count("ROLLBACK")) == (3, 2)


async def test_reads_open_no_transaction(sqlite_store: SqliteStore) -> None:
    await sqlite_store.accept(mail(1))
    said = traced(sqlite_store)
    await sqlite_store.select(ALL, NOW)
    await sqlite_store.stats(NOW)
    await sqlite_store.next_due(NOW)
    await sqlite_store.attempts(message_id(1))
    assert said
    assert not [line for line in said if line.startswith(("BEGIN", "COMMIT"))]


async def test_a_lease_writes_nothing_to_the_disk(sqlite_store: SqliteStore, paths: Paths) -> None:
    await sqlite_store.accept(mail(1))
    log = Path(f"{paths.database}-wal")
    before = log.read_bytes()
    (job,) = await sqlite_store.lease(NOW, NOW + 60, 1)
    await sqlite_store.renew(job, NOW + 90)
    assert log.read_bytes() == before


async def test_cancelled_caller_does_not_undo(sqlite_store: SqliteStore) -> None:
    async with Gate(sqlite_store):
        task = asyncio.create_task(sqlite_store.accept(mail(1)))
        await asyncio.sleep(0)
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await sqlite_store.accept(mail(2))
    assert (await sqlite_store.stats(NOW)).messages == 2


async def test_close_finishes_what_was_asked(paths: Paths) -> None:
    store = open_store(paths, lambda: NOW)
    async with Gate(store):
        tasks = [asyncio.create_task(store.accept(mail(number))) for number in range(10)]
        await asyncio.sleep(0)
        closing = asyncio.create_task(store.close())
        await asyncio.sleep(0)
    await asyncio.gather(*tasks, closing)
    assert not os.path.exists(f"{paths.database}-wal")
    again = open_store(paths, lambda: NOW)
    assert (await again.stats(NOW)).messages == 10
    await again.close()


# Contents


async def test_what_was_just_accepted_is_not_read_back(sqlite_store: SqliteStore) -> None:
    await sqlite_store.accept(mail(1, body=b"x" * 1000))
    said = traced(sqlite_store)
    content = await sqlite_store.content(message_id(1))
    assert content.body == b"x" * 1000
    assert said == []


def test_contents_keep_to_their_size() -> None:
    contents = Contents(100)
    for name in ("a", "b", "c"):
        contents.put(name, Content(b"h" * 10, b"x" * 30))
        contents.get("a")
    assert [name for name in ("a", "b", "c") if contents.get(name)] == ["a", "c"]
    contents.put("huge", Content(b"", b"x" * 101))
    assert contents.get("huge") is None
    contents.put("path", Content(b"", "/a/path"))
    assert contents.get("path") is None
    contents.put("d", Content(b"", b"x" * 100))
    contents.drop("d")
    contents.put("e", Content(b"", b"x" * 100))
    assert contents.get("e") is not None


async def test_damaged_contents_are_not_delivered(paths: Paths) -> None:
    store = open_store(paths, lambda: NOW)
    path = Path(paths.spool, message_id(2))
    path.write_bytes(b"x" * 999)
    await store.accept(mail(1))
    await store.accept(mail(2, body=str(path), digest=b"", size_bytes=len(HEAD) + 1000))
    store._connection.execute("UPDATE body SET data = ? WHERE data IS NOT NULL", (b"hellO\r\n",))
    await store.close()
    store = open_store(paths, lambda: NOW)
    for number in (1, 2):
        with pytest.raises(Damaged, match="damaged"):
            await store.content(message_id(number))
    path.unlink()
    with pytest.raises(Damaged, match="gone"):
        await store.content(message_id(2))
    await store.close()


async def test_a_file_is_read_through_before_it_is_sent(paths: Paths) -> None:
    """By the next daemon, once; this one wrote it a moment ago."""
    store = open_store(paths, lambda: NOW)
    path, body = Path(paths.spool, message_id(1)), b"x" * 1000
    path.write_bytes(body)
    size_bytes, digest = len(HEAD) + len(body), hashlib.sha256(body + HEAD).digest()
    await store.accept(mail(1, body=str(path), digest=digest, size_bytes=size_bytes))
    assert (await store.content(message_id(1))).body == str(path)
    await store.close()
    path.write_bytes(b"y" + body[1:])
    store = open_store(paths, lambda: NOW)
    with pytest.raises(Damaged, match="changed"):
        await store.content(message_id(1))
    path.write_bytes(body)
    assert (await store.content(message_id(1))).body == str(path)
    await store.close()


async def test_a_body_elsewhere_is_refused(sqlite_store: SqliteStore) -> None:
    with pytest.raises(StoreError, match="wrong place"):
        await sqlite_store.accept(mail(1, body="/etc/passwd"))


# Lock and opening


async def test_one_owner(sqlite_store: SqliteStore, paths: Paths) -> None:
    with pytest.raises(StoreLocked, match=str(os.getpid())):
        open_store(paths, lambda: NOW)
    with pytest.raises(StoreLocked, match=str(os.getpid())):
        open_read_only(paths, lambda: NOW)
    await sqlite_store.accept(mail(1))
    await sqlite_store.close()
    again = open_store(paths, lambda: NOW)
    await again.close()


async def test_read_only(paths: Paths) -> None:
    with pytest.raises(StoreError, match="no queue"):
        open_read_only(paths, lambda: NOW)
    assert not os.path.exists(paths.data)
    store = open_store(paths, lambda: NOW)
    await store.accept(mail(1))
    await store.close()
    before = Path(paths.database).read_bytes()
    reading = open_read_only(paths, lambda: NOW)
    assert len(await reading.select(Selector(), NOW)) == 1
    assert (await reading.stats(NOW)).messages == 1
    for refused in (reading.accept(mail(2)), reading.change(ALL, Hold(), NOW), reading.lease(NOW, NOW, 1)):
        with pytest.raises(StoreError):
            await refused
    await reading.close()
    assert Path(paths.database).read_bytes() == before


async def test_files_are_private(sqlite_store: SqliteStore, paths: Paths) -> None:
    await sqlite_store.accept(mail(1))
    for path in (paths.database, f"{paths.database}-wal", f"{paths.data}/.lock"):
        assert os.stat(path).st_mode & 0o077 == 0
    assert os.stat(paths.spool).st_mode & 0o077 == 0


@pytest.mark.parametrize("junk", [b"this is no database" * 500, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_database_is_one_clear_line(paths: Paths, junk: bytes) -> None:
    os.makedirs(paths.data)
    Path(paths.database).write_bytes(junk)
    for opening in (open_store, open_read_only):
        with pytest.raises(StoreError) as caught:
            opening(paths, lambda: NOW)
        if opening is open_store:
            assert paths.database in str(caught.value)
        assert "\n" not in str(caught.value)
    assert Path(paths.database).read_bytes() == junk


async def test_damage_found_later_is_a_store_error(paths: Paths) -> None:
    store = open_store(paths, lambda: NOW)
    for number in range(50):
        await store.accept(mail(number, body=b"x" * 4000))
    await store.close()
    with contextlib.closing(sqlite3.connect(paths.database)) as looking:
        roots = [page for (page,) in looking.execute("SELECT rootpage FROM sqlite_schema WHERE rootpage > 0")]
    octets = bytearray(Path(paths.database).read_bytes())
    for page in roots:  # all but the schema itself
        octets[8192 * (page - 1) : 8192 * page] = b"\xa5" * 8192
    Path(paths.database).write_bytes(octets)
    store = open_store(paths, lambda: NOW)
    with pytest.raises(StoreError):
        await store.select(ALL, NOW)
    with pytest.raises(StoreError):
        await store.accept(mail(99))
    await store.close()


def test_somebody_elses_database_is_left_alone(paths: Paths) -> None:
    os.makedirs(paths.data)
    other = sqlite3.connect(paths.database)
    other.execute("CREATE TABLE precious (x)")
    other.commit()
    other.close()
    with pytest.raises(StoreError, match="not a queue"):
        open_store(paths, lambda: NOW)


async def test_a_queue_of_the_first_schema_is_brought_up_to_date(paths: Paths) -> None:
    os.makedirs(paths.spool)
    (_, first), *_ = sorted(database.migrations().items())
    old = sqlite3.connect(paths.database)
    old.executescript(Path(first).read_text())
    old.execute(f"PRAGMA application_id = {database.APPLICATION_ID}")
    old.execute("PRAGMA user_version = 1")
    number = ident.to_int(message_id(1))
    old.execute(
        "INSERT INTO message VALUES (?, 'a@x.test', 10, ?, ?, 'smtp', '', 0, '', 1, '', '', -1, '7BIT', 0, '', '', 0,"
        " '', '', x'', NULL)",
        (number, NOW, NOW + 9),
    )
    old.execute(
        "INSERT INTO recipient VALUES (?, 1, 'b@y.test', 'b@y.test', 'y.test', 0, 0, ?, '', '', 0, 0, '', '', '', '',"
        " '')",
        (number, NOW),
    )
    old.commit()
    old.close()
    store = open_store(paths, lambda: NOW)
    (job,) = await store.lease(NOW, NOW + 60, 5)
    assert (job.message.priority, job.message.by_mode, job.message.tls_optional) == (0, "", False)
    assert [one.address for one in job.recipients] == ["b@y.test"]
    await store.close()


async def test_a_newer_schema_is_refused(paths: Paths) -> None:
    await open_store(paths, lambda: NOW).close()
    known = max(database.migrations())
    other = sqlite3.connect(paths.database)
    other.execute(f"PRAGMA user_version = {known + 1}")
    other.close()
    with pytest.raises(StoreError, match=f"schema {known + 1}.*upgrade"):
        open_store(paths, lambda: NOW)


async def test_a_failed_migration_changes_nothing(
    paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(paths, lambda: NOW)
    await store.accept(mail(1))
    await store.close()
    known = max(database.migrations())
    steps = tmp_path / "migrations"
    steps.mkdir()
    (steps / f"{known:04}_same.sql").write_text("SELECT 1;")
    (steps / f"{known + 1:04}_bad.sql").write_text("CREATE TABLE extra (x); CREATE TABLE message (y);")
    with monkeypatch.context() as patch:
        patch.setattr(database, "_MIGRATIONS", str(steps))
        with pytest.raises(StoreError):
            open_store(paths, lambda: NOW)
        (steps / f"{known + 1:04}_bad.sql").write_text("CREATE TABLE extra (x);")
        with pytest.raises(StoreError, match="older"):
            open_read_only(paths, lambda: NOW)
        store = open_store(paths, lambda: NOW)
        assert (await store.stats(NOW)).messages == 1
        await store.close()
    with pytest.raises(StoreError, match="upgrade"):
        open_store(paths, lambda: NOW)


# No room


async def test_full_database_says_full_and_recovers(sqlite_store: SqliteStore) -> None:
    (pages,) = sqlite_store._connection.execute("PRAGMA page_count").fetchone()
    sqlite_store._connection.execute(f"PRAGMA max_page_count = {pages + 20}")
    results = await asyncio.gather(
        *(sqlite_store.accept(mail(number, body=b"x" * 20_000)) for number in range(30)), return_exceptions=True
    )
    refused = [result for result in results if not isinstance(result, str)]
    assert 0 < len(refused) < 30
    assert all(isinstance(error, StoreError) and error.full for error in refused)
    assert (await sqlite_store.stats(NOW)).messages == 30 - len(refused)
    sqlite_store._connection.execute("PRAGMA max_page_count = 1000000")
    await sqlite_store.accept(mail(99, body=b"x" * 20_000))
    (verdict,) = sqlite_store._connection.execute("PRAGMA integrity_check").fetchone()
    assert verdict == "ok"


# Backup


async def test_backup_is_a_whole_queue(sqlite_store: SqliteStore, tmp_path: Path) -> None:
    for number in range(300):
        await sqlite_store.accept(mail(number, body=b"x" * 20_000))
    other = Paths("", str(tmp_path / "other"), "")
    os.makedirs(other.data)
    backup = asyncio.create_task(sqlite_store.backup(other.database))
    more = [sqlite_store.accept(mail(number)) for number in range(300, 400)]
    await asyncio.gather(backup, *more)
    assert os.stat(other.database).st_mode & 0o777 == 0o600
    copy = open_store(other, lambda: NOW)
    assert copy._connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert 300 <= (await copy.stats(NOW)).messages <= 400
    assert (await copy.content(message_id(299))).body == b"x" * 20_000
    await copy.close()
    with pytest.raises(StoreError):
        await sqlite_store.backup(other.database)
    with pytest.raises(StoreError):
        await sqlite_store.backup(f"{tmp_path}/no/such/directory/x")
    assert (await sqlite_store.stats(NOW)).messages == 400


async def test_nobody_waits_while_the_copy_reaches_the_disk(
    sqlite_store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, done = threading.Event(), threading.Event()

    def slow(fd: int) -> None:
        reached.set()
        assert done.wait(60)

    monkeypatch.setattr(os, "fsync", slow)
    backup = asyncio.create_task(sqlite_store.backup(f"{tmp_path}/copy.db"))
    try:
        assert await asyncio.to_thread(reached.wait, 60)
        async with asyncio.timeout(20):
            assert (await sqlite_store.stats(NOW)).messages == 0
    finally:
        done.set()
    await backup


async def test_mail_is_served_during_long_work(sqlite_store: SqliteStore) -> None:
    """As the copy for a backup does between its steps."""
    served = threading.Event()
    writer = sqlite_store._writer

    def copy(_: None) -> None:
        while not served.is_set():
            writer.breathe()

    copying = asyncio.create_task(writer.do(Work("copy", one_by_one(copy), Phase.LONG), None))
    await asyncio.gather(*(sqlite_store.accept(mail(number)) for number in range(3)))
    assert (await sqlite_store.stats(NOW)).messages == 3
    served.set()
    await copying


# Users, blocks and ids


async def test_blocks(paths: Paths) -> None:
    store = open_store(paths, lambda: NOW)
    await store.save_block(Block("192.0.2.7", "spam", "uid=0", NOW, NOW + 60))
    await store.save_block(Block("@bad.example"))
    await store.save_block(Block("192.0.2.7", "more spam", "mtad", NOW, NOW + 120, 2))
    await store.close()
    store = open_store(paths, lambda: NOW)
    assert await store.load_blocks() == [
        Block("192.0.2.7", "more spam", "mtad", NOW, NOW + 120, 2),
        Block("@bad.example"),
    ]
    assert await store.delete_block("192.0.2.7")
    assert not await store.delete_block("192.0.2.7")
    assert await store.load_blocks() == [Block("@bad.example")]
    await store.close()


async def test_users(paths: Paths) -> None:
    store = open_store(paths, lambda: NOW)
    alice = StoredUser("alice@example.test", "secret", NOW)
    await store.save_user(alice)
    await store.save_user(StoredUser("bob@example.test", "other", NOW, "on leave"))
    await store.save_user(StoredUser("alice@example.test", "new secret", NOW))
    await store.close()
    store = open_store(paths, lambda: NOW)
    assert await store.load_users() == [
        StoredUser("alice@example.test", "new secret", NOW),
        StoredUser("bob@example.test", "other", NOW, "on leave"),
    ]
    assert await store.delete_user("alice@example.test")
    assert not await store.delete_user("alice@example.test")
    assert [user.name for user in await store.load_users()] == ["bob@example.test"]
    await store.close()


@pytest.fixture
async def long_mails(sqlite_store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> SqliteStore:
    """Messages of 1, 1, 3, 9, 1, 4, 2, 1 recipients, that of the fifth in the trash; pages of 2, rows of 4 at most."""
    monkeypatch.setattr("mtad.queue.listing.PAGE", 2)
    monkeypatch.setattr("mtad.queue.listing.RECIPIENTS_PER_ROW", 4)
    for number, count in enumerate([1, 1, 3, 9, 1, 4, 2, 1], 1):
        await sqlite_store.accept(mail(number, *(f"{n}@example.test" for n in range(count))))
    await sqlite_store.change(Selector(ids=(message_id(5),)), Trash(), NOW)
    return sqlite_store


async def test_pages_of_mailq(long_mails: SqliteStore) -> None:
    """A message is divided only where it is too long for a row; no page looks at more than that."""
    pages: list[list[int]] = []
    rest: Place | None = (0, 0)
    while rest is not None:
        found = await long_mails.mailq(NOW, rest)
        pages.append([len(json.loads(line)["recipients"]) for line in found.lines.split("\n") if line])
        rest = found.rest
    assert pages == [[1, 1], [3], [4], [4], [1], [4], [2], [1]]


@pytest.mark.parametrize(
    ("limit", "counts"),
    [
        (None, [1, 1, 3, 4, 4, 1, 4, 2, 1]),
        (21, [1, 1, 3, 4, 4, 1, 4, 2, 1]),
        (20, [1, 1, 3, 4, 4, 1, 4, 2]),
        (6, [1, 1, 3, 1]),
        (4, [1, 1, 2]),
        (2, [1, 1]),
        (1, [1]),
    ],
)
async def test_pages_of_the_list(long_mails: SqliteStore, limit: int | None, counts: list[int]) -> None:
    found: list[int] = []
    rest: Place | None = (0, 0)
    left = limit
    while rest is not None and left != 0:
        lines, rest, recipients = await long_mails.lines(ALL, NOW, rest, left)
        assert recipients <= 4
        found += [len(json.loads(line)["recipients"]) for line in lines.splitlines()]
        left = None if left is None else left - recipients
    assert found == counts


async def test_newest_id(sqlite_store: SqliteStore) -> None:
    assert await sqlite_store.newest_id() == ""
    for number in (3, 9, 5):
        await sqlite_store.accept(mail(number))
    assert await sqlite_store.newest_id() == message_id(9)


# Plans


async def test_the_hot_statements_use_their_indexes(sqlite_store: SqliteStore) -> None:
    """A full scan or a sort of the queue would only be felt when it is long."""
    await sqlite_store.accept(mail(1, "a@x.test", "b@y.test"))
    said = traced(sqlite_store)
    one, two = await sqlite_store.lease(NOW, NOW + 60, 10)
    await sqlite_store.settle(outcome(one, State.DONE, OK))
    await sqlite_store.settle(outcome(two, State.READY, LATER))
    await sqlite_store.lease(NOW, NOW + 60, 10, frozenset({"x.test"}))
    await sqlite_store.next_due(NOW)
    await sqlite_store.select(Selector(domain="y.test"), NOW)
    await sqlite_store.mailq(NOW)
    await sqlite_store.lines(ALL, NOW, whys=[Why("x.test", "", "closed", "busy")])
    await sqlite_store.waiting(None, NOW)
    await sqlite_store.change(Selector(ids=(message_id(1),)), Hold(), NOW)
    await sqlite_store.sweep(NOW + 10, 1.0, 1.0)
    sqlite_store._connection.set_trace_callback(None)
    statements = {
        text for text in said if text.startswith(("SELECT", "WITH", "UPDATE", "DELETE", "\nSELECT", "\nUPDATE"))
    }
    assert len(statements) > 12
    for text in statements:
        plan = [row[3] for row in sqlite_store._connection.execute(f"EXPLAIN QUERY PLAN {text}")]
        scans = [
            step
            for step in plan
            if step.startswith(("SCAN message", "SCAN recipient", "SCAN attempt", "SCAN m", "SCAN r"))
        ]
        assert not scans, text


async def test_without_room_no_mail_is_taken_and_what_was_taken_ends(sqlite_store: SqliteStore) -> None:
    await sqlite_store.accept(mail(1, "a@example.test"))
    sqlite_store.reserve_bytes = 1 << 62
    with pytest.raises(StoreError) as caught:
        await sqlite_store.accept(mail(2, "b@example.test"))
    assert caught.value.full
    [job] = await sqlite_store.lease(NOW, NOW + 60, 10)
    assert await sqlite_store.settle(outcome(job, State.DONE, OK))
    assert (await sqlite_store.stats(NOW)).messages == 0


@pytest.mark.parametrize(
    ("free", "reusable", "room"),
    [(100, 0, True), (99, 0, False), (60, 40, True), (60, 39, False), (50, 50, True), (49, 1000, False)],
)
def test_what_counts_as_room(free: int, reusable: int, room: bool) -> None:
    assert has_room(free, reusable, 100) is room


async def test_a_database_that_is_large_and_empty_takes_mail_on_a_small_disk(
    sqlite_store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    sqlite_store.reserve_bytes = 100_000
    monkeypatch.setattr("os.statvfs", lambda path: SimpleNamespace(f_bavail=60, f_frsize=1000))
    with pytest.raises(StoreError):
        await sqlite_store.accept(mail(1, "a@example.test"))
    sqlite_store.reserve_bytes = 60_000
    await sqlite_store.accept(mail(2, "b@example.test", body=b"x" * 90_000))
    [job] = await sqlite_store.lease(NOW, NOW + 60, 10)
    assert await sqlite_store.settle(outcome(job, State.DONE, OK))
    sqlite_store.reserve_bytes = 100_000
    await sqlite_store.accept(mail(3, "c@example.test"))
