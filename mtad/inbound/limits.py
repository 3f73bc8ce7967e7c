"""How many connections may be open: in all, and per client. Pure counting; the listeners ask before the first octet."""

from collections import Counter
from ipaddress import IPv6Address, ip_address

from mtad.mail.reply import Reply

TOO_MANY = Reply(421, "4.3.2", "Too many connections, try again later", stage="connect")
TOO_MANY_YOURS = Reply(421, "4.7.0", "Too many connections from you, try again later", stage="connect")


def client_key(ip: str, uid: int = -1) -> str:
    """Whom a connection is counted for: a uid of this host, an IPv4 address, or the /64 of an IPv6 address."""
    if uid >= 0:
        return f"uid {uid}"
    if ":" not in ip:
        return ip
    address = ip_address(ip.partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return f"{int(address) >> 64:x}::/64"


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
