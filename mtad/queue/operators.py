"""What operators do that is more than one change of states: each function is one transaction of the writer's."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mtad.mail import ident
from mtad.mail.envelope import Job
from mtad.queue import bulk, rows, trail
from mtad.queue.audit import Changed, Entry, HoldRule
from mtad.queue.cycle import Cycle, Settled
from mtad.queue.holdrules import HoldRules
from mtad.queue.operate import ChangeAll, Operate, Select
from mtad.queue.people import People
from mtad.queue.store import Hold, Release, Selector, Settlement

if TYPE_CHECKING:
    from mtad.accounts.account import StoredUser

UNLEASED = ("ready", "deferred", "held")


@dataclass(frozen=True, slots=True)
class Claim:
    what: Selector
    now: float
    until: float
    after: str
    limit: int


@dataclass(frozen=True, slots=True)
class SettleClaimed:
    settlements: Sequence[Settlement]
    entry: Entry
    now: float
    audit: int


@dataclass(frozen=True, slots=True)
class Freeze:
    user: "StoredUser"
    what: Selector
    entry: Entry
    now: float


@dataclass(frozen=True, slots=True)
class Thaw:
    user: "StoredUser"
    entry: Entry
    now: float
    release: bool


class Operators:
    def __init__(
        self, connection: sqlite3.Connection, cycle: Cycle, operate: Operate, rules: HoldRules, people: People
    ) -> None:
        self._connection = connection
        self._cycle = cycle
        self._operate = operate
        self._rules = rules
        self._people = people

    def claim(self, ask: Claim) -> Sequence[Job]:
        states = tuple(word for word in UNLEASED if not ask.what.states or word in ask.what.states)
        if not states:
            return ()
        found = self._operate.select(Select(replace(ask.what, states=states), ask.now, ask.after, ask.limit))
        return self._cycle.claim(found, ask.until)

    def settle(self, ask: SettleClaimed) -> tuple[Changed, Sequence[Settled]]:
        settled = self._cycle.settle(ask.settlements)
        done = [settlement for settlement, one in zip(ask.settlements, settled, strict=True) if one.done]
        count = sum(len(settlement.job.recipients) for settlement in done)
        audit = ask.audit
        if audit:
            trail.add(self._connection, audit, count)
        elif count:
            audit = trail.record(self._connection, ask.entry, count, ask.now)
        touched = [
            (ident.to_int(was.message_id), was.n, audit, rows.stored_state(was.state), was.next_at, "", "")
            for settlement in done
            for was in settlement.job.recipients
        ]
        bulk.insert(self._connection, "touched", touched)
        return Changed(count, 0, audit), settled

    def add_rule(self, asked: tuple[HoldRule, Entry, float]) -> int:
        rule, entry, now = asked
        number = trail.record(self._connection, entry, 1, now)
        self._rules.add(replace(rule, id=number, who=entry.who, reason=entry.reason, made_at=now))
        return number

    def freeze(self, ask: Freeze) -> Changed:
        changed = self._operate.change(ChangeAll(ask.what, Hold(), ask.now, entry=ask.entry, always=True))
        self._people.save_user(ask.user)
        self._rules.add(
            HoldRule(
                changed.audit,
                user=ask.user.name,
                reason=ask.entry.reason,
                who=ask.entry.who,
                made_at=ask.now,
                freezes=True,
            )
        )
        return changed

    def thaw(self, ask: Thaw) -> Changed:
        self._people.save_user(ask.user)
        ended = self._rules.thaw(ask.user.name)
        what = Selector(user=ask.user.name, audits=tuple(ended), states=("held",))
        if ask.release and ended:
            return self._operate.change(ChangeAll(what, Release(), ask.now, entry=ask.entry, always=True))
        return Changed(0, 0, trail.record(self._connection, ask.entry, 0, ask.now))

    def sweep(self, asked: tuple[float, float]) -> bool:
        """Whether a rule ended."""
        now, before_at = asked
        if self._connection.execute("SELECT 1 FROM audit WHERE at < ? LIMIT 1", (before_at,)).fetchone():
            trail.Trail(self._connection).sweep(before_at)
        return self._rules.sweep(now)
