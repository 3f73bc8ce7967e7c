"""The life of a domain's signing keys, as a function of what DNS serves and what time it is. Pure.

    pending -> published -> active -> retiring -> retired

A pending key waits until every authoritative server serves its record; a published one until nobody can remember that
there was none (RFC 2308); the active keys sign. A retiring key signs no more, but mail that carries its signature may
still be on its way, so its record stays for the lifetime of the queue and a margin. Then the record is to be removed,
and once no server has it the key is retired: its private half is destroyed.
"""

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

from mtad.dkim.taglist import first_tag, tag_list
from mtad.mail.text import clean

LINGER_MAX_S = 86_400.0  # no resolver remembers that there was nothing for longer (RFC 2308 5 proposes 3 hours)
HISTORY_MAX = 20  # retired keys that are remembered, so that no selector comes twice
SCHEDULE_MIN_S = 86_400.0


class Stage(StrEnum):
    """Where a key is in its life."""

    PENDING = "pending"
    PUBLISHED = "published"
    ACTIVE = "active"
    RETIRING = "retiring"
    RETIRED = "retired"


Verdict = Literal["right", "absent", "other", "revoked", "alias", "truncated", "unknown", "unasked"]
_DENIES = frozenset({"absent", "other", "revoked"})


@dataclass(frozen=True, slots=True)
class Sight:
    """What one server says of a key over one transport. `ttl_s` is how long a resolver may remember it.

    "unknown" is every kind of trouble; "unasked" is a server that cannot be reached from here by its nature (IPv6).
    """

    server: str
    address: str
    via: str
    verdict: Verdict
    ttl_s: float = 0.0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Look:
    """One look at all servers. `negative_s` is how long the zone lets resolvers remember that a name has nothing."""

    sights: tuple[Sight, ...]
    at: float
    negative_s: float = 0.0


@dataclass(frozen=True, slots=True)
class KeyState:
    """One key of a ring. Times are unix seconds."""

    selector: str
    algorithm: str
    stage: Stage
    since: float  # in this stage
    made_at: float
    record: str  # what DNS is to serve
    replaces: tuple[str, ...] = ()  # selectors that retire when this one becomes active
    linger_s: float = 0.0  # how long resolvers may remember that this key was not there
    until: float = 0.0  # retiring: the record is needed at least so long

    @property
    def ready_at(self) -> float:
        """When nobody can remember any more that there was no such key. Of a published one."""
        return self.since + self.linger_s


@dataclass(frozen=True, slots=True)
class Ring:
    """All keys of a domain, with the rule for making new ones: every `schedule_s`, 0 for when somebody says so."""

    domain: str
    keys: tuple[KeyState, ...] = ()
    schedule_s: float = 0.0
    rotated_at: float = 0.0

    def of(self, *stages: Stage) -> tuple[KeyState, ...]:
        return tuple(key for key in self.keys if key.stage in stages)

    def key(self, selector: str) -> KeyState | None:
        return next((key for key in self.keys if key.selector == selector), None)

    @property
    def coming(self) -> tuple[KeyState, ...]:
        """Those that do not sign yet."""
        return self.of(Stage.PENDING, Stage.PUBLISHED)

    @property
    def rotation(self) -> tuple[KeyState, ...]:
        """Those that will replace others."""
        return tuple(key for key in self.coming if key.replaces)


@dataclass(frozen=True, slots=True)
class Rules:
    """`keep_s`: how long mail that is signed can be on its way. `settle_s`: how long a mail may take to come in: it
    carries the signatures of the keys that were active when it began."""

    keep_s: float
    settle_s: float
    check_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Move:
    """A key went from one stage to another; for the log."""

    domain: str
    selector: str
    to: Stage


class RotationError(ValueError):
    """It cannot be done now. The words are for the operator."""


# --- what DNS says


def judge(texts: Sequence[bytes], record: str) -> tuple[Verdict, str]:
    """The TXT records of a key's name against what they should be: a verdict and words about it."""
    if not texts:
        return "absent", "no such record"
    if len(texts) > 1:
        return "other", f"{len(texts)} TXT records, where receivers take one (RFC 6376 3.6.2.2)"
    got, want = _tags(texts[0].decode("utf-8", "replace")), _tags(record)
    if "v" in got and first_tag(got) != "v":
        return "other", "v= is not the first tag, so receivers take it for no key (RFC 6376 3.6.1)"
    if got.get("v", "DKIM1") != "DKIM1" or "p" not in got:
        return "other", f"another record: {clean(texts[0][:60].decode('utf-8', 'replace'))}"
    if not got["p"]:
        return "revoked", "an empty p=: the key is revoked"
    if got.get("k", "rsa") != want["k"] or _octets(got["p"]) != _octets(want["p"]):
        return "other", "another key"
    if "sha256" not in got.get("h", "sha256").split(":") or not {"*", "email"} & set(got.get("s", "*").split(":")):
        return "other", "the right key, but its h= or s= forbids the use"
    return "right", ""


