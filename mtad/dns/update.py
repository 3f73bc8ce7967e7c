"""Changes of a zone over the network: RFC 2136, signed with TSIG (RFC 8945), over TCP.

Only TXT records are ever set or removed, each as a whole: what the name holds of other types stays.
"""

import asyncio
import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mtad.config.tree import DnsUpdate
from mtad.dns.words import of_network
from mtad.mail.text import clean

UPDATE_S = 15.0
TXT_STRING_MAX = 255  # octets of one character-string, RFC 1035 3.3
_SECRET_MAX_BYTES = 4096


class UpdateError(Exception):
    """The zone was not changed. The words are for the operator, and hold no secret."""


@dataclass(frozen=True, slots=True)
class Change:
    """The TXT record that a name is to have; with "" it is to have none."""

    name: str
    text: str


async def send(update: DnsUpdate, domains: Sequence[str], changes: Sequence[Change]) -> None:
    """Make the changes, those of one zone as one transaction. Raises UpdateError."""
    zones = update.zones or tuple(domains)
    by_zone: dict[str, list[Change]] = {}
    for change in changes:
        by_zone.setdefault(zone_of(change.name, zones), []).append(change)
    secret = await asyncio.to_thread(_secret, update) if update.key else b""
    for zone, several in by_zone.items():
        await _send_one(update, zone, several, secret)


def zone_of(name: str, zones: Sequence[str]) -> str:
    """The longest zone that a name is in. Raises UpdateError."""
    inside = [zone for zone in zones if f".{name}".endswith(f".{zone}")]
    if not inside:
        raise UpdateError(f"{clean(name, 255)} is in none of dns.update.zones: {', '.join(zones)}")
    return max(inside, key=len)


def message(update: DnsUpdate, zone: str, changes: Sequence[Change], secret: bytes) -> Any:
    """The request as a dns.update.UpdateMessage. Pure but for its id."""
    import dns.name
    import dns.rdata
    import dns.tsig
    import dns.update

    origin = dns.name.from_text(zone)
    keys: dict[str, Any] = {}
    if update.key:
        name = dns.name.from_text(update.key)
        keys = {
            "keyring": {name: dns.tsig.Key(name, secret, update.algorithm)},
            "keyname": name,
            "keyalgorithm": dns.name.from_text(update.algorithm),
        }
    request = dns.update.UpdateMessage(origin, **keys)
    for change in changes:
        at = dns.name.from_text(change.name)
        if change.text:
            request.replace(at, int(update.ttl_s), dns.rdata.from_text("IN", "TXT", quoted(change.text)))
        else:
            request.delete(at, "TXT")
    return request


def quoted(text: str) -> str:
    """A TXT value as a zone file has it: quoted strings of at most 255 octets."""
    parts = [text[at : at + TXT_STRING_MAX] for at in range(0, len(text), TXT_STRING_MAX)] or [""]
    return " ".join('"' + part.replace("\\", "\\\\").replace('"', '\\"') + '"' for part in parts)


async def _send_one(update: DnsUpdate, zone: str, changes: Sequence[Change], secret: bytes) -> None:
    import dns.asyncquery
    import dns.exception
    import dns.rcode
    import dns.tsig

    server = update.server
    if server is None:
        raise UpdateError("there is no dns.update.server")
    at = f"{server.host} port {server.port}"
    try:
        async with asyncio.timeout(UPDATE_S):
            reply = await dns.asyncquery.tcp(
                message(update, zone, changes, secret), server.host, port=server.port, timeout=UPDATE_S
            )
    except (TimeoutError, dns.exception.Timeout):
        raise UpdateError(f"{at} does not answer") from None
    except dns.tsig.PeerBadKey:
        raise UpdateError(f"{at} does not know the TSIG key {update.key} ({update.algorithm})") from None
    except dns.tsig.PeerBadSignature:
        raise UpdateError(f"{at} finds the signature wrong: the secret of {update.key} is another one there") from None
    except dns.tsig.PeerBadTime:
        raise UpdateError(f"{at} has another time: set the clocks") from None
    except dns.exception.DNSException:
        raise UpdateError(f"{at}: its reply cannot be trusted; is it the primary server of {zone}?") from None
    except (OSError, EOFError) as error:
        words = of_network(error) if isinstance(error, OSError) else "it closed the connection"
        raise UpdateError(f"{at}: {words}") from None
    rcode = reply.rcode()
    if rcode != dns.rcode.NOERROR:
        said = dns.rcode.to_text(rcode)
        hint = _HINTS.get(said, "")
        raise UpdateError(f"{at} refuses to change {zone}: {said}{f', {hint}' if hint else ''}")


_HINTS = {
    "REFUSED": "the key may not change it, or the zone takes no updates",
    "NOTAUTH": "it is not the primary server of that zone, or does not accept the key",
    "NOTZONE": "a name is not in the zone",
}


def _secret(update: DnsUpdate) -> bytes:
    path = update.secret_file
    try:
        with open(path, "rb") as file:
            octets = file.read(_SECRET_MAX_BYTES + 1).strip()
    except OSError as error:
        raise UpdateError(f"{path}: {error.strerror}") from None
    try:
        return base64.b64decode(octets, validate=True)
    except binascii.Error:
        raise UpdateError(f"{path} holds no base64") from None
