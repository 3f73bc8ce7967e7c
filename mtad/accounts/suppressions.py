"""Addresses that are not tried for a user, because mail of the user to them came back, or an operator said so.

All are kept in the store, and in memory where the decision is made: it costs a recipient one look into a table, and
nothing while there are none.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from mtad.config import Delivery
from mtad.mail import address as addresses
from mtad.mail.classify import STAGE_SUPPRESSED, classify
from mtad.mail.envelope import Clock, Peer
from mtad.mail.reply import Reply
from mtad.mail.text import clean

EVERYBODY = ""
"""The user of a suppression that holds for all."""

BOUNCES = "mtad"
"""The maker of what bounces made."""

REASON_MAX = 300
SUPPRESSIONS_MAX = 100_000  # of what bounces made; beyond, no more are made until some are over


class SuppressionError(ValueError):
    """It is no address. The words are for the operator."""


@dataclass(frozen=True, slots=True)
class Suppression:
    """`user` is that of `key_of`, `address` as mtad.mail.address.fold makes it."""

    user: str
    address: str
    reason: str = ""
    made_by: str = ""  # BOUNCES, or the operator
    made_at: float = 0.0
    until_at: float = 0.0  # 0 = until it is removed
    error: str = ""  # the class of what was said last

    def holds(self, now: float) -> bool:
        return not self.until_at or now < self.until_at

    def reply(self) -> Reply:
        """What becomes of mail to it."""
        day = datetime.fromtimestamp(self.made_at, UTC).date().isoformat()
        why = f": {self.reason}" if self.reason else ""
        return Reply(550, "5.1.0", f"Not tried: suppressed since {day}{why}", stage=STAGE_SUPPRESSED)


class SuppressionStore(Protocol):
    async def load_suppressions(self) -> Sequence[Suppression]: ...

    async def save_suppression(self, one: Suppression) -> None:
        """Add it, or replace that of the same user and address. Durable."""

    async def delete_suppression(self, user: str, address: str) -> bool:
        """Durable, with what was counted against the address. False: there was none."""

    async def count_bounce(self, user: str, address: str, message_id: str, at: float, since: float) -> int:
        """Count a hard bounce. How many messages of this user to this address came back after `since`."""

    async def sweep_suppressions(self, now: float, since: float) -> None:
        """Forget those that are over, and bounces from before `since`; a part at a time."""


def key_of(peer: Peer) -> str:
    """Who sent it, as far as addresses are suppressed for it: the user, or a program's "uid=33". "" = nobody whom we
    could tell from others."""
    return peer.user or (f"uid={peer.uid}" if peer.uid >= 0 else "")


def canonical(text: str) -> str:
    """The address as it is kept. SuppressionError."""
    try:
        parsed = addresses.parse(text.strip(), utf8=True)
        if "@" in parsed:
            return addresses.fold(parsed)
    except addresses.AddressError as error:
        raise SuppressionError(f"{text!a} is no address: {error}") from None
    raise SuppressionError(f"{text!a} is no address: it has no domain")


def _sound(one: Suppression) -> bool:
    """Whether it is one that `add` or `bounced` could have made."""
    try:
        return addresses.fold(one.address) == one.address and bool(one.reply()) and math.isfinite(one.until_at)
    except (ValueError, OverflowError, OSError):
        return False


class Suppressions:
    """All of them. Changes are durable when the call returns."""

    def __init__(self, store: SuppressionStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._by_address: dict[str, dict[str, Suppression]] = {}
        self._count = 0
        self.problems: tuple[str, ...] = ()  # of those that were loaded

    async def load(self) -> None:
        self._by_address, self._count = {}, 0
        problems = []
        for one in await self._store.load_suppressions():
            if _sound(one):
                self._keep(one)
            else:
                problems.append(f"suppression of {clean(one.address)}: its row is damaged, and it is not in force")
        self.problems = tuple(problems)

    def __bool__(self) -> bool:
        return bool(self._by_address)

    def list(self, user: str | None = None) -> Sequence[Suppression]:
        """Those in force, by address."""
        now = self._clock()
        found = [one for per_user in self._by_address.values() for one in per_user.values() if one.holds(now)]
        return sorted((one for one in found if user in (None, one.user)), key=lambda one: (one.address, one.user))

    def lookup(self, text: str) -> Sequence[Suppression]:
        """Those of an address that are in force, for everybody first. SuppressionError."""
        now = self._clock()
        per_user = self._by_address.get(canonical(text), {})
        return [one for _, one in sorted(per_user.items()) if one.holds(now)]

    def find(self, user: str, address: str) -> Suppression | None:
        """The one in force for mail of `user`, a `key_of`, to this address."""
        try:
            per_user = self._by_address.get(addresses.fold(address))
        except addresses.AddressError:
            return None
        if per_user is None:
            return None
        now = self._clock()
        return next((one for name in (EVERYBODY, user) if (one := per_user.get(name)) and one.holds(now)), None)

    async def add(self, one: Suppression) -> Suppression:
        """Make it, or replace that of the same user and address. SuppressionError."""
        one = Suppression(
            one.user, canonical(one.address), clean(one.reason, REASON_MAX), one.made_by, one.made_at, one.until_at,
            one.error,
        )  # fmt: skip
        await self._store.save_suppression(one)
        self._keep(one)
        return one

    async def remove(self, text: str, user: str | None = None) -> Sequence[Suppression]:
        """Lift that of a user, or without one all of the address. What was removed. SuppressionError."""
        address = canonical(text)
        gone = [one for one in self._by_address.get(address, {}).values() if user in (None, one.user)]
        for one in gone:
            await self._store.delete_suppression(one.user, one.address)
            self._drop(one)
        return gone

    async def bounced(self, peer: Peer, address: str, message_id: str, reply: Reply, config: Delivery) -> bool:
        """A mail came back for good. Whether that was the one too many: the address is not tried any more."""
        user, now = key_of(peer), self._clock()
        if not user or config.suppress == "off" or self._count >= SUPPRESSIONS_MAX:
            return False
        try:
            folded = canonical(address)
        except SuppressionError:
            return False
        times = await self._store.count_bounce(user, folded, message_id, now, now - config.suppress_s)
        if times < config.suppress_after:
            return False
        said = str(reply).replace("\n", " ")
        reason = f"{times} mails came back, the last with {said}"
        await self.add(Suppression(user, folded, reason, BOUNCES, now, now + config.suppress_s, classify(reply)))
        return True

    async def sweep(self, config: Delivery) -> None:
        """Forget what is over."""
        now = self._clock()
        over = [one for per_user in self._by_address.values() for one in per_user.values() if not one.holds(now)]
        for one in over:
            self._drop(one)
        await self._store.sweep_suppressions(now, now - config.suppress_s)

    def _keep(self, one: Suppression) -> None:
        per_user: Mapping[str, Suppression] = self._by_address.setdefault(one.address, {})
        self._count += one.user not in per_user
        self._by_address[one.address][one.user] = one

    def _drop(self, one: Suppression) -> None:
        per_user = self._by_address.get(one.address, {})
        if per_user.pop(one.user, None) is not None:
            self._count -= 1
        if not per_user:
            self._by_address.pop(one.address, None)
