"""What a client may do to us, as pure decisions over explicit state: connections that are open, events within sliding
windows, growing delays. The clock, the blocks and the log are in `guard`.

A client is an IPv4 address, or the /64 of an IPv6 address: that much one customer has.
"""

from collections import Counter, OrderedDict
from collections.abc import Mapping
from functools import lru_cache
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import Literal

from mtad.config import Limits, Rate
from mtad.mail.reply import Reply

TOO_MANY = Reply(421, "4.3.2", "Too many connections, try again later", stage="connect")
TOO_MANY_YOURS = Reply(421, "4.7.0", "Too many connections from you, try again later", stage="connect")

KEYS_MAX = 20_000  # of one table; beyond it the client that was quiet for longest is forgotten
PARTS = 4  # of a window

Scope = Literal["client", "user", "domain"]
Kind = Literal["connections", "messages", "recipients", "errors", "auth_failures"]

COUNTED: Mapping[tuple[Scope, Kind], str] = {
    ("client", "connections"): "connection_rate",
    ("client", "messages"): "message_rate",
    ("client", "recipients"): "recipient_rate",
    ("client", "errors"): "error_rate",
    ("client", "auth_failures"): "auth_failure_rate",
    ("user", "messages"): "user_message_rate",
    ("user", "recipients"): "user_recipient_rate",
    ("user", "auth_failures"): "user_auth_failure_rate",
    ("domain", "messages"): "domain_message_rate",
    ("domain", "recipients"): "domain_recipient_rate",
}
"""What is counted for whom, and the key of [limits] that bounds it."""


@lru_cache(maxsize=4096)
def client_key(ip: str, uid: int = -1) -> str:
    """Whom a connection is counted for: a uid of this host, an IPv4 address, or the /64 of an IPv6 address. Of an
    address it is also what a block of that client is called."""
    if uid >= 0:
        return f"uid {uid}"
    if ":" not in ip:
        return ip or "unknown"  # gone before it could be asked
    address = ip_address(ip.partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(IPv6Network((int(address) >> 64 << 64, 64)))


class Connections:
    """The open connections. Every `enter` that returned None is ended by exactly one `leave` with the same key."""

    __slots__ = ("_by_client", "_max", "_max_per_client", "total")

    def __init__(self, total_max: int, per_client_max: int) -> None:
        self._max = total_max
        self._max_per_client = per_client_max
        self._by_client: Counter[str] = Counter()
        self.total = 0

    def resize(self, total_max: int, per_client_max: int) -> None:
        """New limits; connections that are open stay."""
        self._max = total_max
        self._max_per_client = per_client_max

    def count(self, key: str) -> int:
        return self._by_client[key]

    def enter(self, key: str) -> Reply | None:
        """Count a new connection, or say why not. Root is held to the total only: cron runs many mails at once."""
        if self.total >= self._max:
            return TOO_MANY
        if self._by_client[key] >= self._max_per_client and key != "uid 0":
            return TOO_MANY_YOURS
        self._by_client[key] += 1
        self.total += 1
        return None

    def leave(self, key: str) -> None:
        self.total -= 1
        self._by_client[key] -= 1
        if self._by_client[key] <= 0:
            del self._by_client[key]


class Windows:
    """Events by key within a sliding window, in constant time and bounded memory.

    The window is counted in PARTS parts and the one that has begun. So no window ever holds more than `rate.count`
    events that were taken, and nobody is refused who had fewer within (1 + 1 / PARTS) windows.
    """

    __slots__ = ("_by_key", "_keys_max", "_part_s", "rate")

    def __init__(self, rate: Rate, keys_max: int = KEYS_MAX) -> None:
        self.rate = rate
        self._keys_max = keys_max
        self._part_s = rate.window_s / PARTS
        self._by_key: OrderedDict[str, list[int]] = OrderedDict()  # [number of the last part, the parts ...]

    def __len__(self) -> int:
        return len(self._by_key)

    def take(self, key: str, now: float) -> bool:
        """Count one more event, unless it would be one too many."""
        if not self.rate.count:
            return True
        if self.count(key, now) >= self.rate.count:
            return False
        self.add(key, now)
        return True

    def add(self, key: str, now: float) -> int:
        """Count one more event whatever the limit. How many there are now; 0 when nothing is counted."""
        if not self.rate.count:
            return 0
        parts = self._by_key.get(key)
        if parts is None:
            if len(self._by_key) >= self._keys_max:
                self._by_key.popitem(last=False)
            parts = self._by_key[key] = [int(now // self._part_s)] + [0] * (PARTS + 1)
        else:
            self._by_key.move_to_end(key)
            self._turn(parts, now)
        parts[-1] += 1
        return sum(parts) - parts[0]

    def count(self, key: str, now: float) -> int:
        parts = self._by_key.get(key)
        if parts is None:
            return 0
        self._turn(parts, now)
        return sum(parts) - parts[0]

    def over(self, key: str, now: float) -> bool:
        """The limit is reached."""
        return 0 < self.rate.count <= self.count(key, now)

    def forget(self, key: str) -> None:
        self._by_key.pop(key, None)

    def _turn(self, parts: list[int], now: float) -> None:
        """Let the parts move on to `now`. A clock that was set back by more than the window begins anew."""
        number = int(now // self._part_s)
        steps = number - parts[0]
        if 0 < steps <= PARTS:
            parts[1:] = parts[1 + steps :] + [0] * steps
        elif steps:
            if -PARTS <= steps < 0:
                return
            parts[1:] = [0] * (PARTS + 1)
        parts[0] = number


class Tallies:
    """All windows of the house."""

    def __init__(self, limits: Limits) -> None:
        self._windows: dict[tuple[Scope, Kind], Windows] = {}
        self.resize(limits)

    def resize(self, limits: Limits) -> None:
        """New limits. What was counted stays where its limit does."""
        for what, name in COUNTED.items():
            rate: Rate = getattr(limits, name)
            if what not in self._windows or self._windows[what].rate != rate:
                self._windows[what] = Windows(rate)

    def __call__(self, scope: Scope, kind: Kind) -> Windows:
        return self._windows[scope, kind]

    def forget(self, key: str) -> None:
        for windows in self._windows.values():
            windows.forget(key)


def patience_s(elapsed_s: float, octets: int, limits: Limits) -> float:
    """How long a mail that began `elapsed_s` ago and brought so many octets may stay silent; below 0 it is too slow.

    A deadline per block (RFC 5321 4.5.3.2.5), and a rate that it may be `data_grace_s` behind.
    """
    if not limits.data_rate_min:
        return limits.data_timeout_s
    return min(limits.data_timeout_s, limits.data_grace_s + octets / limits.data_rate_min - elapsed_s)


def delay_s(count: int, free: int, longest_s: float) -> float:
    """How long the answer to the `count`th mistake takes: nothing for the first `free`, then 1, 2, 4 ... seconds."""
    return 0.0 if count <= free else min(2.0 ** min(count - free - 1, 30), longest_s)
