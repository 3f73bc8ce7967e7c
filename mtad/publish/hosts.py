"""Where mail comes in and where it leaves: MX, this host's name and addresses, their names, lists of bad ones."""

import asyncio
from collections.abc import Sequence
from ipaddress import ip_address

from mtad.dns.resolver import DnsTemporary, NoData, NoSuchName
from mtad.publish.area import Area, Checked
from mtad.publish.host import outside
from mtad.publish.records import Rec
from mtad.publish.view import View, host_of


async def mx(checked: Checked) -> Area:
    area, view, domain = Area("mx"), checked.view, checked.domain
    ours = f"{domain}. 3600 IN MX 10 {checked.host.hostname}."
    seen = await view.get(domain, "MX")
    if area.untold(seen):
        return area
    if domain not in checked.config.domains:
        fix = f'domains = ["{domain}", ...]   (in {checked.config.paths.config}), or check it with --parked'
        area.find("domain.unknown", f"{domain} is not among the domains of this host", fix)
    hosts = sorted((record.preference, host_of(record.exchange)) for record in seen.records)
    if not hosts:
        area.find("mx.missing", f"{domain} has no MX record", ours)
        return area
    if any(not host for _, host in hosts):
        area.find("mx.null", f"{domain} has a null MX, which says that it takes no mail", f"replace it by\n{ours}")
        return area
    area.say(", ".join(f"{preference} {host}" for preference, host in hosts))
    leads = await asyncio.gather(*(_mx_host(area, checked, preference, host) for preference, host in hosts[:20]))
    if not any(leads):
        names = ", ".join(host for _, host in hosts)
        area.find("mx.elsewhere", f"no MX of {domain} is this host, {checked.host.hostname}: {names}", ours)
    return area


async def _mx_host(area: Area, checked: Checked, preference: int, host: str) -> bool:
    """Whether it is this host."""
    view, this = checked.view, checked.host
    ours = f"{checked.domain}. 3600 IN MX {preference} {this.hostname}."
    if _is_address(host):
        area.find("mx.address", f"the MX {host} is an address, not a name", f"replace it by\n{ours}")
        return False
    alias = await view.get(host, "CNAME")
    if alias.records:
        target = host_of(alias.records[0].target)
        fix = ours if target == this.hostname else f"{checked.domain}. 3600 IN MX {preference} {target}."
        area.find("mx.alias", f"the MX {host} is an alias of {target}", f"replace it by\n{fix}")
    try:
        addresses = await view.addresses(host)
    except DnsTemporary as error:
        area.find(
            "check.incomplete", f"the addresses of the MX {host}: {error}", "see to the name servers, and check again"
        )
        return host == this.hostname
    if not addresses:
        if host == this.hostname:
            return True  # it is told of the host itself
        lines = _lines(host, this.addresses)
        area.find("mx.unresolved", f"the MX {host} has no address", lines or f"replace it by\n{ours}")
        return False
    inside = [address for address in addresses if not outside(address)]
    if inside and not this.private:
        fix = checked.line("A", this.hostname) or f"{host}. 3600 IN A PUBLIC-ADDRESS"
        area.find("mx.inside", f"the MX {host} has the address {', '.join(inside)} of a private network", fix)
    return host == this.hostname or bool(set(addresses) & set(this.addresses))


