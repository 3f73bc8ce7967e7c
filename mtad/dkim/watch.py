"""Carries rotations forward: asks DNS about the keys that wait for it, lets `rotation.step` decide, writes the outcome.

What it knows of DNS and of the queue are functions that it is given. It never raises for what the network does.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

from mtad.config import Config
from mtad.dkim.keys import DkimKeyError, Keys
from mtad.dkim.rotation import (
    KeyState,
    Look,
    Move,
    Ring,
    Rules,
    Sight,
    Stage,
    denied,
    gone,
    interval_s,
    lacking,
    overdue,
    served,
    spent,
    step,
)
from mtad.events import Events
from mtad.mail.envelope import Clock
from mtad.mail.text import clean

PAUSE_MAX_S = 3600.0
AT_ONCE_MAX = 50  # keys that one turn asks about; the others have the next


@dataclass(frozen=True, slots=True)
class Publication:
    """A TXT record to be set, or with "" to be removed."""

    name: str
    text: str


class PublishError(Exception):
    """DNS could not be changed. The words are for the operator."""


Ask = Callable[[str, KeyState], Awaitable[Look]]
"""What all servers serve of a domain's key."""

Publish = Callable[[Sequence[Publication]], Awaitable[None]]
"""Changes DNS. Raises PublishError."""

Oldest = Callable[[], Awaitable[float | None]]
"""When the oldest mail of the queue was accepted."""


def where(domain: str, selector: str) -> str:
    """The name of a key's record (RFC 6376 3.6.2.1)."""
    return f"{selector}._domainkey.{domain}"


def rules_of(config: Config) -> Rules:
    """The rules that follow from the settings."""
    return Rules(
        keep_s=config.delivery.expire_s + config.dkim.margin_s,
        settle_s=config.limits.session_timeout_s,
        check_s=config.dkim.check_s,
    )


class Watch:
    """One for the daemon. `run` it; everything else is for tests and for reload."""

    def __init__(
        self,
        keys: Keys,
        events: Events,
        clock: Clock,
        rules: Rules,
        ask: Ask,
        oldest: Oldest,
        publish: Publish | None = None,
    ) -> None:
        """`publish` is None where the operator changes DNS by hand."""
        self._keys = keys
        self._events = events
        self._clock = clock
        self._oldest = oldest
        self._stirred = asyncio.Event()
        self.update(rules, ask, publish)

    def update(self, rules: Rules, ask: Ask, publish: Publish | None) -> None:
        """Other settings from now on."""
        self.rules, self._ask, self._publish = rules, ask, publish
        self._stirred.set()

    def stir(self) -> None:
        """Something changed: look now. Of the loop's thread."""
        self._stirred.set()

    async def run(self) -> None:
        """Turn after turn until it is cancelled; a failure waits for the next turn."""
        while True:
            self._stirred.clear()
            try:
                pause_s = await self.turn()
            except Exception as error:  # noqa: BLE001  (the daemon lives on)
                self._events.internal_error("dkim.watch", error)
                pause_s = self.rules.check_s
            try:
                async with asyncio.timeout(pause_s):
                    await self._stirred.wait()
            except TimeoutError:
                continue

    async def turn(self) -> float:
        """One look at everything that is due. How long until the next one may be due."""
        for domain, ring in self._keys.rings().items():
            if overdue(ring, self._clock()):
                await self._begin(domain)
        oldest_at = await self._oldest()
        due = self._due()
        for domain in dict.fromkeys(domain for domain, _ in due):
            await self._domain(domain, [key for of, key in due if of == domain], oldest_at)
        self._forget()
        now = self._clock()
        return min([PAUSE_MAX_S, *(max(at - now, 0.05) for at in self._times())])

    def _times(self) -> list[float]:
        """When each key that is watched is to be looked at."""
        return [
            look.at + interval_s(key, look.at, self.rules) if look is not None else 0.0
            for domain, ring in self._keys.rings().items()
            for key in ring.keys
            if key.stage is not Stage.RETIRED
            for look in [self._keys.looks.get((domain, key.selector))]
        ]

    def _due(self) -> list[tuple[str, KeyState]]:
        """What to look at now, the longest unseen first."""
        now, found = self._clock(), []
        for domain, ring in self._keys.rings().items():
            for key in ring.keys:
                if key.stage is Stage.RETIRED:
                    continue
                look = self._keys.looks.get((domain, key.selector))
                if look is None or not 0 <= now - look.at < interval_s(key, look.at, self.rules):
                    found.append((look.at if look is not None else 0.0, domain, key))
        found.sort(key=lambda one: (one[2].stage is Stage.ACTIVE, one[0]))  # what somebody waits for goes first
        chosen = {(domain, key.selector) for _, domain, key in found[:AT_ONCE_MAX]}
        for domain in {domain for domain, _ in chosen}:  # keys that switch together are seen together
            ring = self._keys.ring(domain)
            if any(key.stage in (Stage.PENDING, Stage.PUBLISHED) for key in ring.keys):
                chosen |= {(domain, key.selector) for key in ring.coming}
        return [
            (domain, key)
            for domain, ring in self._keys.rings().items()
            for key in ring.keys
            if (domain, key.selector) in chosen
        ]

    async def _begin(self, domain: str) -> None:
        """The schedule wants new keys."""
        try:
            made = await asyncio.to_thread(self._keys.rotate, domain, now=self._clock())
            await asyncio.to_thread(self._keys.load)
        except (DkimKeyError, OSError) as error:
            self._keys.troubles[domain] = f"new keys cannot be made: {error}"
            return
        self._keys.troubles.pop(domain, None)
        for key in made:
            self._events.dkim_stage(domain, key.selector, key.stage.value)

    async def _domain(self, domain: str, keys: Sequence[KeyState], oldest_at: float | None) -> None:
        seen = await self._look(domain, keys)
        if self._publish is not None and await self._push(domain, keys, seen, oldest_at):
            seen = await self._look(domain, keys)
        decide = partial(step, seen=seen, now=self._clock(), rules=self.rules, oldest_at=oldest_at)
        ring = self._keys.ring(domain)
        if decide(ring) != (ring, []):
            try:
                moves = await asyncio.to_thread(self._keys.change, domain, decide)
            except (DkimKeyError, OSError) as error:
                self._events.warned(f"dkim: {domain}: {error}")
                return
            self._tell(moves)

    async def _look(self, domain: str, keys: Sequence[KeyState]) -> dict[str, Look]:
        """What DNS serves of these keys now."""
        looks = await asyncio.gather(*(self._ask(domain, key) for key in keys))
        seen = {key.selector: look for key, look in zip(keys, looks, strict=True)}
        self._keys.looks.update({(domain, selector): look for selector, look in seen.items()})
        return seen

    async def _push(
        self, domain: str, keys: Sequence[KeyState], seen: dict[str, Look], oldest_at: float | None
    ) -> bool:
        """Publish what DNS lacks, and remove what nobody needs. Whether anything was changed."""
        now = self._clock()
        changes = []
        for key in keys:
            sights = seen[key.selector].sights
            right = any(sight.verdict == "right" for sight in sights)  # then the others only lag behind
            if key.stage in (Stage.PENDING, Stage.ACTIVE) and denied(sights) and not right:
                changes.append(Publication(where(domain, key.selector), key.record))
            elif key.stage is Stage.RETIRING and spent(key, now, self.rules, oldest_at) and not denied(sights):
                changes.append(Publication(where(domain, key.selector), ""))
        if not changes or self._publish is None:
            return False
        try:
            await self._publish(changes)
        except PublishError as error:
            self._keys.troubles[domain] = clean(str(error), 300)
            self._events.dkim_push_failed(domain, str(error))
            return False
        self._keys.troubles.pop(domain, None)
        self._events.dkim_pushed(domain, len(changes))
        return True

    def _tell(self, moves: Sequence[Move]) -> None:
        for move in moves:
            self._events.dkim_stage(move.domain, move.selector, move.to.value)

    def _forget(self) -> None:
        """Looks at what is no more."""
        there = {(domain, key.selector) for domain, ring in self._keys.rings().items() for key in ring.keys}
        for name in [name for name in self._keys.looks if name not in there]:
            del self._keys.looks[name]


