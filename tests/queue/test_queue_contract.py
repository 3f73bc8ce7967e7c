"""What every engine promises: mtad.queue.store.Store and nothing of the engine behind it."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest
from queue_mails import HEAD, LATER, NEVER, NOW, OK, mail, message_id, outcome

from mtad.config import Paths
from mtad.mail.envelope import Content, Peer, State
from mtad.queue.audit import Entry
from mtad.queue.sitestore import SiteStore, StoredSite, Suspension
from mtad.queue.store import (
    Hold,
    Listed,
    Redirect,
    Release,
    Restore,
    RetryAt,
    Selector,
    Settlement,
    Stats,
    Store,
    StoreError,
    Trash,
)

ALL = Selector(all=True)
UNTIL = NOW + 600


async def states(store: Store, what: Selector = ALL) -> dict[str, State]:
    every = ("active", "ready", "deferred", "held", "trashed", "done", "failed")
    if not what.states:
        what = replace(what, states=every)
    return {row.recipient.id: row.recipient.state for row in await store.select(what, NOW)}


# Accept, lease, content


async def test_what_was_accepted_comes_back_whole(store: Store) -> None:
    peer = Peer("submission", "2001:db8::1", 4711, "laptop", True, "TLSv1.3 X", "alice@example.test", 1000)
    new = mail(
        1,
        "bob@remote.test",
        peer=peer,
        body=b"\x00\xff\r\n.\r\n",
        smtputf8=True,
        ret="HDRS",
        envid="QQ+2B",
        requiretls=True,
        header_id="<1@x>",
        subject="Grüße",
        priority=-3,
        hold_until=NOW - 50.5,
        by_at=NOW + 3600.25,
        by_mode="N",
        by_trace=True,
        tls_optional=True,
    )
    new = replace(new, message=replace(new.message, body="8BITMIME"))
    recipient = replace(
        new.recipients[0],
        original="team@example.test",
        notify="SUCCESS,FAILURE",
        orcpt="rfc822;B+2Bx",
        warned_at=3.0,
        last=LATER,
        tries=2,
    )
    new = replace(new, recipients=(recipient,))
    await store.accept(new)
    (job,) = await store.lease(NOW, UNTIL, 10)
    assert job.message == new.message
    assert job.recipients == (replace(recipient, state=State.LEASED),)
    assert (job.domain, job.until) == ("remote.test", UNTIL)
    assert await store.content(job.message.id) == Content(new.head, new.body)
    (row,) = await store.select(ALL, NOW)
    assert row.message == new.message


async def test_an_id_is_taken_once(store: Store) -> None:
    await store.accept(mail(1))
    with pytest.raises(StoreError):
        await store.accept(mail(1, "other@remote.test"))
    assert list(await states(store)) == [f"{message_id(1)}.1"]


async def test_one_bad_accept_does_not_take_the_others_with_it(store: Store) -> None:
    await store.accept(mail(5))
    results = await asyncio.gather(*(store.accept(mail(n)) for n in range(10)), return_exceptions=True)
    assert [n for n, result in enumerate(results) if isinstance(result, StoreError)] == [5]
    assert len(await store.select(ALL, NOW)) == 10


async def test_due_recipients_come_oldest_first_and_grouped(store: Store) -> None:
    await store.accept(mail(1, "a@one.test", "b@two.test", "c@one.test", next_at=NOW - 1))
    await store.accept(mail(2, "d@one.test", next_at=NOW - 2))
    await store.accept(mail(3, "e@one.test", next_at=NOW + 1))
    jobs = await store.lease(NOW, UNTIL, 10)
    assert [(job.message.id, job.domain, [one.n for one in job.recipients]) for job in jobs] == [
        (message_id(2), "one.test", [1]),
        (message_id(1), "one.test", [1, 3]),
        (message_id(1), "two.test", [2]),
    ]
    assert len({job.lease for job in jobs}) == 3
    assert await store.lease(NOW, UNTIL, 10) == []


async def test_lease_keeps_to_limit_and_skip(store: Store) -> None:
    for number in range(6):
        await store.accept(mail(number, f"x@{'slow' if number < 4 else 'fast'}.test", next_at=NOW - 10 + number))
    (job,) = await store.lease(NOW, UNTIL, 1, frozenset({"slow.test"}))
    assert job.message.id == message_id(4)
    jobs = await store.lease(NOW, UNTIL, 3)
    assert [one.message.id for one in jobs] == [message_id(0), message_id(1), message_id(2)]
    assert await store.lease(NOW, UNTIL, 3, frozenset({"slow.test", "fast.test"})) == []


async def test_higher_priority_goes_first_and_keeps_no_other_from_its_turn(store: Store) -> None:
    for number, priority in enumerate((0, -4, 4, 9, 0)):
        await store.accept(mail(number, f"x@d{number}.test", next_at=NOW - 10 - number, priority=priority))
    await store.accept(mail(5, "x@d5.test", next_at=NOW + 1, priority=9))  # not due
    order = []
    for limit in (1, 2, 3):
        order += [job.message.id for job in await store.lease(NOW, UNTIL, limit)]
    assert order == [message_id(number) for number in (3, 2, 4, 0, 1)]
    assert await store.lease(NOW, UNTIL, 9) == []
    assert await store.next_due(NOW) == NOW + 1


async def test_priority_and_skip(store: Store) -> None:
    for number, (domain, priority) in enumerate((("slow", 5), ("fast", 0), ("slow", 0), ("fast", -1), ("fast", 3))):
        await store.accept(mail(number, f"x@{domain}.test", priority=priority))
    jobs = await store.lease(NOW, UNTIL, 9, frozenset({"slow.test"}))
    assert [job.message.id for job in jobs] == [message_id(number) for number in (4, 1, 3)]


async def test_priority_beyond_a_skipped_crowd(store: Store) -> None:
    crowd = tuple(f"u{n}@slow.test" for n in range(2000))
    await store.accept(mail(1, *crowd, next_at=NOW - 9, priority=2))
    await store.accept(mail(2, "a@fast.test", priority=2))
    await store.accept(mail(3, "b@fast.test", next_at=NOW - 20))
    jobs = await store.lease(NOW, UNTIL, 5, frozenset({"slow.test"}))
    assert [job.message.id for job in jobs] == [message_id(2), message_id(3)]


async def test_skipped_crowd_hides_nobody(store: Store) -> None:
    crowd = tuple(f"u{n}@slow.test" for n in range(1000))
    await store.accept(mail(1, *crowd, next_at=NOW - 9))
    await store.accept(mail(2, *crowd, next_at=NOW - 8))
    await store.accept(mail(3, "a@fast.test", next_at=NOW - 3))
    await store.accept(mail(4, "b@other.test", "c@fast.test", "d@later.test", next_at=NOW - 4))
    await store.change(Selector(recipient="d@later.test"), RetryAt(NOW + 60), NOW)
    for _ in range(2):
        skip = frozenset({"slow.test"})
        jobs = await store.lease(NOW, NOW - 1, 5, skip)  # a lease that is over at once
        assert sorted(one.address for job in jobs for one in job.recipients) == [
            "a@fast.test",
            "b@other.test",
            "c@fast.test",
        ]
        (first,) = await store.lease(NOW, NOW - 1, 1, skip)
        assert first.message.id == message_id(4)


async def test_expired_lease_is_given_again_and_the_old_one_is_lost(store: Store) -> None:
    await store.accept(mail(1))
    (old,) = await store.lease(NOW, NOW + 10, 1)
    assert await store.lease(NOW + 9, NOW + 99, 1) == []
    (new,) = await store.lease(NOW + 10, NOW + 99, 1)
    assert new.lease != old.lease
    assert not await store.renew(old, NOW + 500)
    assert not await store.settle(outcome(old, State.FAILED, NEVER))
    assert await store.settle(outcome(new, State.DONE, OK))
    assert await states(store) == {f"{message_id(1)}.1": State.DONE}
    assert [attempt.reply for attempt in await store.attempts(message_id(1))] == [OK]


async def test_renew_extends(store: Store) -> None:
    await store.accept(mail(1))
    (job,) = await store.lease(NOW, NOW + 10, 1)
    assert await store.renew(job, NOW + 100)
    assert await store.lease(NOW + 50, NOW + 60, 1) == []
    assert len(await store.lease(NOW + 100, NOW + 200, 1)) == 1


async def test_large_body_is_a_path(store: Store, paths: Paths) -> None:
    path = f"{paths.spool}/{message_id(1)}"
    Path(path).write_bytes(b"x" * 1000)
    await store.accept(mail(1, body=path, digest=b"", size_bytes=len(HEAD) + 1000))
    assert await store.content(message_id(1)) == Content(HEAD, path)
    (job,) = await store.lease(NOW, UNTIL, 1)
    await store.settle(outcome(job, State.DONE, OK))
    assert not Path(path).exists()


async def test_content_of_nothing_is_an_error(store: Store) -> None:
    with pytest.raises(StoreError):
        await store.content(message_id(1))


# Settle


async def test_settle_records_all_and_drops_the_body_at_the_end(store: Store) -> None:
    await store.accept(mail(1, "a@one.test", "b@two.test"))
    one, two = await store.lease(NOW, UNTIL, 10)
    assert await store.settle(outcome(one, State.DONE, OK))
    assert await store.content(message_id(1))
    assert await store.settle(outcome(two, State.READY, LATER, next_at=NOW + 300))
    assert await store.content(message_id(1))
    assert await store.lease(NOW + 299, UNTIL, 10) == []
    (again,) = await store.lease(NOW + 300, NOW + 999, 10)
    (recipient,) = again.recipients
    assert (recipient.address, recipient.tries, recipient.last) == ("b@two.test", 1, LATER)
    assert await store.settle(outcome(again, State.FAILED, NEVER))
    assert await states(store) == {f"{message_id(1)}.1": State.DONE, f"{message_id(1)}.2": State.FAILED}
    assert [(try_.n, try_.reply) for try_ in await store.attempts(message_id(1))] == [(1, OK), (2, LATER), (2, NEVER)]
    with pytest.raises(StoreError):
        await store.content(message_id(1))


async def test_settle_twice_is_lost_the_second_time(store: Store) -> None:
    await store.accept(mail(1))
    (job,) = await store.lease(NOW, UNTIL, 1)
    results = await asyncio.gather(*(store.settle(outcome(job, State.DONE, OK)) for _ in range(3)))
    assert results == [True, False, False]
    assert len(await store.attempts(message_id(1))) == 1


async def test_many_settle_together(store: Store) -> None:
    for number in range(100):
        await store.accept(mail(number, "a@one.test", "b@two.test"))
    jobs = await store.lease(NOW, UNTIL, 1000)
    assert len(jobs) == 200
    assert all(await asyncio.gather(*(store.settle(outcome(job, State.DONE, OK)) for job in jobs)))
    assert (await store.stats(NOW)).done == 200
    assert (await store.stats(NOW)).messages == 0


async def test_reports_are_born_with_the_outcome(store: Store) -> None:
    await store.accept(mail(1))
    (job,) = await store.lease(NOW, UNTIL, 1)
    report = mail(2, "alice@example.test", sender="", body=b"sorry\r\n")
    assert await store.settle(outcome(job, State.FAILED, NEVER, spawn=(report,)))
    (born,) = await store.lease(NOW, UNTIL, 10)
    assert born.message == report.message
    assert await store.content(born.message.id) == Content(HEAD, b"sorry\r\n")


async def test_settle_with_a_report_that_cannot_be_is_nothing(store: Store) -> None:
    await store.accept(mail(1))
    (job,) = await store.lease(NOW, UNTIL, 1)
    with pytest.raises(StoreError):
        await store.settle(outcome(job, State.FAILED, NEVER, spawn=(mail(1),)))
    assert await store.attempts(message_id(1)) == []
    assert await store.settle(outcome(job, State.FAILED, NEVER, spawn=(mail(2),)))


@pytest.mark.parametrize(
    ("change", "result", "expected"),
    [
        (Hold(), State.READY, State.HELD),
        (Trash(), State.READY, State.TRASHED),
        (Hold(), State.DONE, State.DONE),
        (Trash(), State.DONE, State.DONE),
        (Hold(), State.FAILED, State.FAILED),
    ],
)
async def test_operator_against_a_running_try(
    store: Store, change: Hold | Trash, result: State, expected: State
) -> None:
    await store.accept(mail(1))
    (job,) = await store.lease(NOW, UNTIL, 1)
    assert (await store.change(ALL, change, NOW)).recipients == 1
    reply = {State.READY: LATER, State.DONE: OK, State.FAILED: NEVER}[result]
    assert await store.settle(outcome(job, result, reply, next_at=NOW + 300))
    assert await states(store) == {f"{message_id(1)}.1": expected}
    (row,) = await store.select(replace(ALL, states=(expected.name.lower(),)), NOW)
    assert (row.recipient.tries, row.recipient.last) == (1, reply)


async def test_operators_time_stays_when_the_running_try_is_put_off(store: Store) -> None:
    await store.accept(mail(1))
    (job,) = await store.lease(NOW, UNTIL, 1)
    assert (await store.change(ALL, RetryAt(NOW + 7), NOW)).recipients == 1
    assert await store.settle(outcome(job, State.READY, LATER, next_at=NOW + 300))
    assert await store.next_due(NOW) == NOW + 7


# Leases that are given back, or looked at once more


async def test_a_released_lease_is_as_if_it_had_not_been(store: Store) -> None:
    await store.accept(mail(1, "a@one.test", "b@two.test"))
    one, two = await store.lease(NOW, UNTIL, 10)
    await store.release([one])
    (again,) = await store.lease(NOW, UNTIL, 10)
    assert (again.domain, again.recipients[0].tries) == (one.domain, 0)
    assert not await store.settle(outcome(one, State.DONE, OK))
    assert await store.settle(outcome(again, State.DONE, OK))
    assert await store.settle(outcome(two, State.DONE, OK))


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        (Hold(), [2, 3]),
        (Trash(), [2, 3]),
        (RetryAt(NOW + 60), [2, 3]),
        (RetryAt(NOW - 1), [1, 2, 3]),
        (None, [1, 2, 3]),
    ],
)
async def test_what_an_operator_took_leaves_the_lease(
    store: Store, change: Hold | Trash | RetryAt | None, kept: list[int]
) -> None:
    await store.accept(mail(1, "a@one.test", "b@one.test", "c@one.test"))
    (job,) = await store.lease(NOW, UNTIL, 10)
    if change is not None:
        assert (await store.change(Selector(recipient="a@one.test"), change, NOW)).recipients == 1
    left = await store.confirm(job, NOW)
    assert left is not None
    assert [one.n for one in left.recipients] == kept
    assert await store.renew(left, UNTIL + 1)
    before = await states(store, Selector(recipient="a@one.test"))
    assert await store.settle(outcome(left, State.DONE, OK))
    if 1 not in kept:
        assert await states(store, Selector(recipient="a@one.test")) == before


async def test_nothing_is_left_of_a_lease_that_an_operator_took_whole_or_that_was_lost(store: Store) -> None:
    await store.accept(mail(1))
    (job,) = await store.lease(NOW, UNTIL, 10)
    assert (await store.change(ALL, Hold(), NOW)).recipients == 1
    assert await store.confirm(job, NOW) is None
    assert (await store.change(ALL, Release(), NOW)).recipients == 1
    (again,) = await store.lease(NOW, UNTIL, 10)
    assert await store.confirm(job, NOW) is None
    assert await store.confirm(again, NOW) == again


async def test_a_lease_that_is_over_and_somebody_elses_is_not_confirmed(store: Store) -> None:
    """Where the clock jumps, nobody had the time to renew it."""
    await store.accept(mail(1))
    (old,) = await store.lease(NOW, NOW + 10, 1)
    (new,) = await store.lease(NOW + 3600, NOW + 4200, 1)
    assert await store.confirm(old, NOW + 3600) is None
    assert await store.confirm(new, NOW + 3600) == new


async def test_old_mail_of_some_domains(store: Store) -> None:
    await store.accept(mail(1, "a@one.test", "b@two.test", "c@three.test"))
    domains = frozenset({"one.test", "two.test"})
    assert await store.lease_old(NOW, UNTIL, 10, domains, 1_577_836_800.0) == []  # before all ids
    assert [job.domain for job in await store.lease_old(NOW, UNTIL, 1, domains, NOW)] == ["one.test"]
    assert [job.domain for job in await store.lease_old(NOW, UNTIL, 10, domains, NOW)] == ["two.test"]
    assert [job.domain for job in await store.lease(NOW, UNTIL, 10)] == ["three.test"]


async def test_what_waits_for_a_wrong_future_is_brought_forward(store: Store) -> None:
    for number, next_at in ((1, NOW + 100), (2, NOW + 1e6), (3, NOW + 1e6)):
        await store.accept(mail(number, next_at=NOW))
        (job,) = await store.lease(NOW, UNTIL, 10)
        if number < 3:
            assert await store.settle(outcome(job, State.READY, LATER, next_at=next_at))
        else:
            await store.release([job])
            await store.change(Selector(ids=(message_id(3),)), RetryAt(next_at), NOW)  # never tried: it is to wait
    assert await store.bring_forward(NOW, NOW + 1000) == 1
    rows = await store.select(ALL, NOW)
    assert [row.recipient.next_at for row in rows] == [NOW + 100, NOW + 1000, NOW + 1e6]


async def test_what_came_in_while_the_clock_was_wrong_and_was_not_tried_is_due_at_once(store: Store) -> None:
    later = NOW + 1e6
    await store.accept(mail(1, accepted_at=later, next_at=later))
    await store.accept(mail(2, accepted_at=later, next_at=later + 60, hold_until=later + 60))  # its sender said so
    await store.accept(mail(3, next_at=NOW))
    (job,) = await store.lease(NOW, UNTIL, 10)
    put_off = replace(job.recipients[0], state=State.READY, next_at=later, last=LATER)  # its site was closed
    assert await store.settle(Settlement(job, (), (put_off,)))
    assert await store.bring_forward(NOW, NOW + 1000) == 2
    rows = await store.select(ALL, NOW)
    assert [row.recipient.next_at for row in rows] == [NOW, later + 60, NOW + 1000]


async def test_suspensions_and_sites_are_kept(store: SiteStore) -> None:
    one = Suspension("domain", "x.test", "why", "uid=0", NOW, 0.0)
    await store.save_suspension(one)
    await store.save_suspension(replace(one, until_at=NOW + 1))
    await store.save_suspension(replace(one, kind="user"))
    assert await store.load_suspensions() == [replace(one, until_at=NOW + 1), replace(one, kind="user")]
    assert await store.delete_suspension("domain", "x.test")
    assert not await store.delete_suspension("domain", "x.test")
    await store.save_sites([StoredSite("a", "1"), StoredSite("b", "2")])
    await store.save_sites([StoredSite("a", "3"), StoredSite("b", "")])
    assert await store.load_sites() == [StoredSite("a", "3")]


# Select


async def test_select_pages_in_order_of_ids(store: Store) -> None:
    for number in (3, 1, 2):
        await store.accept(mail(number, "a@x.test", "b@x.test", "c@y.test"))
    seen: list[str] = []
    while rows := await store.select(Selector(), NOW, after=seen[-1] if seen else "", limit=2):
        assert len(rows) <= 2
        seen += [row.recipient.id for row in rows]
    assert seen == [f"{message_id(m)}.{n}" for m in (1, 2, 3) for n in (1, 2, 3)]


async def test_display_states(store: Store) -> None:
    for number, name in enumerate(("active", "ready", "deferred", "held", "trashed", "done", "failed")):
        await store.accept(mail(number, f"{name}@x.test", next_at=NOW + number))
    at = NOW + 100
    jobs = {job.recipients[0].address.split("@")[0]: job for job in await store.lease(at, at + 600, 10)}
    await store.settle(outcome(jobs["done"], State.DONE, OK))
    await store.settle(outcome(jobs["failed"], State.FAILED, NEVER))
    for name in ("ready", "deferred", "held", "trashed"):
        await store.settle(outcome(jobs[name], State.READY, LATER, next_at=at + (60 if name == "deferred" else 0)))
    await store.change(Selector(recipient="held@x.test"), Hold(), at)
    await store.change(Selector(recipient="trashed@x.test"), Trash(), at)
    for name in jobs:
        rows = await store.select(Selector(states=(name,)), at)
        assert [row.recipient.address for row in rows] == [f"{name}@x.test"]
    rows = await store.select(Selector(), at)
    assert [row.recipient.state.name for row in rows] == ["LEASED", "READY", "READY", "HELD"]
    assert len(await store.select(Selector(states=("active", "deferred", "done")), at)) == 3
    stats = await store.stats(at)
    assert (stats.active, stats.ready, stats.deferred, stats.held) == (1, 1, 1, 1)
    assert (stats.trashed, stats.done, stats.failed) == (1, 1, 1)


HOSTILE = {
    1: "o'hara;--@x.test",
    2: "100%@x.test",
    3: "100x@x.test",
    4: "a_b@x.test",
    5: "axb@x.test",
    6: "[a]@x.test",
    7: "a@x.test",
    8: "UPPER@X.test",
    9: "upper@sub.x.test",
}


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("o'hara;--@x.test", {1}),
        ("100%@x.test", {2}),
        ("100%*", {2}),
        ("a_b@x.test", {4}),
        ("a_b*", {4}),
        ("a?b@x.test", {4, 5}),
        ("[a]*", {6}),
        ("[a]@x.test", {6}),
        ("[ab]?x.test", set()),
        ("Upper@x.TEST", {8}),
        ("UPPER@*", {8, 9}),
        ("@x.test", {1, 2, 3, 4, 5, 6, 7, 8}),
        ("@*.x.test", {9}),
        ("***a@x.test", {7}),
        ("x.test", set()),
    ],
)
async def test_address_selectors(store: Store, pattern: str, expected: set[int]) -> None:
    for number, address in HOSTILE.items():
        await store.accept(mail(number, address, sender=address))
    ids = {message_id(number) for number in expected}
    assert {row.message.id for row in await store.select(Selector(recipient=pattern), NOW)} == ids
    assert {row.message.id for row in await store.select(Selector(sender=pattern), NOW)} == ids


async def test_other_selectors(store: Store) -> None:
    await store.accept(mail(1, "a@one.test", sender="", accepted_at=NOW - 100, body=b"x" * 5000))
    peer = Peer("submission", "198.51.100.7", user="Alice@example.test")
    await store.accept(mail(2, "b@two.test", peer=peer, accepted_at=NOW - 10))
    (job,) = [job for job in await store.lease(NOW, UNTIL, 10) if job.message.id == message_id(2)]
    await store.settle(outcome(job, State.READY, LATER, next_at=NOW + 5))

    async def found(**conditions: object) -> list[int]:
        rows = await store.select(Selector(**conditions), NOW)  # type: ignore[arg-type]
        return [1 if row.message.id == message_id(1) else 2 for row in rows]

    assert await found(sender="<>") == [1]
    assert await found(domain="TWO.test") == [2]
    assert await found(user="alice@example.test") == [2]
    assert await found(ip="198.51.100.*") == [2]
    assert await found(older_s=50.0) == [1]
    assert await found(newer_s=50.0) == [2]
    assert await found(size=(">", 4096)) == [1]
    assert await found(size=("<=", 4096)) == [2]
    assert await found(attempts=(">", 0)) == [2]
    assert await found(attempts=("=", 0)) == [1]
    assert await found(error="greylist") == [2]
    assert await found(error="451") == [2]
    assert await found(error="4.7.1") == [2]
    assert await found(error="4.7") == []
    assert await found(domain="two.test", older_s=50.0) == []


async def test_ids(store: Store) -> None:
    for number in (1, 2, 40):
        await store.accept(mail(number, "a@x.test", "b@x.test"))
    one, two, far = message_id(1), message_id(2), message_id(40)

    async def found(*ids: str) -> list[str]:
        return [row.recipient.id for row in await store.select(Selector(ids=ids), NOW)]

    assert await found(two) == [f"{two}.1", f"{two}.2"]
    assert await found(f"{two}.2", far.upper()) == [f"{two}.2", f"{far}.1", f"{far}.2"]
    assert await found(far[:11]) == [f"{far}.1", f"{far}.2"]
    assert await found(f"{far[:11]}.1") == [f"{far}.1"]
    assert await found(message_id(3)) == []
    assert await found("zzzz") == []
    with pytest.raises(ValueError, match=f"{one}.*{two}"):
        await found(one[:11])
    for bad in ("", "../../x", "uuu", f"{one}.", f"{one}.x", f"{one}.1.2", f"{one}0", "a b"):
        with pytest.raises(ValueError, match="is not the id"):
            await found(bad)


@pytest.mark.parametrize(
    "what",
    [Selector(states=("sleeping",)), Selector(size=("!", 1)), Selector(attempts=("", 1)), Selector(sender="*" * 2000)],
)
async def test_selectors_without_meaning(store: Store, what: Selector) -> None:
    with pytest.raises(ValueError):
        await store.select(what, NOW)


# Change


async def test_empty_selector_changes_nothing(store: Store) -> None:
    await store.accept(mail(1))
    with pytest.raises(ValueError):
        await store.change(Selector(), Trash(), NOW)
    assert await states(store) == {f"{message_id(1)}.1": State.READY}


async def test_each_change_takes_only_the_states_it_may(store: Store) -> None:
    await store.accept(mail(1, next_at=NOW + 500))
    assert (await store.change(ALL, Release(), NOW)).recipients == 0
    assert (await store.change(ALL, Restore(), NOW)).recipients == 0
    assert (await store.change(ALL, Hold(), NOW)).recipients == 1
    assert (await store.change(ALL, Hold(), NOW)).recipients == 0
    assert (await store.change(ALL, RetryAt(NOW), NOW)).recipients == 0
    assert await store.next_due(NOW) is None
    assert (await store.change(ALL, Trash(), NOW, entry=Entry(0, "root", "queue.purge"))).recipients == 1
    assert await store.select(Selector(), NOW) == []
    assert await store.content(message_id(1))
    assert (await store.change(ALL, Release(), NOW)).recipients == 0
    assert (await store.change(ALL, Restore(), NOW + 3, entry=Entry(0, "root", "queue.restore"))).recipients == 1
    assert await store.next_due(NOW) is None  # it was held
    assert (await store.change(ALL, Release(), NOW + 3)).recipients == 1
    assert await store.next_due(NOW) == NOW + 3
    assert (await store.change(ALL, RetryAt(NOW + 9), NOW)).recipients == 1
    (job,) = await store.lease(NOW + 9, UNTIL, 1)
    await store.settle(outcome(job, State.DONE, OK))
    for change in (Hold(), Trash(), Release(), Restore(), RetryAt(NOW)):
        assert (await store.change(ALL, change, NOW)).recipients == 0


async def test_change_keeps_to_its_limit_and_selector(store: Store) -> None:
    for number in range(5):
        await store.accept(mail(number, "a@x.test", "b@y.test"))
    assert (await store.change(Selector(domain="x.test"), Hold(), NOW, limit=3)).recipients == 3
    held = await store.select(Selector(states=("held",)), NOW)
    assert [row.recipient.id for row in held] == [f"{message_id(number)}.1" for number in range(3)]
    assert (await store.change(Selector(states=("held",)), Release(), NOW)).recipients == 3


# Time and totals


async def test_next_due(store: Store) -> None:
    assert await store.next_due(NOW) is None
    await store.accept(mail(1, next_at=NOW + 50))
    assert await store.next_due(NOW) == NOW + 50
    await store.accept(mail(2, next_at=NOW - 5))
    assert await store.next_due(NOW) == NOW - 5
    await store.lease(NOW, NOW + 20, 10)
    assert await store.next_due(NOW) == NOW + 20  # when the lease ends
    assert await store.next_due(NOW + 20) == NOW - 5


async def test_due_of_all_priorities_is_counted(store: Store) -> None:
    assert (await store.next_due(NOW), (await store.stats(NOW)).ready) == (None, 0)
    await store.accept(mail(1, next_at=NOW + 30, priority=4))
    await store.accept(mail(2, next_at=NOW + 20))
    await store.accept(mail(3, next_at=NOW + 10, priority=-4))
    assert await store.next_due(NOW) == NOW + 10
    stats = await store.stats(NOW + 25)
    assert (stats.ready, stats.deferred) == (2, 1)


async def test_stats(store: Store) -> None:
    assert await store.stats(NOW) == Stats()
    await store.accept(mail(1, "a@x.test", "b@x.test", "c@y.test", accepted_at=NOW - 50))
    await store.accept(mail(2, "d@y.test", "e@z.test", next_at=NOW + 50))
    await store.accept(mail(3, "f@gone.test"))
    await store.change(Selector(domain="gone.test"), Trash(), NOW)
    await store.change(Selector(domain="z.test"), Hold(), NOW)
    await store.lease(NOW, UNTIL, 1)
    size = mail(1).message.size_bytes
    assert await store.stats(NOW) == Stats(
        messages=2,
        size_bytes=2 * size,
        active=1,
        ready=2,
        deferred=1,
        held=1,
        trashed=1,
        oldest_at=NOW - 50,
        domains=(("x.test", 2, NOW - 50), ("y.test", 2, NOW - 50), ("z.test", 1, NOW)),
    )


async def test_sweep(store: Store, paths: Paths) -> None:
    path = Path(f"{paths.spool}/{message_id(4)}")
    path.write_bytes(b"large")
    await store.accept(mail(1, "a@x.test", "b@y.test"))
    await store.accept(mail(2))
    await store.accept(mail(3))
    await store.accept(mail(4, body=str(path), digest=b"", size_bytes=len(HEAD) + 5))
    await store.change(Selector(ids=(f"{message_id(1)}.2", message_id(2), message_id(4))), Trash(), NOW)
    for job in await store.lease(NOW, UNTIL, 10):
        await store.settle(outcome(job, State.DONE, OK))
    assert await store.sweep(NOW + 99, history_s=100, trash_s=100) == 0
    # Of message 1 the trash goes and the history stays; 2 and 4 were nothing but trash; 3 has ended.
    assert await store.sweep(NOW + 100, history_s=1000, trash_s=100) == 2
    assert await states(store) == {f"{message_id(1)}.1": State.DONE, f"{message_id(3)}.1": State.DONE}
    assert not path.exists()
    with pytest.raises(StoreError):
        await store.content(message_id(1))
    assert await store.sweep(NOW + 5000, history_s=100, trash_s=100, limit=1) == 1
    assert await store.sweep(NOW + 5000, history_s=100, trash_s=100, limit=1) == 1
    assert await store.stats(NOW) == Stats()
    assert await store.attempts(message_id(3)) == []


async def test_closed_store_says_so(store: Store) -> None:
    await store.accept(mail(1))
    await store.close()
    await store.close()
    with pytest.raises(StoreError):
        await store.accept(mail(2))


async def test_the_listing_is_what_select_finds(store: Store) -> None:
    for n, addresses in enumerate((("a@example.test", "b@example.test"), ("c@example.test",)), 1):
        await store.accept(mail(n, *addresses, peer=Peer("local", uid=1000 + n)))
    await store.change(Selector(ids=(f"{message_id(1)}.2",)), Hold(), NOW)
    await store.lease(NOW, NOW + 60, 10)
    every = await store.mailq(NOW)
    assert every.rest is None
    listed = [json.loads(line) for line in every.lines.split("\n")]
    assert [(row["queue_name"], row["queue_id"], one["address"]) for row in listed for one in row["recipients"]] == [
        ("active", row.message.id, row.recipient.address) for row in await store.select(Selector(all=True), NOW)
    ]
    assert json.loads((await store.mailq(NOW, uid=1002)).lines)["queue_id"] == message_id(2)
    some = await store.lines(Selector(domain="example.test", sender="alice@*"), NOW, limit=2)
    assert [one["address"] for one in json.loads(some.lines)["recipients"]] == ["a@example.test", "b@example.test"]
    await store.change(ALL, Trash(), NOW)
    assert await store.mailq(NOW) == await store.lines(ALL, NOW) == Listed("", None)


async def test_who_was_redirected_is_not_confirmed(store: Store) -> None:
    await store.accept(mail(1, "a@example.test", "b@example.test"))
    [job] = await store.lease(NOW, NOW + 60, 10)
    what = Selector(ids=(f"{message_id(1)}.1",))
    await store.change(what, Redirect("c@other.test", "other.test"), NOW)
    left = await store.confirm(job, NOW)
    assert left is not None
    assert [one.address for one in left.recipients] == ["b@example.test"]
