"""What the store keeps for the way out beside the mail: how sites are, and what operators suspended.

Raises as mtad.queue.store.Store does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Suspension:
    """An operator's word that mail of a kind is not sent for now: to a domain, to a site, or of a user."""

    kind: str  # domain, site, user
    value: str  # the domain as A-labels in lower case; the site's or the user's name
    reason: str = ""
    made_by: str = ""
    made_at: float = 0.0
    until_at: float = 0.0  # 0 = until it is removed

    def holds(self, now: float) -> bool:
        return not self.until_at or now < self.until_at


@dataclass(frozen=True, slots=True)
class StoredSite:
    """What is kept of a site over a restart. `data` is the text of who knows sites; "" forgets it."""

    name: str
    data: str


class SiteStore(Protocol):
    """What operators suspended, and how sites are."""

    async def load_sites(self) -> Sequence[StoredSite]: ...

    async def save_sites(self, sites: Sequence[StoredSite]) -> None:
        """Add them, or replace those of the same names. Durable."""

    async def load_suspensions(self) -> Sequence[Suspension]: ...

    async def save_suspension(self, suspension: Suspension) -> None:
        """Add it, or replace the one of the same kind and value. Durable."""

    async def delete_suspension(self, kind: str, value: str) -> bool:
        """Durable. False: there was none."""
