"""Keys of submissions: what is said twice is stored once, and a key never swallows another mail."""

import asyncio
from dataclasses import replace

import pytest
from queue_mails import NOW, mail, message_id

from mtad.mail.envelope import NewMessage, Peer
from mtad.queue.sqlite import SqliteStore
from mtad.queue.store import KEY_S, KeyTaken, Selector, StoreError


def keyed(number: int, key: str, *, uid: int = 1000, to: str = "", at: float = NOW) -> NewMessage:
    new = mail(number)
    message = replace(new.message, peer=Peer("local", uid=uid), accepted_at=at)
    recipients = new.recipients[:1]
    if to:
        recipients = (replace(recipients[0], address=to, original=to),)
    return replace(new, message=message, recipients=recipients, key=key)


async def count(store: SqliteStore) -> int:
    return (await store.stats(NOW)).messages


async def test_the_second_mail_with_a_key_is_the_first(sqlite_store: SqliteStore) -> None:
    first, second = keyed(1, "k"), keyed(2, "k")
    assert await sqlite_store.accept(first) == message_id(1)
    assert await sqlite_store.accept(second) == message_id(1)
    assert await count(sqlite_store) == 1
    assert await sqlite_store.keyed(1000, "k") == message_id(1)
    with pytest.raises(StoreError):
        await sqlite_store.content(message_id(2))


async def test_together_too(sqlite_store: SqliteStore) -> None:
    """Both in one transaction."""
    stored = await asyncio.gather(
        *(sqlite_store.accept(keyed(n, "k")) for n in (1, 2, 3)), sqlite_store.accept(mail(4))
    )
    assert stored == [message_id(1)] * 3 + [message_id(4)]
    assert await count(sqlite_store) == 2


async def test_a_key_is_its_users(sqlite_store: SqliteStore) -> None:
    assert await sqlite_store.accept(keyed(1, "k", uid=1)) == message_id(1)
    assert await sqlite_store.accept(keyed(2, "k", uid=2)) == message_id(2)
    assert await sqlite_store.accept(keyed(3, "l", uid=1)) == message_id(3)
    assert await sqlite_store.keyed(3, "k") == ""


async def test_a_key_never_swallows_another_mail(sqlite_store: SqliteStore) -> None:
    await sqlite_store.accept(keyed(1, "k", to="a@a.test"))
    results = await asyncio.gather(
        sqlite_store.accept(keyed(2, "k", to="b@a.test")), sqlite_store.accept(mail(3)), return_exceptions=True
    )
    assert isinstance(results[0], KeyTaken)
    assert results[1] == message_id(3)
    assert await sqlite_store.accept(keyed(4, "k", to="A@A.test")) == message_id(1)


async def test_a_key_is_forgotten(sqlite_store: SqliteStore) -> None:
    await sqlite_store.accept(keyed(1, "k"))
    assert await sqlite_store.accept(keyed(2, "k", at=NOW + KEY_S - 1)) == message_id(1)
    assert await sqlite_store.accept(keyed(3, "k", at=NOW + KEY_S)) == message_id(3)
    await sqlite_store.sweep(NOW + KEY_S + 1, 1e9, 1e9)
    assert await sqlite_store.keyed(1000, "k") == message_id(3)
    await sqlite_store.sweep(NOW + 2 * KEY_S, 1e9, 1e9)
    assert await sqlite_store.keyed(1000, "k") == ""


async def test_the_key_outlives_the_history_of_its_mail(sqlite_store: SqliteStore) -> None:
    await sqlite_store.accept(keyed(1, "k"))
    sqlite_store._connection.execute("DELETE FROM message")
    assert await sqlite_store.accept(keyed(2, "k")) == message_id(1)
    assert await sqlite_store.select(Selector(all=True), NOW) == []


async def test_without_a_key_nothing_is_asked(sqlite_store: SqliteStore) -> None:
    said: list[str] = []
    sqlite_store._connection.set_trace_callback(said.append)
    await sqlite_store.accept(mail(1))
    assert not [statement for statement in said if "submission_key" in statement]


async def test_what_is_refused_claims_no_key(sqlite_store: SqliteStore) -> None:
    """Mail and key are one transaction: a mail that is not stored leaves its key free."""
    sqlite_store._connection.execute("CREATE TRIGGER full BEFORE INSERT ON body BEGIN SELECT raise(ABORT, 'no'); END")
    with pytest.raises(StoreError):
        await sqlite_store.accept(keyed(1, "k"))
    sqlite_store._connection.execute("DROP TRIGGER full")
    assert await sqlite_store.keyed(1000, "k") == ""
    assert await sqlite_store.accept(keyed(2, "k")) == message_id(2)
