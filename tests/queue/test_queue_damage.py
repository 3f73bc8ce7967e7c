"""One row that is not what was written: it is set aside, and everything else is leased."""

import random
import sqlite3
from contextlib import suppress
from pathlib import Path

import pytest
from queue_mails import LATER, NOW, OK, mail, message_id, outcome

from mtad.config import Paths
from mtad.mail.envelope import Job, State
from mtad.queue import check
from mtad.queue.audit import Entry
from mtad.queue.sqlite import SqliteStore, open_store
from mtad.queue.store import Damaged, Hold, Release, Selector, StoreError, Unsound
from mtad.queue.transfers import Begin

HELD = Selector(all=True, states=("held",))


async def filled(paths: Paths, count: int = 5) -> None:
    store = open_store(paths, lambda: NOW)
    for number in range(count):
        await store.accept(mail(number, f"u{number}@r.test"))
    await store.close()


def damage(paths: Paths, sql: str) -> None:
    connection = sqlite3.connect(paths.database)
    connection.execute("PRAGMA foreign_keys = OFF")
    connection.execute(sql)
    connection.commit()
    connection.close()


async def leased(store: SqliteStore) -> tuple[list[Job], list[str]]:
    """All that can be leased, and why the rest was set aside."""
    try:
        return [*await store.lease(NOW, NOW + 60, 100)], []
    except Unsound:
        lost = await store.set_aside(NOW)
        assert lost
        return [*await store.lease(NOW, NOW + 60, 100)], [one.why for one in lost]


TWO = message_id(2)
KEY = f"{(1 << 50) + 2}"


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        (f"UPDATE recipient SET address = CAST(x'61ff40622e74657374' AS TEXT) WHERE message = {KEY}", "a text"),
        (f"UPDATE recipient SET domain = CAST(x'c0' AS TEXT) WHERE message = {KEY}", "a text"),
        (f"UPDATE message SET sender = CAST(x'fe' AS TEXT) WHERE id = {KEY}", "a text"),
        (f"DELETE FROM message WHERE id = {KEY}", "the message is gone"),
        (f"UPDATE recipient SET message = -7 WHERE message = {KEY}", "its row"),
        (f"UPDATE recipient SET message = 1 << 61 WHERE message = {KEY}", "its row"),
    ],
)
async def test_a_row_that_cannot_be_used(paths: Paths, sql: str, why: str) -> None:
    await filled(paths)
    damage(paths, sql)
    store = open_store(paths, lambda: NOW)
    jobs, said = await leased(store)
    assert len(jobs) == 4
    assert TWO not in {job.message.id for job in jobs}
    assert len(said) == 1
    assert said[0].startswith(why)
    for job in jobs:
        assert await store.settle(outcome(job, State.DONE, OK))
    assert await store.lease(NOW, NOW + 60, 100) == []  # it comes no more
    await store.select(Selector(all=True), NOW)  # and can be looked at, as far as there is something to see
    await store.lines(Selector(all=True), NOW)
    await store.mailq(NOW)
    await store.stats(NOW)
    await store.close()


async def test_it_is_held_for_an_operator(paths: Paths) -> None:
    """And what he releases unmended is held again."""
    await filled(paths)
    damage(paths, f"UPDATE recipient SET original = CAST(x'61ff' AS TEXT) WHERE message = {KEY}")
    store = open_store(paths, lambda: NOW)
    await leased(store)
    for _ in range(2):
        (row,) = await store.select(HELD, NOW)
        assert row.message.id == TWO
        assert row.recipient.original == r"a\xff"
        assert row.recipient.last is not None
        assert "damaged" in row.recipient.last.text
        await store.change(HELD, Release(), NOW)
        assert (await leased(store))[0] == []
    await store.close()
    store = open_store(paths, lambda: NOW)  # the next life reads it too
    assert [row.message.id for row in await store.select(HELD, NOW)] == [TWO]
    await store.close()


async def test_a_body_on_a_page_that_cannot_be_read(paths: Paths) -> None:
    store = open_store(paths, lambda: NOW)
    for number in range(3):
        await store.accept(mail(number, f"u{number}@r.test", body=b"%d" % number * 30_000))
    await store.close()
    octets = bytearray(Path(paths.database).read_bytes())
    at = octets.index(b"1" * 8000)
    octets[at - at % 8192 : at - at % 8192 + 4] = b"\xff\xff\xff\xff"  # the number of the next page of this body
    Path(paths.database).write_bytes(octets)
    store = open_store(paths, lambda: NOW)
    good = 0
    for job in await store.lease(NOW, NOW + 60, 10):
        try:
            await store.content(job.message.id)
            good += 1
        except Damaged:
            assert job.message.id == message_id(1)
    assert good == 2
    await store.close()


