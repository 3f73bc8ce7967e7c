"""Facts that need the network: what our listeners answer, whether strangers could relay, the name servers, port 25 of
others. Every question has a deadline; nothing is sent but what a client says before DATA."""

import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from ipaddress import ip_address, ip_network

from mtad.config import Address, Config
from mtad.dns.resolver import DnsTemporary, NoData, NoSuchName, Resolver
from mtad.doctor.facts import Outward, RelayTry, Resolving
from mtad.doctor.gather_host import read
from mtad.mail.text import clean
from mtad.outbound.dial import dial
from mtad.tls import probe
from mtad.tls.probe import ProbeError, Seen, Talk, Way

STRANGER_FROM, STRANGER_TO = "doctor@example.net", "doctor@example.com"  # RFC 2606: nobody's
TEST_ENTRY = "2.0.0.127.zen.spamhaus.org"  # every list has it (RFC 5782 5)
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104  (compared, not bound)


def listeners(config: Config) -> list[tuple[str, Address, Way]]:
    listen = config.listen
    of_kind: list[tuple[str, tuple[Address, ...], Way]] = [
        ("smtp", listen.smtp, "STARTTLS"),
        ("submission", listen.submission, "STARTTLS"),
        ("submissions", listen.submissions, "implicit"),
    ]
    return [(kind, address, way) for kind, addresses, way in of_kind for address in addresses]


def connector(host: str, port: int, source: str = "") -> Callable[[], Awaitable[socket.socket]]:
    return partial(_dialled, host, port, (source,) if source else ())


async def _dialled(host: str, port: int, source: Sequence[str]) -> socket.socket:
    sock, _ = await dial((host,), port, source)
    return sock


def here(host: str) -> str:
    """Where this host finds a listener of its own."""
    return _EVERYWHERE.get(host, host)


async def seen(config: Config) -> list[tuple[str, str, Seen]]:
    """What a client gets from each listener: (kind, where, what)."""
    found = []
    for kind, address, way in listeners(config):
        host = here(address.host)
        looked = await probe.look(connector(host, address.port), config.hostname, way, ehlo=config.hostname)
        found.append((kind, f"{f'[{host}]' if ':' in host else host}:{address.port}", looked))
    return found


# --- relaying


def own_addresses() -> list[str]:
    """The addresses by which this host would talk to the world, without asking anybody."""
    found = []
    for family, target in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as sock:
                sock.connect((target, 9))
                found.append(str(sock.getsockname()[0]))
        except OSError:
            continue
    return found


def vantages(config: Config, address: Address, own: Sequence[str]) -> list[tuple[str, str]]:
    """(where to connect, from which address), strangers first: an address that is not in trusted_networks."""
    trusted = [ip_network(net, strict=False) for net in config.access.trusted_networks]

    def stranger(one: str) -> bool:
        return not any(ip_address(one) in net for net in trusted if net.version == ip_address(one).version)

    everywhere = address.host in _EVERYWHERE
    candidates = [(one, one) for one in own if (everywhere or one == address.host)]
    candidates = [(where, source) for where, source in candidates if (address.host == "::") or ":" not in where]
    if not everywhere and not candidates:
        candidates = [(address.host, address.host)]
    return [pair for pair in candidates if stranger(pair[1])]


def tricks(domain: str) -> list[str]:
    """How a stranger writes a recipient elsewhere so that it looks like ours (RFC 5321 C, RFC 2505 2.6)."""
    local, there = STRANGER_TO.split("@")
    return [
        STRANGER_TO,
        f"{local}%{there}@{domain}",
        f"{there}!{local}@{domain}",
        f'"{STRANGER_TO}"@{domain}',
        f"@{domain}:{STRANGER_TO}",
    ]


