"""One site that mail goes to, what is known of it, and the text of it that a restart must not forget. Pure."""

import json
import math
from dataclasses import dataclass, field
from typing import Any

from mtad.config import SiteRule
from mtad.mail.reply import Reply
from mtad.mail.text import clean
from mtad.queue import pace
from mtad.queue.pace import Pace, Warmup
from mtad.queue.sitestore import StoredSite

DOMAINS_KEPT = 100  # of a site, over a restart


@dataclass(slots=True, eq=False)
class Site:
    """One site. Until the plan of its first mail is made, a domain is a site by itself, under its own name."""

    name: str
    hosts: tuple[str, ...] = ()
    rule: SiteRule | None = None
    local: bool = False  # mailboxes and programs of this machine: nothing to be polite to
    pace: Pace = field(default_factory=Pace)
    warmup: Warmup = field(default_factory=Warmup)
    domains: set[str] = field(default_factory=set)
    next_slot_at: float = 0.0  # by its rate
    running: int = 0
    slow: bool = False  # its last job took much longer than jobs usually do
    told: int = 0  # the day on which the end of its warm-up quota was told

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name, *self.hosts)


@dataclass(frozen=True, slots=True)
class Closed:
    """Why nothing goes out now, and until when; 0: until somebody changes it."""

    why: str  # suspended, broken, warm-up
    until: float
    reply: Reply  # what the queue shows
    of_user: bool = False


def stored(site: Site | None) -> str:
    """The text that is kept of a site; "" when nothing needs to be."""
    if site is None or not (site.pace.open or site.warmup.sent or site.warmup.step):
        return ""
    one, warmup = site.pace, site.warmup
    return json.dumps(
        {
            "hosts": site.hosts,
            "domains": sorted(site.domains)[:DOMAINS_KEPT],
            "breaker": [one.opened_at, one.probe_at, one.openings, one.blocked, one.seen, one.cause],
            "warmup": [warmup.day, warmup.sent, warmup.step],
        }
    )


def restored(row: StoredSite, now: float) -> Site | None:
    """The site of such a text. What cannot be read is nothing worse than forgotten."""
    try:
        data: dict[str, Any] = json.loads(row.data)
        opened_at, probe_at, openings, blocked, seen, cause = data["breaker"]
        opened_at, probe_at = _number(opened_at), _number(probe_at)
        warmup = Warmup(*(int(_number(part)) for part in data["warmup"]))
        site = Site(row.name, tuple(_texts(data["hosts"])), domains=set(_texts(data["domains"])), warmup=warmup)
        if opened_at:
            latest = now + pace.STATED_MAX_S  # should the clock have been wrong
            site.pace = Pace(
                1.0, True, False, 0, min(opened_at, now), min(probe_at, latest), int(_number(openings)), bool(blocked),
                int(_number(seen)), clean(_texts([cause])[0], pace.CAUSE_MAX),
            )  # fmt: skip
    except (ValueError, LookupError, TypeError, OverflowError, RecursionError):
        return None
    return site


def _number(value: Any) -> float:
    if isinstance(value, int | float) and math.isfinite(value):
        return value
    raise ValueError("not a number")


def _texts(values: Any) -> list[str]:
    if isinstance(values, list) and all(isinstance(value, str) for value in values):
        return values
    raise ValueError("not texts")
