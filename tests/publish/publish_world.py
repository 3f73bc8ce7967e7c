"""A small internet for checks: a domain with two name servers, the reverse zones, a web server, a certificate."""

import re
import time
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import private_ca
from dns_server import DnsServer, serving
from private_ca import Web

from mtad.config.tree import Address, Config, Dns, Listen, Paths, Tls
from mtad.dkim.keys import Keys
from mtad.publish.area import Area
from mtad.publish.check import check
from mtad.publish.finding import Finding
from mtad.publish.host import gather, keys_of
from mtad.publish.records import STS_PATH, sts_policy, wanted

DOMAIN = "example.test"
HOSTNAME = "mail.example.test"
ADDRESSES = ("192.0.2.10", "2001:db8::10")
POLICY = "version: STSv1\r\nmode: enforce\r\nmx: mail.example.test\r\nmax_age: 604800\r\n"

# The reverse zones and a list of bad addresses are of the same servers, and all of it is one zone to them.
FRAME = """
$ORIGIN .
$TTL 60
. SOA ns1.example.test. hostmaster.example.test. 1 1 1 1 60
example.test. NS ns1.example.test.
ns1.example.test. A 127.0.0.1
"""


SOA = "ns1.example.test. hostmaster.example.test. {} 1 1 1 60"


class World:
    """`lines` is what the zone has beside its SOA and first NS, a list of lines to be changed before `check`."""

    def __init__(self, folder: Path) -> None:
        authority = private_ca.make("Let's Encrypt", ca=True)
        leaf = private_ca.make(HOSTNAME, authority)
        self.folder = folder
        self.authority = authority
        self.listen = Listen()  # the listeners of the settings are not here
        self.web_context = private_ca.make(f"mta-sts.{DOMAIN}", authority).context(folder / "web")
        cert, key = leaf.write(folder / "mail")
        authority.write(folder / "ca")
        self.keys = Keys(str(folder / "dkim"))
        self.keys.generate(DOMAIN, "s1", "both", time.time())
        self.keys.load()
        self.config = Config(
            HOSTNAME,
            (DOMAIN,),
            Paths("/etc/mtad/mtad.toml", str(folder), str(folder)),
            listen=Listen(submission=(Address("0.0.0.0", 587),)),
            tls=Tls(str(cert), str(key), server_ca=str(folder / "ca" / "chain.pem")),
        )
        self.policy = POLICY
        self.lines: list[str] = []
        self.second: list[str] | None = None  # what another server, 127.0.0.2, has; None = there is none
        self.serials = (7, 7)
        self.patience_s = 4.0  # less where somebody is silent on purpose
        self.wrong: Callable[[DnsServer, DnsServer | None], None] = lambda first, second: None

    async def correct(self) -> "World":
        """The zone as it should be."""
        config = self.settings(9)
        host = await gather(config, _Nothing())
        records = wanted(DOMAIN, host, keys_of(self.keys.ring(DOMAIN)))
        lines = [rec.line for rec in records]
        self.lines = [line for line in lines if not line.startswith("mta-sts.")]
        self.lines.append(f"mta-sts.{DOMAIN}. 60 IN A 127.0.0.1")
        if self.config.dns == Dns():
            assert sts_policy(host) == POLICY
        return self

    def settings(self, port: int) -> Config:
        from dataclasses import replace

        servers = (Address("127.0.0.1", port),)
        names = self.config.dns
        return replace(
            self.config,
            dns=replace(names, servers=servers, timeout_s=self.patience_s, addresses=ADDRESSES, lists=("bl.test",)),
        )

    def change(self, pattern: str, line: str = "") -> None:
        """Put a line (or none) in place of the one that matches; with no match it is added."""
        found = [one for one in self.lines if re.search(pattern, one)]
        self.lines = [one for one in self.lines if one not in found] + ([line] if line else [])

    @asynccontextmanager
    async def running(self) -> Any:
        async with AsyncExitStack() as stack:
            web = Web().says(self.policy.encode())
            await stack.enter_async_context(private_ca.serving(web, self.web_context))
            first = await stack.enter_async_context(serving(self._zone(self.lines)))
            first.authoritative = True
            give(first, f"{DOMAIN}.", "SOA", SOA.format(self.serials[0]))
            second = None
            if self.second is not None:
                zone = self._zone(self.second)
                second = await stack.enter_async_context(serving(zone, "127.0.0.2", first.port))
                second.authoritative = True
                give(second, f"{DOMAIN}.", "SOA", SOA.format(self.serials[1]))
            self.wrong(first, second)
            yield first, web

    async def areas(self, *, domain: str = DOMAIN, **more: Any) -> list[Area]:
        async with self.running() as (first, web):
            found = check(
                self.settings(first.port),
                self.keys,
                time.time,
                domain,
                port=first.port,
                https_port=web.port,
                query_s=self.patience_s,
                listen=self.listen,
                **more,
            )
            return [area async for area in found]

    async def check(self, **more: Any) -> list[Finding]:
        return [finding for area in await self.areas(**more) for finding in area.findings]

    def _zone(self, lines: Iterable[str]) -> str:
        second = (
            "example.test. NS ns2.example.test.\nns2.example.test. A 127.0.0.2\n" if self.second is not None else ""
        )
        return FRAME + second + "\n".join(lines) + "\n"


def give(server: DnsServer, name: str, kind: str, value: str) -> None:
    """One more set of records, also such as a file of one zone cannot have."""
    import dns.rdata
    import dns.rdataset

    server.zone.find_node(name, create=True)
    server.zone.replace_rdataset(name, dns.rdataset.from_rdata(60, dns.rdata.from_text("IN", kind, value)))


class _Nothing:
    async def addresses(self, host: str) -> tuple[str, ...]:
        return ()


def ids(findings: Iterable[Finding]) -> set[str]:
    return {finding.id for finding in findings}


__all__ = ["ADDRESSES", "DOMAIN", "HOSTNAME", "STS_PATH", "World", "give", "ids"]
