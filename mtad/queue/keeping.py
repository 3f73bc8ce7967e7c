"""The store's shelves: what is kept besides the mail, each under a key of its own, and says nothing of any message.

SiteStore, UserStore, BlockStore, SuppressionStore, PolicyStore and ReportStore (of the rooms that use them), on SQLite.
"""

import sqlite3
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mtad.queue.blocks import BlockRows
from mtad.queue.people import Asked, People
from mtad.queue.sites import SiteRows
from mtad.queue.sitestore import StoredSite, Suspension
from mtad.queue.store import Usage
from mtad.queue.suppressions import Bounce, SuppressionRows
from mtad.queue.tlsrows import TlsRows
from mtad.queue.writer import Phase, Work, Writer, one_by_one

if TYPE_CHECKING:
    from mtad.accounts.account import StoredUser
    from mtad.accounts.blocks import Block
    from mtad.accounts.suppressions import Suppression
    from mtad.tls.mta_sts import Known
    from mtad.tls.tlsrpt import Counted


class Keeping:
    def __init__(self, connection: sqlite3.Connection, writer: Writer, people: People) -> None:
        self._writer = writer
        sites = SiteRows(connection)
        blocks = BlockRows(connection)
        suppressions = SuppressionRows(connection)
        tls = TlsRows(connection)
        self._load_sites = Work("load_sites", one_by_one(sites.load), Phase.READ)
        self._save_sites = Work("save_sites", one_by_one(sites.save))
        self._load_suspensions = Work("load_suspensions", one_by_one(sites.suspensions), Phase.READ)
        self._save_suspension = Work("save_suspension", one_by_one(sites.suspend))
        self._delete_suspension = Work("delete_suspension", one_by_one(sites.resume))
        self._load_users = Work("load_users", one_by_one(people.load_users), Phase.READ)
        self._save_user = Work("save_user", one_by_one(people.save_user))
        self._delete_user = Work("delete_user", one_by_one(people.delete_user))
        self._install_secret = Work("install_secret", one_by_one(people.install_secret), Phase.READ)
        self._usage = Work("usage", one_by_one(people.usage), Phase.READ)
        self._correspondents = Work("correspondents", one_by_one(people.correspondents), Phase.READ)
        self._load_blocks = Work("load_blocks", one_by_one(blocks.load), Phase.READ)
        self._save_block = Work("save_block", one_by_one(blocks.save))
        self._delete_block = Work("delete_block", one_by_one(blocks.delete))
        self._load_suppressions = Work("load_suppressions", one_by_one(suppressions.load), Phase.READ)
        self._save_suppression = Work("save_suppression", one_by_one(suppressions.save))
        self._delete_suppression = Work("delete_suppression", one_by_one(suppressions.delete))
        self._count_bounce = Work("count_bounce", one_by_one(suppressions.count))
        self._sweep_suppressions = Work("sweep_suppressions", one_by_one(suppressions.sweep))
        self._load_policies = Work("load_policies", one_by_one(tls.load_policies), Phase.READ)
        self._save_policies = Work("save_policies", one_by_one(tls.save_policies))
        self._delete_policies = Work("delete_policies", one_by_one(tls.delete_policies))
        self._count_tls = Work("count_tls", one_by_one(tls.count))
        self._tls_days = Work("tls_days", one_by_one(tls.days), Phase.READ)
        self._tls_counted = Work("tls_counted", one_by_one(tls.sessions), Phase.READ)
        self._forget_tls = Work("forget_tls", one_by_one(tls.forget))

    async def load_sites(self) -> Sequence[StoredSite]:
        return await self._writer.do(self._load_sites, None)

    async def save_sites(self, sites: Sequence[StoredSite]) -> None:
        await self._writer.do(self._save_sites, sites)

    async def load_suspensions(self) -> Sequence[Suspension]:
        return await self._writer.do(self._load_suspensions, None)

    async def save_suspension(self, suspension: Suspension) -> None:
        await self._writer.do(self._save_suspension, suspension)

    async def delete_suspension(self, kind: str, value: str) -> bool:
        return await self._writer.do(self._delete_suspension, (kind, value))

    async def load_users(self) -> Sequence["StoredUser"]:
        from mtad.accounts.account import StoredUser  # late: looking at a queue needs no accounts

        return [StoredUser(*row) for row in await self._writer.do(self._load_users, None)]

    async def save_user(self, user: "StoredUser") -> None:
        await self._writer.do(self._save_user, user)

    async def delete_user(self, name: str) -> bool:
        return await self._writer.do(self._delete_user, name)

    async def install_secret(self) -> bytes:
        return await self._writer.do(self._install_secret, None)

    async def usage(self, user: str, now: float) -> Usage:
        return await self._writer.do(self._usage, (user, now))

    async def correspondents(self, user: str, addresses: Sequence[str]) -> frozenset[str]:
        return await self._writer.do(self._correspondents, Asked(user, tuple(addresses)))

    async def load_blocks(self) -> Sequence["Block"]:
        from mtad.accounts.blocks import Block  # late, as above

        return [Block(*row) for row in await self._writer.do(self._load_blocks, None)]

    async def save_block(self, block: "Block") -> None:
        await self._writer.do(self._save_block, block)

    async def delete_block(self, value: str) -> bool:
        return await self._writer.do(self._delete_block, value)

    async def load_suppressions(self) -> Sequence["Suppression"]:
        from mtad.accounts.suppressions import Suppression  # late, as above

        return [Suppression(*row) for row in await self._writer.do(self._load_suppressions, None)]

    async def save_suppression(self, one: "Suppression") -> None:
        await self._writer.do(self._save_suppression, one)

    async def delete_suppression(self, user: str, address: str) -> bool:
        return await self._writer.do(self._delete_suppression, (user, address))

    async def count_bounce(self, user: str, address: str, message_id: str, at: float, since: float) -> int:
        return await self._writer.do(self._count_bounce, Bounce(user, address, message_id, at, since))

    async def sweep_suppressions(self, now: float, since: float) -> None:
        await self._writer.do(self._sweep_suppressions, (now, since))

    async def load_policies(self) -> Sequence["Known"]:
        from mtad.tls.mta_sts import Known, Policy  # late, as above

        return [
            Known(domain, policy_id, Policy(mode, tuple(mx.split("\n")) if mx else (), max_age_s), fetched_at, used_at)
            for domain, policy_id, mode, mx, max_age_s, fetched_at, used_at in await self._writer.do(
                self._load_policies, None
            )
        ]

    async def save_policies(self, policies: Sequence["Known"]) -> None:
        await self._writer.do(self._save_policies, policies)

    async def delete_policies(self, domains: Sequence[str]) -> None:
        await self._writer.do(self._delete_policies, domains)

    async def count_tls(self, counted: Sequence["Counted"]) -> None:
        await self._writer.do(self._count_tls, counted)

    async def tls_days(self, before: int) -> Sequence[tuple[int, str]]:
        return await self._writer.do(self._tls_days, before)

    async def tls_counted(self, day: int, domain: str) -> Sequence["Counted"]:
        from mtad.tls.tlsrpt import Counted  # late, as above

        return [Counted(*row) for row in await self._writer.do(self._tls_counted, (day, domain))]

    async def forget_tls(self, day: int, domain: str) -> None:
        await self._writer.do(self._forget_tls, (day, domain))
