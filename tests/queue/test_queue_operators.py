"""What operators do to the queue: in one transaction with its line in the trail, and with a way back."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest
from queue_fill import FIRST, fill
from queue_mails import LATER, NEVER, NOW, OK, mail, message_id, outcome

from mtad.accounts.account import StoredUser
from mtad.config import Paths
from mtad.mail.envelope import Peer, State
from mtad.mail.ident import from_int
from mtad.queue import holdrules
from mtad.queue.audit import Changed, Entry, HoldRule, Looked
from mtad.queue.holdrules import HoldRules
from mtad.queue.sqlite import SqliteStore, open_store
from mtad.queue.store import (
    Hold,
    Redirect,
    Redirected,
    Release,
    Restore,
    RetryAt,
    Selector,
    Trash,
    Unredirect,
    Why,
)

ALL = Selector(all=True)
EVERY = ("ready", "deferred", "held", "failed")
ENTRY = Entry(0, "root", "queue.hold", "--all", "why")


@pytest.fixture
def store(sqlite_store: SqliteStore) -> SqliteStore:
    return sqlite_store


async def found(store: SqliteStore, what: Selector = ALL) -> dict[str, tuple[State, float]]:
    rows = await store.select(what, NOW)
    return {row.recipient.id: (row.recipient.state, row.recipient.next_at) for row in rows}


async def test_a_change_and_its_line_are_one_transaction(store: SqliteStore) -> None:
    await store.accept(mail(1, "a@x.test", "b@y.test"))
    said: list[str] = []
    store._connection.set_trace_callback(said.append)
    changed = await store.change(Selector(domain="x.test"), Hold(), NOW, entry=ENTRY)
    store._connection.set_trace_callback(None)
    assert [word for word in said if word in ("COMMIT", "BEGIN IMMEDIATE")] == ["BEGIN IMMEDIATE", "COMMIT"]
    assert changed == Changed(1, 0, 1)
    assert await store.trail(Looked()) == [replace(ENTRY, changed=1, at=NOW, id=1)]
    (action,) = await store.actions(message_id(1))
    assert (action.n, action.before, action.entry.reason) == (1, State.READY, "why")


async def test_what_changes_nothing_leaves_no_line(store: SqliteStore) -> None:
    await store.accept(mail(1))
    assert await store.change(ALL, Release(), NOW, entry=ENTRY) == Changed()
    await store.change(ALL, RetryAt(NOW), NOW)  # the daemon itself
    assert await store.trail(Looked()) == []
    assert await store.actions(message_id(1)) == []


async def test_restore_brings_back_what_was(store: SqliteStore) -> None:
    await store.accept(mail(1, "held@x.test", "later@x.test", next_at=NOW + 500))
    await store.change(Selector(recipient="held@x.test"), Hold(), NOW, entry=ENTRY)
    before = await found(store)
    await store.change(ALL, Trash(), NOW + 5, entry=ENTRY)
    assert await found(store) == {}
    assert (await store.change(ALL, Restore(), NOW + 9, entry=ENTRY)).recipients == 2
    assert await found(store) == before


async def test_the_last_purge_is_found_again(store: SqliteStore) -> None:
    for number in range(4):
        await store.accept(mail(number))
    for number in (1, 2):
        await store.change(Selector(ids=(message_id(number),)), Trash(), NOW, entry=ENTRY)
    last = Selector(last=True)
    assert (await store.change(last, Restore(), NOW, entry=ENTRY)).recipients == 1
    assert set(await found(store)) == {f"{message_id(number)}.1" for number in (0, 2, 3)}
    assert (await store.change(last, Restore(), NOW, entry=ENTRY)).recipients == 1  # now the one before
    assert (await store.change(last, Restore(), NOW, entry=ENTRY)).recipients == 0
    assert len(await found(store)) == 4


async def test_a_change_is_selected_by_its_number(store: SqliteStore) -> None:
    for number in range(4):
        await store.accept(mail(number))
    one = await store.change(Selector(ids=(message_id(1), message_id(2))), Hold(), NOW, entry=ENTRY)
    await store.change(ALL, Hold(), NOW, entry=ENTRY)
    assert (await store.change(Selector(audits=(one.audit,)), Release(), NOW, entry=ENTRY)).recipients == 2
    assert set(await found(store, Selector(states=("held",)))) == {f"{message_id(number)}.1" for number in (0, 3)}


async def test_what_is_on_the_wire_is_counted(store: SqliteStore) -> None:
    await store.accept(mail(1, "a@x.test", "b@y.test"))
    jobs = await store.lease(NOW, NOW + 60, 1)
    assert (await store.preview(ALL, Trash(), NOW)).active == 1
    assert await store.change(ALL, Trash(), NOW, entry=ENTRY) == Changed(2, 1, 1)
    await store.settle(outcome(jobs[0], State.DONE, OK))
    states = {state for state, _ in (await found(store, Selector(states=("done", "trashed")))).values()}
    assert states == {State.DONE, State.TRASHED}


async def test_preview_changes_nothing_and_shows_the_first(store: SqliteStore) -> None:
    for number in range(5):
        await store.accept(mail(number))
    before = await found(store)
    preview = await store.preview(ALL, Trash(), NOW, rows=2)
    assert (preview.recipients, [row.message.id for row in preview.rows]) == (5, [message_id(0), message_id(1)])
    assert (await store.preview(ALL, Trash(), NOW, limit=3)).recipients == 3
    assert (await store.preview(ALL, Restore(), NOW, rows=9)).rows == ()
    assert await found(store) == before


async def test_redirected_and_back(store: SqliteStore) -> None:
    await store.accept(mail(1, "a+b@x.test", "c@y.test", next_at=NOW + 99))
    await store.change(Selector(recipient="c@y.test"), Hold(), NOW, entry=ENTRY)
    await store.change(Selector(domain="x.test"), Redirect("z@new.test", "new.test"), NOW + 1, entry=ENTRY)
    await store.change(ALL, Redirect("", "smtp://192.0.2.9:25"), NOW + 2, entry=ENTRY)
    one, two = (row.recipient for row in await store.select(ALL, NOW))
    assert (one.address, one.original, one.domain, one.orcpt, one.next_at) == (
        "z@new.test", "a+b@x.test", "smtp://192.0.2.9:25", "rfc822;a+2Bb@x.test", NOW + 2,
    )  # fmt: skip
    assert (two.address, two.domain, two.state) == ("c@y.test", "smtp://192.0.2.9:25", State.HELD)
    assert (await store.change(ALL, Unredirect(), NOW + 3, entry=ENTRY)).recipients == 2
    assert (await store.change(ALL, Unredirect(), NOW + 3, entry=ENTRY)).recipients == 0
    one, two = (row.recipient for row in await store.select(ALL, NOW))
    assert (one.address, one.domain, two.domain, two.state) == ("a+b@x.test", "x.test", "y.test", State.HELD)


@pytest.mark.parametrize("change", [Redirect("z@new.test", "new.test"), Redirect("", "smtp://192.0.2.9:25")])
async def test_a_failure_before_a_redirect_is_none_after_it(store: SqliteStore, change: Redirect) -> None:
    await store.accept(mail(1, "a@x.test", "b@x.test"))
    (job,) = await store.lease(NOW, NOW + 60, 10)
    await store.change(Selector(recipient="a@x.test"), change, NOW + 1, entry=ENTRY)
    with pytest.raises(Redirected) as redirected:
        await store.settle(outcome(job, State.FAILED, NEVER))
    assert redirected.value.numbers == {1}
    assert await store.attempts(message_id(1)) == []
    settlement = outcome(job, State.FAILED, NEVER)
    first, second = settlement.changes
    assert await store.settle(replace(settlement, changes=[replace(first, state=State.READY), second]))
    one, two = (row.recipient for row in await store.select(Selector(ids=(message_id(1),), states=EVERY), NOW + 1))
    assert (one.state, one.tries, one.last, one.error, one.next_at) == (State.READY, 0, None, "", NOW + 1)
    assert two.state is State.FAILED
    assert [attempt.reply.code for attempt in await store.attempts(message_id(1))] == [550, 550]
    assert len(await store.lease(NOW + 1, NOW + 60, 10)) == 1


async def test_claimed_mail_ends_as_the_operator_says(store: SqliteStore) -> None:
    await store.accept(mail(1, "a@x.test", "b@y.test"))
    await store.change(Selector(recipient="b@y.test"), Hold(), NOW, entry=ENTRY)
    await store.lease(NOW, NOW + 60, 1)  # a@x.test is on the wire
    await store.accept(mail(2))
    jobs = await store.claim(ALL, NOW, NOW + 60, "", 10)
    assert [[one.address for one in job.recipients] for job in jobs] == [["b@y.test"], ["bob@remote.test"]]
    assert await store.lease(NOW, NOW + 60, 10) == []
    settlements = [outcome(job, State.FAILED, NEVER) for job in jobs]
    first, done = await store.settle_claimed(settlements[:1], ENTRY, NOW, 0)
    assert done == settlements[:1]
    second = (Changed(1, 0, first.audit), settlements[1:])
    assert await store.settle_claimed(settlements, ENTRY, NOW, first.audit) == second  # the other is over already
    (_, entry) = await store.trail(Looked())
    assert entry.changed == 2
    assert set(await found(store, Selector(states=("failed",)))) == {f"{message_id(1)}.2", f"{message_id(2)}.1"}
    assert await store.claim(ALL, NOW, NOW + 60, "", 10) == []
    assert await store.settle_claimed(settlements, ENTRY, NOW, 0) == (Changed(), [])  # the leases are over


async def test_bundles_and_order(store: SqliteStore) -> None:
    await store.accept(mail(1, "a@x.test", "b@x.test", accepted_at=NOW - 50))
    await store.accept(mail(2, "c@x.test", "d@y.test", sender=""))
    size = mail(1).message.size_bytes
    one, two = await store.bundles(ALL, "domain", NOW)
    assert (one.key, one.recipients, one.messages, one.size_bytes, one.oldest_at) == (
        "x.test", 3, 2, 2 * size, NOW - 50,
    )  # fmt: skip
    assert (two.key, two.recipients) == ("y.test", 1)
    assert [one.key for one in await store.bundles(ALL, "sender", NOW)] == ["", "alice@example.test"]
    (everything,) = await store.bundles(ALL, "all", NOW)
    assert (everything.recipients, everything.messages, everything.size_bytes) == (4, 2, 2 * size)
    assert await store.bundles(Selector(domain="z.test"), "all", NOW) == []
    ids = await store.sort(ALL, "to", NOW, down=True, limit=2)
    assert ids == [f"{message_id(2)}.2", f"{message_id(2)}.1"]
    assert (await store.sort(ALL, "age", NOW, down=True, limit=1)) == [f"{message_id(1)}.1"]


async def test_twenty_thousand_are_one_transaction(tmp_path: Path) -> None:
    paths = Paths(str(tmp_path / "mtad.toml"), str(tmp_path / "data"), str(tmp_path / "run"))
    await fill(paths, 20_500, NOW)
    store = open_store(paths, lambda: NOW)
    ids = tuple(from_int(FIRST + n) for n in range(20_000))
    said: list[str] = []
    store._connection.set_trace_callback(said.append)
    assert (await store.change(Selector(ids=ids), Trash(), NOW, entry=ENTRY)).recipients == 20_000
    assert (await store.change(Selector(last=True), Restore(), NOW, entry=ENTRY)).recipients == 20_000
    store._connection.set_trace_callback(None)
    assert said.count("COMMIT") == 2
    assert len(said) < 50  # statements, however many recipients
    (everything,) = await store.bundles(ALL, "all", NOW)
    assert everything.recipients == 20_500
    await store.close()


# Hold rules


@pytest.mark.parametrize(
    ("rule", "held"),
    [
        (HoldRule(1, sender="ALICE@example.test"), True),
        (HoldRule(1, sender="@example.test"), True),
        (HoldRule(1, sender="@xample.test"), False),
        (HoldRule(1, sender="<>"), False),
        (HoldRule(1, sender="al*[e@example.test"), False),
        (HoldRule(1, recipient="bob@*"), True),
        (HoldRule(1, domain="remote.test", user="alice"), True),
        (HoldRule(1, domain="remote.test", user="bob"), False),
        (HoldRule(1, ip="192.0.2.*"), True),
        (HoldRule(1, ip="192.0.2.1", until_at=NOW), False),
        (HoldRule(1, ip="192.0.2.1", until_at=NOW + 1), True),
    ],
)
def test_which_mail_a_rule_holds(rule: HoldRule, held: bool) -> None:
    new = mail(1, peer=Peer("submission", "192.0.2.1", user="alice"))
    after, touched = holdrules.apply([rule], new, NOW)
    assert [one.state for one in after.recipients] == [State.HELD if held else State.READY]
    assert [(was.n, number) for was, number in touched] == ([(1, 1)] if held else [])


async def test_new_mail_is_held_by_a_rule(store: SqliteStore) -> None:
    await store.accept(mail(1))
    number = await store.add_hold_rule(HoldRule(0, sender="@example.test"), ENTRY, NOW)
    await store.accept(mail(2))
    await store.accept(mail(3, sender="x@else.test"))
    assert [state for state, _ in (await found(store)).values()] == [State.READY, State.HELD, State.READY]
    (action,) = await store.actions(message_id(2))
    assert (action.entry.id, action.before) == (number, State.READY)
    assert await store.remove_hold_rule(number)
    assert not await store.remove_hold_rule(number)
    await store.accept(mail(4))
    assert (await store.change(Selector(audits=(number,)), Release(), NOW, entry=ENTRY)).recipients == 1
    assert {state for state, _ in (await found(store)).values()} == {State.READY}


async def test_a_rule_is_in_force_with_the_change_that_makes_it(store: SqliteStore) -> None:
    """Mail of the same batch of the writer, and of those between the commit and the answer."""
    alice = Peer("submission", "192.0.2.1", user="alice@example.test")
    user = StoredUser("alice@example.test", "secret", NOW)
    await store.accept(mail(1))  # the rules are in memory
    await asyncio.gather(
        store.freeze(replace(user, disabled="stolen"), Selector(user=user.name), ENTRY, NOW),
        store.accept(mail(2, peer=alice)),
    )
    await asyncio.gather(
        store.add_hold_rule(HoldRule(0, recipient="@x.test"), ENTRY, NOW), store.accept(mail(3, "a@x.test"))
    )
    assert [state for state, _ in (await found(store)).values()] == [State.READY, State.HELD, State.HELD]
    await asyncio.gather(store.thaw(user, ENTRY, NOW, release=False), store.accept(mail(4, peer=alice)))
    assert (await found(store))[f"{message_id(4)}.1"][0] is State.READY


def test_a_rule_goes_with_the_transaction_that_made_it(store: SqliteStore) -> None:
    rules = HoldRules(store._connection)
    assert rules.in_force() == []
    store._connection.execute("BEGIN IMMEDIATE")
    rules.add(HoldRule(7, user="alice"))
    assert [rule.id for rule in rules.in_force()] == [7]
    store._connection.execute("ROLLBACK")
    assert rules.in_force() == []
    assert rules.load() == rules.in_force() == []


async def test_the_listing_says_why_what_was_never_tried_waits(store: SqliteStore) -> None:
    alice = Peer("submission", "192.0.2.1", user="alice@example.test", uid=1000)
    user = StoredUser("alice@example.test", "secret", NOW)
    await store.accept(mail(1, "a@x.test", "b@y.test"))
    await store.accept(mail(2, "b@y.test", peer=alice))
    await store.add_hold_rule(
        HoldRule(0, recipient="@z.test"), replace(ENTRY, operation="queue.hold_rule.add", reason="a\nb"), NOW
    )
    await store.accept(mail(3, "c@z.test"))
    await store.accept(mail(4, "d@y.test", peer=replace(alice, user="Alice@example.test")))
    new = mail(5, "e@x.test")
    await store.accept(replace(new, recipients=tuple(replace(one, state=State.HELD) for one in new.recipients)))
    await store.accept(mail(6, "f@w.test", next_at=NOW + 60, hold_until=NOW + 60))
    assert await store.waiting(None, NOW) == await store.waiting(Selector(all=True), NOW)
    assert sorted(await store.waiting(None, NOW)) == [
        ("w.test", ""), ("x.test", ""), ("y.test", ""),
        ("y.test", "Alice@example.test"), ("y.test", "alice@example.test"),
    ]  # fmt: skip
    hers = [Why("y.test", name, "451 4.3.2 hers") for name in ("alice@example.test", "Alice@example.test")]
    whys = [Why("x.test", "", "451 4.3.2 suspended"), *hers, Why("y.test", "", due="no room")]

    async def reasons(at: float = NOW, busy: str = "", uid: int | None = None) -> list[str]:
        texts = [(await store.mailq(at, uid=uid, whys=whys, busy=busy)).lines]
        if uid is None:
            texts.append((await store.lines(Selector(all=True), at, whys=whys, busy=busy)).lines)
        found = [
            [one["delay_reason"] for line in text.split("\n") for one in json.loads(line)["recipients"]]
            for text in texts
        ]
        assert found[0] == found[-1]
        assert uid is not None or found[0].pop() == "its sender asked for a later delivery"
        return found[0]

    byhand = "held by the daemon, since it was restored from a backup or came so"
    assert await reasons() == ["451 4.3.2 suspended", "no room", "451 4.3.2 hers", "held by rule 1 of root: a b",
                               "451 4.3.2 hers", byhand]  # fmt: skip
    whys = whys[1:-1]
    assert await reasons(busy="busy") == ["busy", "busy", "451 4.3.2 hers", "held by rule 1 of root: a b",
                                          "451 4.3.2 hers", byhand]  # fmt: skip
    await store.change(Selector(recipient="a@x.test"), RetryAt(NOW + 60), NOW)
    assert (await reasons())[:2] == ["not yet due", ""]
    await store.change(
        Selector(recipient="a@x.test"), RetryAt(NOW + 60), NOW, entry=replace(ENTRY, operation="queue.retry")
    )
    assert (await reasons())[:2] == ["put off by root", ""]
    await store.freeze(user, Selector(user=user.name), replace(ENTRY, operation="user.freeze"), NOW)
    await store.change(Selector(recipient="b@y.test"), Hold(), NOW, entry=ENTRY)
    assert await reasons() == ["put off by root", "held by root: why", "the user is frozen by root: why",
                               "held by rule 1 of root: a b", "the user is frozen by root: why", byhand]  # fmt: skip
    assert await reasons(uid=1000) == ["", ""]  # what operators say is for operators


async def test_rules_outlive_the_daemon_and_their_line_outlives_the_trail(store: SqliteStore, paths: Paths) -> None:
    await store.note(ENTRY, NOW)
    number = await store.add_hold_rule(HoldRule(0, user="alice", until_at=NOW + 5000), ENTRY, NOW)
    await store.close()
    again = open_store(paths, lambda: NOW)
    await again.accept(mail(1, peer=Peer("submission", "192.0.2.1", user="alice")))
    assert [state for state, _ in (await found(again)).values()] == [State.HELD]
    await again.sweep(NOW + 1000, 10, 10, audit_s=100)
    assert [entry.id for entry in await again.trail(Looked())] == [number]
    await again.sweep(NOW + 6000, 10, 10, audit_s=100)
    assert await again.hold_rules() == []
    await again.sweep(NOW + 6000, 10, 10, audit_s=100)
    assert await again.trail(Looked()) == []
    await again.close()


async def test_freeze_and_thaw(store: SqliteStore) -> None:
    alice = Peer("submission", "192.0.2.1", user="alice@example.test")
    user = StoredUser("alice@example.test", "secret", NOW)
    await store.accept(mail(1, "a@x.test", "b@x.test", peer=alice))
    await store.accept(mail(2))
    said: list[str] = []
    store._connection.set_trace_callback(said.append)
    changed = await store.freeze(replace(user, disabled="stolen"), Selector(user=user.name), ENTRY, NOW)
    store._connection.set_trace_callback(None)
    assert said.count("COMMIT") == 1
    assert changed == Changed(2, 0, 1)
    assert [one.disabled for one in await store.load_users()] == ["stolen"]
    await store.accept(mail(3, peer=alice))
    held = await found(store, Selector(audits=(changed.audit,), states=("held",)))
    assert set(held) == {f"{message_id(1)}.1", f"{message_id(1)}.2", f"{message_id(3)}.1"}
    assert (await store.thaw(user, ENTRY, NOW, release=True)).recipients == 3
    assert await store.hold_rules() == []
    assert [one.disabled for one in await store.load_users()] == [""]


async def test_the_trail_is_searched(store: SqliteStore) -> None:
    for at, who, operation in (
        (NOW, "root", "queue.purge"),
        (NOW + 5, "alice", "queue.hold"),
        (NOW + 9, "alice", "reload"),
    ):
        await store.note(Entry(7 if who == "alice" else 0, who, operation), at)
    assert [one.operation for one in await store.trail(Looked(limit=2))] == ["queue.hold", "reload"]
    assert [one.who for one in await store.trail(Looked(operation="queue"))] == ["root", "alice"]
    assert [one.operation for one in await store.trail(Looked(who="7", since_at=NOW + 6))] == ["reload"]
    assert [one.operation for one in await store.trail(Looked(operation="queue.h"))] == []


async def test_a_deferred_outcome_keeps_the_operators_hold(store: SqliteStore) -> None:
    await store.accept(mail(1))
    (job,) = await store.lease(NOW, NOW + 60, 1)
    await store.change(ALL, Hold(), NOW, entry=ENTRY)
    await store.settle(outcome(job, State.READY, LATER))
    assert [state for state, _ in (await found(store)).values()] == [State.HELD]
