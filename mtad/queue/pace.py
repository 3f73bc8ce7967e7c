"""How fast a site may be served: what a try told of it, and what follows for the next ones. Pure.

A site is the set of mail hosts that one or more recipient domains share. Its window, the number of deliveries at the
same time, begins small, grows with every mail that the site takes (doubling at first, by one a round later), and is
halved when it stops answering. After FAILURES_MAX such failures in a row, or when it says that it wants nothing of us
for a while, the breaker opens: no mail goes there until one job, the probe, is let through; what comes of it closes
the breaker or makes the next wait longer.
"""

import random
import re
from dataclasses import dataclass, replace
from enum import Enum

from mtad.config import Rate
from mtad.mail.reply import Reply

WINDOW_FIRST = 1.0  # to a site of which nothing is known
FAILURES_MAX = 3
SILENT_S, SILENT_MAX_S = 60.0, 1800.0  # the wait before a probe, doubled with each one that fails
BLOCKED_S, BLOCKED_MAX_S = 300.0, 7200.0
STATED_MIN_S, STATED_MAX_S = 60.0, 4 * 3600.0  # bounds of a wait that the site itself asked for
JITTER = 0.1
CAUSE_MAX = 200
DAY_S = 86400
QUOTA_MAX = 1_000_000_000


class Sign(Enum):
    """What a try told of the site, whatever it meant for the mail."""

    NOTHING = 0  # the trouble was ours
    WORKS = 1  # it took mail
    ANSWERS = 2  # it refused this mail or this recipient, not us
    SILENT = 3  # no connection, no answer, or it ended the talk
    CROWDED = 4  # too many connections
    BLOCKED = 5  # it wants no mail of us for a while


_GREYLISTS = re.compile(r"gr[ea]y[ -]?list|postgrey")
_CROWDED = re.compile(
    r"too many (?:\w+ )?(?:connections|sessions)|concurren|simultaneous|connections? limit|limit of connections"
    r"|maximum number of connections|max(?:imum)? connections"
)
_BLOCKED = re.compile(
    r"rate[ -]?(?:limit|control)|throttl|unusual rate|sending rate|message rate|too fast|too quickly|slow down"
    r"|too (?:many|much) (?:messages|mails?|e-?mails?|recipients|requests)|per (?:hour|minute|day)|hourly|daily"
    r"|temporar\w+ (?:deferred|blocked|limited|rate|suspended)|unsolicited|reputation|complaints|block ?list|blacklist"
    r"|is listed|listed (?:in|at|by|on)|(?:ip|address|host|server)[^.]{0,60} blocked|banned"
)
_LATER = re.compile(r"(?:try|retry) (?:it )?(?:again )?later|server busy|too busy|is busy")
_STATED = re.compile(r"\b(?:in|after|for) (\d{1,4}) ?(seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h)\b")
_UNIT_S = {"s": 1.0, "m": 60.0, "h": 3600.0}
_OF_THE_MAIL = ("4.1.", "4.2.", "4.5.3", "4.6.")
_EARLY = frozenset({"connect", "ehlo", "helo", "lhlo"})


def read(reply: Reply) -> Sign:
    """The sign in one reply."""
    if reply.ok:
        return Sign.WORKS
    if not reply.host:  # our own conclusion
        if reply.permanent:
            return Sign.ANSWERS
        if reply.stage == "auth" and reply.status != "4.3.5":  # each mail would fail by it, and a host may count them
            return Sign.SILENT
        return Sign.SILENT if reply.status.startswith("4.4.") and reply.status != "4.4.7" else Sign.NOTHING
    if reply.permanent or reply.status.startswith(_OF_THE_MAIL):
        return Sign.ANSWERS
    words = reply.text[:1000].lower()
    if _GREYLISTS.search(words):
        return Sign.ANSWERS
    if _CROWDED.search(words):
        return Sign.CROWDED
    wide = reply.code == 421 or reply.stage in _EARLY
    if _BLOCKED.search(words) or ((wide or reply.status.startswith("4.7.5")) and _LATER.search(words)):
        return Sign.BLOCKED
    return Sign.SILENT if wide else Sign.ANSWERS


_WEIGHT = {
    Sign.NOTHING: 0,
    Sign.ANSWERS: 1,
    Sign.SILENT: 2,
    Sign.CROWDED: 3,
    Sign.BLOCKED: 4,
    Sign.WORKS: 5,
}


def weightiest(replies: list[Reply]) -> tuple[Sign, Reply | None]:
    """The sign that counts for a job, and the reply it comes from: mail that was taken speaks loudest."""
    best, source = Sign.NOTHING, None
    for reply in replies:
        sign = read(reply)
        if _WEIGHT[sign] > _WEIGHT[best]:
            best, source = sign, reply
    return best, source


def stated_s(reply: Reply) -> float:
    """The wait that a reply asks for ("try again in 10 minutes"), within bounds; 0 when it names none."""
    found = _STATED.search(reply.text[:1000].lower())
    if found is None:
        return 0.0
    return min(max(int(found[1]) * _UNIT_S[found[2][0]], STATED_MIN_S), STATED_MAX_S)