@pytest.mark.parametrize("column", ["head", "data"])
async def test_octets_that_have_become_a_text(paths: Paths, column: str) -> None:
    """One bit in the head of the row; the octets are those that were accepted, as their digest says."""
    await filled(paths, 1)
    connection = sqlite3.connect(paths.database, isolation_level=None)
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute("UPDATE sqlite_schema SET sql = replace(sql, ') STRICT', ')') WHERE name = 'body'")
    connection.close()
    damage(paths, f"UPDATE body SET {column} = CAST({column} AS TEXT)")
    connection = sqlite3.connect(paths.database, isolation_level=None)
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute("UPDATE sqlite_schema SET sql = sql || ' STRICT' WHERE name = 'body'")
    connection.close()
    found = list(check.queue(paths.database, paths, check.Seen()))
    assert [one.what for one in found] == [f"the database is damaged: non-BLOB value in body.{column}"]
    store = open_store(paths, lambda: NOW)
    (job,) = await store.lease(NOW, NOW + 60, 10)
    content = await store.content(job.message.id)
    assert (type(content.head), content.body) == (bytes, b"hello\r\n")
    await store.close()


def flipped(octets: bytes, rng: random.Random, pages: int, first: int) -> bytes:
    """Pages from the first on with their heads turned to noise."""
    changed = bytearray(octets)
    for _ in range(pages):
        at = 8192 * rng.randrange(first, len(octets) // 8192)
        changed[at : at + 100] = rng.randbytes(100)
    return bytes(changed)


@pytest.mark.parametrize("seed", range(12))
async def test_pages_of_noise_below_a_running_daemon(paths: Paths, seed: int) -> None:
    """Whatever is asked is done or is a StoreError; what is accepted all the same is there in the next life."""
    path, rng = Path(paths.database), random.Random(seed)
    await filled(paths, 0)
    first = path.stat().st_size // 8192  # the schema, and a page for each table and index
    await filled(paths, 300)
    store = open_store(paths, lambda: NOW)
    path.write_bytes(flipped(path.read_bytes(), rng, 1 + seed // 6, first))
    accepted = set()
    for number in range(1000, 1020):
        with suppress(StoreError):
            accepted.add(await store.accept(mail(number, "new@r.test")))
    for _ in range(5):
        for job in await everything(store):
            with suppress(StoreError):
                assert (await store.content(job.message.id)).body == b"hello\r\n"
                await store.settle(outcome(job, State.READY, LATER, next_at=NOW + 99))
    for call in (store.stats(NOW), store.select(Selector(all=True), NOW), store.sweep(NOW, 9.0, 9.0)):
        with suppress(StoreError):
            await call
    await store.close()
    store = open_store(paths, lambda: NOW)
    for one in accepted:
        assert (await store.content(one)).body == b"hello\r\n"
    await store.close()


async def everything(store: SqliteStore) -> list[Job]:
    """What can be leased; [] where not even that can be said what is damaged."""
    try:
        return [*await store.lease(NOW, NOW + 60, 100)]
    except Unsound:
        with suppress(StoreError):
            if await store.set_aside(NOW):
                return await everything(store)
    return []


async def test_a_try_that_took_too_long_does_not_end_what_was_exported(paths: Paths) -> None:
    """Found by the model: its lease was over, nobody else had taken it, and its outcome dropped the parked body."""
    store = open_store(paths, lambda: NOW)
    await store.accept(mail(1))
    (job,) = await store.lease(NOW, NOW + 1, 10)
    begun = await store.transfer(lambda them: them.begin(Begin(Selector(all=True), 0, "h.test", Entry(), NOW + 2)))
    assert begun is not None
    assert not await store.settle(outcome(job, State.DONE, OK))
    await store.transfer(lambda them: them.abort((begun.id, NOW + 3, Entry())))
    assert (await store.content(message_id(1))).body == b"hello\r\n"
    await store.close()


async def test_what_an_operator_held_stays_held_when_a_late_lease_is_renewed(paths: Paths) -> None:
    store = open_store(paths, lambda: NOW)
    await store.accept(mail(1))
    (job,) = await store.lease(NOW, NOW + 1, 10)
    assert (await store.change(Selector(all=True), Hold(), NOW + 2)).recipients == 1
    assert await store.renew(job, NOW + 60)
    assert await store.settle(outcome(job, State.READY, LATER, next_at=NOW + 99))
    (row,) = await store.select(HELD, NOW + 3)
    assert row.recipient.tries == 1
    await store.close()


async def test_a_schema_that_is_no_text(paths: Paths) -> None:
    """SQLite's own complaint cannot be read then."""
    await filled(paths, 1)
    path = Path(paths.database)
    octets = path.read_bytes()
    assert b"CREATE TABLE site (" in octets
    path.write_bytes(octets.replace(b"CREATE TABLE site (", b"CREATE \xff\xfe\xfd\xfc\xff site ("))
    with pytest.raises(StoreError, match="the database is damaged"):
        open_store(paths, lambda: NOW)
    (found,) = check.queue(paths.database, paths, check.Seen())
    assert found.level == "error"
    assert "the database is damaged" in found.what
