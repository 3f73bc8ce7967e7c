"""The way of a mail through the store: accepted, leased, confirmed, settled. Every mail goes through here.

The hot half of Store, on SQLite.
"""

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from mtad import faults
from mtad.mail.envelope import Content, Job, NewMessage
from mtad.queue.bodies import Bodies, size_of
from mtad.queue.cycle import Cycle
from mtad.queue.damage import Damage, Lost
from mtad.queue.due import Lease, LeaseOld
from mtad.queue.operate import Operate
from mtad.queue.store import Damaged, Redirected, Settlement, StoreError, Unsound
from mtad.queue.writer import Phase, R, Work, Writer, one_by_one

RESERVE_BYTES = 32 * 1024 * 1024
"""Free room on the disk below which no mail is taken: what was taken must still be able to end, and the log of the
database takes up to half of it meanwhile. Pages of the database that hold nothing any more stand for the other half:
its file never shrinks, and on a small disk one busy hour would else close the door for good."""


def has_room(free_bytes: int, reusable_bytes: int, reserve_bytes: int) -> bool:
    """Whether mail may be taken: by what is free on the disk, and what is unused within the database."""
    return free_bytes >= reserve_bytes // 2 and free_bytes + reusable_bytes >= reserve_bytes


class Doubt:
    """Which leases may hold recipients that an operator changed: those given before the last change ended, and all
    while one is at work."""

    def __init__(self, cycle: Cycle) -> None:
        self._cycle = cycle
        self._changing = 0  # operators at work
        self._last_lease = 0  # when the last of them was done

    def about(self, lease: int) -> bool:
        return lease <= self._last_lease or self._changing > 0

    @contextmanager
    def during_a_change(self) -> Iterator[None]:
        self._changing += 1
        try:
            yield
        finally:
            self._changing -= 1
            self._last_lease = self._cycle.last_lease


class Passage:
    def __init__(
        self,
        connection: sqlite3.Connection,
        writer: Writer,
        cycle: Cycle,
        operate: Operate,
        bodies: Bodies,
        doubt: Doubt,
        data: str,
    ) -> None:
        """`data` is the directory whose disk must have room."""
        self._writer = writer
        self._bodies = bodies
        self._doubt = doubt
        self._data = data
        self._connection = connection
        self.reserve_bytes = RESERVE_BYTES
        self._accept = Work("accept", self._where_there_is_room(cycle.accept))
        self._lease = Work("lease", one_by_one(cycle.lease))
        self._lease_old = Work("lease_old", one_by_one(cycle.lease_old))
        self._set_aside = Work("set_aside", one_by_one(Damage(connection).set_aside))
        self._release = Work("release", one_by_one(cycle.release))
        self._confirm = Work("confirm", one_by_one(cycle.confirm))
        self._bring_forward = Work("bring_forward", one_by_one(operate.bring_forward))
        self._renew = Work("renew", one_by_one(cycle.renew))
        self._settle = Work("settle", cycle.settle)
        self._body = Work("body", one_by_one(operate.body), Phase.READ)

    async def accept(self, new: NewMessage) -> str:
        self._bodies.check_place(new)
        stored_id = await self._writer.do(self._accept, new, size_of(new))
        if stored_id == new.message.id:
            self._bodies.remember(new)
        return stored_id

    def _where_there_is_room(self, accept: Callable[[Sequence[NewMessage]], R]) -> Callable[[Sequence[NewMessage]], R]:
        def run(new: Sequence[NewMessage]) -> R:
            disk = os.statvfs(self._data)
            free_bytes = disk.f_bavail * disk.f_frsize
            if free_bytes < self.reserve_bytes and not has_room(free_bytes, self._reusable(), self.reserve_bytes):
                raise StoreError(f"only {free_bytes} octets are free on the disk of {self._data}", full=True)
            return accept(new)

        return run

    def _reusable(self) -> int:
        (pages,) = self._connection.execute("PRAGMA freelist_count").fetchone()
        (page_bytes,) = self._connection.execute("PRAGMA page_size").fetchone()
        return int(pages * page_bytes)

    async def lease(self, now: float, until: float, limit: int, skip: frozenset[str] = frozenset()) -> Sequence[Job]:
        jobs = await self._writer.do(self._lease, Lease(now, until, limit, skip))
        if jobs:
            faults.point("lease.after")
        return jobs

    async def lease_old(
        self, now: float, until: float, limit: int, domains: frozenset[str], accepted_before: float
    ) -> Sequence[Job]:
        return await self._writer.do(self._lease_old, LeaseOld(now, until, limit, domains, accepted_before))

    async def set_aside(self, now: float) -> Sequence[Lost]:
        return await self._writer.do(self._set_aside, now)

    async def release(self, jobs: Sequence[Job]) -> None:
        await self._writer.do(self._release, jobs)

    async def confirm(self, job: Job, now: float) -> Job | None:
        if now < job.until and not self._doubt.about(job.lease):
            return job  # nobody changed anything since, and nobody else can have it
        return await self._writer.do(self._confirm, (job, now))

    async def bring_forward(self, now: float, latest: float) -> int:
        return await self._writer.do(self._bring_forward, (now, latest))

    async def renew(self, job: Job, until: float) -> bool:
        return await self._writer.do(self._renew, (job, until))

    async def settle(self, settlement: Settlement) -> bool:
        for new in settlement.spawn:
            self._bodies.check_place(new)
        for merge in settlement.merges:
            self._bodies.forget(merge.whole.message.id)
        born = [*settlement.spawn, *(merge.whole for merge in settlement.merges)]
        size_bytes = sum(size_of(new) for new in born)
        settled = await self._writer.do(self._settle, settlement, size_bytes)
        if self._bodies.settled(settlement, settled):
            await self._bodies.delete([settlement.job.message.id])
        if settled.elsewhere:
            raise Redirected(settled.elsewhere)
        return settled.done

    async def content(self, message_id: str) -> Content:
        kept = self._bodies.kept(message_id)
        if kept is not None:
            return kept
        try:
            found = await self._writer.do(self._body, message_id)
        except Unsound as error:
            raise Damaged(f"the body of message {message_id} cannot be read: {error}") from None
        return await self._bodies.judged(message_id, found)
