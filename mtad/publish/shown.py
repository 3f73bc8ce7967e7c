"""What our own listeners show of TLS: gathered by a handshake with each, and judged purely.

A certificate file says what a client should get. What it gets is another matter: the daemon may still hold
the file of before, another program may hold the port, a name may have a certificate of its own.
"""

import asyncio
import socket
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from mtad.config import Address, Config, Listen
from mtad.config.certificate import DAY_S, EXPIRY_WARNING_S
from mtad.dns.resolver import DnsTemporary
from mtad.publish.area import Area, Checked
from mtad.publish.finding import Severity
from mtad.publish.host import Host
from mtad.publish.view import View, host_of
from mtad.tls import probe
from mtad.tls.chain import Link, for_name, links, missing
from mtad.tls.contexts import TlsError, client_context
from mtad.tls.probe import Seen, Way

LOOK_S = 12.0  # at one listener, for one name
LISTENERS_MAX = 6  # of a kind
NAMES_MAX = 4

Kind = Literal["smtp", "submission", "submissions"]

_LOCAL = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104  (compared, not bound)


@dataclass(frozen=True, slots=True)
class Shown:
    """What a client gets at `where` that asks for `name`."""

    kind: Kind
    where: str
    name: str
    seen: Seen

    @property
    def answers(self) -> bool:
        """Else it can be judged by nothing but the files."""
        return bool(self.seen.greeting) or self.seen.encrypted or self.seen.problem.startswith("TLS: ")


@dataclass(frozen=True, slots=True)
class Listening:
    """`names`: those by which senders look for this host, its own the first."""

    names: tuple[str, ...] = ()
    shown: tuple[Shown, ...] = ()

    def smtp(self, name: str) -> list[Shown]:
        """What senders see who look for this name, at the listeners that answer."""
        return [one for one in self.shown if one.kind == "smtp" and one.name == name and one.answers]


# --- gathered


async def gather(view: View, config: Config, host: Host, domain: str, listen: Listen, *, offline: bool) -> Listening:
    """Each listener, asked for each name. Never raises for what is not there."""
    names = (host.hostname, *await _mx_names(view, host, domain))[:NAMES_MAX]
    if offline:
        return Listening(names)
    try:
        context = await asyncio.to_thread(partial(client_context, "verify", ca_file=config.tls.server_ca))
    except TlsError:
        context = await asyncio.to_thread(ssl.create_default_context)
    of_kind: Mapping[Kind, tuple[Sequence[Address], Sequence[str], Way]] = {
        "smtp": (listen.smtp, names, "STARTTLS"),
        "submission": (listen.submission, names[:1], "STARTTLS"),
        "submissions": (listen.submissions, names[:1], "implicit"),
    }
    looks = [
        _look(kind, address, name, way, host.hostname, context)
        for kind, (addresses, asked, way) in of_kind.items()
        for address in addresses[:LISTENERS_MAX]
        for name in asked
    ]
    return Listening(names, tuple(await asyncio.gather(*looks)))


async def _mx_names(view: View, host: Host, domain: str) -> list[str]:
    """The MX hosts of the domain that are this host under another name."""
    found = []
    for name in [host_of(record.exchange) for record in (await view.get(domain, "MX")).records[:20]]:
        try:
            if name and name != host.hostname and set(await view.addresses(name)) & set(host.addresses):
                found.append(name)
        except DnsTemporary:
            continue
    return list(dict.fromkeys(found))


async def _look(kind: Kind, address: Address, name: str, way: Way, ehlo: str, context: ssl.SSLContext) -> Shown:
    place = _LOCAL.get(address.host, address.host)
    where = f"[{place}]:{address.port}" if ":" in place else f"{place}:{address.port}"
    try:
        async with asyncio.timeout(LOOK_S):
            connect = partial(_connected, place, address.port)
            seen = await probe.look(connect, name, way, ehlo=ehlo, old=False, verifying=context)
    except TimeoutError:
        seen = Seen(way, problem=f"no answer within {LOOK_S:g} s")
    return Shown(kind, where, name, seen)