async def relay_tries(config: Config) -> list[RelayTry]:
    """Each listener is asked by a stranger, if this host has an address that is none of the trusted ones."""
    own, found = own_addresses(), list[RelayTry]()
    for kind, address, way in listeners(config):
        if way == "implicit":
            continue  # there is no talk without TLS, and the dialogue is that of submission
        for where, source in vantages(config, address, own)[:1]:
            place = f"{f'[{where}]' if ':' in where else where}:{address.port}"
            recipients = tricks(config.domains[0]) if kind == "smtp" else [STRANGER_TO]
            for recipient in recipients:
                found.append(await _relay_try(kind, place, where, address.port, source, recipient, config.hostname))
                if not found[-1].code:
                    break
    return found


async def _relay_try(
    kind: str, place: str, where: str, port: int, source: str, recipient: str, hostname: str
) -> RelayTry:
    where_said = f"{kind} {place}"
    try:
        talk = await probe.opened(connector(where, port, source))
    except ProbeError as failure:
        return RelayTry(where_said, source, STRANGER_FROM, recipient, 0, str(failure))
    try:
        code, answer = await _ask(talk, recipient, hostname)
    except ProbeError as failure:
        code, answer = 0, str(failure)
    finally:
        await talk.close()
    return RelayTry(where_said, source, STRANGER_FROM, recipient, code, answer)


async def _ask(talk: Talk, recipient: str, hostname: str) -> tuple[int, str]:
    """The answer to RCPT TO, or the refusal before it."""
    code, lines = await talk.reply()
    if code == 220:
        await talk.say(f"EHLO {hostname}")
        code, lines = await talk.say(f"MAIL FROM:<{STRANGER_FROM}>")
        if code == 250:
            code, lines = await talk.say(f"RCPT TO:<{recipient}>")
            if code // 100 == 2 or code == 250:
                await talk.say("RSET")
    return code, lines[0] if lines else ""


# --- the world


async def resolving(config: Config, resolver: Resolver, *, offline: bool) -> Resolving:
    servers = tuple(f"{one.host}" for one in config.dns.servers) or system_servers()
    if offline:
        return Resolving(servers, asked=False)
    begin = time.monotonic()
    try:
        await resolver.ns("org")
    except (NoSuchName, NoData):
        pass
    except DnsTemporary as failure:
        return Resolving(servers, problem=clean(str(failure), 200))
    took = time.monotonic() - begin
    try:
        distrust = await resolver.distrust()
    except DnsTemporary as failure:
        distrust = clean(str(failure), 200)
    try:
        answered = await resolver.addresses(TEST_ENTRY)
        lists = "" if any(one.startswith("127.0.0.") for one in answered) else f"{answered[0]}"
    except (NoSuchName, NoData):
        lists = "no such name"
    except DnsTemporary:
        lists = "no answer"
    return Resolving(servers, took, "", distrust, lists)


def system_servers() -> tuple[str, ...]:
    lines = (line.split() for line in read("/etc/resolv.conf").splitlines())
    return tuple(words[1] for words in lines if len(words) > 1 and words[0] == "nameserver")


async def outward(config: Config, resolver: Resolver, target: str, *, offline: bool) -> Outward:
    """Whether port 25 of another host answers. `target`: HOST:PORT, or a domain whose first mail host is asked."""
    if offline:
        return Outward(target, asked=False)
    host, _, port = target.partition(":")
    try:
        if not port:
            answer = await resolver.mx(host)
            host = min(answer.hosts)[1]
        addresses = (host,) if host.replace(".", "").isdigit() else await resolver.system_addresses(host)
    except (DnsTemporary, NoSuchName, NoData) as failure:
        return Outward(target, clean(str(failure), 200))
    number = int(port or 25)
    name = f"{host}:{number}"
    last = "it has no address"
    for address in addresses[:2]:
        try:
            talk = await probe.opened(connector(address, number, next(iter(config.delivery.source), "")))
        except ProbeError as failure:
            last = str(failure)
            continue
        try:
            code, lines = await talk.reply()
            return Outward(name, "" if code == 220 else f"it greets with {code}", f"{code} {lines[0] if lines else ''}")
        except ProbeError as failure:
            last = str(failure)
        finally:
            await talk.close()
    return Outward(name, last)
