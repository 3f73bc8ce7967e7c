"""The name servers of a domain: does each answer, over UDP and TCP, and do they all say the same; DNSSEC; CAA."""

import asyncio

from mtad.dns.authority import Outcome, Server
from mtad.publish.area import Area, Checked, txt
from mtad.publish.view import Zone, host_of

WILD = "no-such-name-here"  # what only a wildcard answers for
LARGE_BYTES = 4096  # of all TXT records of a name


async def servers(checked: Checked) -> Area:
    area, view = Area("name servers"), checked.view
    zone = await view.start()
    _reached(area, checked, zone)
    if zone.live:
        alias = await view.get(checked.domain, "CNAME")
        if alias.records:
            target = host_of(alias.records[0].target)
            fix = f"remove its CNAME record, and publish what `mtactl dns records {checked.domain}` prints"
            area.find("zone.alias", f"{checked.domain} is an alias of {target}", fix)
        await _dnssec(area, checked)
    await _texts(area, checked)
    return area


def _reached(area: Area, checked: Checked, zone: Zone) -> None:
    if not zone.servers:
        fix = f"register {checked.domain}, and let NS records in the zone above name its servers"
        area.find("ns.none", zone.problem or f"{checked.domain} has no name servers", fix)
        return
    for server in zone.servers:
        outcomes = {answer.via: answer for answer in zone.answers if answer.server == server}
        udp, tcp = outcomes.get("udp"), outcomes.get("tcp")
        if udp is None or tcp is None:
            continue
        works = {
            via: answer.outcome in (Outcome.ANSWER, Outcome.NO_DATA, Outcome.ALIAS) for via, answer in outcomes.items()
        }
        kinds = {udp.outcome, tcp.outcome}
        if Outcome.UNRESOLVED in kinds:
            area.find(
                "ns.unresolved",
                f"name server {server}: its name has no address",
                f"{server.name}. 3600 IN A ADDRESS-OF-IT",
            )
        elif all(works.values()) or kinds == {Outcome.NO_ROUTE}:
            continue
        elif works["udp"]:
            area.find(
                "ns.tcp",
                f"name server {server} does not answer over TCP: {tcp.detail}",
                f"open TCP port {server.port} of {server} to everybody",
            )
        elif works["tcp"] and udp.outcome is not Outcome.TRUNCATED:
            area.find(
                "ns.udp",
                f"name server {server} does not answer over UDP: {udp.detail}",
                f"open UDP port {server.port} of {server} to everybody",
            )
        elif kinds <= {Outcome.SILENT, Outcome.NO_ROUTE, Outcome.BROKEN}:
            area.find("ns.unreachable", f"name server {server}: {udp.detail}", _gone(checked, server, zone))
        elif not works["tcp"]:
            what = (
                f"name server {server} does not serve {zone.name or checked.domain}: {udp.detail or udp.outcome.value}"
            )
            area.find("ns.lame", what, _gone(checked, server, zone))
    serials = {
        zone.serials[f"{server.address} {server.port}"]: str(server)
        for server in zone.live
        if f"{server.address} {server.port}" in zone.serials
    }
    if len(serials) > 1:
        newest = max(serials)
        behind = ", ".join(f"{name} has {serial}" for serial, name in sorted(serials.items()) if serial != newest)
        fix = f"let it load the zone again: check the transfer from {serials[newest]} (NOTIFY, AXFR)"
        area.find("ns.serial", f"{serials[newest]} has serial {newest}, but {behind}", fix)
    if zone.live:
        serial = f", serial {max(serials)}" if serials else ""
        area.say(f"{len(zone.live)} of {len(zone.servers)} answer{serial}: {', '.join(map(str, zone.live))}")


def _gone(checked: Checked, server: Server, zone: Zone) -> str:
    name = zone.name or checked.domain
    if checked.view.named:  # it may be no name server of the zone, so no NS record need name it
        return f"set the zone {name} up on {server}, or ask another server (--server, dns.authorities)"
    where = "from the NS records here and in the zone above"
    return f"set the zone {name} up on {server.name}, or remove it {where}:\n{name}. 3600 IN NS {server.name}."


async def _dnssec(area: Area, checked: Checked) -> None:
    view = checked.view
    name = view.zone.name or checked.domain
    keys, soa = await asyncio.gather(view.get(name, "DNSKEY"), view.get(name, "SOA"))
    direct = await view.resolver_says(name, "SOA")
    if keys.records and direct.problem and "SERVFAIL" in direct.problem:
        fix = f"sign the zone again, or remove its DS record from the zone above:\n{name}. 3600 IN DS ..."
        area.find("zone.bogus", f"{name} is signed, but the resolver refuses its answers: {direct.problem}", fix)
    elif direct.problem and not view.named:
        fix = "see to the name servers in dns.servers, or in /etc/resolv.conf"
        area.find("resolver.failing", f"the resolver of this host fails for {name}: {direct.problem}", fix)
    elif soa.secure:
        area.say("DNSSEC: signed and validated")
    elif keys.records:
        area.say("DNSSEC: signed, but the resolver of this host did not validate it (a DS record above? dns.trust_ad?)")
    else:
        area.say("DNSSEC: not signed")


async def _texts(area: Area, checked: Checked) -> None:
    """Wildcards and monsters among TXT records."""
    domain = checked.domain
    names = [f"{WILD}.{domain}", f"{WILD}._domainkey.{domain}", domain]
    *wild, own = await asyncio.gather(*(checked.view.get(name, "TXT") for name in names))
    for name, seen in zip(names, wild, strict=False):
        if seen.records:
            at = f"*.{name.partition('.')[2]}"
            fix = f"remove the wildcard:\n{at}. 3600 IN TXT {seen.values()[0]}"
            area.find("txt.wildcard", f"{at} has a TXT record: every name below has it", fix)
            break
    size = sum(len(text) for text in own.texts())
    if size > LARGE_BYTES:
        largest = max(own.texts(), key=len)
        fix = f"remove or shorten the largest, of {len(largest)} octets:\n{txt(domain, largest[:60])} ..."
        area.find("txt.large", f"the TXT records of {domain} have {size} octets", fix)
