"""DMARC: the record that applies, who gets the reports, and whether mail from here would pass (RFC 9989, RFC 9990)."""

import asyncio
import re
from collections.abc import Sequence

from mtad.auth import dmarc, dmarc_record
from mtad.dns.resolver import DnsTemporary, NoData, NoSuchName
from mtad.publish import dkimcheck, spfcheck
from mtad.publish.area import Area, Checked, txt
from mtad.publish.records import dmarc as wanted_dmarc

TARGETS_MAX = 10
_LOOSE = re.compile(r"\s*v\s*=\s*dmarc", re.IGNORECASE)


async def check(checked: Checked) -> Area:
    area, view, domain = Area("dmarc"), checked.view, checked.domain
    name = f"_dmarc.{domain}"
    seen = await view.get(name, "TXT")
    if area.untold(seen):
        return area
    try:
        above = view.lenient()
        walk = await dmarc.walk_up(above, domain)
    except DnsTemporary as error:
        area.find(
            "check.incomplete", f"the DMARC records above {domain}: {error}", "see to the name servers, and check again"
        )
        return area
    ours = txt(name, wanted_dmarc(domain))
    texts = seen.texts()
    records = [record for text in texts if (record := dmarc_record.parse(text)) is not None]
    broken = [text for text in texts if _LOOSE.match(text) and dmarc_record.parse(text) is None]
    applies = walk.policy()
    if len(records) > 1:
        area.find(
            "dmarc.multiple",
            f"{name} has {len(records)} DMARC records",
            f"remove all but one, as\n{txt(name, records[0].text)}",
        )
        return area
    if broken and not records:
        area.find(
            "dmarc.syntax", f'{name} has {broken[0][:60]!a}; it must begin with "v=DMARC1;"', f"replace it by\n{ours}"
        )
        return area
    if applies is None and above.problems:
        area.find("check.incomplete", f"{name} has no DMARC record, and above: {above.problems[0]}", ours)
        return area
    if applies is None:
        area.find("dmarc.missing", f"neither {name} nor a domain above has a DMARC record", ours)
        return area
    at, record = applies
    area.say(f"{f'of {at}: ' if at != domain else ''}{record.text}")
    right = txt(f"_dmarc.{at}", corrected(record, at))
    _record(area, record, at, domain, f"replace it by\n{right}")
    await _reports(area, checked, walk, record, at)
    await _alignment(area, checked)
    return area


def _record(area: Area, record: dmarc_record.Record, at: str, domain: str, fix: str) -> None:
    given = dict(record.tags)
    policy = record.p if at == domain else record.sp or record.p
    if record.invalid:
        words = ", ".join(f"{name}={given.get(name, '')}" for name in record.invalid)
        area.find("dmarc.syntax", f"_dmarc.{at} has a policy that there is not: {words}", fix)
    elif policy == "none":
        area.find("dmarc.none", f"_dmarc.{at} asks for nothing: {record.text}", fix)
    if record.testing:
        area.find("dmarc.testing", f"_dmarc.{at} is a test (t=y)", fix)
    wanted = [part for part in given.get("rua", "").split(",") if part.strip()]
    if "rua" in given and len(record.rua) < len(wanted):
        area.find("dmarc.syntax", f"rua={given['rua']} names an address without mailto:", fix)
    elif not record.rua:
        area.find("dmarc.silent", f"_dmarc.{at} names nobody for reports: {record.text}", fix)


async def _reports(area: Area, checked: Checked, walk: dmarc.Walk, record: dmarc_record.Record, at: str) -> None:
    """RFC 9990 4: who is of another organization has to say that it takes reports on this domain."""
    targets = [uri for uri in (*record.rua, *record.ruf) if uri.lower().startswith("mailto:")]
    domains = dict.fromkeys(uri.rpartition("@")[2].lower() for uri in targets[:TARGETS_MAX])
    for target in domains:
        if not target or target == at or target.endswith(f".{walk.organizational}"):
            continue
        try:
            theirs = await dmarc.walk_up(checked.view.lenient(), target)
            if theirs.organizational == walk.organizational:
                continue
            authorised, doubt = await _authorised(checked, at, target), ""
        except DnsTemporary as error:
            authorised, doubt = False, f" (it cannot be found out: {error})"
        if authorised:
            area.say(f"{target} takes the reports")
        else:
            fix = f"let the owner of {target} publish\n{txt(f'{at}._report._dmarc.{target}', 'v=DMARC1')}"
            area.find("dmarc.reports", f"{target} does not say that it takes reports on {at}{doubt}", fix)


async def _authorised(checked: Checked, at: str, target: str) -> bool:
    try:
        texts = await checked.view.txt(f"{at}._report._dmarc.{target}")
    except (NoData, NoSuchName):
        return False
    return any(re.match(rb"v=DMARC1\s*(;|$)", text) for text in texts)


async def _alignment(area: Area, checked: Checked) -> None:
    """Mail of the domain from here, as a receiver would judge it."""
    spf_passes, key_served = await asyncio.gather(spfcheck.passes(checked), dkimcheck.served(checked))
    spf: Sequence[str] = [checked.domain] if spf_passes else []
    dkim: Sequence[str] = (
        [checked.signing] if checked.signing and (key_served or checked.signing != checked.domain) else []
    )
    result = await dmarc.evaluate(checked.view.lenient(), checked.domain, spf, dkim)
    if result.verdict == "fail":
        fix = f"put SPF or DKIM right first; the records of both: mtactl dns records {checked.domain}"
        why = "SPF does not pass, and no key that signs can be verified"
        area.find("dmarc.alignment", f"mail of {checked.domain} from here fails DMARC: {why}", fix)
    elif result.verdict == "pass":
        by = [name for name, domains in (("SPF", result.aligned_spf), ("DKIM", result.aligned_dkim)) if domains]
        area.say(f"mail from here passes by {' and '.join(by)}")
        if dkim and not result.aligned_dkim:
            fix = f"mtactl dkim generate {checked.domain}"
            area.find(
                "dmarc.dkim", f"mail is signed for {checked.signing}, which is not aligned with {checked.domain}", fix
            )


def corrected(record: dmarc_record.Record, at: str) -> str:
    """The record with a policy that asks for something, and somebody who hears of it."""
    tags = {name: value for name, value in record.tags if name not in ("v", "t")}
    tags["p"] = record.p if record.p != "none" else "quarantine"
    if "sp" in tags and (record.sp == "none" or "sp" in record.invalid):
        tags.pop("sp")
    if "np" in record.invalid:
        tags.pop("np")
    addresses = [part.strip() for part in tags.get("rua", "").split(",") if part.strip()]
    tags["rua"] = ",".join(one if ":" in one else f"mailto:{one}" for one in addresses) or f"mailto:postmaster@{at}"
    order = [*(("p", tags.pop("p")),), *tags.items()]
    return "; ".join(["v=DMARC1", *(f"{name}={value}" for name, value in order)])
