"""What went wrong, kept with recipients and tries: selected and counted by its class."""

from dataclasses import replace
from pathlib import Path

import pytest
from queue_mails import LATER, NEVER, NOW, OK, mail, message_id, outcome

from mtad.config import Paths
from mtad.mail.envelope import Peer, State
from mtad.mail.reply import Reply
from mtad.queue.sqlite import open_store
from mtad.queue.store import Group, Selector

FULL = Reply(452, "4.2.2", "Mailbox full", "mx.example", "rcpt")


@pytest.fixture
async def store(tmp_path: Path):
    opened = open_store(Paths("", str(tmp_path / "data"), str(tmp_path / "run")), lambda: NOW)
    yield opened
    await opened.close()


async def put(store, number, address, state, reply, **more):
    await store.accept(mail(number, address, **more))
    jobs = await store.lease(NOW, NOW + 60, 10)
    for job in jobs:
        await store.settle(outcome(job, state, reply, next_at=NOW + 1000))


async def filled(store):
    alice = Peer("submission", "192.0.2.7", user="alice")
    await put(store, 1, "a@one.test", State.READY, FULL, peer=alice)
    await put(store, 2, "b@one.test", State.READY, LATER, peer=alice)
    await put(store, 3, "c@two.test", State.READY, FULL)
    await put(store, 4, "d@two.test", State.FAILED, NEVER)
    await put(store, 5, "e@two.test", State.DONE, OK)
    await store.accept(mail(6, "f@new.test", next_at=NOW + 5))


async def test_it_is_kept_with_the_recipient_and_with_each_try(store) -> None:
    await filled(store)
    rows = await store.select(Selector(all=True, states=("deferred", "failed", "done")), NOW)
    assert [row.recipient.error for row in rows] == ["mailbox-full", "greylist", "mailbox-full", "unknown-user", "", ""]
    assert [one.error for one in await store.attempts(message_id(4))] == ["unknown-user"]
    assert [one.error for one in await store.attempts(message_id(5))] == [""]


async def test_it_goes_when_the_mail_is_delivered(store) -> None:
    await put(store, 1, "a@one.test", State.READY, FULL)
    (job,) = await store.lease(NOW + 2000, NOW + 2060, 10)
    assert job.recipients[0].error == "mailbox-full"
    await store.settle(outcome(job, State.DONE, OK))
    assert await store.groups("error") == []
    assert [one.error for one in await store.attempts(message_id(1))] == ["mailbox-full", ""]


@pytest.mark.parametrize(
    ("error", "found"),
    [
        ("mailbox-full", [1, 3]), ("Mailbox-Full", [1, 3]), ("mailbox full", [1, 3]), ("greylist", [2]), ("tls", []),
        ("unknown-user", []), ("452", [1, 3]), ("greylisted", [2]),
    ],
)  # fmt: skip
async def test_selected_by_its_class_or_by_what_was_said(store, error, found) -> None:
    await filled(store)
    rows = await store.select(Selector(error=error), NOW)
    assert [row.message.id for row in rows] == [message_id(number) for number in found]
    rows = await store.select(Selector(error=error, states=("failed",)), NOW)
    assert [row.message.id for row in rows] == ([message_id(4)] if error == "unknown-user" else [])


async def test_a_change_by_class(store) -> None:
    from mtad.queue.store import Hold

    await filled(store)
    assert (await store.change(Selector(error="mailbox-full"), Hold(), NOW)).recipients == 2


async def test_groups(store) -> None:
    await filled(store)
    assert await store.groups("error") == [
        Group("mailbox-full", 2, 0, NOW), Group("greylist", 1, 0, NOW), Group("unknown-user", 0, 1),
    ]  # fmt: skip
    assert await store.groups("domain") == [
        Group("one.test", 2, 0, NOW), Group("two.test", 1, 1, NOW), Group("new.test", 1, 0, NOW),
    ]  # fmt: skip
    assert await store.groups("user") == [Group("", 2, 1, NOW), Group("alice", 2, 0, NOW)]
    assert await store.groups("ip") == [Group("192.0.2.1", 2, 1, NOW), Group("192.0.2.7", 2, 0, NOW)]
    assert [(one.key, one.open, one.failed) for one in await store.groups("sender")] == [("alice@example.test", 4, 1)]


async def test_what_an_operator_trashed_counts_nowhere(store) -> None:
    from mtad.queue.store import Trash

    await filled(store)
    await store.change(Selector(domain="one.test"), Trash(), NOW)
    assert [one.key for one in await store.groups("error")] == ["mailbox-full", "unknown-user"]
    assert "one.test" not in [one.key for one in await store.groups("domain")]


async def test_an_operator_keeps_the_state_and_the_class_is_learnt(store) -> None:
    from mtad.queue.store import Hold

    await store.accept(mail(1, "a@one.test"))
    (job,) = await store.lease(NOW, NOW + 60, 10)
    await store.change(Selector(all=True), Hold(), NOW)
    await store.settle(outcome(job, State.READY, FULL))
    (row,) = await store.select(Selector(error="mailbox-full"), NOW)
    assert (row.recipient.state, row.recipient.error) == (State.HELD, "mailbox-full")
    assert replace(row.recipient, error="") == row.recipient  # it follows from `last`
