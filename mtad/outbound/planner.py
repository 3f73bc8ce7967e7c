"""From a domain to a plan, and how it came about: the same for a delivery and for an operator who asks."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from mtad.config import Config, RouteRule
from mtad.dns.resolver import DnsTemporary, MxAnswer, NoData, NoSuchName, Resolver
from mtad.mail.reply import Reply
from mtad.outbound import route
from mtad.outbound.route import Found, Plan, Remote


class Secures(Protocol):
    async def secured(self, domain: str, mx: MxAnswer | Exception, plan: Remote) -> Remote:
        """The plan with the TLS that each of its hosts must show."""


@dataclass(frozen=True, slots=True)
class Trace:
    """A plan and what led to it."""

    plan: Plan
    rule: RouteRule | None = None  # the route, or local delivery; None: by MX
    mx: MxAnswer | Exception | None = None  # what DNS said, when it was asked
    names: tuple[str, ...] = ()  # the hosts that were looked up, best first
    found: Mapping[str, Found] = field(default_factory=dict)


class Planner:
    def __init__(self, config: Config, resolver: Resolver, security: Secures, rng: random.Random) -> None:
        self._config = config
        self._resolver = resolver
        self._security = security
        self._rng = rng

    async def trace(self, domain: str, sender: str = "", user: str = "") -> Trace:
        """Where mail for this domain goes now, when it is of this sender ("": a report) and this user ("": none)."""
        rule = route.rule_for(domain, self._config, sender, user)
        if isinstance(rule, Reply):
            return Trace(rule)
        if rule is not None and rule.to.scheme != "mx":
            host = route.lookup(rule.to)
            found: Found = route.literal(host) if host else ()
            if host and not found:
                found = await _tried(self._resolver.system_addresses, host)
            return Trace(route.by_rule(rule, found, self._config), rule, None, (host,) if host else (), {host: found})
        if domain.startswith("["):
            addresses = {domain: route.literal(domain)}
            return Trace(route.by_mx((domain,), addresses, self._config, rule), rule, None, (domain,), addresses)
        mx = await self._mx(domain)
        names = route.names(domain, mx, self._config, self._rng)
        if isinstance(names, Reply):
            return Trace(names, rule, mx)
        answers = await asyncio.gather(*(self._addresses(host) for host in names))
        by_name = dict(zip(names, answers, strict=True))
        plan = route.by_mx(names, by_name, self._config, rule)
        if isinstance(plan, Remote):
            plan = replace(plan, site=route.site_of(domain, mx, names), best=route.best_of(mx, names))
        if isinstance(plan, Remote) and (rule is None or rule.tls == "may"):
            plan = await self._security.secured(domain, mx, plan)
        return Trace(plan, rule, mx, names, by_name)

    async def _mx(self, domain: str) -> MxAnswer | Exception:
        try:
            return await self._resolver.mx(domain)
        except (DnsTemporary, NoSuchName, NoData) as error:
            return error

    async def _addresses(self, host: str) -> Found:
        return route.literal(host) or await _tried(self._resolver.addresses, host)


async def _tried(ask: Callable[[str], Awaitable[tuple[str, ...]]], host: str) -> Found:
    try:
        return await ask(host)
    except (DnsTemporary, NoSuchName, NoData) as error:
        return error
