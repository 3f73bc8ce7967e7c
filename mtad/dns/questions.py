"""The questions of SPF and DMARC, asked with the resolver that finds the way of mail."""

from collections.abc import Sequence
from ipaddress import ip_address

from mtad.dns.resolver import NoData, NoSuchName, Resolver


class Questions:
    """Each raises DnsTemporary, NoSuchName or NoData when it has no answer."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver

    async def txt(self, name: str) -> Sequence[bytes]:
        return await self._resolver.txt(name)

    async def mx_names(self, name: str) -> Sequence[str]:
        return [host for _, host in (await self._resolver.mx(name)).hosts]

    async def addresses_of(self, name: str, version: int) -> Sequence[str]:
        """A (4) or AAAA (6) records."""
        found = await self._resolver.records(name, "A" if version == 4 else "AAAA")
        return [str(record.address) for record in found.records]

    async def names_of(self, ip: str) -> Sequence[str]:
        """PTR records of an address."""
        found = await self._resolver.records(ip_address(ip).reverse_pointer, "PTR")
        return [record.target.to_text(omit_final_dot=True) for record in found.records]

    async def exists(self, name: str) -> bool:
        """Whether the name has an A, AAAA or MX record."""
        for kind in ("A", "AAAA", "MX"):
            try:
                if (await self._resolver.records(name, kind)).records:
                    return True
            except (NoData, NoSuchName):
                continue
        return False
