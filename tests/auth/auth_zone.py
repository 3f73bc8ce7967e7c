"""Names for tests: nothing is there but what a test says."""

from collections.abc import Mapping, Sequence

from mtad.dns.resolver import NoData


class Zone:
    """TXT records, and nothing else."""

    def __init__(self, texts: Mapping[str, bytes] | None = None) -> None:
        self._texts = texts or {}

    async def txt(self, name: str) -> Sequence[bytes]:
        if name not in self._texts:
            raise NoData(name)
        return [self._texts[name]]

    async def mx_names(self, name: str) -> Sequence[str]:
        raise NoData(name)

    async def addresses_of(self, name: str, version: int) -> Sequence[str]:
        raise NoData(name)

    async def names_of(self, ip: str) -> Sequence[str]:
        raise NoData(ip)

    async def exists(self, name: str) -> bool:
        return False
