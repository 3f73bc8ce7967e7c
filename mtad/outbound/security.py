"""Which TLS each host of a plan needs, and why: the operator's word, else DANE, else MTA-STS, else what is offered."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from mtad.config import Config, TlsRule
from mtad.dns.resolver import DnsTemporary, MxAnswer, NoData, Resolver
from mtad.events import Events
from mtad.mail.envelope import Clock
from mtad.mail.reply import Reply
from mtad.outbound.policies import Policies
from mtad.outbound.route import Host, Remote
from mtad.tls import dane, mta_sts
from mtad.tls.mta_sts import Known
from mtad.tls.requirement import Origin, Requirement
from mtad.tls.tlsrpt import Fault, Policy, Result

LATELY_S = 5.0  # the mails of a burst to one domain share an answer
LATELY_MAX = 1000
RECORDS_SHOWN, TLSA_SHOWN = 10, 200  # in a report: so many, of so many characters

_NOT_LISTED = "The MX host is not one of those that {} allows"
_NO_TLSA = "DNS gave no answer on the host's certificate (TLSA)"


def rule_for(domain: str, config: Config) -> TlsRule | None:
    return next((rule for rule in config.delivery.tls if fnmatchcase(domain, rule.match)), None)


def by_rule(rule: TlsRule, domain: str, host: str) -> Requirement:
    """What the settings ask of an MX host."""
    why = f"the settings for {rule.match}"
    report = Policy(domain)
    if rule.mx and not mta_sts.matches(rule.mx, host):
        return refused("validation-failure", _NOT_LISTED.format("the configuration"), "configured", why, report)
    match rule.mode:
        case "pinned":
            return Requirement("pinned", "configured", why, pins=rule.pins, report=report)
        case "verify":
            return Requirement("verify", "configured", why, report=report)
        case "encrypt":
            return Requirement("encrypt", "configured", why, report=report)
        case _:
            return Requirement("may", "configured", why, report=report)


def by_dane(domain: str, host: str, base: str, records: Sequence[dane.Tlsa]) -> Requirement:
    """What TLSA records ask of an MX host (RFC 7672 2.2); `base` is where they were found."""
    report = Policy(domain, "tlsa", tuple(str(record)[:TLSA_SHOWN] for record in records[:RECORDS_SHOWN]), (host,))
    good = dane.usable(records)
    if not good:
        why = "DANE, but no TLSA record is of a usable kind"
        return Requirement("encrypt", "DANE", why, report=report)
    count = f"{len(good)} TLSA records" if len(good) > 1 else "a TLSA record"
    names = tuple(dict.fromkeys((base, host, domain)))
    return Requirement("dane", "DANE", f"DANE: {count} at {base}", tlsa=good, names=names, report=report)


def by_policy(known: Known, host: str) -> Requirement:
    """What an MTA-STS policy asks of an MX host (RFC 8461 5)."""
    policy = known.policy
    if policy.mode == "none":
        return Requirement(why=f"MTA-STS none of {known.domain}", report=Policy(known.domain))
    why = f"MTA-STS {policy.mode} of {known.domain}"
    report = Policy(known.domain, "sts", mta_sts.lines(policy), policy.mx[: mta_sts.SHOWN_MAX])
    listed = mta_sts.matches(policy.mx, host)
    words = _NOT_LISTED.format(f"the MTA-STS policy of {known.domain}")
    if policy.mode == "enforce":
        if not listed:
            return refused("validation-failure", words, "MTA-STS", why, report)
        return Requirement("verify", "MTA-STS", why, report=report)
    fault = None if listed else Fault("validation-failure", words)
    return Requirement("may", "MTA-STS", why, fault=fault, testing=listed, report=report)


def refused(result: Result, words: str, origin: Origin, why: str, report: Policy | None) -> Requirement:
    """The host must not be used now. Never a reason to return mail: policies are mended."""
    reply = Reply(451, "4.7.5", words, stage="starttls", cause=why)
    return Requirement("verify", origin, why, reply, Fault(result, words), report=report)


class Security:
    """Decides for the hosts of a plan by MX. `reload` takes new settings."""

    def __init__(self, config: Config, resolver: Resolver, policies: Policies, events: Events, clock: Clock) -> None:
        self.policies = policies
        self.dane = "not known yet"  # in words: on; off, and why
        self._dane_off = False
        self._events = events
        self._clock = clock
        self._use(config, resolver)

    def reload(self, config: Config, resolver: Resolver) -> None:
        self.policies.reload(config, resolver)
        self._use(config, resolver)

    async def secured(self, domain: str, mx: MxAnswer | Exception, plan: Remote) -> Remote:
        """The plan with the TLS that each of its hosts must show."""
        secure = isinstance(mx, MxAnswer | NoData) and mx.secure
        now = self._clock()
        known = self._lately.get((domain, plan, secure))
        if known is None or not 0 <= now - known[0] < LATELY_S:
            known = (now, _with(plan, await self._needs(domain, plan, secure)))
            if len(self._lately) >= LATELY_MAX:
                self._lately.clear()
            self._lately[domain, plan, secure] = known
        return known[1]

    async def _needs(self, domain: str, plan: Remote, secure: bool) -> Mapping[str, Requirement]:
        """By the names of the hosts, what the operator asks, else DANE, else MTA-STS."""
        names = tuple(dict.fromkeys([host.name for host in plan.hosts]))
        rule = rule_for(domain, self._config)
        if rule is not None:
            return {name: by_rule(rule, domain, name) for name in names}
        needs: dict[str, Requirement] = {}
        if secure and self._config.delivery.dane and not self._dane_off:
            found = await asyncio.gather(*(self._by_dane(domain, name, plan.hosts[0].port) for name in names))
            needs = {name: need for name, need in zip(names, found, strict=True) if need is not None}
        left = [name for name in names if name not in needs]
        if left:
            known = await self.policies.policy(domain) if self._config.delivery.mta_sts else None
            needs |= {name: _otherwise(domain, known, name) for name in left}
        return needs

    async def _by_dane(self, domain: str, host: str, port: int) -> Requirement | None:
        """None: there is nothing that DANE asks of this host."""
        try:
            for base in await self._resolver.tlsa_bases(host):
                records = await self._resolver.tlsa(f"_{port}._tcp.{base}")
                if records:
                    return by_dane(domain, host, base, [dane.Tlsa(*record) for record in records])
        except DnsTemporary as error:
            report = Policy(domain, "tlsa", (), (host,))
            need = refused("dnssec-invalid", _NO_TLSA, "DANE", f"DANE of {host}", report)
            return replace(need, refusal=Reply(451, "4.7.5", _NO_TLSA, stage="connect", cause=str(error)))
        return None

    async def look(self) -> None:
        """Find out whether the name servers' word on DNSSEC counts. While they do not answer, each of their answers
        counts for itself."""
        before = self.dane
        if not self._config.delivery.dane:
            self.dane, self._dane_off = "off: delivery.dane is false", True
            return
        try:
            why = await self._resolver.distrust()
        except DnsTemporary as error:
            self.dane, self._dane_off = f"not known yet: {error}", False
            return
        self.dane, self._dane_off = (f"off: {why}", True) if why else ("on", False)
        if why and self.dane != before:
            self._events.warned(f"DANE is {self.dane}")

    def _use(self, config: Config, resolver: Resolver) -> None:
        self._config = config
        self._resolver = resolver
        self._lately: dict[tuple[str, Remote, bool], tuple[float, Remote]] = {}


def _otherwise(domain: str, known: Known | Fault | None, host: str) -> Requirement:
    match known:
        case Known():
            return by_policy(known, host)
        case Fault():
            return Requirement(why="MTA-STS is announced, but there is no policy", fault=known, report=Policy(domain))
        case None:
            return Requirement(report=Policy(domain))


def _with(plan: Remote, needs: Mapping[str, Requirement]) -> Remote:
    hosts: tuple[Host, ...] = tuple(replace(host, tls=needs[host.name]) for host in plan.hosts)
    return replace(plan, hosts=hosts)