def waits_for(key: KeyState, look: Look | None, now: float, rules: Rules, oldest_at: float | None) -> str:
    """What a key waits for, in words; "" when for nothing. Pure."""
    match key.stage:
        case Stage.PENDING:
            if look is None:
                return "the first look at DNS"
            servers = [f"{place(sight)} ({sight.detail})" for sight in lacking(look.sights)]
            return f"its record at {_listed(servers)}" if servers else "its record"
        case Stage.PUBLISHED:
            if now < key.ready_at:
                return "resolvers to forget that it was not there"
            return "a look at DNS that finds it everywhere"
        case Stage.ACTIVE:
            if look is not None and not served(look.sights) and denied(look.sights):
                return "its record: DNS does not serve it, and nobody can verify"
            return ""
        case Stage.RETIRING:
            if not spent(key, now, rules, oldest_at):
                return "mail that carries its signature" if now < key.until else "old mail in the queue"
            return "the removal of its record"
        case Stage.RETIRED:
            return ""


def problems(keys: Keys, now: float, rules: Rules, oldest_at: float | None, *, by_hand: bool) -> list[str]:
    """What a human has to do, one sentence each. Pure but for the state it reads. `by_hand`: nobody updates DNS."""
    found = [f"dkim: {domain}: {trouble}" for domain, trouble in sorted(keys.troubles.items())]
    for _, ring in sorted(keys.rings().items()):
        found += _problems_of(ring, keys, now, rules, oldest_at, by_hand=by_hand)
    return found


def _problems_of(
    ring: Ring, keys: Keys, now: float, rules: Rules, oldest_at: float | None, *, by_hand: bool
) -> list[str]:
    absent, unsigned, useless = list[str](), list[str](), list[str]()
    for key in ring.keys:
        look = keys.looks.get((ring.domain, key.selector))
        if look is None:
            continue
        if key.stage is Stage.PENDING and denied(look.sights) and by_hand:
            absent.append(key.selector)
        elif key.stage is Stage.ACTIVE and denied(look.sights):
            unsigned.append(key.selector)
        elif key.stage is Stage.RETIRING and spent(key, now, rules, oldest_at) and not gone(look.sights) and by_hand:
            useless.append(key.selector)
    sentences = (
        (absent, "publish the record of {}; mtactl dkim show {} prints it"),
        (unsigned, "mail is signed with {}, but DNS does not serve it: publish it; mtactl dkim show {} prints it"),
        (useless, "the record of {} can be removed from DNS; mtactl dkim status {} says more"),
    )
    return [
        f"dkim: {ring.domain}: {sentence.format(_listed(names), ring.domain)}" for names, sentence in sentences if names
    ]


def place(sight: Sight) -> str:
    """A server in words."""
    return f"{sight.server} [{sight.address}]" if sight.address else sight.server


def _listed(names: Sequence[str]) -> str:
    if len(names) > 3:
        return f"{', '.join(names[:3])} and {len(names) - 3} more"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else list(names))
