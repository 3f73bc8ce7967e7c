"""What is asked about the past: messages by what is known of them, events, and how much there was.

What may be long is read in steps, the newest first, so that no question keeps the mail waiting.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from mtad.mail.event import Event, Wanted

STEP_S = 600
"""How exactly it is known when there was how much."""

TALLIES_S = 7 * 86400
"""How long that is kept."""

EVENTS_MAX = 10_000
"""Of each kind, the newest so many are kept."""

TALLIED = ("accepted", "delivered", "deferred", "failed", "refused", "sign_in_failed")


@dataclass(frozen=True, slots=True)
class Sought:
    """Which messages are meant; all that is given must hold. `word` is a Message-ID, an address of sender or recipient,
    or the client's IP address; the others are as in a Selector."""

    word: str = ""
    sender: str = ""
    recipient: str = ""
    user: str = ""
    ip: str = ""
    subject: str = ""
    since_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Tally:
    """How much there was in one step. `accepted` counts recipients, the next three tries."""

    at: int
    accepted: int = 0
    delivered: int = 0
    deferred: int = 0
    failed: int = 0
    refused: int = 0
    sign_in_failed: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """A report about a message. `state` is a display word, "forgotten" when its history is over."""

    message_id: str
    to: str
    made_at: float
    state: str
    reply: str


@dataclass(frozen=True, slots=True)
class Sent:
    """A message that matched, with the outcome of its recipients: state word -> how many."""

    message_id: str
    accepted_at: float
    size_bytes: int
    sender: str
    ip: str
    source: str
    user: str
    subject: str
    states: Mapping[str, int]
    domains: frozenset[str]


class HistoryStore(Protocol):
    async def find(self, sought: Sought, before: int, limit: int) -> tuple[Sequence[str], int]:
        """Ids of messages that match and have a number below `before` (0: any), newest first, at most `limit`, of those
        that one step looks at; and where the next step begins, 0 when there is none."""

    async def sent(self, sought: Sought, before: int, limit: int) -> tuple[Sequence[Sent], int]:
        """The same with what became of each."""

    async def accepted_events(self, wanted: Wanted, before: int, limit: int) -> tuple[Sequence[Event], int]:
        """What `find` does, for the events of accepting."""

    async def attempt_events(self, wanted: Wanted, before: int, limit: int) -> tuple[Sequence[Event], int]:
        """The same for tries."""

    async def other_events(self, wanted: Wanted, limit: int) -> Sequence[Event]:
        """Reports, what operators did, and what was kept by keep_events; newest first."""

    async def keep_events(self, events: Sequence[Event], tally: Tally) -> None:
        """Store events, forget the oldest, add up the tally. Durable."""

    async def tallies(self, since_at: float) -> Sequence[Tally]:
        """Oldest first; steps in which nothing was are left out."""

    async def reports(self, message_id: str) -> Sequence[Report]:
        """The reports about a message."""

    async def report_of(self, message_id: str) -> str:
        """The message that this one reports on; "" when it is no report."""
