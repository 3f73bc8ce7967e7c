"""SPF: may this address send for this domain (RFC 7208). Asks through `Dns`; bounded in questions and in time."""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Literal, Protocol

from mtad.auth import spf_record
from mtad.auth.spf_record import BadRecord, Ip, Mechanism, Record
from mtad.dns.resolver import DnsTemporary, NoData, NoSuchName
from mtad.mail.text import clean

Verdict = Literal["none", "neutral", "pass", "fail", "softfail", "temperror", "permerror"]

LOOKUPS_MAX = 10  # RFC 7208 4.6.4: terms that ask DNS
VOIDS_MAX = 2  # and of their questions, those without an answer
NAMES_MAX = 10  # of one mx or ptr
TIMEOUT_S = 20.0
EXPLANATION_MAX = 500

_VERDICTS: Mapping[str, Verdict] = {"+": "pass", "-": "fail", "~": "softfail", "?": "neutral"}


class Dns(Protocol):
    """The questions of SPF. Each raises DnsTemporary, NoSuchName or NoData when it has no answer."""

    async def txt(self, name: str) -> Sequence[bytes]: ...

    async def mx_names(self, name: str) -> Sequence[str]: ...

    async def addresses_of(self, name: str, version: int) -> Sequence[str]:
        """A (4) or AAAA (6) records."""

    async def names_of(self, ip: str) -> Sequence[str]:
        """PTR records of an address."""


@dataclass(frozen=True, slots=True)
class Result:
    """`reason` says which term decided, or what is wrong; `explanation` is the domain's own text for a fail."""

    verdict: Verdict
    reason: str = ""
    explanation: str = ""
    lookups: int = 0
    voids: int = 0


class _Ends(Exception):  # noqa: N818
    """The check is over: an error of the record or of DNS."""

    def __init__(self, verdict: Verdict, reason: str) -> None:
        super().__init__(reason)
        self.verdict: Verdict = verdict
        self.reason = reason


async def check(
    dns: Dns, ip: str, mail_from: str, helo: str, now: float, receiver: str = "unknown", timeout_s: float = TIMEOUT_S
) -> Result:
    """The verdict on MAIL FROM, or on HELO when that is null (RFC 7208 2.4). Never raises for what DNS says."""
    local, at, domain = mail_from.rpartition("@")
    if not mail_from or not at:
        local, domain = "postmaster", mail_from or helo
    asked = _Check(dns, _plain(ip_address(ip)), local or "postmaster", domain, helo, receiver, now)
    try:
        async with asyncio.timeout(timeout_s):
            verdict, reason, explained = await asked.host(domain)
    except _Ends as ends:
        verdict, reason, explained = ends.verdict, ends.reason, ""
    except TimeoutError:
        verdict, reason, explained = "temperror", f"not decided within {timeout_s:g} s", ""
    return Result(verdict, clean(reason, 300), clean(explained, EXPLANATION_MAX), asked.lookups, asked.voids)


def valid_name(domain: str) -> bool:
    """Whether it can be asked for: at least two labels of 1 to 63 octets (RFC 7208 4.3)."""
    labels = domain.removesuffix(".").split(".")
    return (
        len(domain) <= spf_record.NAME_MAX + 1
        and len(labels) > 1
        and domain.isascii()
        and all(0 < len(label) <= 63 for label in labels)
    )