async def _connected(host: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    sock.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(sock, (host, port))
    except BaseException:
        sock.close()
        raise
    return sock


# --- judged


def fault(one: Shown, now: float) -> str:
    """Why somebody who verifies certificates does not go on here, "" when nothing is wrong."""
    if not one.seen.encrypted:
        return f"it offers no TLS ({one.seen.problem})"
    chain = links(one.seen.chain)
    if not chain:
        return "it shows no certificate that can be read"
    leaf = chain[0]
    if leaf.expires_at <= now:
        return f"its certificate has expired {(now - leaf.expires_at) / DAY_S:.1f} days ago"
    if leaf.starts_at > now:
        return "its certificate is not valid yet: look at the clock of this host"
    if not for_name(leaf.names, one.name):
        return f"its certificate is not for {one.name} but for {', '.join(leaf.names[:5]) or 'no name'}"
    return _distrust(chain, one.seen.distrust)


def _distrust(chain: Sequence[Link], distrust: str) -> str:
    if not distrust:
        return ""
    if len(chain) == 1 and chain[0].self_signed:
        return "its certificate is signed by itself"
    return missing(chain, distrust) or f"its certificate is not trusted: {distrust}"


def mended(one: Shown, host: Host, now: float) -> str:
    """What puts that right."""
    files = host.certificate
    if files is None or (not one.seen.encrypted and not one.seen.offers):
        return (
            f"{certbot([host.hostname], '--standalone ')}\n"
            'tls.cert = "tls/fullchain.pem"\ntls.key = "tls/privkey.pem"   (in mtad.toml)\nsystemctl restart mtad'
        )
    if not one.seen.encrypted or (stale(one, host) and files.expires_at > now):
        return "mtactl tls reload"
    names = [host.hostname] if for_name([host.hostname], one.name) else [host.hostname, one.name]
    return f"{certbot(names)}\nmtactl tls reload"


def certbot(names: Sequence[str], how: str = "") -> str:
    """The command that gets a certificate and brings it to where the daemon may read it (docs/installing.md)."""
    asked = " ".join(f"-d {name}" for name in names)
    return f"certbot certonly {how}{asked} --deploy-hook /opt/mtad/scripts/certbot.sh"


def stale(one: Shown, host: Host) -> bool:
    """Whether it shows something else than the file that it should have in use."""
    leaf = next(iter(one.seen.chain), b"")
    return host.certificate is not None and one.name == host.hostname and leaf not in (b"", host.certificate.leaf)


async def check(checked: Checked) -> Area:
    area = Area("certificate")
    listening = await checked.listening()
    alike: dict[tuple[object, ...], list[Shown]] = {}
    for one in listening.shown:
        alike.setdefault((one.kind, one.name, one.seen.chain, one.seen.problem, one.seen.distrust), []).append(one)
    for same in alike.values():
        _judge(area, same[0], ", ".join(one.where for one in same), checked.host, checked.now)
    if not listening.shown:
        area.say("not asked for" if checked.offline else "there are no listeners")
    return area


def _judge(area: Area, one: Shown, where: str, host: Host, now: float) -> None:
    if not one.answers:
        area.say(f"{where} does not answer ({one.seen.problem}): judged by the file")
        return
    what, fix = f"{where}: {fault(one, now)}", mended(one, host, now)
    if not one.seen.encrypted:
        area.find("tls.missing", what, fix)
        return
    chain = links(one.seen.chain)
    # A server that sends mail takes any certificate unless a policy forbids it: that is told of the policy.
    mild: Severity | None = "info" if one.kind == "smtp" else None
    left_s = chain[0].expires_at - now if chain else 0.0
    if chain:
        area.say(f"{where} shows {one.name} a certificate for {', '.join(chain[0].names[:3]) or 'no name'}")
    if stale(one, host) and host.certificate is not None:
        area.find("tls.stale", f"{where} shows another certificate than {host.certificate.cert}", "mtactl tls reload")
    if not chain or left_s <= 0 or chain[0].starts_at > now:
        area.find("tls.expired", what, fix)
    elif left_s < EXPIRY_WARNING_S:
        area.find("tls.expiring", f"{where}: its certificate expires in {left_s / DAY_S:.1f} days", fix)
    elif not for_name(chain[0].names, one.name):
        area.find("tls.name", what, fix, mild)
    elif one.seen.distrust:
        area.find("tls.untrusted", what, fix, mild)
