"""Why a recipient of a mail waits, and what an operator may type about it. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from mtad.mail.envelope import Message, Recipient, State
from mtad.mail.errorclass import CLASSES
from mtad.outbound.site import Closed
from mtad.queue.audit import Action, Entry
from mtad.queue.lines import HELD_BY_DAEMON, HOLDS, NOT_DUE, PUT_OFF, PUT_OFF_WITH, SENDER_ASKED


@dataclass(frozen=True, slots=True)
class Waiting:
    """`until`: unix seconds, 0 = nobody knows. `command`: what to type next, "" for nothing."""

    words: str = ""
    until: float = 0.0
    command: str = ""


@dataclass(frozen=True, slots=True)
class Around:
    """What holds for all mail of its kind now. `site` has `running` jobs at work of `room`; `slot_at` is when its rate
    lets the next go. `busy`: so many of our `workers` work, for whatever site. `start` is the command that starts the
    daemon, "" while it runs."""

    closed: Closed | None = None
    site: str = ""
    running: int = 0
    room: int = 1
    slot_at: float = 0.0
    busy: int = 0
    workers: int = 1
    start: str = ""


@dataclass(frozen=True, slots=True)
class Next:
    """The next try: not before `at`, unix seconds; 0: there is none, or nobody knows when. `then` says more of it."""

    at: float = 0.0
    then: str = ""


def next_try(recipient: Recipient, closed: Closed | None) -> Next:
    """The later of its own time and the opening of its site."""
    if recipient.state is not State.READY:
        return Next()
    if closed is None:
        return Next(recipient.next_at)
    if not closed.until:
        return Next(0.0, "not before somebody ends that")
    at = max(recipient.next_at, closed.until)
    if closed.why != "broken":
        return Next(at)
    return Next(
        at, "when the site is tried with one mail first" if at == closed.until else "if its site takes mail then"
    )


def advice(recipient: Recipient) -> str:
    """What is to be done about the class of its last error."""
    known = CLASSES.get(recipient.error)
    return known.operator if known is not None and recipient.state is not State.DONE else ""


def why(message: Message, recipient: Recipient, actions: Sequence[Action], around: Around, now: float) -> Waiting:
    """Why it is still here. Nothing for what has its outcome. `actions` are those on this recipient."""
    match recipient.state:
        case State.DONE | State.FAILED:
            return Waiting()
        case State.TRASHED:
            return Waiting("in the trash: nobody gets it", 0.0, f"mtactl queue restore {recipient.id}")
        case State.HELD:
            return _held(recipient, actions)
        case State.LEASED:
            if around.running >= around.room > 0 and around.site:
                words = f"being delivered, or next in line at {around.site}, which has {around.running} at work"
                return Waiting(words, 0.0, f"mtactl site show {around.site}")
            return Waiting("being delivered just now", 0.0, f"mtactl trace {message.id} --follow")
        case State.READY:
            return _ready(message, recipient, actions, around, now)


def _held(recipient: Recipient, actions: Sequence[Action]) -> Waiting:
    release = f"mtactl queue release {recipient.id}"
    by = next((one.entry for one in reversed(actions) if one.entry.operation in HOLDS), None)
    if by is None:
        last = recipient.last
        damaged = f"held by the daemon: {last.text}" if last is not None and last.status == "4.3.0" else ""
        return Waiting(damaged or HELD_BY_DAEMON, 0.0, release)
    because = f": {by.reason}" if by.reason else ""
    of = f"{by.id} of " if by.operation == "queue.hold_rule.add" else ""
    return Waiting(f"{HOLDS[by.operation]}{of}{_who(by)}{because}", 0.0, release)


def _ready(message: Message, recipient: Recipient, actions: Sequence[Action], around: Around, now: float) -> Waiting:
    flush = f"mtactl queue flush {recipient.id}"
    if around.start:
        return Waiting("mtad is not running: nothing is delivered", 0.0, around.start)
    if around.closed is not None:
        return _shut(around.closed, around.site, message, recipient)
    if recipient.next_at > now:
        if message.hold_until > now:
            return Waiting(SENDER_ASKED, recipient.next_at, flush)
        if actions and actions[-1].entry.operation in PUT_OFF_WITH:
            return Waiting(f"{PUT_OFF}{_who(actions[-1].entry)}", recipient.next_at, flush)
        return Waiting(f"{NOT_DUE} after its last try" if recipient.tries else NOT_DUE, recipient.next_at, flush)
    moment = Waiting("due: it is tried in a moment", 0.0, f"mtactl trace {message.id} --follow")
    return crowded(around, now) or busy(around) or moment


def crowded(around: Around, now: float) -> Waiting | None:
    """Why its site takes no more of what is due."""
    show = f"mtactl site show {around.site}" if around.site else ""
    if around.slot_at > now:
        return Waiting(f"the rate of {around.site} lets no more go now", around.slot_at, show)
    if around.site and around.running >= around.room:
        words = f"{around.site} has no room: {around.running} at work, as many as may be at the same time"
        return Waiting(words, 0.0, show)
    return None


def busy(around: Around) -> Waiting | None:
    """Why we take on nothing more of what is due."""
    if around.busy < around.workers:
        return None
    return Waiting(f"all {around.workers} workers are busy (delivery.workers)", 0.0, "mtactl top")


def _who(entry: Entry) -> str:
    return entry.who or f"uid={entry.uid}"


def _shut(closed: Closed, site: str, message: Message, recipient: Recipient) -> Waiting:
    words = closed.reply.text
    if closed.why == "suspended":
        by = f" ({closed.reply.cause})" if closed.reply.cause else ""
        return Waiting(words + by, closed.until, "mtactl suspend list")
    command = f"mtactl site {'reset' if closed.why == 'broken' else 'show'} {site or recipient.domain}"
    return Waiting(words, closed.until, command)
