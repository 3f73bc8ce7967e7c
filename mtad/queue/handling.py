"""The store's hands: what operators do to the mail that waits, with the trail of it, each as one durable transaction.

OperatorStore (mtad.queue.audit) and `Store.change`, on SQLite.
"""

import sqlite3
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from mtad.mail.envelope import Job
from mtad.queue.audit import Action, Changed, Entry, HoldRule, Looked
from mtad.queue.bodies import Bodies, size_of
from mtad.queue.cycle import Cycle
from mtad.queue.holdrules import HoldRules
from mtad.queue.operate import ChangeAll, Operate
from mtad.queue.operators import Claim, Freeze, Operators, SettleClaimed, Thaw
from mtad.queue.passage import Doubt
from mtad.queue.people import People
from mtad.queue.store import Change, Selector, Settlement, StoreError
from mtad.queue.trail import Trail
from mtad.queue.transfers import Transfers
from mtad.queue.writer import A, Phase, R, Work, Writer, one_by_one

if TYPE_CHECKING:
    from mtad.accounts.account import StoredUser


class Handling:
    def __init__(
        self,
        connection: sqlite3.Connection,
        writer: Writer,
        cycle: Cycle,
        operate: Operate,
        rules: HoldRules,
        people: People,
        bodies: Bodies,
        doubt: Doubt,
    ) -> None:
        self._writer = writer
        self._bodies = bodies
        self._doubt = doubt
        trail = Trail(connection)
        operators = Operators(connection, cycle, operate, rules, people)
        self._transfers = Transfers(connection, operate)
        self._change = Work("change", one_by_one(operate.change))
        self._note = Work("note", one_by_one(trail.note))
        self._trail = Work("trail", one_by_one(trail.look), Phase.READ)
        self._actions = Work("actions", one_by_one(trail.actions), Phase.READ)
        self._claim = Work("claim", one_by_one(operators.claim))
        self._settle_claimed = Work("settle_claimed", one_by_one(operators.settle))
        self._hold_rules = Work("hold_rules", one_by_one(rules.load), Phase.READ)
        self._add_hold_rule = Work("add_hold_rule", one_by_one(operators.add_rule))
        self._remove_hold_rule = Work("remove_hold_rule", one_by_one(rules.remove))
        self._sweep_trail = Work("sweep_trail", one_by_one(operators.sweep))
        self._freeze = Work("freeze", one_by_one(operators.freeze))
        self._thaw = Work("thaw", one_by_one(operators.thaw))
        self._transfer: Work[Any, Any] = Work("transfer", one_by_one(_called))
        self._look_at_transfers: Work[Any, Any] = Work("look_at_transfers", one_by_one(_called), Phase.READ)

    async def change(
        self, what: Selector, change: Change, now: float, limit: int = 0, entry: Entry | None = None
    ) -> Changed:
        return await self._operating(self._change, ChangeAll(what, change, now, limit, entry))

    async def note(self, entry: Entry, now: float) -> int:
        return await self._writer.do(self._note, (entry, now))

    async def trail(self, looked: Looked) -> Sequence[Entry]:
        return await self._writer.do(self._trail, looked)

    async def actions(self, message_id: str) -> Sequence[Action]:
        return await self._writer.do(self._actions, message_id)

    async def claim(self, what: Selector, now: float, until: float, after: str, limit: int) -> Sequence[Job]:
        return await self._writer.do(self._claim, Claim(what, now, until, after, limit))

    async def settle_claimed(
        self, settlements: Sequence[Settlement], entry: Entry, now: float, audit: int
    ) -> tuple[Changed, Sequence[Settlement]]:
        for settlement in settlements:
            for new in settlement.spawn:
                self._bodies.check_place(new)
        size = sum(size_of(new) for settlement in settlements for new in settlement.spawn)
        changed, each = await self._writer.do(self._settle_claimed, SettleClaimed(settlements, entry, now, audit), size)
        pairs = list(zip(settlements, each, strict=True))
        gone = [settlement.job.message.id for settlement, settled in pairs if self._bodies.settled(settlement, settled)]
        if gone:
            await self._bodies.delete(gone)
        return changed, [settlement for settlement, settled in pairs if settled.done]

    async def hold_rules(self) -> Sequence[HoldRule]:
        return await self._writer.do(self._hold_rules, None)

    async def add_hold_rule(self, rule: HoldRule, entry: Entry, now: float) -> int:
        return await self._changing_rules(self._writer.do(self._add_hold_rule, (rule, entry, now)))

    async def remove_hold_rule(self, number: int) -> bool:
        return await self._changing_rules(self._writer.do(self._remove_hold_rule, number))

    async def freeze(self, user: "StoredUser", what: Selector, entry: Entry, now: float) -> Changed:
        return await self._changing_rules(self._operating(self._freeze, Freeze(user, what, entry, now)))

    async def thaw(self, user: "StoredUser", entry: Entry, now: float, *, release: bool) -> Changed:
        return await self._changing_rules(self._operating(self._thaw, Thaw(user, entry, now, release)))

    async def _changing_rules(self, work: Coroutine[Any, Any, R]) -> R:
        """Wait for a change of the hold rules. It is in force before it returns; from then on they are kept in memory
        again, whatever came of it."""
        try:
            return await work
        finally:
            with suppress(StoreError):
                await self.hold_rules()

    async def transfer(self, call: Callable[[Transfers], R], *, read: bool = False) -> R:
        """Have something done to transfers (mtad.queue.transfers), as one transaction, durable when it returns."""
        if read:
            return cast("R", await self._writer.do(self._look_at_transfers, partial(call, self._transfers)))
        return cast("R", await self._operating(self._transfer, partial(call, self._transfers)))

    async def _operating(self, work: Work[A, R], argument: A) -> R:
        """Have something done that may change what is leased: whoever confirms a lease meanwhile looks again."""
        with self._doubt.during_a_change():
            return await self._writer.do(work, argument)

    async def sweep_trail(self, now: float, before_at: float) -> None:
        """Forget what operators did before that, and the rules whose time is over."""
        if await self._writer.do(self._sweep_trail, (now, before_at)):
            await self.hold_rules()


def _called(call: Callable[[], object]) -> object:
    return call()
