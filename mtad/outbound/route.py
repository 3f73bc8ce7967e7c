"""Where one try goes: pure decisions from the settings and what DNS said. Asking DNS is the scheduler's work."""

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import zip_longest

from mtad.config import Config, RouteRule, Target
from mtad.config.routing import target
from mtad.dns.resolver import MxAnswer, NoData, NoSuchName
from mtad.mail.address import AddressError, fold, split
from mtad.mail.reply import Reply
from mtad.tls.requirement import OPPORTUNISTIC, Level, Requirement

SITE_NAME_MAX = 200
NAMES_MAX = 10  # of one domain's MX hosts
ADDRESSES_MAX = 10  # of all hosts in one plan

Found = Sequence[str] | Exception
"""What the resolver said about one host: its addresses or its failure."""

_ANYWHERE = ("", "0.0.0.0", "::")  # noqa: S104  (compared, not bound)
_SMTP_PORTS = {"smtp": 25, "smtps": 465, "lmtp": 24}
_NAT64 = bytes.fromhex("0064ff9b") + bytes(8)  # RFC 6052 2.1: what an IPv4 address becomes where there is only IPv6
_LEVELS: dict[str, Level] = {"may": "may", "encrypt": "encrypt", "verify": "verify"}
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$&'*+-.=?^_`{|}~@")


@dataclass(frozen=True, slots=True)
class Host:
    """One server to connect to. `address` is an IP address that was checked, or the path of a Unix socket (port 0);
    `others` are further ones of the same server, with which it is raced."""

    name: str
    address: str
    port: int
    tls: Requirement = OPPORTUNISTIC
    others: tuple[str, ...] = ()

    @property
    def addresses(self) -> tuple[str, ...]:
        return (self.address, *self.others)

    def at(self, address: str) -> "Host":
        """The same server at this one of its addresses."""
        return self if (address, ()) == (self.address, self.others) else replace(self, address=address, others=())

    def without(self, address: str) -> "Host | None":
        """What is left of it."""
        left = [one for one in self.addresses if one != address]
        return replace(self, address=left[0], others=tuple(left[1:])) if left else None

    @property
    def relay(self) -> str:
        return f"{self.name}[{self.address}]:{self.port}" if self.port else f"lmtp:{self.address}"


@dataclass(frozen=True, slots=True)
class Remote:
    """Over the wire, to the first of `hosts` that takes it."""

    hosts: tuple[Host, ...]
    scheme: str = "smtp"  # smtp, smtps (TLS from the first octet), lmtp
    user: str = ""
    password_file: str = ""
    source: tuple[str, ...] = ()  # our addresses to connect from, one of a kind; () leaves it to the system
    site: str = ""  # what is paced as one; see `site_of`
    best: tuple[str, ...] = ()  # the names of the hosts that are it; () = all


@dataclass(frozen=True, slots=True)
class Maildir:
    """Into files; `pattern` holds %d and %u."""

    pattern: str
    quota_bytes: int = 0  # of one mailbox; 0 = none


@dataclass(frozen=True, slots=True)
class Pipe:
    """Into a program; its words hold %d and %u."""

    command: tuple[str, ...]
    run_as: str = ""
    timeout_s: float = 300.0


@dataclass(frozen=True, slots=True)
class Discard:
    """Delivered to nowhere."""


Plan = Remote | Maildir | Pipe | Discard | Reply
"""A Reply says why there is no way, for all recipients."""


def rule_for(domain: str, config: Config, sender: str = "", user: str = "") -> RouteRule | Reply | None:
    """The first route that matches, else local delivery of our own domains, else None: by MX. `sender` is the one of
    the mail, "" for a report; `user` who signed in to send it.

    An operator may have redirected the recipient: then the domain is the target itself, and a route of the settings
    that leads there lends what goes with it: the password, the TLS it asks for.
    """
    if "://" in domain:
        to = target(domain)
        return next((rule for rule in config.delivery.routes if rule.to == to), RouteRule(domain, to))
    number = matched(domain, config, sender, user)
    if number is not None:
        return config.delivery.routes[number]
    if domain in config.domains:
        if config.local.deliver is None:
            return Reply(451, "4.3.5", "No delivery is configured for this domain")
        return RouteRule(domain, config.local.deliver, quota_bytes=config.local.quota_bytes)
    return None


def matched(domain: str, config: Config, sender: str = "", user: str = "") -> int | None:
    """The number, from 0, of the first route that matches.

    The plain "*" of a smarthost leaves our own domains to local delivery: mail for this host must not leave it.
    """
    here = domain in config.domains and config.local.deliver is not None
    for number, rule in enumerate(config.delivery.routes):
        if not here if rule.match == "*" else fnmatchcase(domain, rule.match):
            if rule.senders and not any(_is_sender(pattern, sender) for pattern in rule.senders):
                continue
            if rule.users and not any(fnmatchcase(user.lower(), pattern) for pattern in rule.users if user):
                continue
            return number
    return None