class _Check:
    """One check_host() with all it includes: the budgets are of the whole."""

    def __init__(self, dns: Dns, ip: Ip, local: str, sender_domain: str, helo: str, receiver: str, now: float) -> None:
        self.lookups = 0
        self.voids = 0
        self._dns = dns
        self._ip = ip
        self._local = local
        self._sender_domain = sender_domain
        self._helo = helo
        self._receiver = receiver
        self._now = now

    async def host(self, domain: str, *, included: bool = False) -> tuple[Verdict, str, str]:
        """(verdict, why, the explanation of a fail)."""
        if not valid_name(domain):
            return "none", f"{domain!a} is no domain name", ""
        text = await record_text(self._dns, domain)
        if text is None:
            return "none", f"{domain} has no SPF record", ""
        record = _parsed(domain, text)
        for mechanism in record.mechanisms:
            if await self._matches(domain, mechanism):
                verdict = _VERDICTS[mechanism.qualifier]
                explained = "" if verdict != "fail" or included else await self._explanation(domain, record)
                return verdict, f"{mechanism.text} of {domain}", explained
        if record.redirect and not any(mechanism.name == "all" for mechanism in record.mechanisms):
            self._spend(f"redirect={record.redirect}")
            target = spf_record.expand_domain(record.redirect, await self._values(domain, record.redirect))
            verdict, reason, explained = await self.host(target, included=included)
            if verdict == "none":
                raise _Ends("permerror", f"redirect={record.redirect} of {domain}: {reason}")
            return verdict, reason, explained
        return "neutral", f"nothing in the record of {domain} matches", ""

    async def _matches(self, domain: str, mechanism: Mechanism) -> bool:
        match mechanism.name:
            case "all":
                return True
            case "ip4" | "ip6":
                network = mechanism.network
                return network is not None and self._ip.version == network.version and self._ip in network
            case _:
                self._spend(f"{mechanism.text} of {domain}")
        target = domain
        if mechanism.domain:
            target = spf_record.expand_domain(mechanism.domain, await self._values(domain, mechanism.domain))
        match mechanism.name:
            case "include":
                return await self._included(mechanism, target)
            case "exists":
                return bool(await self._addresses(target, 4))
            case "a":
                return self._within(mechanism, await self._addresses(target, self._ip.version))
            case "mx":
                return await self._of_mx(mechanism, target)
            case _:
                return any(_is_below(name, target) for name in await self._own_names())

    async def _included(self, mechanism: Mechanism, target: str) -> bool:
        verdict, reason, _ = await self.host(target, included=True)
        if verdict == "none":
            raise _Ends("permerror", f"{mechanism.text}: {reason}")
        return verdict == "pass"

    async def _of_mx(self, mechanism: Mechanism, target: str) -> bool:
        names = await self._found(self._dns.mx_names(target)) if valid_name(target) else self._nothing()
        if len(names) > NAMES_MAX:
            raise _Ends("permerror", f"{mechanism.text}: {target} has more than {NAMES_MAX} MX hosts")
        for name in names:
            if name and self._within(mechanism, await self._addresses(name, self._ip.version)):
                return True
        return False

    def _within(self, mechanism: Mechanism, addresses: Sequence[str]) -> bool:
        bits = mechanism.v4_bits if self._ip.version == 4 else mechanism.v6_bits
        for address in addresses:
            if self._ip.version == 4:
                if self._ip in IPv4Network((int(IPv4Address(address)), bits), False):
                    return True
            elif self._ip in IPv6Network((int(IPv6Address(address)), bits), False):
                return True
        return False

    async def _own_names(self) -> Sequence[str]:
        """The names of the client that lead back to it (RFC 7208 5.5). A failure of DNS is no name."""
        try:
            names = await self._dns.names_of(str(self._ip))
        except (NoData, NoSuchName):
            return self._nothing()
        except DnsTemporary:
            return ()
        valid = []
        for name in names[:NAMES_MAX]:
            try:
                found = await self._dns.addresses_of(name, self._ip.version)
            except (DnsTemporary, NoData, NoSuchName):
                continue
            if any(ip_address(address) == self._ip for address in found):
                valid.append(name)
        return valid

    async def _addresses(self, name: str, version: int) -> Sequence[str]:
        return await self._found(self._dns.addresses_of(name, version)) if valid_name(name) else self._nothing()

    async def _found(self, asking: Awaitable[Sequence[str]]) -> Sequence[str]:
        try:
            return await asking
        except (NoData, NoSuchName):
            return self._nothing()
        except DnsTemporary as error:
            raise _Ends("temperror", str(error)) from None

    async def _values(self, domain: str, text: str) -> Mapping[str, str]:
        """The values of the macro letters that stand in a text."""
        values = {
            "s": f"{self._local}@{self._sender_domain}",
            "l": self._local,
            "o": self._sender_domain,
            "d": domain,
            "i": _dotted(self._ip),
            "v": "in-addr" if self._ip.version == 4 else "ip6",
            "h": self._helo,
            "c": str(self._ip),
            "r": self._receiver,
            "t": str(int(self._now)),
        }
        if "p" in spf_record.letters(text):
            names = await self._own_names()
            below = [name for name in names if _is_below(name, domain)]
            exact = [name for name in below if name.lower() == domain.lower()]
            values["p"] = next(iter([*exact, *below, *names]), "unknown")
        return values

    async def _explanation(self, domain: str, record: Record) -> str:
        """RFC 7208 6.2: whatever goes wrong, there is none."""
        if not record.exp:
            return ""
        try:
            target = spf_record.expand_domain(record.exp, await self._values(domain, record.exp))
            found = await self._dns.txt(target) if valid_name(target) else ()
            text = found[0].decode("ascii") if len(found) == 1 else ""
            return spf_record.explanation(text, await self._values(domain, text))
        except (DnsTemporary, NoData, NoSuchName, UnicodeDecodeError, _Ends):
            return ""

    def _nothing(self) -> Sequence[str]:
        self.voids += 1
        if self.voids > VOIDS_MAX:
            raise _Ends("permerror", f"more than {VOIDS_MAX} questions found nothing")
        return ()

    def _spend(self, term: str) -> None:
        self.lookups += 1
        if self.lookups > LOOKUPS_MAX:
            raise _Ends("permerror", f"more than {LOOKUPS_MAX} terms ask DNS; the first too many is {term}")


async def record_text(dns: Dns, domain: str) -> str | None:
    """The one SPF record of a domain as text, None when there is none (RFC 7208 4.4, 4.5)."""
    try:
        records = [octets.decode("latin-1") for octets in await dns.txt(domain)]
    except (NoData, NoSuchName):
        return None
    except DnsTemporary as error:
        raise _Ends("temperror", str(error)) from None
    found = [text for text in records if spf_record.is_spf(text)]
    if len(found) > 1:
        raise _Ends("permerror", f"{domain} has {len(found)} SPF records")
    return found[0] if found else None


def _parsed(domain: str, text: str) -> Record:
    try:
        return spf_record.parse(text)
    except BadRecord as error:
        raise _Ends("permerror", f"record of {domain}: {error}") from None


def _plain(ip: Ip) -> Ip:
    return (ip.ipv4_mapped or ip) if isinstance(ip, IPv6Address) else ip


def _dotted(ip: Ip) -> str:
    """As the macro %{i} has it: an IPv6 address as its nibbles (RFC 7208 7.3)."""
    return str(ip) if ip.version == 4 else ".".join(f"{int(ip):032X}")


def _is_below(name: str, domain: str) -> bool:
    name, domain = name.lower().removesuffix("."), domain.lower().removesuffix(".")
    return name == domain or name.endswith(f".{domain}")
