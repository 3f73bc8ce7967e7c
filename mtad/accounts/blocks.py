"""Who is kept out: addresses, networks, users, senders and their domains, until a time or for good.

Operators make blocks, and the daemon makes some itself (`GUARD`). All are kept in the store, and in memory where the
decisions are made: the look at an address costs one step for each prefix length in use, whatever the number of blocks.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Protocol

from mtad.mail import address as addresses
from mtad.mail.envelope import Clock
from mtad.mail.text import clean

GUARD = "mtad"
"""The maker of the blocks that the daemon makes itself."""

BLOCKS_MAX = 10_000  # of our own; beyond it the one that ends first goes. Operators' are theirs to count
MEMORY_S = 86400.0  # how long after its end a block of ours makes the next one longer


class BlockError(ValueError):
    """It is nothing that can be blocked. The words are for the operator."""


@dataclass(frozen=True, slots=True)
class Block:
    """`value` is canonical: "192.0.2.1", "2001:db8::/32", "user@example.org" or "@example.org"."""

    value: str
    reason: str = ""
    made_by: str = ""  # GUARD, or the operator
    made_at: float = 0.0
    until_at: float = 0.0  # 0 = until it is removed
    times: int = 1  # how often it was made in a row

    def holds(self, now: float) -> bool:
        return not self.until_at or now < self.until_at

    @property
    def temporary(self) -> bool:
        return self.until_at > 0

    @property
    def kind(self) -> str:
        """ "network", "address" (a sender, or a user) or "domain"."""
        return "domain" if self.value[0] == "@" else "address" if "@" in self.value else "network"


class BlockStore(Protocol):
    async def load_blocks(self) -> Sequence[Block]: ...

    async def save_block(self, block: Block) -> None:
        """Add it, or replace the one of the same value. Durable."""

    async def delete_block(self, value: str) -> bool:
        """Durable. False: there was none."""


def canonical(text: str) -> str:
    """The value of a block as it is kept. BlockError for what is none."""
    text = text.strip()
    try:
        if text.startswith("@"):
            return "@" + addresses.to_ascii(text[1:].removesuffix("."))
        if "@" in text:
            return addresses.parse(text, utf8=True)
    except addresses.AddressError as error:
        raise BlockError(f"{text!a} is no address or @domain: {error}") from None
    try:
        network = ip_network(text.removeprefix("[").removesuffix("]"), strict=False)
    except ValueError:
        raise BlockError(
            f"{text!a} is nothing to block: write an IP address or network, user@example.org, or @example.org"
        ) from None
    return shown(network)


def shown(network: IPv4Network | IPv6Network) -> str:
    """A network of one address as that address."""
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)


class Networks:
    """Blocks by network: for each prefix length in use, a table of the leading bits."""

    __slots__ = ("_tables",)

    def __init__(self) -> None:
        self._tables: dict[tuple[int, int], dict[int, Block]] = {}  # (version, shift) -> leading bits -> block

    def put(self, block: Block) -> None:
        version, shift, bits = _position(block.value)
        self._tables.setdefault((version, shift), {})[bits] = block

    def pop(self, value: str) -> None:
        version, shift, bits = _position(value)
        table = self._tables.get((version, shift), {})
        table.pop(bits, None)
        if not table:
            self._tables.pop((version, shift), None)

    def find(self, ip: str, now: float) -> Block | None:
        """The narrowest block in force that contains this address; operators' before ours."""
        if not self._tables or not ip:
            return None
        address = ip_address(ip.partition("%")[0])
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        number = int(address)
        found: list[tuple[bool, int, Block]] = []
        for (version, shift), table in self._tables.items():
            block = table.get(number >> shift) if version == address.version else None
            if block is not None and block.holds(now):
                found.append((block.made_by == GUARD, shift, block))
        return min(found, key=lambda entry: entry[:2])[2] if found else None


def _position(value: str) -> tuple[int, int, int]:
    network = ip_network(value)
    shift = network.max_prefixlen - network.prefixlen
    return network.version, shift, int(network.network_address) >> shift


