"""What to publish for a domain, from what the host is. Pure."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from mtad.dkim.rotation import Stage
from mtad.dns.update import quoted
from mtad.publish.host import Host, Key

TTL_S = 3600
STS_MAX_AGE_S = 604_800
STS_ID_CHARACTERS = 16
STS_PATH = "/.well-known/mta-sts.txt"


@dataclass(frozen=True, slots=True)
class Rec:
    """One record. `value` is as a zone file has it, but that of TXT is the bare text. `about` says what it is for;
    `elsewhere` where it belongs when that is not the zone of the domain."""

    name: str
    kind: str
    value: str
    about: str = ""
    elsewhere: str = ""
    ttl_s: int = TTL_S

    @property
    def shown(self) -> str:
        """The value as a zone file has it."""
        return quoted(self.value) if self.kind == "TXT" else self.value

    @property
    def line(self) -> str:
        """All of it as a line of a zone file, independent of the origin."""
        return f"{self.name}. {self.ttl_s} IN {self.kind} {self.shown}"


def wanted(domain: str, host: Host, keys: Sequence[Key], *, parked: bool = False, signed: bool = False) -> list[Rec]:
    """The records of a domain, in the order in which they are explained. `signed`: the host's zone has DNSSEC."""
    if parked:
        return list(_parked(domain))
    return [*_mail(domain, host), *_signing(domain, keys), *_policies(domain, host), *_tls(domain, host, signed=signed)]


def _parked(domain: str) -> Iterator[Rec]:
    yield Rec(domain, "MX", "0 .", "takes no mail (RFC 7505)")
    yield Rec(domain, "TXT", "v=spf1 -all", "sends no mail")
    yield Rec(f"_dmarc.{domain}", "TXT", "v=DMARC1; p=reject", "mail in its name is forged")


def _mail(domain: str, host: Host) -> Iterator[Rec]:
    yield Rec(domain, "MX", f"10 {host.hostname}.", "mail for the domain comes here")
    yield from _addresses(host.hostname, domain, host, "this host")
    for address in host.addresses:
        name = ip_address(address).reverse_pointer
        yield Rec(name, "PTR", f"{host.hostname}.", "the name of the address", "to be set by its provider")
    yield Rec(domain, "TXT", spf(host), "who may send for the domain")
    if host.hostname != domain:
        yield Rec(
            host.hostname, "TXT", "v=spf1 a -all", "the host's own name, as in EHLO", _zone(host.hostname, domain)
        )


def _addresses(name: str, domain: str, host: Host, about: str) -> Iterator[Rec]:
    for address in host.addresses:
        kind = "AAAA" if ":" in address else "A"
        yield Rec(name, kind, address, about, _zone(name, domain))


def _signing(domain: str, keys: Sequence[Key]) -> Iterator[Rec]:
    for key in keys:
        if key.stage is not Stage.RETIRED:
            yield Rec(key.name, "TXT", key.record, f"DKIM key, {key.stage.value}")


def _policies(domain: str, host: Host) -> Iterator[Rec]:
    yield Rec(f"_dmarc.{domain}", "TXT", dmarc(domain), "what to do with forged mail, and who hears of it")
    yield Rec(f"_mta-sts.{domain}", "TXT", sts(host), "there is a policy that mail comes over TLS only")
    yield from _addresses(f"mta-sts.{domain}", domain, host, f"https://mta-sts.{domain}{STS_PATH} serves the policy")
    yield Rec(f"_smtp._tls.{domain}", "TXT", tlsrpt(domain), "who hears of TLS that failed")


def _tls(domain: str, host: Host, *, signed: bool) -> Iterator[Rec]:
    if signed and host.certificate is not None:
        name = f"_25._tcp.{host.hostname}"
        yield Rec(name, "TLSA", tlsa(host.certificate.leaf), "the key of the certificate", _zone(name, domain))
    if host.issuer:
        zone = _zone(host.hostname, domain)
        yield Rec(host.hostname, "CAA", f'0 issue "{host.issuer}"', "who may make certificates", zone)
    for service, port in (("_submissions", host.submissions), ("_submission", host.submission)):
        if port:
            yield Rec(f"{service}._tcp.{domain}", "SRV", f"0 1 {port} {host.hostname}.", "where mail programs send")


def _zone(name: str, domain: str) -> str:
    """Where a name belongs when it is not in the zone of the domain."""
    return "" if name == domain or name.endswith(f".{domain}") else f"the zone of {name}"


def spf(host: Host) -> str:
    """Our addresses, each by itself: that costs no lookup."""
    terms = [f"{'ip6' if ':' in address else 'ip4'}:{address}" for address in host.addresses]
    if host.smarthost:
        terms.append(f"a:{host.smarthost}")
    return " ".join(["v=spf1", *(terms or ["mx"]), "-all"])


def dmarc(domain: str) -> str:
    return f"v=DMARC1; p=quarantine; rua=mailto:postmaster@{domain}"


def tlsrpt(domain: str) -> str:
    return f"v=TLSRPTv1; rua=mailto:postmaster@{domain}"


def sts_policy(host: Host) -> str:
    """The policy file (RFC 8461 3.2). A certificate that others cannot verify must not stop mail: then it is a test."""
    proven = host.certificate is not None and not host.self_signed and covers(host.certificate.names, host.hostname)
    mode = ("enforce" if proven else "testing") if host.sts_mode == "auto" else host.sts_mode
    names = "".join(f"mx: {name}\r\n" for name in dict.fromkeys((host.hostname, *host.sts_mx)))
    return f"version: STSv1\r\nmode: {mode}\r\n{names}max_age: {STS_MAX_AGE_S}\r\n"


def sts_policy_for(asked: str, host: Host) -> str:
    """The policy that a web server of this name has (RFC 8461 3.3), "" where there is none of ours."""
    sub, _, domain = asked.lower().removesuffix(".").partition(".")
    return sts_policy(host) if sub == "mta-sts" and domain in host.domains else ""


def sts(host: Host) -> str:
    """Its id follows from the policy: another policy has another id."""
    return f"v=STSv1; id={sts_id(sts_policy(host))}"


def sts_id(policy: str) -> str:
    """What we call a policy, whatever its line ends."""
    lines = "".join(f"{line}\r\n" for line in policy.splitlines())
    return hashlib.sha256(lines.encode()).hexdigest()[:STS_ID_CHARACTERS]


def tlsa(leaf: bytes) -> str:
    """3 1 1 (RFC 7672 3.1.1): the key may stay through renewals."""
    from mtad.tls.dane import key_digest

    return f"3 1 1 {key_digest(leaf).hex()}"


def covers(names: Sequence[str], host: str) -> bool:
    """Whether a certificate with these names is for this host (RFC 9525 6.3)."""
    return host in names or f"*.{host.partition('.')[2]}" in names


def row(rec: Rec) -> dict[str, Any]:
    return {
        "name": rec.name,
        "type": rec.kind,
        "ttl": rec.ttl_s,
        "value": rec.shown,
        "text": rec.value,
        "about": rec.about,
        "elsewhere": rec.elsewhere,
    }
