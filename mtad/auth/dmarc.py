"""DMARC: is the author's domain the one that SPF or DKIM vouch for, and what it asks for otherwise (RFC 9989).

Policies and organizational domains are found by the walk up the tree; at most eight questions for each name.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from mtad.auth.dmarc_record import Policy, Record, parse
from mtad.dns.resolver import DnsTemporary, NoData, NoSuchName

Verdict = Literal["pass", "fail", "none", "temperror", "permerror"]

LABELS_MAX = 8  # RFC 9989 4.10: longer names jump to the last seven labels
_SOFTER: dict[Policy, Policy] = {"reject": "quarantine", "quarantine": "none", "none": "none"}


class Dns(Protocol):
    """Each question raises DnsTemporary, NoSuchName or NoData when it has no answer."""

    async def txt(self, name: str) -> Sequence[bytes]: ...

    async def exists(self, name: str) -> bool:
        """Whether the name has an A, AAAA or MX record (RFC 9989 3.2.13). Raises DnsTemporary."""


@dataclass(frozen=True, slots=True)
class Result:
    """`policy` is what the domain asks for mail that fails, already softened by t=y; None without a record.

    `aligned_dkim` and `aligned_spf` are the authenticated domains that are the author's, in the order they were given.
    """

    verdict: Verdict
    author_domain: str
    organizational_domain: str = ""
    policy_domain: str = ""  # where the record stands
    policy: Policy | None = None
    record: Record | None = None
    aligned_dkim: tuple[str, ...] = ()
    aligned_spf: tuple[str, ...] = ()
    reason: str = ""


@dataclass(slots=True)
class Walk:
    """What the walk up from one domain found: the domains that have a record, longest first."""

    start: str
    found: list[tuple[str, Record]] = field(default_factory=list)
    ambiguous: bool = False  # the domain itself has several records

    @property
    def organizational(self) -> str:
        """RFC 9989 4.10.2."""
        for domain, record in self.found:
            if record.psd == "n":
                return domain
            if record.psd == "y" and domain != self.start:
                labels = self.start.split(".")
                return ".".join(labels[-(domain.count(".") + 2) :])
        return self.found[-1][0] if self.found else self.start

    def policy(self) -> tuple[str, Record] | None:
        """The record that applies: of the domain itself, the organizational domain, or the public suffix above."""
        if self.ambiguous:
            return None
        own, above = self.organizational, None
        for domain, record in self.found:
            if domain in (self.start, own):
                return domain, record
            if record.psd == "y":
                above = domain, record
        return above


async def evaluate(dns: Dns, author: str, spf: Sequence[str], dkim: Sequence[str]) -> Result:
    """The verdict on a mail whose From names `author` (a domain, A-labels); `spf` and `dkim` are the domains that
    passed there. Never raises for what DNS says."""
    author = _name(author)
    if not author or "." not in author:
        return Result("permerror", author, reason="the author's domain is none")
    try:
        walk = await walk_up(dns, author)
        applies = walk.policy()
        if applies is None or not applies[1].usable:
            why = "the record's policy is invalid" if applies else "there is no record"
            why = "there are several records" if walk.ambiguous else why
            return Result("none", author, walk.organizational, reason=why)
        domain, record = applies
        policy = await _policy(dns, author, domain, record)
        aligned_dkim = await _aligned(dns, walk, dkim, strict=record.strict_dkim)
        aligned_spf = await _aligned(dns, walk, spf, strict=record.strict_spf)
    except DnsTemporary as error:
        return Result("temperror", author, reason=f"DNS gave no answer: {error}")
    verdict: Verdict = "pass" if aligned_dkim or aligned_spf else "fail"
    return Result(verdict, author, walk.organizational, domain, policy, record, aligned_dkim, aligned_spf)


async def walk_up(dns: Dns, domain: str) -> Walk:
    """The records from a domain up to its top label. Raises DnsTemporary."""
    walk = Walk(domain)
    target, labels = domain, domain.split(".")
    above = min(len(labels) - 1, LABELS_MAX - 1)
    while True:
        records = await _records(dns, target)
        if len(records) == 1:
            walk.found.append((target, records[0]))
            if records[0].psd != "u":
                break
        elif records and target == domain:
            walk.ambiguous = True
        if not above:
            break
        target = ".".join(labels[-above:])
        above -= 1
    return walk


async def _records(dns: Dns, domain: str) -> list[Record]:
    try:
        texts = await dns.txt(f"_dmarc.{domain}")
    except (NoData, NoSuchName):
        return []
    return [record for text in texts if (record := parse(text.decode("latin-1"))) is not None]


async def _policy(dns: Dns, author: str, domain: str, record: Record) -> Policy:
    policy = record.p
    if domain != author:
        policy = record.sp or policy
        if record.np is not None and record.np != policy and not await dns.exists(author):
            policy = record.np
    return _SOFTER[policy] if record.testing else policy


async def _aligned(dns: Dns, walk: Walk, domains: Sequence[str], *, strict: bool) -> tuple[str, ...]:
    aligned = []
    for given in dict.fromkeys(map(_name, domains)):
        if given == walk.start:
            aligned.append(given)
        elif not strict and given and _related(given, walk.organizational):
            theirs = await walk_up(dns, given)
            if theirs.organizational == walk.organizational:
                aligned.append(given)
    return tuple(aligned)


def _related(domain: str, organizational: str) -> bool:
    """Only below the organizational domain there can be another name of it: nothing else is asked for."""
    return domain == organizational or domain.endswith(f".{organizational}")


def _name(domain: str) -> str:
    return domain.lower().strip().removesuffix(".")