def _is_sender(pattern: str, sender: str) -> bool:
    if pattern == "<>" or not sender:
        return pattern == "<>" and not sender
    try:
        key = fold(sender)
    except AddressError:
        key = sender.lower()
    if pattern.startswith("@"):
        return fnmatchcase(key.rpartition("@")[2], pattern[1:])
    return fnmatchcase(key, pattern) if any(sign in pattern for sign in "*?") else key == pattern


def names(domain: str, mx: MxAnswer | Exception, config: Config, rng: random.Random) -> tuple[str, ...] | Reply:
    """The hosts for a domain by its MX answer, best first, shuffled within one preference (RFC 5321 5.1)."""
    match mx:
        case NoData():
            return (domain,)
        case NoSuchName():
            return Reply(550, "5.1.2", "The domain does not exist", cause=str(mx))
        case Exception():
            return Reply(451, "4.4.3", "DNS gave no answer for the domain", cause=str(mx))
        case _:
            hosts = mx.hosts
    if not hosts:
        return (domain,)
    if all(name in ("", ".") for _, name in hosts):
        return Reply(556, "5.1.10", "The domain accepts no mail (null MX)")  # RFC 7505 4
    ours = [preference for preference, name in hosts if name == config.hostname.lower()]
    limit = min(ours, default=1 << 16)
    order = sorted((preference, rng.random(), name) for preference, name in hosts if preference < limit and name)
    if not order:
        return Reply(554, "5.4.6", "Mail for the domain loops back to this host")
    return tuple(dict.fromkeys(name for *_, name in order))[:NAMES_MAX]


def left_out(address: str, config: Config) -> str:
    """Why mail by MX is not sent to this address: "own", "private", or "" when it is."""
    if listens(config, address, config.delivery.port):
        return "own"
    return "" if config.delivery.allow_private_addresses or public(address) else "private"


def in_order(addresses: Sequence[str], config: Config, source: Sequence[str] = ()) -> list[str]:
    """The addresses of one host as they are tried (RFC 8305 4): of both kinds by turns, the preferred kind first. A
    kind without a source of ours is not used, when sources are named."""
    six = [address for address in addresses if ":" in address]
    four = [address for address in addresses if ":" not in address]
    prefer = config.delivery.prefer
    if source:
        six, four = (
            kind if any((":" in one) is wide for one in source) else [] for kind, wide in ((six, True), (four, False))
        )
    first, second = (six, four) if prefer.startswith("ipv6") else (four, six)
    if prefer.endswith("-only"):
        second = []
    return [one for pair in zip_longest(first, second) for one in pair if one is not None]


def by_mx(hosts: Sequence[str], found: Mapping[str, Found], config: Config, rule: RouteRule | None = None) -> Plan:
    """The plan for `names`, given what the resolver found for each. `rule` is the route that led here, if one did."""
    port = config.delivery.port
    source = (rule.source if rule else ()) or config.delivery.source
    tls = _requirement(rule) if rule else OPPORTUNISTIC
    private = own = unused = False
    temporary = ""
    good: list[tuple[str, list[str]]] = []
    for name in hosts:
        answer = found.get(name, ())
        if isinstance(answer, Exception):
            if not isinstance(answer, NoData | NoSuchName):
                temporary = str(answer) or type(answer).__name__
            continue
        why = {address: left_out(address, config) for address in answer}
        if "own" in why.values():
            own = True
            break  # we are that host: those behind it would give the mail back to us (RFC 5321 5.1)
        private = private or "private" in why.values()
        allowed = [address for address in answer if not why[address]]
        checked = in_order(allowed, config, source)
        unused = unused or len(checked) < len(allowed)
        if checked:
            good.append((name, checked))
    if good:
        return Remote(_bounded(good, port, tls), source=source)
    if temporary:
        return Reply(451, "4.4.4", "No address of the domain's mail hosts could be found", cause=temporary)
    if own:
        return Reply(554, "5.4.6", "Mail for the domain loops back to this host")
    if unused:  # by our own settings: never a reason to lose mail
        return Reply(451, "4.4.4", "The domain's mail hosts have no address of a kind that we use")
    if private:
        return Reply(550, "5.4.4", "The domain's mail hosts have only private addresses")
    return Reply(550, "5.4.4", "The domain's mail hosts have no address")


def _bounded(good: Sequence[tuple[str, Sequence[str]]], port: int, tls: Requirement) -> tuple[Host, ...]:
    """So many addresses as are tried. A host with many of them leaves one to each that comes after it."""
    made: list[Host] = []
    room = ADDRESSES_MAX
    for number, (name, addresses) in enumerate(good, 1):
        some = addresses[: max(room - (len(good) - number), 1)]
        made.append(Host(name, some[0], port, tls, tuple(some[1:])))
        room -= len(some)
    return tuple(made)