class Blocks:
    """All blocks. Changes are durable when the call returns; `lifted` is told of each that was removed."""

    def __init__(self, store: BlockStore, clock: Clock) -> None:
        self.version = 0  # grows with each block: whoever remembers an answer asks again
        self.lifted: Callable[[str], None] = lambda value: None
        self._store = store
        self._clock = clock
        self._by_value: dict[str, Block] = {}
        self._networks = Networks()
        self.problems: tuple[str, ...] = ()  # of those that were loaded

    async def load(self, *, forget: bool = True) -> None:
        """Read all of them. `forget`: what is long over goes from the store."""
        self._by_value, self._networks = {}, Networks()
        problems = []
        for block in await self._store.load_blocks():
            if _sound(block):
                self._keep(block)
            else:
                problems.append(f"block {clean(block.value)}: its row is damaged, and it is not in force")
        self.problems = tuple(problems)
        if forget:
            await self.sweep()

    def list(self) -> Sequence[Block]:
        """Those in force: networks by number, then the rest by name."""
        now = self._clock()
        return sorted((block for block in self._by_value.values() if block.holds(now)), key=_order)

    def get(self, text: str) -> Block | None:
        """The block of exactly this value, over or not. BlockError."""
        return self._by_value.get(_key(canonical(text)))

    async def add(self, block: Block) -> Block:
        """Make it, or replace the one of the same value. BlockError."""
        block = replace(block, value=canonical(block.value))
        self._keep(block)
        await self._store.save_block(block)
        return block

    async def remove(self, text: str) -> Block | None:
        """Lift it. What was removed; None when there was none. BlockError."""
        block = self.get(text)
        if block is None:
            return None
        self._drop(block)
        self.lifted(block.value)
        await self._store.delete_block(block.value)
        return block

    async def sweep(self) -> int:
        """Forget what is over, ours only when its memory has faded too. How many."""
        now = self._clock()
        over = [block for block in self._by_value.values() if not block.holds(now - _memory_s(block))]
        for block in over:
            self._drop(block)
            await self._store.delete_block(block.value)
        return len(over)

    def punish(self, value: str, reason: str, first_s: float, longest_s: float) -> tuple[Block, Block | None]:
        """A block of our own, in force at once: twice as long as the last of this client, `longest_s` at most.
        (the block, one that gave way for want of room); the caller sees to `record`."""
        now = self._clock()
        before = self._by_value.get(value)
        times = before.times + 1 if before is not None and before.made_by == GUARD else 1
        length_s = min(first_s * 2.0 ** min(times - 1, 30), longest_s)
        block = Block(value, reason, GUARD, now, now + length_s, times)
        gone = self._crowded_out() if before is None else None
        self._keep(block)
        return block, gone

    async def record(self, block: Block, gone: Block | None) -> None:
        """Make what `punish` did durable, unless it was undone meanwhile."""
        if gone is not None:
            await self._store.delete_block(gone.value)
        if self._by_value.get(block.value) is block:
            await self._store.save_block(block)

    # Decisions

    def of_ip(self, ip: str) -> Block | None:
        return self._networks.find(ip, self._clock())

    def of_address(self, address: str) -> Block | None:
        """Of a sender or a user: the address itself, or its whole domain."""
        if not self._by_value or not address:
            return None
        now = self._clock()
        try:
            names = (addresses.fold(address), f"@{addresses.domain_of(address)}")
        except addresses.AddressError:
            return None
        for name in names:
            block = self._by_value.get(name)
            if block is not None and block.holds(now):
                return block
        return None

    # Memory

    def _keep(self, block: Block) -> None:
        self._by_value[_key(block.value)] = block
        if block.kind == "network":
            self._networks.put(block)
        self.version += 1

    def _drop(self, block: Block) -> None:
        self._by_value.pop(_key(block.value), None)
        if block.kind == "network":
            self._networks.pop(block.value)

    def _crowded_out(self) -> Block | None:
        if len(self._by_value) < BLOCKS_MAX:
            return None
        ours = [block for block in self._by_value.values() if block.made_by == GUARD]
        if len(ours) < BLOCKS_MAX:
            return None
        first = min(ours, key=lambda block: block.until_at)
        self._drop(first)
        return first


def _sound(block: Block) -> bool:
    """Whether it is one that `add` could have made."""
    try:
        return canonical(block.value) == block.value and all(map(math.isfinite, (block.made_at, block.until_at)))
    except BlockError:
        return False


def _memory_s(block: Block) -> float:
    return MEMORY_S if block.made_by == GUARD else 0.0


def _key(value: str) -> str:
    return addresses.fold(value) if "@" in value[1:] else value


def _order(block: Block) -> tuple[int, int, int, str]:
    if block.kind != "network":
        return 9, 0, 0, block.value.rpartition("@")[2]
    network = ip_network(block.value)
    return network.version, int(network.network_address), network.prefixlen, block.value
