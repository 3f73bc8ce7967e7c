"""One fact that an operator may want to see, and who reads along. Pure."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

READER_MAX = 2000

KINDS = (
    "accepted",
    "delivered",
    "deferred",
    "failed",
    "expired",
    "report",
    "refused",
    "sign-in",
    "sign-in-failed",
    "blocked",
    "tls",
    "site",
    "suppressed",
    "dkim",
    "operator",
    "daemon",
    "warning",
    "error",
)
# These follow from the rows of messages, tries, reports and the audit trail.
DERIVED = frozenset({"accepted", "delivered", "deferred", "failed", "report", "operator"})

_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


@dataclass(frozen=True, slots=True)
class Event:
    """`text` is its line in the log, which is safe to show. What it is not about is ""."""

    at: float
    kind: str  # of KINDS
    text: str
    message: str = ""
    sender: str = ""
    to: tuple[str, ...] = ()
    ip: str = ""
    user: str = ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events are asked for; all that is given must hold. Addresses are read as a Selector's."""

    kinds: frozenset[str] = frozenset()
    sender: str = ""
    to: str = ""
    user: str = ""
    ip: str = ""
    since_at: float = 0.0

    def meets(self, event: Event) -> bool:
        return (
            event.at >= self.since_at
            and (not self.kinds or event.kind in self.kinds)
            and (not self.user or like(self.user, event.user))
            and (not self.ip or like(self.ip, event.ip))
            and (not self.sender or _sender(self.sender, event))
            and (not self.to or any(like(self.to, address) for address in event.to))
        )


def _sender(pattern: str, event: Event) -> bool:
    if pattern == "<>":
        return not event.sender and bool(event.message)
    return like(pattern, event.sender)


def like(pattern: str, text: str) -> bool:
    """Exact, "@domain", or a glob with * and ?, in any case of ASCII."""
    pattern, text = pattern.translate(_LOWER), text.translate(_LOWER)
    if pattern.startswith("@"):
        return text.endswith(pattern)
    if "*" in pattern or "?" in pattern:
        return fnmatchcase(text, pattern.replace("[", "[[]"))
    return text == pattern


class Reader:
    """What one reader has not taken yet. Whoever tells never waits: what finds no room is counted, and lost."""

    def __init__(self, room: int = READER_MAX) -> None:
        self._room = room
        self._waiting: deque[Event] = deque()
        self._lost = 0

    def tell(self, event: Event) -> None:
        if len(self._waiting) >= self._room:
            self._lost += 1
        else:
            self._waiting.append(event)

    def take(self) -> tuple[Sequence[Event], int]:
        """What came since the last time, oldest first, and how many were lost after that."""
        taken = [self._waiting.popleft() for _ in range(len(self._waiting))]
        lost, self._lost = self._lost, 0
        return taken, lost
