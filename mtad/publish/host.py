"""What this host really is, as far as DNS has to tell of it: gathered from settings, interfaces, keys and files."""

import asyncio
import socket
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network
from typing import Protocol

from mtad.config import Config
from mtad.config.certificate import from_der
from mtad.dkim.rotation import Ring, Stage
from mtad.dkim.watch import where
from mtad.dns.resolver import DnsTemporary, NoData, NoSuchName
from mtad.tls.certificates import Certificate, choose, index, read

# Where a packet would leave to; none is sent (RFC 5737, RFC 3849).
_OUT = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))
# Not seen by others. Addresses for documentation count as public: they stand for such.
_INSIDE = tuple(
    map(ip_network, ("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16",
                     "0.0.0.0/8", "::/127", "fc00::/7", "fe80::/10"))
)  # fmt: skip
_ISSUERS = (
    ("let's encrypt", "letsencrypt.org"),
    ("google trust services", "pki.goog"),
    ("zerossl", "sectigo.com"),
    ("sectigo", "sectigo.com"),
    ("digicert", "digicert.com"),
    ("buypass", "buypass.com"),
    ("globalsign", "globalsign.com"),
    ("actalis", "actalis.it"),
    ("ssl corp", "ssl.com"),
    ("amazon", "amazon.com"),
    ("gandi", "gandi.net"),
)


class Lookup(Protocol):
    async def addresses(self, host: str) -> Sequence[str]: ...


@dataclass(frozen=True, slots=True)
class Key:
    """A signing key as DNS has to have it. `name` is where, `record` the TXT value."""

    selector: str
    name: str
    record: str
    stage: Stage


@dataclass(frozen=True, slots=True)
class Host:
    """`known`: the addresses are ours by the settings or an interface, and not only what DNS says."""

    hostname: str
    domains: tuple[str, ...]
    addresses: tuple[str, ...] = ()
    known: bool = False
    certificate: Certificate | None = None
    issuer: str = ""  # as a CAA record names it; "" = none that is known
    self_signed: bool = False
    submission: int = 0  # ports; 0 = not offered to others
    submissions: int = 0
    smarthost: str = ""  # all mail leaves through it
    private: bool = False  # delivery to and from private addresses is meant
    sts_mode: str = "auto"  # as dns.sts_mode
    sts_mx: tuple[str, ...] = ()


def certified(config: Config, certificates: Sequence[Certificate]) -> Host:
    """This host as far as its settings and certificates say; the addresses are not looked for."""
    certificate = certificates[choose(index(certificates), config.hostname)] if certificates else None
    issuer, self_signed = _issued(certificate)
    return Host(
        hostname=config.hostname,
        domains=config.domains,
        certificate=certificate,
        issuer=issuer,
        self_signed=self_signed,
        sts_mode=config.dns.sts_mode,
        sts_mx=config.dns.sts_mx,
    )


async def gather(config: Config, resolver: Lookup) -> Host:
    """This host. Never raises for what the network does."""
    found = config.dns.addresses or tuple(dict.fromkeys((*config.delivery.source, *_listening(config), *_outgoing())))
    addresses = config.dns.addresses or tuple(address for address in found if outside(address))
    known = bool(addresses)
    if not known:
        try:
            addresses = tuple(await resolver.addresses(config.hostname))
        except (DnsTemporary, NoData, NoSuchName):
            addresses = ()
    certificates = await asyncio.to_thread(_certificates, config)
    listen = config.listen
    smarthost = next(
        (
            rule.to.host
            for rule in config.delivery.routes
            if rule.match == "*" and rule.to.scheme in ("smtp", "smtps") and not (rule.senders or rule.users)
        ),
        "",
    )
    return replace(
        certified(config, certificates),
        addresses=addresses,
        known=known,
        submission=next((one.port for one in listen.submission if not _loopback(one.host)), 0),
        submissions=next((one.port for one in listen.submissions if not _loopback(one.host)), 0),
        smarthost=smarthost,
        private=config.delivery.allow_private_addresses,
    )


def keys_of(ring: Ring) -> tuple[Key, ...]:
    """The keys of a domain, those that sign first."""
    order = (Stage.ACTIVE, Stage.PUBLISHED, Stage.PENDING, Stage.RETIRING, Stage.RETIRED)
    keys = [Key(key.selector, where(ring.domain, key.selector), key.record, key.stage) for key in ring.keys]
    return tuple(sorted(keys, key=lambda key: (order.index(key.stage), key.selector)))


def outside(address: str) -> bool:
    """Whether others could see it."""
    ip = ip_address(address)
    return not any(ip in network for network in _INSIDE if network.version == ip.version)


def _outgoing() -> Iterable[str]:
    """The addresses that packets leave this host with."""
    for family, target in _OUT:
        try:
            with closing(socket.socket(family, socket.SOCK_DGRAM)) as probe:
                probe.connect((target, 53))
                yield probe.getsockname()[0]
        except OSError:
            continue


def _listening(config: Config) -> Iterable[str]:
    for one in config.listen.smtp:
        try:
            if not ip_address(one.host).is_unspecified:
                yield one.host
        except ValueError:
            continue


def _loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _certificates(config: Config) -> list[Certificate]:
    """Those in the files that can be read, the default first."""
    if not config.tls.cert:
        return []
    found = []
    for cert, key in (
        (config.tls.cert, config.tls.key),
        *((one.cert, one.key) for one in config.tls.certificates),
    ):
        try:
            found.append(read(cert, key))
        except (OSError, ValueError):
            continue
    return found


def _issued(certificate: Certificate | None) -> tuple[str, bool]:
    """(who may issue it, as CAA names it; whether nobody but itself vouches for it)."""
    if certificate is None:
        return "", False
    try:
        leaf = from_der(certificate.leaf)
        names = " ".join(str(one.value) for one in leaf.issuer).lower()
        return next((domain for word, domain in _ISSUERS if word in names), ""), leaf.issuer == leaf.subject
    except ValueError:
        return "", False
