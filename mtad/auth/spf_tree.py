"""What an SPF record costs: every term that asks DNS, with all that it leads to (RFC 7208 4.6.4).

The evaluator stops at the first match, so it may never see what a client that matches nothing runs into; here
everything is walked. Bounded in depth and in questions.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from mtad.auth import spf_record
from mtad.auth.spf import Dns, valid_name
from mtad.auth.spf_record import BadRecord, Mechanism
from mtad.dns.resolver import DnsTemporary, NoData, NoSuchName

DEPTH_MAX = 12
TERMS_MAX = 60  # that ask DNS, of the whole tree: what is beyond is over any budget anyway
_COSTS = frozenset({"include", "a", "mx", "ptr", "exists"})


@dataclass(frozen=True, slots=True)
class Node:
    """A term. `lookups` and `voids` are of it and of all below; `networks` is what it names in the end, as terms ip4
    and ip6. The root is the domain itself, and costs nothing."""

    term: str
    domain: str  # whose record, or whose addresses
    lookups: int = 0
    voids: int = 0
    problem: str = ""
    temporary: bool = False
    below: "tuple[Node, ...]" = ()
    networks: tuple[str, ...] = ()
    record: str = ""


async def tree(dns: Dns, domain: str) -> Node:
    """The tree of a domain's record. Never raises for what DNS says."""
    return await _Walk(dns).record("", domain, 0, ())


class _Walk:
    def __init__(self, dns: Dns) -> None:
        self._dns = dns
        self._left = TERMS_MAX

    async def record(self, term: str, domain: str, cost: int, above: tuple[str, ...]) -> Node:
        """What a record at `domain` costs, asked for by `term`."""
        name = domain.lower().removesuffix(".")
        if name in above:
            return Node(term, domain, cost, problem="leads back to itself")
        if len(above) >= DEPTH_MAX:
            return Node(term, domain, cost, problem="is too deep")
        if not valid_name(domain):
            return Node(term, domain, cost, problem="is no domain name")
        try:
            texts = [octets.decode("latin-1") for octets in await self._dns.txt(domain)]
        except (NoData, NoSuchName):
            return Node(term, domain, cost, cost, "has no SPF record")
        except DnsTemporary as error:
            return Node(term, domain, cost, problem=str(error), temporary=True)
        found = [text for text in texts if spf_record.is_spf(text)]
        if len(found) != 1:
            problem = f"has {len(found)} SPF records" if found else "has no SPF record"
            return Node(term, domain, cost, problem=problem)
        try:
            record = spf_record.parse(found[0])
        except BadRecord as error:
            return Node(term, domain, cost, problem=str(error), record=found[0])
        path = (*above, name)
        below = list(await asyncio.gather(*(self._term(one, name, path) for one in record.mechanisms)))
        if record.redirect and not any(one.name == "all" for one in record.mechanisms):
            below.append(await self._record_of(f"redirect={record.redirect}", record.redirect, path))
        return Node(
            term,
            domain,
            cost + sum(node.lookups for node in below),
            sum(node.voids for node in below),
            below=tuple(below),
            networks=tuple(dict.fromkeys(network for node in below for network in node.networks)),
            record=found[0],
        )

    async def _term(self, mechanism: Mechanism, domain: str, above: tuple[str, ...]) -> Node:
        target = mechanism.domain or domain
        if mechanism.name not in _COSTS:
            network = _bare(f"{mechanism.name}:{mechanism.network}")
            return Node(mechanism.text, domain, networks=(network,) if mechanism.network else ())
        if mechanism.name == "include":
            return await self._record_of(mechanism.text, mechanism.domain, above)
        if "%" in target or mechanism.name in ("ptr", "exists"):
            return Node(mechanism.text, target, 1)
        self._left -= 1
        if self._left < 0:
            return Node(mechanism.text, target, 1)
        try:
            hosts: Sequence[str] = (target,)
            if mechanism.name == "mx":
                hosts = [host for host in await self._dns.mx_names(target) if host]
            found = await asyncio.gather(*(self._addresses(host) for host in hosts[:10]))
        except (NoData, NoSuchName):
            return Node(mechanism.text, target, 1, 1, "finds nothing")
        except DnsTemporary as error:
            return Node(mechanism.text, target, 1, problem=str(error), temporary=True)
        addresses = [address for several in found for address in several]
        networks = tuple(
            _bare(f"ip6:{one}/{mechanism.v6_bits}" if ":" in one else f"ip4:{one}/{mechanism.v4_bits}")
            for one in addresses
        )
        return Node(mechanism.text, target, 1, 0 if addresses else 1, "" if addresses else "finds nothing",
                    networks=networks)  # fmt: skip

    async def _record_of(self, term: str, target: str, above: tuple[str, ...]) -> Node:
        self._left -= 1
        if "%" in target or self._left < 0:
            return Node(term, target, 1)
        return await self.record(term, target, 1, above)

    async def _addresses(self, host: str) -> Sequence[str]:
        found: list[str] = []
        for version in (4, 6):
            try:
                found += await self._dns.addresses_of(host, version)
            except (NoData, NoSuchName):
                continue
        return found


def _bare(term: str) -> str:
    """A network of one address is that address."""
    return term.removesuffix("/32") if term.startswith("ip4:") else term.removesuffix("/128")