async def host(checked: Checked) -> Area:
    area, view, this = Area("host"), checked.view, checked.host
    name = this.hostname
    alias = await view.get(name, "CNAME")
    if alias.records:
        target = host_of(alias.records[0].target)
        fix = f"replace the CNAME by\n{_lines(name, this.addresses) or f'{name}. 3600 IN A ADDRESS'}"
        area.find("host.alias", f"{name} is an alias of {target}", fix)
    try:
        addresses = await view.addresses(name)
    except DnsTemporary as error:
        area.find("check.incomplete", f"the addresses of {name}: {error}", "see to the name servers, and check again")
        return area
    lines = _lines(name, this.addresses)
    if not addresses:
        area.find("host.address", f"{name} has no address", lines or f"{name}. 3600 IN A ADDRESS-OF-THIS-HOST")
    elif this.known:
        missing = [one for one in this.addresses if one not in addresses]
        strange = [one for one in addresses if one not in this.addresses]
        if len(missing) == len(this.addresses):
            what = f"{name} has the address {', '.join(addresses)}, but this host {', '.join(this.addresses)}"
            area.find("host.elsewhere", what, lines)
        elif missing:
            fix = _lines(name, missing)
            area.find("host.incomplete", f"{name} lacks {', '.join(missing)}, an address of this host", fix)
        elif strange:
            fix = "remove\n" + _lines(name, strange)
            what = f"{name} also has {', '.join(strange)}, which is no address of this host (dns.addresses)"
            area.find("host.elsewhere", what, fix, "warning")
    if addresses:
        area.say(
            f"{name} has {', '.join(addresses)}"
            + ("" if this.known else " (those of this host are not known: dns.addresses)")
        )
    ours = this.addresses or addresses
    await asyncio.gather(*(_reverse(area, view, address, name) for address in ours))
    if not checked.offline:
        await _listed(area, checked, [address for address in ours if outside(address)])
    return area


async def _reverse(area: Area, view: View, address: str, name: str) -> None:
    """FCrDNS: the name of an address leads back to it (RFC 1912 2.1)."""
    pointer = ip_address(address).reverse_pointer
    fix = f"ask the provider of {address} for\n{pointer}. 3600 IN PTR {name}."
    seen = await view.get(pointer, "PTR")
    if seen.problem and not outside(address):
        return
    if seen.problem:
        area.find("check.incomplete", f"the name of {address}: {seen.problem}", fix)
        return
    names = [host_of(record.target) for record in seen.records][:10]
    if not names:
        if outside(address):
            area.find("ptr.missing", f"{address} has no name (PTR)", fix)
        return
    back = []
    for one in names:
        try:
            if address in await view.addresses(one):
                back.append(one)
        except DnsTemporary:
            continue
    if not back:
        area.find("ptr.forward", f"{address} has the name {', '.join(names)}, which does not have this address", fix)
    elif name not in back:
        area.find("ptr.helo", f"{address} has the name {back[0]}, but says EHLO {name}", fix)
    else:
        area.say(f"{address} is {name} and back")


async def _listed(area: Area, checked: Checked, addresses: Sequence[str]) -> None:
    """RFC 5782: an answer within 127.0.0.0/8 is a listing; 127.255.255.* says that the question was refused."""
    pairs = [(address, zone) for address in addresses for zone in checked.config.dns.lists]
    answers = await asyncio.gather(*(_ask_list(checked.view, address, zone) for address, zone in pairs))
    refused = set()
    for (address, zone), codes in zip(pairs, answers, strict=True):
        if any(code.startswith("127.255.255.") for code in codes):
            refused.add(zone)
        elif codes:
            fix = f"find out what was sent (mtactl queue stats), then ask for removal at {zone}, naming {address}"
            area.find("address.listed", f"{address} is on {zone} ({', '.join(codes)})", fix)
    if pairs:
        asked = len(checked.config.dns.lists) - len(refused)
        area.say(
            f"{asked} list{'' if asked == 1 else 's'} of bad addresses asked"
            + (f"; {', '.join(sorted(refused))} refuses this resolver" if refused else "")
        )


async def _ask_list(view: View, address: str, zone: str) -> tuple[str, ...]:
    name = ip_address(address).reverse_pointer.removesuffix(".in-addr.arpa").removesuffix(".ip6.arpa")
    try:
        found = await view.addresses_of(f"{name}.{zone}", 4)
    except (DnsTemporary, NoData, NoSuchName):
        return ()
    return tuple(sorted(one for one in found if one.startswith("127.")))


def _is_address(host: str) -> bool:
    try:
        ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def _lines(name: str, addresses: Sequence[str]) -> str:
    return "\n".join(Rec(name, "AAAA" if ":" in one else "A", one).line for one in addresses)
