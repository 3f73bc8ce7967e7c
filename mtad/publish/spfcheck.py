"""SPF as a receiver judges mail from here, what the record costs, and the record with all of it put right."""

import asyncio
import re
from collections.abc import Iterator, Sequence
from ipaddress import ip_address, ip_network

from mtad.auth import spf, spf_record
from mtad.auth.spf_tree import Node, tree
from mtad.publish.area import Area, Checked, txt
from mtad.publish.records import spf as wanted_spf

RECORD_GOOD = 450  # octets of a record that fits one UDP answer with room for others (RFC 7208 3.4)
_LOOSE = re.compile(r"\s*v\s*=\s*spf", re.IGNORECASE)


async def check(checked: Checked) -> Area:
    area, view, domain = Area("spf"), checked.view, checked.domain
    seen = await view.get(domain, "TXT")
    if area.untold(seen):
        return area
    texts = seen.texts()
    records = [text for text in texts if spf_record.is_spf(text)]
    ours = wanted_spf(checked.host)
    if not records:
        loose = [text for text in texts if _LOOSE.match(text)]
        if loose:
            area.find(
                "spf.syntax",
                f'the record begins with {loose[0][:40]!a} instead of "v=spf1 "',
                f"replace it by\n{txt(domain, ours)}",
            )
        else:
            area.find("spf.missing", f"{domain} has no SPF record", txt(domain, ours))
    elif len(records) > 1:
        fix = f"remove all but one, and let that be\n{txt(domain, _merged(records) or ours)}"
        area.find("spf.multiple", f"{domain} has {len(records)} SPF records", fix)
    else:
        await _one(area, checked, records[0])
    await _helo(area, checked)
    return area


async def _one(area: Area, checked: Checked, text: str) -> None:
    domain = checked.domain
    try:
        record = spf_record.parse(text)
    except spf_record.BadRecord as error:
        area.find("spf.syntax", f"{error}: {text}", f"replace it by\n{txt(domain, wanted_spf(checked.host))}")
        return
    cost = await tree(checked.view, domain)
    area.say(f"{cost.lookups} of {spf.LOOKUPS_MAX} lookups, {cost.voids} of {spf.VOIDS_MAX} without an answer: {text}")
    for line in lines(cost):
        area.say(line)
    results = await asyncio.gather(*(_judged(checked, address) for address in checked.host.addresses))
    outside = [
        address
        for address, result in zip(checked.host.addresses, results, strict=True)
        if result.verdict in ("fail", "softfail", "neutral")
    ]
    hidden = [one for one in checked.host.addresses if one not in outside and not _named(one, cost.networks)]
    missing = outside + (hidden if any(result.verdict == "permerror" for result in results) else [])
    right = f"replace it by\n{txt(domain, corrected(text, cost, missing))}"
    if cost.lookups > spf.LOOKUPS_MAX:
        dear = ", ".join(f"{node.term} {node.lookups}" for node in _dearest(cost) if node.lookups)
        area.find("spf.lookups", f"{cost.lookups} terms ask DNS: {dear}", right)
    if cost.voids > spf.VOIDS_MAX:
        empty = ", ".join(node.term for node in _all(cost) if node.voids and not node.below)
        area.find("spf.voids", f"{cost.voids} terms find nothing: {empty}", right)
    for node in _all(cost):
        if (
            node.problem
            and not node.temporary
            and node.term.lower().lstrip("+-~?").startswith(("include:", "redirect="))
        ):
            area.find("spf.target", f"{node.term}: {node.domain} {node.problem}", right)
    broken = next((node for node in _all(cost) if node.temporary), None)
    if broken is not None:
        area.find(
            "spf.broken",
            f"{broken.term or domain}: {broken.problem}",
            "remove the term, or see to that domain's name servers",
        )
    names = [mechanism.name for mechanism in record.mechanisms]
    last = next((mechanism for mechanism in record.mechanisms if mechanism.name == "all"), None)
    if last is not None and last.qualifier == "+":
        area.find("spf.open", f"the record ends in {last.text}", right)
    elif (last is None and not record.redirect) or (last is not None and last.qualifier == "?"):
        area.find("spf.undecided", f"the record ends {'in ?all' if last is not None else 'without all'}: {text}", right)
    if last is not None and names.index("all") < len(names) - 1:
        area.find("spf.dead", f"terms stand behind {last.text}: {text}", right)
    if "ptr" in names:
        area.find("spf.ptr", f"the record uses ptr: {text}", right)
    for address, result in zip(checked.host.addresses, results, strict=True):
        if address in outside:
            area.find("spf.uncovered", f"mail from {address} gets {result.verdict}: {result.reason}", right)
        else:
            area.say(f"{address}: {result.verdict} ({result.reason})")


