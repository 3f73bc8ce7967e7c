"""What DNS should say of a domain, and whether it does."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from ipaddress import ip_address

from mtad.config.tree import Address
from mtad.control.admin import Admin, Args, Failed, Handler, Row
from mtad.dkim.keys import DkimKeyError, domain_of
from mtad.dns.resolver import Resolver
from mtad.publish import records
from mtad.publish.check import authorities, check
from mtad.publish.host import gather, keys_of
from mtad.publish.live import state_of
from mtad.publish.view import View

SERVERS_MAX = 16
SIGNED_S = 5.0


async def dns_records(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    domain, asked = _domain(args["domain"]), _servers(args["server"])
    resolver = Resolver(admin.config.dns, admin.clock)
    host = await gather(admin.config, resolver)
    view = View(resolver, domain, asked or authorities(admin.config, domain))
    try:
        signed = host.certificate is not None and not args["parked"] and await _signed(view, host.hostname)
        found = records.wanted(domain, host, keys_of(admin.keys.ring(domain)), parked=args["parked"], signed=signed)
        live = [await view.get(one.name, one.kind) for one in found] if args["live"] else [None] * len(found)
        for number, (one, seen) in enumerate(zip(found, live, strict=True)):
            row = records.row(one)
            row["live"] = None if seen is None or seen.problem else list(seen.values())
            row["state"] = "" if seen is None else state_of(one, seen)
            # The file is no record, and belongs to all of them: the first row carries it.
            row["policy"] = records.sts_policy(host) if not number and not args["parked"] else ""
            yield row
    finally:
        await view.close()


async def dns_check(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    domain, asked = _domain(args["domain"]), _servers(args["server"])
    async for area in check(
        admin.config,
        admin.keys,
        admin.clock,
        domain,
        parked=args["parked"],
        offline=args["offline"],
        asked=asked,
    ):
        yield area.row()


async def _signed(view: View, hostname: str) -> bool:
    """Whether TLSA records of the host would count: its zone is signed, by the word of whoever knows."""
    try:
        async with asyncio.timeout(SIGNED_S):
            labels = hostname.split(".")
            for cut in range(len(labels) - 1):
                if (await view.get(".".join(labels[cut:]), "DNSKEY")).records:
                    return True
    except TimeoutError:
        return False
    return False


def _servers(given: Sequence[str]) -> tuple[Address, ...]:
    if len(given) > SERVERS_MAX:
        raise Failed("Usage", f"--server: at most {SERVERS_MAX}")
    return tuple(map(_server, given))


def _server(given: str) -> Address:
    """ "192.0.2.53", "192.0.2.53:5353", "2001:db8::53", "[2001:db8::53]:5353"."""
    host, colon, port = given, "", ""
    if given.startswith("["):
        host, _, rest = given[1:].partition("]")
        colon, port = rest[:1], rest[1:]
    elif given.count(":") == 1:
        host, colon, port = given.partition(":")
    try:
        number = int(port) if colon else 53
        return Address(str(ip_address(host)), number if 0 < number < 65536 else int("x"))
    except ValueError:
        raise Failed("Usage", f"--server: {given[:60]!a} is no address: write 192.0.2.53 or 192.0.2.53:5353") from None


def _domain(given: str) -> str:
    try:
        return domain_of(given)
    except DkimKeyError:
        raise Failed("Usage", f"{given!a} is not a domain name") from None


HANDLERS: Mapping[str, Handler] = {
    "dns.records": dns_records,
    "dns.check": dns_check,
}