@dataclass(frozen=True, slots=True)
class Pace:
    """What is known of a site. The breaker is open while `opened_at` is set."""

    window: float = WINDOW_FIRST
    cautious: bool = False  # grows by one a round, and no longer with every mail
    proven: bool = False  # it took mail, and nothing spoke against it since
    failures: int = 0  # in a row
    opened_at: float = 0.0
    probe_at: float = 0.0
    openings: int = 0  # in a row
    blocked: bool = False  # it said so, rather than being silent
    seen: int = 0  # how often the cause was seen since
    cause: str = ""  # "421 4.7.0 Try again later", cleaned by who shows it

    @property
    def open(self) -> bool:
        return self.opened_at > 0


def room(pace: Pace, now: float, ceiling: int) -> int:
    """How many deliveries may be at work at the same time."""
    if pace.opened_at:
        return 1 if now >= pace.probe_at else 0
    return max(1, min(int(pace.window), ceiling))


def after(
    pace: Pace, sign: Sign, now: float, ceiling: int, rng: random.Random, cause: str = "", stated: float = 0.0
) -> Pace:
    """What is known after a job that ended with `sign`; `stated` is the wait that the site asked for."""
    match sign:
        case Sign.NOTHING:
            return pace
        case Sign.WORKS:
            return _works(pace, ceiling)
        case Sign.ANSWERS:
            if pace.opened_at:
                return Pace(window=1.0, cautious=True)
            return replace(pace, failures=0) if pace.failures else pace
        case Sign.CROWDED if pace.window >= 2 and not pace.opened_at:
            # It is there, and has told how much is too much.
            return replace(pace, window=pace.window / 2, cautious=True, failures=0)
        case Sign.BLOCKED:
            return _opened(pace, now, rng, cause, stated, blocked=True)
        case Sign.SILENT | Sign.CROWDED:
            if pace.opened_at or pace.failures + 1 >= FAILURES_MAX:
                return _opened(pace, now, rng, cause, stated, blocked=False)
            return replace(
                pace,
                window=max(1.0, pace.window / 2),
                cautious=True,
                proven=False,
                failures=pace.failures + 1,
                cause=cause[:CAUSE_MAX],
            )


def _works(pace: Pace, ceiling: int) -> Pace:
    if pace.opened_at:
        return Pace(window=1.0, cautious=True, proven=True)
    if pace.proven and not pace.failures and pace.window >= ceiling:
        return pace
    step = 1 / max(pace.window, 1.0) if pace.cautious else 1.0
    return Pace(min(pace.window + step, max(float(ceiling), 1.0)), pace.cautious, proven=True)


def probe_waits_s(blocked: bool) -> list[float]:
    """The waits before one probe after the other, the last of which repeats, for a site that said so or is silent."""
    first_s, longest_s = (BLOCKED_S, BLOCKED_MAX_S) if blocked else (SILENT_S, SILENT_MAX_S)
    waits_s = [first_s]
    while waits_s[-1] < longest_s:
        waits_s.append(min(waits_s[-1] * 2, longest_s))
    return waits_s


def _opened(pace: Pace, now: float, rng: random.Random, cause: str, stated: float, *, blocked: bool) -> Pace:
    if pace.opened_at and now < pace.probe_at:
        return replace(pace, seen=pace.seen + 1)  # it was on its way when the breaker opened
    waits_s = probe_waits_s(blocked)
    wait_s = waits_s[min(pace.openings, len(waits_s) - 1)]
    # Never sooner than it asked for.
    probe_at = now + max(wait_s * rng.uniform(1 - JITTER, 1 + JITTER), stated)
    return Pace(
        window=1.0,
        cautious=True,
        opened_at=pace.opened_at or now,
        probe_at=probe_at,
        openings=pace.openings + 1,
        blocked=blocked,
        seen=pace.seen + 1 if pace.opened_at else pace.failures + 1,
        cause=cause[:CAUSE_MAX],
    )


# Ceilings over time.


def spacing_s(rate: Rate) -> float:
    """The time between two mails that keeps to a rate in every window of its length; 0 without one."""
    return rate.window_s / rate.count if rate.count else 0.0


@dataclass(frozen=True, slots=True)
class Warmup:
    """How far a site's warm-up is: the day (UTC, counted from 1970), what was sent on it, and days with mail before."""

    day: int = 0
    sent: int = 0
    step: int = 0


def today(warmup: Warmup, now: float) -> Warmup:
    """The same on the day of `now`. Only days on which something was sent bring it forward."""
    day = int(now // DAY_S)
    if day <= warmup.day:
        return warmup if day == warmup.day else replace(warmup, day=day)  # the clock was set back
    return Warmup(day, 0, warmup.step + 1 if warmup.sent else warmup.step)


def quota(per_day: int, growth: float, step: int) -> int:
    """How many mails may go on the day of that step. 0 `per_day` is any number: QUOTA_MAX."""
    if not per_day:
        return QUOTA_MAX
    try:
        return int(min(per_day * growth**step, QUOTA_MAX))
    except OverflowError:
        return QUOTA_MAX


def next_day(now: float) -> float:
    """When the next day of a warm-up begins."""
    return (now // DAY_S + 1) * DAY_S
