"""What a receiver would make of a mail of ours: SPF of each address it may come from, its signatures, DMARC."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mtad.auth import dmarc, spf
from mtad.auth.judge import author_of
from mtad.config import Config
from mtad.dkim.verify import KeyUnavailable, Result, verify
from mtad.dns.resolver import DnsTemporary, NoData, NoSuchName, Resolver
from mtad.mail import address as addresses
from mtad.mail.text import clean
from mtad.publish.check import authorities
from mtad.publish.host import gather
from mtad.publish.view import View

ADDRESSES_MAX = 8


@dataclass(frozen=True, slots=True)
class Prediction:
    """`spf`: (address of ours, result). `dmarc` is None where the mail has no author that can be judged."""

    spf: tuple[tuple[str, spf.Result], ...]
    dkim: tuple[Result, ...]
    dmarc: dmarc.Result | None

    @property
    def good(self) -> bool:
        return (self.dmarc is not None and self.dmarc.verdict == "pass") or (
            # Without a DMARC record a receiver still looks at each of them.
            self.dmarc is not None
            and self.dmarc.verdict == "none"
            and any(one.result == "pass" for one in self.dkim)
            and all(one.verdict == "pass" for _, one in self.spf)
        )


def predict(config: Config, octets: bytes, sender: str, clock: Callable[[], float] = time.time) -> Prediction:
    """Of the octets as they leave, with this envelope sender ("" is the null sender). Blocking: it asks DNS, for a
    bounded time. Never raises for what DNS says."""
    with asyncio.Runner() as runner:
        return _predicted(runner, config, octets, sender, clock)


def _predicted(
    runner: asyncio.Runner, config: Config, octets: bytes, sender: str, clock: Callable[[], float]
) -> Prediction:
    author, _ = author_of(octets)
    domain = author or addresses.domain_of(sender) if author or sender else config.hostname
    resolver = Resolver(config.dns, clock)
    view = View(resolver, domain, authorities(config, domain))

    def lookup(name: str) -> Sequence[str]:
        try:
            return [text.decode("latin-1") for text in runner.run(view.txt(name))]
        except (NoSuchName, NoData):
            return ()
        except DnsTemporary as error:
            raise KeyUnavailable(str(error)) from None

    async def by_address() -> tuple[tuple[str, spf.Result], ...]:
        ours = (await gather(config, resolver)).addresses[:ADDRESSES_MAX]
        found = await asyncio.gather(*(spf.check(view, one, sender, config.hostname, clock()) for one in ours))
        return tuple(zip(ours, found, strict=True))

    async def judged(by_spf: Sequence[str], by_dkim: Sequence[str]) -> dmarc.Result:
        return await dmarc.evaluate(view.lenient(), author, by_spf, by_dkim)

    signatures = tuple(verify(octets, lookup, clock()))
    spf_found = runner.run(by_address())
    vouched = addresses.domain_of(sender) if sender else config.hostname
    by_spf = [vouched] if spf_found and all(one.verdict == "pass" for _, one in spf_found) else []
    by_dkim = [one.domain for one in signatures if one.result == "pass"]
    result = runner.run(judged(by_spf, by_dkim)) if author else None
    runner.run(view.close())
    return Prediction(spf_found, signatures, result)


def words(found: Prediction) -> list[tuple[str, str, str]]:
    """(what, verdict, why) for each, fit to show."""
    said: list[tuple[str, str, str]] = [
        ("SPF", one.verdict, f"{ip}: {one.reason}" if one.reason else ip) for ip, one in found.spf
    ]
    if not found.spf:
        said.append(("SPF", "unknown", "the addresses of this host are not known: set dns.addresses"))
    said += [
        (
            "DKIM",
            one.result,
            f"{one.selector or '-'}._domainkey.{one.domain or '-'}{f': {one.reason}' * bool(one.reason)}",
        )
        for one in found.dkim
    ]
    if not found.dkim:
        said.append(("DKIM", "none", "the mail is not signed: mtactl dkim generate"))
    if found.dmarc is not None:
        said.append(("DMARC", found.dmarc.verdict, _dmarc(found.dmarc)))
    return [(what, verdict, clean(why, 300)) for what, verdict, why in said]


def _dmarc(result: dmarc.Result) -> str:
    if result.reason:
        return f"{result.author_domain}: {result.reason}"
    by = [*("SPF" for _ in result.aligned_spf[:1]), *("DKIM" for _ in result.aligned_dkim[:1])]
    policy = f"policy {result.policy} of {result.policy_domain}" if result.policy else "no policy"
    return f"{result.author_domain} by {' and '.join(by)}, {policy}" if by else f"{result.author_domain}, {policy}"