def by_rule(rule: RouteRule, found: Found, config: Config) -> Plan:
    """The plan for a route of the settings but for "mx:"; `found` for the host it names (`lookup`), if it does."""
    to = rule.to
    match to.scheme:
        case "reject":
            return Reply(550, "5.7.1", to.text or "Delivery is not allowed")
        case "discard":
            return Discard()
        case "maildir":
            return Maildir(to.path, rule.quota_bytes)
        case "pipe":
            return Pipe(rule.command, rule.run_as, config.local.pipe_timeout_s)
        case "lmtp" if to.path:
            return Remote((Host("", to.path, 0),), "lmtp", site=to.path)
        case _:
            pass
    if isinstance(found, Exception) or not found:
        # The operator's name, perhaps mistyped: never a reason to lose mail.
        return Reply(451, "4.4.4", f"No address for the route's host {to.host}", cause=str(found))
    port = to.port or _SMTP_PORTS[to.scheme]
    # The system's own source does not fit a smarthost next door; it is for the way to strangers.
    source = rule.source
    tls = _requirement(rule)
    addresses = in_order(found, config, source)[:ADDRESSES_MAX]
    if not addresses:
        return Reply(451, "4.4.4", f"The route's host {to.host} has no address of a kind that we use")
    host = Host(to.host, addresses[0], port, tls, tuple(addresses[1:]))
    return Remote((host,), to.scheme, to.user, rule.password_file, source, site_of_route(to))


def site_of_route(to: Target) -> str:
    """The name of the site that such a route leads to; "" for what is no host."""
    return f"{to.host}:{to.port or _SMTP_PORTS[to.scheme]}" if to.host else to.path if to.scheme == "lmtp" else ""


def site_of(domain: str, mx: MxAnswer | Exception, hosts: Sequence[str]) -> str:
    """The name of the site that `hosts` (of `names`) belong to: all MX hosts of the best preference, or the domain
    itself without any. Domains with the same ones share a site."""
    several = best_of(mx, hosts)
    if not several:
        return domain
    if len(several) == 1:
        return several[0]
    joined = ",".join(several)
    if len(joined) <= SITE_NAME_MAX:
        return joined
    return f"{several[0]},+{len(several) - 1},{hashlib.sha256(joined.encode()).hexdigest()[:8]}"


def best_of(mx: MxAnswer | Exception, hosts: Sequence[str]) -> tuple[str, ...]:
    """The MX hosts that a site is: of those that are tried, all of the best preference, by name; () without any."""
    ranks = {name: preference for preference, name in reversed(mx.hosts)} if isinstance(mx, MxAnswer) else {}
    best = min((ranks[host] for host in hosts if host in ranks), default=None)
    return tuple(sorted([name for name, preference in ranks.items() if preference == best]))


def _requirement(rule: RouteRule) -> Requirement:
    level = _LEVELS.get(rule.tls, "verify")
    return OPPORTUNISTIC if level == "may" else Requirement(level, "configured", f"the route for {rule.match}")


def lookup(to: Target) -> str:
    """The host of a route whose addresses must be found; "" when there is none."""
    return to.host if to.scheme in _SMTP_PORTS and not to.path else ""


@lru_cache(maxsize=1024)
def literal(host: str) -> tuple[str, ...]:
    """The addresses of what needs no DNS: an address, a domain literal "[192.0.2.1]", "localhost"; else ()."""
    if host == "localhost":
        return ("127.0.0.1", "::1")
    text = host[1:-1] if host.startswith("[") else host
    if text[:5].lower() == "ipv6:":
        text = text[5:]
    try:
        return (str(ip_address(text)),)
    except ValueError:
        return ()


def public(address: str) -> bool:
    """May a stranger's DNS send our mail there? Not to loopback, private, link-local and their disguises."""
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        if ip.packed[:12] == _NAT64:
            inner = IPv4Address(ip.packed[12:])
        elif inner is None and ip.packed[:12] == bytes(12):
            return False  # IPv4-compatible
        ip = inner or ip
    return ip.is_global and not ip.is_multicast


def mailbox(pattern: str, address: str) -> str | Reply:
    """The directory of a Maildir: %d the domain, %u the local part, in lower case. Nothing climbs out of its place."""
    local, domain = split(address)
    parts = {"u": _component(local.lower()), "d": _component(domain.lower())}
    path, rest = "", pattern
    while rest:
        before, percent, rest = rest.partition("%")
        path += before
        if percent:
            if rest[:1] in parts:
                part = parts[rest[0]]
                if not 0 < len(part.encode()) <= 255:
                    return Reply(550, "5.1.1", "No such mailbox")
                path += part
            else:
                path += rest[:1]  # %% is %
            rest = rest[1:]
    return path


def _component(text: str) -> str:
    """One name in a directory: all but plain characters as %XX, a leading dot too."""
    octets = text.encode("utf-8", "surrogateescape")
    name = "".join(chr(octet) if chr(octet) in _PLAIN else f"%{octet:02X}" for octet in octets)
    return f"%2E{name[1:]}" if name.startswith(".") else name


def loopback(address: str) -> bool:
    """Does what is sent there stay on this machine?"""
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False


def listens(config: Config, address: str, port: int, *, anywhere: bool = False) -> bool:
    """Is it one of our own listeners for mail? `anywhere`: the address is known to be this machine's."""
    return any(
        listen.port == port and (listen.host == address or (anywhere and listen.host in _ANYWHERE))
        for listen in config.listen.smtp
    )