async def _judged(checked: Checked, address: str) -> spf.Result:
    """As a receiver would, of mail from here."""
    sender = f"postmaster@{checked.domain}"
    return await spf.check(checked.view, address, sender, checked.host.hostname, checked.now)


async def passes(checked: Checked) -> bool:
    """Whether all mail from here would pass."""
    results = await asyncio.gather(*(_judged(checked, address) for address in checked.host.addresses))
    return bool(results) and all(result.verdict == "pass" for result in results)


async def _helo(area: Area, checked: Checked) -> None:
    """The null sender is judged by the name in EHLO (RFC 7208 2.4)."""
    name = checked.host.hostname
    if name == checked.domain or not name.endswith(f".{checked.domain}"):
        return
    seen = await checked.view.get(name, "TXT")
    if not seen.problem and not any(spf_record.is_spf(text) for text in seen.texts()):
        area.find("spf.host", f"{name} has no SPF record", txt(name, "v=spf1 a -all"))


def lines(node: Node, depth: int = 0) -> Iterator[str]:
    """The tree, a line for each term that asks DNS."""
    for one in node.below:
        if one.lookups:
            void = ", finds nothing" if one.voids and not one.below else ""
            problem = f", {one.problem}" if one.problem and not void else ""
            yield f"{'  ' * depth}{one.lookups:>3} {one.term}{void}{problem}"
            if depth < 4:
                yield from lines(one, depth + 1)


def corrected(text: str, cost: Node, missing: Sequence[str]) -> str:
    """The record as it should be: our addresses in it, nothing that fails, within the budgets, closed at the end."""
    terms: list[str] = []
    by_term = {node.term: node for node in cost.below}
    end = "-all"
    for term in text.split()[1:]:
        name = term.lower().lstrip("+-~?")
        node = by_term.get(term)
        if name == "all":
            end = term.lower() if term[0] in "-~" else end
        elif not (name == "ptr" or name.startswith("ptr:") or (node is not None and _fails(node))):
            terms.append(term)
    redirect = [term for term in terms if term.lower().startswith("redirect=")]
    spent = {term: by_term[term].lookups for term in terms if term in by_term}
    for term in sorted(spent, key=lambda term: -spent[term]):
        if sum(spent.values()) <= spf.LOOKUPS_MAX:
            break
        flat = list(by_term[term].networks)
        at = terms.index(term)
        if flat and len(" ".join([*terms, *flat])) <= RECORD_GOOD:
            terms[at : at + 1] = flat
        else:
            terms.remove(term)
        spent.pop(term)
    added = [f"{'ip6' if ':' in address else 'ip4'}:{address}" for address in missing]
    closed = [] if redirect and redirect[0] in terms else [end]
    return " ".join(dict.fromkeys(["v=spf1", *added, *terms, *closed]))


def _named(address: str, networks: Sequence[str]) -> bool:
    """Whether one of the terms ip4 and ip6 holds it."""
    ip = ip_address(address)
    found = (ip_network(network.partition(":")[2], strict=False) for network in networks)
    return any(ip.version == network.version and ip in network for network in found)


def _fails(node: Node) -> bool:
    """A term that can never match: it leads nowhere, for good."""
    nowhere = bool(node.voids) and not node.below
    return (nowhere or bool(node.problem)) and not node.temporary and not node.networks


def _merged(records: Sequence[str]) -> str:
    """One record of several; "" when one of them is none."""
    terms: list[str] = []
    ends: list[str] = []
    for text in records:
        try:
            spf_record.parse(text)
        except spf_record.BadRecord:
            return ""
        for term in text.split()[1:]:
            (ends if term.lower().lstrip("+-~?") == "all" else terms).append(term.lower())
    end = next((one for one in ("~all", "-all") if one in ends), "-all")
    return " ".join(dict.fromkeys(["v=spf1", *terms, end]))


def _dearest(node: Node) -> list[Node]:
    return sorted(node.below, key=lambda one: -one.lookups)


def _all(node: Node) -> Iterator[Node]:
    yield node
    for one in node.below:
        yield from _all(one)
