"""`dns check`: all of its parts at once, each told as soon as it is done, and none later than CHECK_S."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import replace

from mtad.config import Config
from mtad.config.tree import Address, Listen
from mtad.dkim.keys import Keys
from mtad.dkim.policy import signer
from mtad.dns.resolver import Resolver
from mtad.mail.envelope import Clock
from mtad.publish import dkimcheck, dmarccheck, hosts, parked, servers, shown, spfcheck, tlscheck
from mtad.publish.area import Area, Checked
from mtad.publish.host import gather, keys_of
from mtad.publish.view import QUERY_S, View

CHECK_S = 60.0  # of everything

Part = Callable[[Checked], Awaitable[Area]]

_PARTS: Sequence[tuple[str, Part]] = (
    ("name servers", servers.servers),
    ("mx", hosts.mx),
    ("host", hosts.host),
    ("spf", spfcheck.check),
    ("dkim", dkimcheck.check),
    ("dmarc", dmarccheck.check),
    ("certificate", shown.check),
    ("mta-sts", tlscheck.mta_sts_check),
    ("tlsrpt", tlscheck.tlsrpt_check),
    ("dane", tlscheck.dane_check),
    ("caa", tlscheck.caa_check),
    ("srv", tlscheck.srv_check),
)
_PARKED: Sequence[tuple[str, Part]] = (("name servers", servers.servers), ("parked", parked.check))


async def check(
    config: Config,
    keys: Keys,
    clock: Clock,
    domain: str,
    *,
    parked: bool = False,
    offline: bool = False,
    asked: Sequence[Address] = (),
    port: int = 53,
    https_port: int = 443,
    listen: Listen | None = None,
    check_s: float = CHECK_S,
    query_s: float = QUERY_S,
) -> AsyncGenerator[Area, None]:
    """The areas of a domain (A-labels, lower case), in their order. Never raises for what the network does.

    `asked` are asked instead of the servers that NS records name. `port`, `https_port` and `listen`, which is looked at
    instead of the listeners of the settings, are for tests.
    """
    resolver = Resolver(replace(config.dns, timeout_s=min(config.dns.timeout_s, 5.0)), clock)
    view = View(resolver, domain, asked or authorities(config, domain), port=port, query_s=query_s)
    ends = asyncio.get_running_loop().time() + check_s
    try:
        host = await gather(config, resolver)
        signing = signer(domain, config.dkim.rules, config.domains.__contains__, keys.signs)
        signing = signing or (domain if keys.signs(domain) else "")
        mine = keys_of(keys.ring(signing or domain))
        looking = asyncio.create_task(
            shown.gather(view, config, host, domain, listen or config.listen, offline=offline or parked)
        )
        checked = Checked(
            view,
            config,
            host,
            domain,
            mine,
            signing,
            clock(),
            lambda: asyncio.shield(looking),
            offline,
            https_port,
        )
        parts = _PARKED if parked else _PARTS
        tasks = [(name, asyncio.create_task(_part(name, part, checked))) for name, part in parts]
        try:
            for name, task in tasks:
                left_s = ends - asyncio.get_running_loop().time()
                done, _ = await asyncio.wait([task], timeout=max(left_s, 0.01))
                yield task.result() if done else _late(name, check_s)
            odds = Area("agreement")
            odds.findings += [*view.odds(), *view.stale()]
            if not odds.findings:
                odds.say("all servers say the same")
            yield odds
        finally:
            looking.cancel()
            for _, task in tasks:
                task.cancel()
            await asyncio.gather(looking, *(task for _, task in tasks), return_exceptions=True)
    finally:
        await view.close()


def authorities(config: Config, domain: str) -> Sequence[Address]:
    """The servers that the settings name for our domains and what is below them; () = those of the NS records."""
    ours = any(f".{domain}".endswith(f".{one}") for one in config.domains)
    return config.dns.authorities if ours else ()


async def _part(name: str, part: Part, checked: Checked) -> Area:
    return await part(checked)


def _late(name: str, check_s: float) -> Area:
    area = Area(name)
    area.find(
        "check.incomplete",
        f"{name}: not done within {check_s:g} s",
        "see to the name servers that do not answer, and check again",
    )
    return area
