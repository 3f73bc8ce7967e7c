"""What users sent: counted with the mail, remembered over restarts, forgotten in time."""

import sqlite3

import pytest
from queue_mails import NOW, mail

from mtad.accounts.account import StoredUser
from mtad.config import Paths
from mtad.mail.envelope import Peer
from mtad.queue import database
from mtad.queue.people import FORGOTTEN_S
from mtad.queue.sqlite import SqliteStore, open_store
from mtad.queue.store import SENDING_STEP_S, SENDING_WINDOW_S, Store, StoreError, Usage

ALICE = Peer("submission", "192.0.2.1", 2525, "x", user="alice@example.test")
STEP = int(NOW) - int(NOW) % SENDING_STEP_S


async def test_usage(store: Store) -> None:
    await store.accept(mail(1, "b@x.test", "c@x.test", "C@X.test", peer=ALICE))
    await store.accept(mail(2, "b@x.test", "d@x.test", peer=ALICE, accepted_at=NOW + SENDING_STEP_S))
    await store.accept(mail(3, "e@x.test"))
    await store.accept(mail(4, "f@x.test", peer=Peer("internal", user=ALICE.user)))
    await store.accept(mail(5, "g@x.test", peer=Peer("submission", user="bob@example.test")))
    both = ((STEP, 1), (STEP + SENDING_STEP_S, 1))
    assert await store.usage(ALICE.user, NOW) == Usage(both, ((STEP, 2), (STEP + SENDING_STEP_S, 1)))
    assert await store.usage("nobody@example.test", NOW) == Usage()
    asked = ["b@x.test", "c@x.test", "e@x.test", "f@x.test", "g@x.test"]
    assert await store.correspondents(ALICE.user, asked) == {"b@x.test", "c@x.test"}
    assert await store.correspondents(ALICE.user, []) == frozenset()
    assert len(await store.correspondents(ALICE.user, ["b@x.test"] + [f"{n}@x.test" for n in range(2000)])) == 1
    later = NOW + SENDING_WINDOW_S + 2 * SENDING_STEP_S
    assert await store.usage(ALICE.user, later) == Usage()


async def test_a_mail_that_is_not_stored_is_not_counted(store: Store) -> None:
    await store.accept(mail(1, peer=ALICE))
    with pytest.raises(StoreError):
        await store.accept(mail(1, "new@x.test", peer=ALICE))
    assert await store.usage(ALICE.user, NOW) == Usage(((STEP, 1),), ((STEP, 1),))
    assert await store.correspondents(ALICE.user, ["new@x.test"]) == frozenset()


async def test_it_is_kept(paths: Paths) -> None:
    first = open_store(paths, lambda: NOW)
    await first.accept(mail(1, peer=ALICE))
    secret = await first.install_secret()
    assert len(secret) == 32
    await first.close()
    again = open_store(paths, lambda: NOW)
    assert await again.usage(ALICE.user, NOW) == Usage(((STEP, 1),), ((STEP, 1),))
    assert await again.install_secret() == secret
    await again.close()


async def test_it_is_forgotten_in_time(sqlite_store: SqliteStore) -> None:
    def rows() -> list[int]:
        one = sqlite_store._connection.execute
        return [one(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("sent", "correspondent")]

    await sqlite_store.accept(mail(1, "b@x.test", "c@x.test", peer=ALICE))
    await sqlite_store.sweep(NOW + SENDING_WINDOW_S, 1e9, 1e9)
    assert rows() == [1, 2]
    await sqlite_store.sweep(NOW + SENDING_WINDOW_S + 2 * SENDING_STEP_S, 1e9, 1e9)
    assert rows() == [0, 2]
    # Who is written to now and then is not forgotten.
    half = FORGOTTEN_S / 2
    await sqlite_store.accept(mail(2, "b@x.test", peer=ALICE, accepted_at=NOW + half))
    await sqlite_store.sweep(NOW + FORGOTTEN_S + 1, 1e9, 1e9)
    assert await sqlite_store.correspondents(ALICE.user, ["b@x.test", "c@x.test"]) == {"b@x.test"}
    await sqlite_store.sweep(NOW + FORGOTTEN_S + half + 1, 1e9, 1e9)
    assert rows() == [0, 0]


async def test_it_goes_with_the_user(sqlite_store: SqliteStore) -> None:
    await sqlite_store.save_user(StoredUser(ALICE.user, "s", NOW, data='{"senders":["x@y.test"]}'))
    assert (await sqlite_store.load_users())[0].profile.senders == ("x@y.test",)
    await sqlite_store.accept(mail(1, peer=ALICE))
    await sqlite_store.delete_user(ALICE.user)
    assert await sqlite_store.usage(ALICE.user, NOW) == Usage()


async def test_accounts_of_before_are_taken_over(paths: Paths) -> None:
    """A database of the first schema, with a user."""
    import os

    os.makedirs(paths.data)
    connection = sqlite3.connect(paths.database, isolation_level=None)
    with open(database.migrations()[1], encoding="utf-8") as script:
        connection.executescript(script.read())
    connection.execute(f"PRAGMA application_id = {database.APPLICATION_ID}")
    connection.execute("PRAGMA user_version = 1")
    connection.execute("INSERT INTO user VALUES ('alice@example.test', '$scrypt$x', 1.0, '')")
    connection.close()
    store = open_store(paths, lambda: NOW)
    (user,) = await store.load_users()
    assert (user.name, user.secret, user.data, user.profile.keys) == ("alice@example.test", "$scrypt$x", "", None)
    await store.close()
