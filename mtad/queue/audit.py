"""What operators leave behind: the audit trail, and the rules by which new mail is held.

Every change of the queue by an operator and its line in the trail are one transaction.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from mtad.mail.envelope import Job, State
from mtad.queue.store import Selector, Settlement

if TYPE_CHECKING:
    from mtad.accounts.account import StoredUser
    from mtad.queue.transfers import Transfers

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Entry:
    """Who did what to what, and why. `id` and `at` are the store's to give."""

    uid: int = -1
    who: str = ""
    operation: str = ""
    selector: str = ""
    reason: str = ""
    changed: int = 0
    at: float = 0.0
    id: int = 0


@dataclass(frozen=True, slots=True)
class Changed:
    """What a change did. `active`: those of the recipients that are being delivered just now; what the other side
    answers outweighs the change. `audit` is the number of its line in the trail, 0 when nothing was changed."""

    recipients: int = 0
    active: int = 0
    audit: int = 0


@dataclass(frozen=True, slots=True)
class Action:
    """What an operation did to one recipient: `before` it was in that state."""

    n: int
    before: State
    entry: Entry
    address: str = ""  # before it was redirected; "" when it was not


@dataclass(frozen=True, slots=True)
class HoldRule:
    """New mail that meets all given conditions waits until it is released. Conditions are read as a Selector's."""

    id: int
    sender: str = ""
    recipient: str = ""
    domain: str = ""
    user: str = ""
    ip: str = ""
    reason: str = ""
    who: str = ""
    made_at: float = 0.0
    until_at: float = 0.0  # 0 = for good
    freezes: bool = False  # made by `user freeze`, and undone by `user thaw`


@dataclass(frozen=True, slots=True)
class Looked:
    """Which lines of the trail are asked for; "" and 0 mean any."""

    since_at: float = 0.0
    who: str = ""
    operation: str = ""  # or how it begins: "queue"
    limit: int = 100


class OperatorStore(Protocol):
    """Each call is one transaction, durable when it returns."""

    async def transfer(self, call: "Callable[[Transfers], T]", *, read: bool = False) -> "T":
        """Have something done to the mail on its way to another queue, or from one. ValueError as it says. `read`: it
        changes nothing."""

    async def note(self, entry: Entry, now: float) -> int:
        """Add a line to the trail. Its number."""

    async def trail(self, looked: Looked) -> Sequence[Entry]:
        """The newest lines that match, oldest first."""

    async def actions(self, message_id: str) -> Sequence[Action]:
        """What operators did to the recipients of a message, oldest first."""

    async def newest_id(self) -> str:
        """The greatest id in the queue, "" when it is empty."""

    async def claim(self, what: Selector, now: float, until: float, after: str, limit: int) -> Sequence[Job]:
        """Lease selected recipients that wait or are held and are not being delivered, at most `limit` of those after
        recipient id `after`; one job a message, in the order of ids."""

    async def settle_claimed(
        self, settlements: Sequence[Settlement], entry: Entry, now: float, audit: int
    ) -> tuple[Changed, Sequence[Settlement]]:
        """Record outcomes that an operator gave, and the line in the trail; `audit` 0 begins one, else it is added
        to that. Also those that were recorded: all but those whose lease was lost."""

    async def hold_rules(self) -> Sequence[HoldRule]: ...

    async def add_hold_rule(self, rule: HoldRule, entry: Entry, now: float) -> int:
        """The number of the rule, and of its line in the trail."""

    async def remove_hold_rule(self, number: int) -> bool:
        """False: there is none. What it held stays held."""

    async def freeze(self, user: "StoredUser", what: Selector, entry: Entry, now: float) -> Changed:
        """Save the (disabled) user, hold what is selected, and hold what still comes of the user, under one number."""

    async def thaw(self, user: "StoredUser", entry: Entry, now: float, *, release: bool) -> Changed:
        """Save the (enabled) user and end the rules that froze it; `release` also what they and `freeze` held."""
