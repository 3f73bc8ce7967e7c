"""How much a user may send in a day: messages, and recipients who never got mail of this user before.

A stolen password sends to thousands of strangers; its owner hardly ever does. What was sent is counted by the store, in
the transaction that accepts it; what is on its way in other sessions of the user is reserved here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from mtad.accounts.account import StoredUser
from mtad.config import Limits
from mtad.mail.envelope import Clock
from mtad.mail.reply import Reply
from mtad.queue.people import fold
from mtad.queue.store import SENDING_STEP_S, SENDING_WINDOW_S, Store, Usage


@dataclass(frozen=True, slots=True)
class Allowance:
    """In SENDING_WINDOW_S; 0 = no limit."""

    messages: int
    new_recipients: int


def allowance(user: StoredUser, limits: Limits) -> Allowance:
    """The user's own limits, else the configured ones."""
    form = user.profile
    messages, new = form.messages_per_day, form.new_recipients_per_day
    return Allowance(
        limits.user_messages_per_day if messages is None else messages,
        limits.user_new_recipients_per_day if new is None else new,
    )


def count(steps: Sequence[tuple[int, int]], now: float) -> int:
    """How many of these are within the window. A step is in it until its last moment has left it."""
    return sum(number for at, number in steps if at + SENDING_STEP_S + SENDING_WINDOW_S > now)


def lifts_at(limit: int, steps: Sequence[tuple[int, int]], wanted: int, now: float) -> float | None:
    """None when `wanted` more are within the limit; else when they will be, if nothing else is sent."""
    excess = count(steps, now) + wanted - limit
    if limit == 0 or excess <= 0:
        return None
    for at, number in steps:
        leaves_at = at + SENDING_STEP_S + SENDING_WINDOW_S
        if leaves_at > now:
            excess -= number
            if excess <= 0:
                return leaves_at
    return now + SENDING_WINDOW_S


def refusal(what: str, limit: int, at: float) -> Reply:
    """`what` is "messages" or "new recipients"."""
    until = datetime.fromtimestamp(at, UTC)
    text = f"Your limit of {limit} {what} a day is reached until {until:%Y-%m-%d %H:%M} UTC"
    return Reply(450, "4.7.1", text, stage="rcpt")


@dataclass(slots=True)
class _Account:
    """One user's sending: what the store knows, and what sessions have reserved."""

    usage: Usage = field(default_factory=Usage)
    tickets: int = 0
    messages: int = 0
    new: int = 0


class Quotas:
    """All users' sending. One for each acceptor."""

    def __init__(self, store: Store, clock: Clock, limits: Limits) -> None:
        self._store = store
        self._clock = clock
        self._limits = limits
        self._accounts: dict[str, _Account] = {}

    def ticket(self, user: StoredUser) -> "Ticket | None":
        """For one mail of this user; None when nothing limits it."""
        allowed = allowance(user, self._limits)
        if not allowed.messages and not allowed.new_recipients:
            return None
        account = self._accounts.setdefault(user.name, _Account())
        account.tickets += 1
        return Ticket(self, user.name, allowed, account)

    def _end(self, name: str, account: _Account) -> None:
        account.tickets -= 1
        if not account.tickets and self._accounts.get(name) is account:
            del self._accounts[name]  # the store knows the rest


class Ticket:
    """What one mail takes of its user's allowance: reserved from its first recipient on, until `end`."""

    __slots__ = ("_account", "_addresses", "_allowed", "_ended", "_loaded", "_name", "_new", "_quotas")

    def __init__(self, quotas: Quotas, name: str, allowed: Allowance, account: _Account) -> None:
        self._quotas = quotas
        self._name = name
        self._allowed = allowed
        self._account = account
        self._addresses: list[str] = []  # admitted, folded
        self._new = 0  # how many of them are, or may be, new
        self._loaded = False
        self._ended = False

    def ended(self) -> bool:
        return self._ended

    def admits(self, address: str) -> bool:
        """The quick answer: True when there is room even if the recipient is new. It is reserved then."""
        if not self._loaded or self._judge(1) is not None:
            return False
        self._reserve(address, 1)
        return True

    async def admit(self, address: str) -> Reply | None:
        """Reserve one more recipient, or say why not and until when. Raises StoreError."""
        quotas, account = self._quotas, self._account
        if not self._loaded:
            account.usage = await quotas._store.usage(self._name, quotas._clock())
            self._loaded = True
        if self.ended() or self.admits(address):
            return None
        # No room if all were new: see which of them are.
        asked = [*self._addresses, fold(address)]
        known = await quotas._store.correspondents(self._name, asked)
        if self.ended():
            return None
        new = len({one for one in self._addresses if one not in known})
        account.new += new - self._new
        self._new = new
        more = int(asked[-1] not in known and asked[-1] not in self._addresses)
        reply = self._judge(more)
        if reply is None:
            self._reserve(address, more)
        return reply

    def end(self, *, stored: bool = False) -> None:
        """The mail came to nothing, or is stored: then it is counted for sessions that asked before. Idempotent."""
        if self._ended:
            return
        self._ended = True
        account, at = self._account, int(self._quotas._clock())
        account.new -= self._new
        account.messages -= bool(self._addresses)
        if stored:
            step = at - at % SENDING_STEP_S
            messages, new = account.usage.messages, account.usage.new
            account.usage = Usage((*messages, (step, 1)), (*new, (step, self._new)))
        self._quotas._end(self._name, account)

    def _judge(self, new: int) -> Reply | None:
        allowed, account, now = self._allowed, self._account, self._quotas._clock()
        at = lifts_at(allowed.messages, account.usage.messages, account.messages + (not self._addresses), now)
        if at is not None:
            return refusal("messages", allowed.messages, at)
        if new:
            at = lifts_at(allowed.new_recipients, account.usage.new, account.new + new, now)
            if at is not None:
                return refusal("new recipients", allowed.new_recipients, at)
        return None

    def _reserve(self, address: str, new: int) -> None:
        if not self._addresses:
            self._account.messages += 1
        self._addresses.append(fold(address))
        self._account.new += new
        self._new += new
