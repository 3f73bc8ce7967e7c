"""The store against a model (`fuzz_model.py`), in any order of what may happen to it: nothing accepted vanishes, states
move only as they may, nobody is leased twice, counts agree, and a crash takes nothing but leases."""

import asyncio
import hashlib
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fuzz_model import Key, Model, keys
from fuzz_parser import EXAMPLES
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from queue_mails import HEAD, LATER, NEVER, NOW, OK, mail, outcome

from mtad.config import Paths
from mtad.mail import ident
from mtad.mail.envelope import Content, Job, Peer, State
from mtad.queue.audit import Entry, HoldRule
from mtad.queue.files import BodyWriter, delete
from mtad.queue.sqlite import SqliteStore, open_store
from mtad.queue.store import (
    Change,
    Hold,
    KeyTaken,
    Merge,
    Redirect,
    Redirected,
    Release,
    Restore,
    RetryAt,
    Selector,
    Settlement,
    StoreError,
    Trash,
    Unredirect,
)
from mtad.queue.transfers import Begin, TransferError, Transfers

ROOT = Entry(0, "root", "queue.test")
EVERY_THERE = Selector(all=True)
EVERY = Selector(all=True, states=("active", "ready", "deferred", "held", "trashed", "done", "failed"))
FAST = "/dev/shm" if Path("/dev/shm").is_dir() else None
DOMAINS = ("one.test", "two.test", "three.test")
ADDRESS = st.builds("{}@{}".format, st.sampled_from("abc"), st.sampled_from(DOMAINS))
SECONDS = st.sampled_from([0, 1, 10, 60, 300])
CHANGES = st.one_of(
    st.sampled_from([Hold(), Release(), Trash(), Restore(), Unredirect(), Redirect("", "smtp://host:25")]),
    st.builds(lambda to: Redirect(to, to.rpartition("@")[2]), ADDRESS),
    SECONDS.map(lambda seconds: RetryAt(NOW + seconds)),
)
SPREAD = {State.READY: LATER, State.DONE: OK, State.FAILED: NEVER}
BODY_LARGE = b"x" * 140_000


class StoreMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.root = tempfile.mkdtemp(prefix="fuzz-", dir=FAST)
        self.loop = asyncio.Runner()
        self.now = NOW
        self.model = Model()
        self.jobs: list[Job] = []
        self.ended: set[int] = set()  # leases that their owner gave back, settled, or heard to be lost
        self.number = 0
        self.lives = 0

    @initialize()
    def start(self) -> None:
        self.there = Paths("", f"{self.root}/there/data", f"{self.root}/there/run")
        self.other = open_store(self.there, lambda: self.now)
        self.open(f"{self.root}/0")

    def open(self, root: str) -> None:
        self.paths = Paths(f"{root}/mtad.toml", f"{root}/data", f"{root}/run")
        self.store = open_store(self.paths, lambda: self.now)

    def teardown(self) -> None:
        self.loop.run(self.store.close())
        self.loop.run(self.other.close())
        self.loop.close()
        shutil.rmtree(self.root)

    # --- the way in and out

    @rule(
        to=st.lists(ADDRESS, min_size=1, max_size=4, unique=True),
        wait_s=SECONDS,
        priority=st.sampled_from([0, 0, 3, -4]),
        large=st.booleans(),
    )
    def accept(self, to: list[str], wait_s: int, priority: int, large: bool) -> None:
        self.number += 1
        body: bytes | str = b"mail %d\r\n" % self.number
        size = {}
        new = mail(self.number)
        if large:
            writer = BodyWriter(self.paths.spool, new.message.id)
            writer.write(BODY_LARGE)
            body, size = writer.finish(), {"size_bytes": len(HEAD) + len(BODY_LARGE), "digest": b""}
        new = mail(
            self.number, *to, body=body, accepted_at=self.now, next_at=self.now + wait_s, priority=priority, **size
        )
        assert self.loop.run(self.store.accept(new)) == new.message.id
        self.model.accept(new, self.now)

    @rule(key=st.sampled_from(["k1", "k2"]), to=ADDRESS)
    def submit(self, key: str, to: str) -> None:
        """Again, perhaps: what has a key is stored once, and another mail under it never."""
        self.number += 1
        peer = Peer("local", uid=33)
        new = replace(mail(self.number, to, accepted_at=self.now, next_at=self.now, peer=peer), key=key)
        expected = self.model.submit(new, self.now)
        if expected is None:
            with pytest.raises(KeyTaken):
                self.loop.run(self.store.accept(new))
        else:
            assert self.loop.run(self.store.accept(new)) == expected
        assert self.loop.run(self.store.keyed(33, key)) == self.model.submitted[key][0]

    @rule(domain=st.sampled_from(DOMAINS), seconds=SECONDS)
    def hold_what_comes(self, domain: str, seconds: int) -> None:
        until = self.now + seconds if seconds else 0.0
        made = HoldRule(0, domain=domain, until_at=until)
        number = self.loop.run(self.store.add_hold_rule(made, Entry(0, "root", "queue.test"), self.now))
        assert number not in self.model.rules
        self.model.rules[number] = domain, until

    @precondition(lambda self: self.model.rules)
    @rule(data=st.data())
    def hold_no_more(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.model.rules)))
        assert self.loop.run(self.store.remove_hold_rule(number))
        del self.model.rules[number]

    @precondition(lambda self: self.number)
    @rule(data=st.data())
    def accept_the_same_id(self, data: st.DataObject) -> None:
        taken = sorted(self.model.mails)
        if taken:
            new = self.model.mails[data.draw(st.sampled_from(taken))].new
            with pytest.raises(StoreError):
                self.loop.run(self.store.accept(replace(new, body=b"other\r\n", key="")))

    @rule(limit=st.integers(1, 8), seconds=SECONDS, skip=st.frozensets(st.sampled_from(DOMAINS), max_size=2))
    def lease(self, limit: int, seconds: int, skip: frozenset[str]) -> None:
        due = self.model.due(self.now, skip)
        until = self.now + seconds
        jobs = self.loop.run(self.store.lease(self.now, until, limit, skip))
        taken = [key for job in jobs for key in keys(job)]
        assert len(set(taken)) == len(taken) == min(limit, len(due))
        assert set(taken) <= set(due), "somebody else's, or not due"
        ones = self.model.ones
        turn = {key: (-ones[key].priority, ones[key].next_at) for key in due}
        left = [turn[key] for key in due if key not in taken]
        assert not left or not taken or max(turn[key] for key in taken) <= min(left)
        for job in jobs:
            assert {one.domain for one in job.recipients} == {job.domain}
            assert {one.message_id for one in job.recipients} == {job.message.id}
            assert all(one.state is State.LEASED for one in job.recipients)
            assert job.message == self.model.mails[job.message.id].new.message
            self.model.lease(job)
        self.jobs += jobs

    @rule(limit=st.integers(1, 4), domains=st.frozensets(st.sampled_from(DOMAINS), max_size=3), age_s=SECONDS)
    def lease_old(self, limit: int, domains: frozenset[str], age_s: int) -> None:
        before = self.now - age_s
        old = self.model.lease_old(self.now, domains, before)
        jobs = self.loop.run(self.store.lease_old(self.now, self.now + 60, limit, domains, before))
        taken = [key for job in jobs for key in keys(job)]
        assert len(set(taken)) == len(taken) == min(limit, len(old))
        assert set(taken) <= set(old)
        for job in jobs:
            self.model.lease(job)
        self.jobs += jobs

    def job(self, data: st.DataObject) -> Job:
        return self.jobs[data.draw(st.integers(0, len(self.jobs) - 1))]

    @precondition(lambda self: self.jobs)
    @rule(data=st.data(), seconds=SECONDS)
    def renew(self, data: st.DataObject, seconds: int) -> None:
        job = self.job(data)
        until = max(job.until, self.now + seconds)  # for longer, and never for less
        kept = self.loop.run(self.store.renew(job, until))
        assert kept == self.model.renew(job, until)
        if not kept:
            self.ended.add(job.lease)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        job = self.job(data)
        self.loop.run(self.store.release([job]))
        self.model.release(job)
        self.ended.add(job.lease)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def confirm(self, data: st.DataObject) -> None:
        """By the owner, who knows of what he gave back himself, before he tries."""
        job = self.job(data)
        if job.lease in self.ended:
            return
        left = self.loop.run(self.store.confirm(job, self.now))
        expected = self.model.confirm(job, self.now)
        assert left == expected, [self.model.ones.get(key) for key in keys(job)]
        if left is None:
            self.ended.add(job.lease)
        else:
            self.jobs[self.jobs.index(job)] = left

    @precondition(lambda self: self.jobs)
    @rule(data=st.data(), states=st.lists(st.sampled_from(list(SPREAD)), min_size=4, max_size=4), report=st.booleans())
    def settle(self, data: st.DataObject, states: list[State], report: bool) -> None:
        job = self.job(data)
        parts = [
            outcome(replace(job, recipients=(one,)), state, SPREAD[state], next_at=self.now + 60)
            for one, state in zip(job.recipients, states, strict=False)
        ]
        spawn, merges = (), ()
        if report:
            self.number += 1
            new = mail(self.number, "alice@one.test", sender="", accepted_at=self.now, next_at=self.now)
            reports = sorted(id for id, kept in self.model.mails.items() if not kept.new.message.sender)
            grown = data.draw(st.sampled_from(["", *reports]))
            if grown and grown != job.message.id:
                number, at = ident.to_int(grown) - (1 << 50), self.model.mails[grown].new.message.accepted_at
                whole = mail(number, "alice@one.test", sender="", accepted_at=at, body=b"it grew\r\n")
                merges = (Merge(whole, new),)
            else:
                spawn = (new,)
        settlement = Settlement(
            job, [part.attempts[0] for part in parts], [part.changes[0] for part in parts], spawn, merges
        )
        expected = self.model.settle(settlement, self.now)
        if expected is None:
            with pytest.raises(Redirected):
                self.loop.run(self.store.settle(settlement))
            return
        assert self.loop.run(self.store.settle(settlement)) == expected
        self.ended.add(job.lease)

    # --- operators

    @rule(data=st.data(), change=CHANGES)
    def change(self, data: st.DataObject, change: Change) -> None:
        by = data.draw(st.sampled_from(["all", "domain", "message", "recipient"]))
        what, wanted = Selector(all=True), [*self.model.ones]
        if by == "domain":
            domain = data.draw(st.sampled_from(DOMAINS))
            what, wanted = (
                Selector(domain=domain),
                [key for key, one in self.model.ones.items() if one.domain == domain],
            )
        elif by != "all" and wanted:
            message_id, n = data.draw(st.sampled_from(wanted))
            what, wanted = Selector(ids=(message_id,)), [*self.model.of(message_id)]
            if by == "recipient":
                what, wanted = Selector(ids=(f"{message_id}.{n}",)), [(message_id, n)]
        preview = self.loop.run(self.store.preview(what, change, self.now, rows=100))
        active = self.active(wanted, change)
        changed = self.loop.run(self.store.change(what, change, self.now, entry=Entry(0, "root", "queue.test")))
        assert changed.recipients == preview.recipients == self.model.change(wanted, change, self.now)
        assert changed.active == preview.active == active

    def active(self, wanted: list[Key], change: Change) -> int:
        """How many of those that a change is about are being tried."""
        if isinstance(change, Release | Restore):
            return 0
        found = [one for key in wanted if (one := self.model.ones[key]).leased(self.now)]
        if isinstance(change, Unredirect):
            found = [one for one in found if one.first is not None and one.first != (one.address, one.domain)]
        return len(found)

    @rule(history_s=SECONDS, trash_s=SECONDS)
    def sweep(self, history_s: int, trash_s: int) -> None:
        swept = self.loop.run(self.store.sweep(self.now, history_s, trash_s))
        assert swept == self.model.sweep(self.now, history_s, trash_s)

    # --- to another host, and back

    def do(self, store: SqliteStore, call: Callable[[Transfers], Any]) -> Any:
        return self.loop.run(store.transfer(call))

    @rule(data=st.data(), domain=st.sampled_from(["", *DOMAINS]))
    def begin_transfer(self, data: st.DataObject, domain: str) -> None:
        wanted = [key for key, one in self.model.ones.items() if domain in ("", one.domain)]
        leaving = self.model.leaves(wanted, self.now)
        what = Selector(domain=domain) if domain else Selector(all=True)
        begun = self.do(self.store, lambda them: them.begin(Begin(what, 0, "here.test", ROOT, self.now)))
        if not leaving:
            assert begun is None
            return
        assert (begun.messages, begun.recipients) == (len(leaving), self.model.park(begun.id, leaving))

    def carried(self, source: SqliteStore, sink: SqliteStore, transfer_id: str, spool: str) -> None:
        """All of it is parked on the other side."""
        transfer = self.do(source, lambda them: them.find(transfer_id, "out"))
        packed = self.do(source, lambda them: them.packed((transfer_id, -1, 10_000)))
        self.do(source, lambda them: them.sent((transfer_id, "d" * 64, self.now)))
        word = hashlib.sha256(transfer.word.encode()).hexdigest()
        coming = replace(transfer, way="in", state="coming", word=word, digest="d" * 64)
        self.do(sink, lambda them: them.expect((coming, [one.number for one in packed])))
        for one in packed:
            if one.data is None:
                writer = BodyWriter(spool, ident.from_int(one.number))
                writer.write(BODY_LARGE)
                writer.finish()
        self.do(sink, lambda them: them.receive((transfer_id, packed)))
        assert self.do(sink, lambda them: them.received((transfer_id, self.now, ROOT))).state == "received"

    def handed_over(self, source: SqliteStore, sink: SqliteStore, transfer_id: str, spool: str) -> None:
        receipt = f"{transfer_id}-{'d' * 32}"
        done, gone = self.do(source, lambda them: them.confirm((receipt, self.now, ROOT)))
        delete(spool, gone)
        with pytest.raises(TransferError):
            self.do(source, lambda them: them.abort((transfer_id, self.now, ROOT)))
        with pytest.raises(TransferError):
            self.do(sink, lambda them: them.activate((f"{transfer_id}-x", self.now, ROOT)))
        word = f"{transfer_id}-{done.word}"
        assert self.do(sink, lambda them: them.activate((word, self.now, ROOT))).state == "active"

    @precondition(lambda self: self.model.parked)
    @rule(data=st.data(), how=st.sampled_from(["abort", "confirm", "change of mind"]))
    def end_transfer(self, data: st.DataObject, how: str) -> None:
        begun = [*self.model.parked]  # in their order: the ids are others each time
        transfer_id = begun[data.draw(st.integers(0, len(begun) - 1))]
        if how != "abort":
            self.carried(self.store, self.other, transfer_id, self.there.spool)
        if how == "confirm":
            self.handed_over(self.store, self.other, transfer_id, self.paths.spool)
            self.model.let_go(transfer_id, self.now)
            return
        assert self.do(self.store, lambda them: them.abort((transfer_id, self.now, ROOT))).state == "aborted"
        self.model.unpark(transfer_id)
        with pytest.raises(TransferError):
            self.do(self.store, lambda them: them.confirm((f"{transfer_id}-{'d' * 32}", self.now, ROOT)))
        if how != "abort":
            _, gone = self.do(self.other, lambda them: them.discard((transfer_id, self.now, ROOT)))
            delete(self.there.spool, gone)

    @precondition(lambda self: self.model.there)
    @rule()
    def all_comes_back(self) -> None:
        if not self.model.there.keys() <= self.model.mails.keys():
            return  # its history was forgotten here, and with it what it was before it was trashed
        begun = self.do(self.other, lambda them: them.begin(Begin(EVERY_THERE, 0, "there.test", ROOT, self.now)))
        if begun is None:
            return  # nothing but trash
        assert begun.recipients == sum(len(self.model.there[message_id]) for message_id in self.model.leave_there())
        self.carried(self.other, self.store, begun.id, self.paths.spool)
        self.handed_over(self.other, self.store, begun.id, self.there.spool)
        self.model.come_back()

    # --- time and crashes

    @rule(seconds=SECONDS | st.just(4 * 86400))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @rule(crash=st.booleans())
    def next_life(self, crash: bool) -> None:
        """Another daemon: on the files as they lie while the first still has them open, or after a proper end."""
        self.lives += 1
        here, there = Path(self.paths.data), Path(f"{self.root}/{self.lives}/data")
        if crash:  # the log first: what a checkpoint moves meanwhile is then in both
            there.mkdir(parents=True, mode=0o700)
            for path in sorted(here.iterdir(), key=lambda path: not path.name.endswith("-wal")):
                if path.is_dir():
                    shutil.copytree(path, there / path.name)
                elif not path.name.endswith((".lock", "-shm")):
                    shutil.copy2(path, there / path.name)
        self.loop.run(self.store.close())
        if not crash:
            there.parent.mkdir()
            here.rename(there)
        moved = {
            message_id: replace(kept.new, body=kept.new.body.replace(str(here), str(there)))
            for message_id, kept in self.model.mails.items()
            if isinstance(kept.new.body, str)
        }
        for message_id, new in moved.items():
            self.model.mails[message_id].new = new
        self.jobs.clear()
        self.ended.clear()
        self.model.crash()
        self.open(str(there.parent))

    # --- what always holds

    @invariant()
    def every_recipient_is_where_it_belongs(self) -> None:
        if not hasattr(self, "store"):
            return
        rows = self.loop.run(self.store.select(EVERY, self.now))
        found = {
            row.recipient.id: (
                row.recipient.state, row.recipient.address, row.recipient.domain, row.recipient.next_at,
                row.recipient.tries,
            )
            for row in rows
        }  # fmt: skip
        shown = self.model.shown(self.now)
        wrong = {key for key in found.keys() | shown if found.get(key) != shown.get(key)}
        assert not wrong, [(key, found.get(key), shown.get(key)) for key in sorted(wrong)]
        for row in rows:
            assert row.message == self.model.mails[row.message.id].new.message

    @invariant()
    def nothing_is_active_on_both_hosts(self) -> None:
        if hasattr(self, "store"):
            rows = self.loop.run(self.other.select(EVERY, self.now))
            found = {
                row.recipient.id: (row.recipient.state, row.recipient.address, row.recipient.tries) for row in rows
            }
            assert found == {
                f"{message_id}.{n}": (one.state, one.address, one.tries)
                for every in self.model.there.values()
                for (message_id, n), one in every.items()
            }

    @invariant()
    def counts_agree(self) -> None:
        if hasattr(self, "store"):
            stats = self.loop.run(self.store.stats(self.now))
            found, expected = replace(stats, domains=()), self.model.stats(self.now)
            assert found == expected, f"{found}\n{expected}"
            open_ones = sum(one.state in (State.READY, State.HELD) for one in self.model.ones.values())
            assert sum(count for _, count, _ in stats.domains) == open_ones

    @invariant()
    def bodies_are_there_as_long_as_they_are_needed(self) -> None:
        if not hasattr(self, "store"):
            return
        for message_id, kept in self.model.mails.items():
            if message_id in self.model.there:
                continue  # the last octets may be remembered for a while
            if kept.finished_at is None:
                assert self.loop.run(self.store.content(message_id)) == Content(kept.new.head, kept.new.body)
            else:
                with pytest.raises(StoreError):
                    self.loop.run(self.store.content(message_id))


StoreMachine.TestCase.settings = settings(
    max_examples=max(12, EXAMPLES // 2),
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestStore = StoreMachine.TestCase
