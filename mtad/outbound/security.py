"""Which TLS each host of a plan needs, and why: the operator's word, else DANE, else MTA-STS, else what is offered."""

from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from mtad.config import Config, TlsRule
from mtad.dns.resolver import MxAnswer
from mtad.mail.reply import Reply
from mtad.outbound.route import Host, Remote
from mtad.tls import mta_sts
from mtad.tls.requirement import Origin, Requirement
from mtad.tls.tlsrpt import Fault, Policy

_NOT_LISTED = "The MX host is not one of those that {whose} allows"


def rule_for(domain: str, config: Config) -> TlsRule | None:
    return next((rule for rule in config.delivery.tls if fnmatchcase(domain, rule.match)), None)


def by_rule(rule: TlsRule, domain: str, host: str) -> Requirement:
    """What the settings ask of an MX host."""
    why = f"the settings for {rule.match}"
    report = Policy(domain)
    if rule.mx and not mta_sts.matches(rule.mx, host):
        return refused(_NOT_LISTED.format(whose="the settings"), "configured", why, report)
    match rule.mode:
        case "pinned":
            return Requirement("pinned", "configured", why, pins=rule.pins, report=report)
        case "verify":
            return Requirement("verify", "configured", why, report=report)
        case "encrypt":
            return Requirement("encrypt", "configured", why, report=report)
        case _:
            return Requirement("may", "configured", why, report=report)


def refused(words: str, origin: Origin, why: str, report: Policy | None) -> Requirement:
    """The host must not be used now. Never a reason to return mail: policies are mended."""
    fault = Fault("validation-failure", words)
    reply = Reply(451, "4.7.5", words, stage="starttls", cause=why)
    return Requirement("verify", origin, why, reply, fault, report=report)


class Security:
    """Decides for the hosts of a plan by MX. `reload` takes new settings."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def reload(self, config: Config) -> None:
        self._config = config

    async def secured(self, domain: str, mx: MxAnswer | Exception, plan: Remote) -> Remote:
        """The plan with the TLS that each of its hosts must show."""
        rule = rule_for(domain, self._config)
        if rule is not None:
            return _with(plan, [by_rule(rule, domain, host.name) for host in plan.hosts])
        return plan


def _with(plan: Remote, needs: Sequence[Requirement]) -> Remote:
    hosts: tuple[Host, ...] = tuple(replace(host, tls=need) for host, need in zip(plan.hosts, needs, strict=True))
    return replace(plan, hosts=hosts)
