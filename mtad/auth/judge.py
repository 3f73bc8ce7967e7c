"""One message as a receiver judges it: SPF, DKIM, DMARC and ARC, and the header field that says so (RFC 8601)."""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from mtad.auth import arc, dmarc, spf
from mtad.dkim.verify import KeyUnavailable, verify
from mtad.dkim.verify import Result as Signature
from mtad.dns.resolver import DnsTemporary, NoData, NoSuchName
from mtad.mail import address, headers
from mtad.mail.text import clean

LOOKUP_S = 15.0  # for the key of one signature
KEYS_S = 60.0  # for all keys of a mail: its author chooses how many there are, and how slow
DMARC_S = 30.0
FROM_MAX_BYTES = 32 * 1024  # of what is longer, the end is not read, and names other authors perhaps
_PLAIN = re.compile(r"[A-Za-z0-9._@+/-]+")
_VALUE_MAX = 320


class Dns(spf.Dns, dmarc.Dns, Protocol):
    """All the questions."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """`spf_of` is what SPF was asked about: MAIL FROM, or the name in HELO where that is null."""

    spf: spf.Result
    spf_of: str
    dkim: tuple[Signature, ...]
    dmarc: dmarc.Result
    arc: arc.Result

    @property
    def good(self) -> bool:
        """DMARC passes; or the author's domain has none, and somebody vouches for the mail."""
        if self.dmarc.verdict == "none":
            return self.spf.verdict == "pass" or any(one.result == "pass" for one in self.dkim)
        return self.dmarc.verdict == "pass"


async def judge(
    dns: Dns, message: bytes, ip: str, helo: str, mail_from: str, now: float, receiver: str, keys_s: float = KEYS_S
) -> Judgement:
    """The verdicts on a message with CRLF line ends. `ip` "" = nobody knows where it came from: SPF says nothing.

    Never raises for what the message or DNS holds, and takes no longer than two minutes.
    """
    lookup = _Lookup(dns, asyncio.get_running_loop(), keys_s)
    signatures = await asyncio.to_thread(verify, message, lookup, now)
    chain = await asyncio.to_thread(arc.verify, message, lookup, now)
    if ip:
        result = await spf.check(dns, ip, mail_from, helo, now, receiver)
    else:
        result = spf.Result("none", "the address of the client is not known")
    domain = (mail_from.rpartition("@")[2] or helo).lower()
    author, problem = author_of(message)
    if problem:
        verdict = dmarc.Result("permerror", author, reason=problem)
    else:
        passed = [one.domain for one in signatures if one.result == "pass"]
        try:
            async with asyncio.timeout(DMARC_S):
                verdict = await dmarc.evaluate(dns, author, [domain] if result.verdict == "pass" else [], passed)
        except TimeoutError:
            verdict = dmarc.Result("temperror", author, reason=f"not decided within {DMARC_S:g} s")
    return Judgement(result, mail_from or helo, tuple(signatures), verdict, chain)


def field(judgement: Judgement, receiver: str) -> str:
    """Authentication-Results: without its line end, folded."""
    parts = []
    kind = "smtp.mailfrom" if "@" in judgement.spf_of else "smtp.helo"
    of = f" {kind}={_value(judgement.spf_of)}" if judgement.spf_of else ""
    parts.append(f"spf={judgement.spf.verdict}{of}")
    for one in judgement.dkim:
        names = f" header.d={_value(one.domain)} header.s={_value(one.selector)}" if one.domain else ""
        reason = f" ({_comment(one.reason)})" if one.reason else ""
        parts.append(f"dkim={one.result}{reason}{names}")
    if not judgement.dkim:
        parts.append("dkim=none")
    policy = f" (p={judgement.dmarc.policy})" if judgement.dmarc.policy else ""
    author = f" header.from={_value(judgement.dmarc.author_domain)}" if judgement.dmarc.author_domain else ""
    parts.append(f"dmarc={judgement.dmarc.verdict}{policy}{author}")
    if judgement.arc.verdict != "none":
        parts.append(f"arc={judgement.arc.verdict}")
    return "Authentication-Results: " + ";\r\n\t".join([receiver, *parts])


def author_of(message: bytes) -> tuple[str, str]:
    """(the domain of From as A-labels, why there is none). Several authors are none (RFC 9989 5.7.1)."""
    head, _ = headers.split(message)
    count = headers.count(head, b"from")
    if count != 1:
        return "", "the mail has no From" if not count else f"the mail has {count} From fields"
    if headers.longest(head, b"from") > FROM_MAX_BYTES:
        return "", "From is too long"
    domains = set()
    try:
        for one in headers.first_addresses(head, b"from"):
            local = one.rpartition("@")[0]
            if "@" in local and not (local.startswith('"') and local.endswith('"')):  # one is shown, another judged
                raise address.AddressError("several at signs")
            domains.add(address.to_ascii(address.domain_of(one)).lower())
    except address.AddressError:
        return "", "the address in From is none"
    if len(domains) != 1:
        return "", "the address in From is none" if not domains else "From names authors of several domains"
    return domains.pop(), ""


class _Lookup:
    """The questions of DKIM's verifier, which waits in a thread."""

    def __init__(self, dns: Dns, loop: asyncio.AbstractEventLoop, keys_s: float) -> None:
        self._dns = dns
        self._loop = loop
        self._until = loop.time() + keys_s

    def __call__(self, name: str) -> Sequence[str]:
        left_s = min(LOOKUP_S, self._until - self._loop.time())
        if left_s <= 0:
            raise KeyUnavailable("the keys of this mail take too long")
        asked = asyncio.run_coroutine_threadsafe(self._ask(name), self._loop)
        try:
            return asked.result(left_s)
        except DnsTemporary as error:
            raise KeyUnavailable(str(error)) from None
        except TimeoutError:
            asked.cancel()
            raise KeyUnavailable("no answer in time") from None

    async def _ask(self, name: str) -> Sequence[str]:
        try:
            return [text.decode("latin-1") for text in await self._dns.txt(name)]
        except (NoData, NoSuchName):
            return ()


def _value(text: str) -> str:
    """As RFC 8601 2.2 wants it: quoted unless it is plain."""
    shown = clean(text, _VALUE_MAX)
    return shown if _PLAIN.fullmatch(shown) else '"' + shown.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _comment(text: str) -> str:
    """Without what ends it, or ends a result for those who look for semicolons alone."""
    return re.sub(r"[()\\]", " ", clean(text, 200)).replace(";", ",")
