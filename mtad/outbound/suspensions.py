"""What operators suspended: mail to a domain, to a site, or of a user stays in the queue meanwhile."""

import math
from collections.abc import Callable, Collection, Sequence

from mtad.mail import address as addresses
from mtad.mail.envelope import Clock
from mtad.mail.text import clean
from mtad.queue.sitestore import SiteStore, Suspension

SUSPENSIONS_MAX = 10_000


class SuspensionError(ValueError):
    """It is nothing that can be suspended. The words are for the operator."""


def canonical(kind: str, value: str) -> str:
    """The value of a suspension as it is kept. SuspensionError for what is none."""
    value = value.strip()
    if kind == "user":
        return _user(value)
    if kind == "domain":
        try:
            return addresses.to_ascii(value.removeprefix("@").removesuffix(".")).lower()
        except addresses.AddressError as error:
            raise SuspensionError(f"{value!a} is no domain: {error}") from None
    return value.removesuffix(".").lower()


def _user(name: str) -> str:
    return addresses.fold(name) if "@" in name else name.lower()


KINDS = ("domain", "site", "user")


class Suspensions:
    """All of them. Changes are durable when the call returns; `changed` is called after each."""

    def __init__(self, store: SiteStore, clock: Clock) -> None:
        self.changed: Callable[[], None] = lambda: None
        self._store = store
        self._clock = clock
        self._all: dict[tuple[str, str], Suspension] = {}
        self.problems: tuple[str, ...] = ()  # of those that were loaded

    def __bool__(self) -> bool:
        return bool(self._all)

    async def load(self) -> None:
        found = await self._store.load_suspensions()
        sound = [
            one
            for one in found
            if one.kind in ("domain", "site", "user") and all(map(math.isfinite, (one.made_at, one.until_at)))
        ]
        self.problems = tuple(
            f"suspension of {clean(one.value)}: its row is damaged, and it is not in force"
            for one in found
            if one not in sound
        )
        self._all = {(one.kind, one.value): one for one in sound}

    def list(self) -> Sequence[Suspension]:
        """Those in force, by kind and value."""
        now = self._clock()
        return [one for _, one in sorted(self._all.items()) if one.holds(now)]

    async def add(self, one: Suspension) -> None:
        """Make it, or replace the one of the same kind and value, which are canonical. SuspensionError."""
        key = (one.kind, one.value)
        if key not in self._all and len(self._all) >= SUSPENSIONS_MAX:
            raise SuspensionError(f"there are {SUSPENSIONS_MAX} suspensions already; remove some first")
        await self._store.save_suspension(one)
        self._all[key] = one
        self.changed()

    async def remove(self, kind: str, value: str) -> Suspension | None:
        """Lift it. What was removed; None when there was none."""
        one = self._all.get((kind, value))
        if one is None:
            return None
        await self._store.delete_suspension(kind, value)
        self._all.pop((kind, value), None)
        self.changed()
        return one if one.holds(self._clock()) else None

    async def sweep(self) -> Sequence[Suspension]:
        """Forget those that are over. Which they were."""
        now = self._clock()
        over = [one for one in self._all.values() if not one.holds(now)]
        for one in over:
            if self._all.get((one.kind, one.value)) is one:
                del self._all[one.kind, one.value]
                await self._store.delete_suspension(one.kind, one.value)
        if over:
            self.changed()
        return over

    # Decisions

    def of(self, domain: str, names: Collection[str], user: str) -> Suspension | None:
        """What keeps mail of this user to this domain, at a site known by these names; the one that ends last."""
        if not self._all:
            return None
        keys = [("domain", domain), *(("site", name) for name in names)]
        if user:
            keys.append(("user", _user(user)))
        now = self._clock()
        found = [one for key in keys if (one := self._all.get(key)) is not None and one.holds(now)]
        return max(found, key=lambda one: one.until_at or float("inf"), default=None)

    def domains(self) -> set[str]:
        """The domains that are suspended themselves."""
        now = self._clock()
        return {value for (kind, value), one in self._all.items() if kind == "domain" and one.holds(now)}

    def names(self) -> set[str]:
        """The sites that are, by the names that operators gave."""
        now = self._clock()
        return {value for (kind, value), one in self._all.items() if kind == "site" and one.holds(now)}