def _tags(text: str) -> dict[str, str]:
    """As receivers read it: of what is no tag list, and has a tag twice for one, nothing."""
    return {name: re.sub(r"\s+", "", value) for name, value in (tag_list(text) or {}).items()}


def _octets(value: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error:
        return value.encode()


def served(sights: Sequence[Sight]) -> bool:
    """Whether every server serves the right key: over UDP, or where that has no room for it over TCP, and none says
    anything else over either."""
    return bool(sights) and not lacking(sights) and any(sight.verdict == "right" for sight in sights)


def lacking(sights: Sequence[Sight]) -> list[Sight]:
    """The servers that a key waits for, one sight of each."""
    by_server: dict[tuple[str, str], dict[str, Sight]] = {}
    for sight in sights:
        by_server.setdefault((sight.server, sight.address), {})[sight.via] = sight
    reached = {sight.server for sight in sights if sight.verdict == "right"}
    found = []
    for views in by_server.values():
        first = next(iter(views.values()))
        denial = next((sight for sight in views.values() if sight.verdict in _DENIES), None)
        udp, tcp = views.get("udp", first), views.get("tcp", first)
        if denial is not None:
            found.append(denial)
        elif udp.verdict == "truncated" and tcp.verdict != "right":
            found.append(tcp)
        elif udp.verdict == "unknown" or (udp.verdict == "unasked" and udp.server not in reached):
            found.append(udp)
    return found


def denied(sights: Sequence[Sight]) -> bool:
    """Whether some server says that the key is not there, or is another."""
    return any(sight.verdict in _DENIES for sight in sights)


def gone(sights: Sequence[Sight]) -> bool:
    """Whether every server says so, over every transport."""
    known = [sight for sight in sights if sight.verdict not in ("alias", "unasked")]
    return bool(known) and all(sight.verdict in _DENIES for sight in known)


# --- steps


def step(
    ring: Ring, seen: Mapping[str, Look], now: float, rules: Rules, oldest_at: float | None
) -> tuple[Ring, list[Move]]:
    """What follows from a look at DNS. `oldest_at`: when the oldest mail in the queue was accepted; None without any.

    Keys that replace others become active together, and only on a look of this very step.
    """
    moves: list[Move] = []
    ring = replace(ring, keys=tuple(_seen(ring.domain, key, seen.get(key.selector), now, moves) for key in ring.keys))
    for key in ring.coming:
        batch = {other.selector for other in ring.coming if key.replaces and other.replaces == key.replaces}
        batch |= {key.selector}
        if all(_ready(ring.key(name), seen.get(name), now) for name in batch):
            ring = _activated(ring, batch, now, rules, moves)
    for key in ring.of(Stage.RETIRING):
        look = seen.get(key.selector)
        if look is not None and spent(key, now, rules, oldest_at) and gone(look.sights):
            ring = _moved(ring, key.selector, Stage.RETIRED, now, moves)
    return _forgotten(ring), moves


def _seen(domain: str, key: KeyState, look: Look | None, now: float, moves: list[Move]) -> KeyState:
    """A coming key after a look."""
    if look is None or key.stage not in (Stage.PENDING, Stage.PUBLISHED):
        return key
    remembered = [sight.ttl_s for sight in look.sights if sight.verdict in _DENIES]
    linger_s = min(max(key.linger_s, look.negative_s, *remembered, 0.0), LINGER_MAX_S)
    key = replace(key, linger_s=linger_s)
    if key.stage is Stage.PENDING and served(look.sights):
        moves.append(Move(domain, key.selector, Stage.PUBLISHED))
        return replace(key, stage=Stage.PUBLISHED, since=now)
    if key.stage is Stage.PUBLISHED and denied(look.sights):
        moves.append(Move(domain, key.selector, Stage.PENDING))
        return replace(key, stage=Stage.PENDING, since=now)
    return key


def _ready(key: KeyState | None, look: Look | None, now: float) -> bool:
    return (
        key is not None
        and key.stage is Stage.PUBLISHED
        and now >= key.ready_at
        and look is not None
        and served(look.sights)
    )


def spent(key: KeyState, now: float, rules: Rules, oldest_at: float | None) -> bool:
    """Whether no mail on its way can carry a signature of this retiring key."""
    return now >= key.until and (oldest_at is None or oldest_at > key.since + rules.settle_s)


def _activated(ring: Ring, selectors: set[str], now: float, rules: Rules, moves: list[Move]) -> Ring:
    replaced = {name for key in ring.keys if key.selector in selectors for name in key.replaces}
    for key in ring.keys:
        if key.selector in selectors:
            ring = _moved(ring, key.selector, Stage.ACTIVE, now, moves)
        elif key.selector in replaced and key.stage is Stage.ACTIVE:
            ring = _moved(ring, key.selector, Stage.RETIRING, now, moves, until=now + rules.keep_s)
    return replace(ring, rotated_at=now) if replaced else ring


def _moved(ring: Ring, selector: str, to: Stage, now: float, moves: list[Move], until: float = 0.0) -> Ring:
    moves.append(Move(ring.domain, selector, to))
    keys = tuple(
        replace(key, stage=to, since=now, until=until, replaces=()) if key.selector == selector else key
        for key in ring.keys
    )
    return replace(ring, keys=keys)


def _forgotten(ring: Ring) -> Ring:
    """Without the oldest of the retired."""
    retired = sorted(ring.of(Stage.RETIRED), key=lambda key: key.since)
    old = {key.selector for key in retired[: max(len(retired) - HISTORY_MAX, 0)]}
    return replace(ring, keys=tuple(key for key in ring.keys if key.selector not in old)) if old else ring


# --- what an operator decides


def switched(ring: Ring, now: float, rules: Rules) -> tuple[Ring, list[Move]]:
    """The coming keys sign from now on, whatever DNS serves."""
    moves: list[Move] = []
    if not ring.coming:
        raise RotationError(f"{ring.domain} has no key that waits")
    return _activated(ring, {key.selector for key in ring.coming}, now, rules, moves), moves


def aborted(ring: Ring, now: float) -> tuple[Ring, list[Move]]:
    """The keys that were to replace others are given up; they never signed."""
    moves: list[Move] = []
    if not ring.rotation:
        raise RotationError(
            f"{ring.domain} is in no rotation that could be ended: its keys have switched, or never began"
        )
    for key in ring.rotation:
        ring = _moved(ring, key.selector, Stage.RETIRED, now, moves)
    return _forgotten(ring), moves


def retired(
    ring: Ring, selector: str, now: float, rules: Rules, oldest_at: float | None, *, at_once: bool
) -> tuple[Ring, list[Move]]:
    """One key goes: an active one stops to sign, a coming one is given up, a retiring one that is spent is destroyed.

    `at_once` destroys a retiring key that may still be needed, and lets the last active one go. RotationError.
    """
    moves: list[Move] = []
    key = ring.key(selector)
    if key is None:
        raise RotationError(f"{ring.domain} has no key at selector {clean(selector, 80)}")
    match key.stage:
        case Stage.ACTIVE:
            if len(ring.of(Stage.ACTIVE)) == 1 and not at_once:
                raise RotationError(
                    f"{selector} is the only key that signs for {ring.domain}: rotate it, or say --now to sign no more"
                )
            ring = _moved(ring, selector, Stage.RETIRING, now, moves, until=now + rules.keep_s)
        case Stage.PENDING | Stage.PUBLISHED:
            ring = _moved(ring, selector, Stage.RETIRED, now, moves)
        case Stage.RETIRING:
            if not at_once and not spent(key, now, rules, oldest_at):
                raise RotationError(f"mail on its way may carry the signature of {selector}: wait, or say --now")
            ring = _moved(ring, selector, Stage.RETIRED, now, moves)
        case Stage.RETIRED:
            raise RotationError(f"{selector} is retired already")
    return _forgotten(ring), moves


def overdue(ring: Ring, now: float) -> bool:
    """Whether the schedule wants new keys. Not while some are coming."""
    if ring.schedule_s <= 0 or ring.coming or not ring.of(Stage.ACTIVE):
        return False
    return now >= next_at(ring)


def next_at(ring: Ring) -> float:
    """When the schedule wants new keys; only with a schedule."""
    return max(ring.rotated_at, *(key.since for key in ring.of(Stage.ACTIVE)), 0.0) + ring.schedule_s


def interval_s(key: KeyState, now: float, rules: Rules) -> float:
    """How long after a look at this key the next one is due."""
    match key.stage:
        case Stage.PENDING:  # at first somebody waits for it; later nobody sits there
            return min(rules.check_s * (1 if now - key.since < 3600 else 10), 3600.0)
        case Stage.PUBLISHED:
            return max(min(key.ready_at - now, 10 * rules.check_s), min(rules.check_s, 1.0))
        case Stage.ACTIVE:
            return 60 * rules.check_s
        case Stage.RETIRING:
            return 10 * rules.check_s
        case Stage.RETIRED:
            return float("inf")
