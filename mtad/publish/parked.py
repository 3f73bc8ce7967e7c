"""A domain that is not for mail: it has to say so, or others send in its name."""

from mtad.auth import dmarc, dmarc_record, spf_record
from mtad.dns.resolver import DnsTemporary
from mtad.publish.area import Area, Checked
from mtad.publish.records import Rec, wanted
from mtad.publish.view import host_of


async def check(checked: Checked) -> Area:
    area, view, domain = Area("parked"), checked.view, checked.domain
    mx, spf, mark = wanted(domain, checked.host, (), parked=True)
    seen = await view.get(domain, "MX")
    if not area.untold(seen):
        hosts = [host_of(record.exchange) for record in seen.records]
        if hosts != [""]:
            names = ", ".join(host or "a null MX" for host in hosts)
            area.find(
                "parked.mx", f"{domain} has {f'the MX {names}' if hosts else 'no null MX'}", _instead(bool(hosts), mx)
            )
    seen = await view.get(domain, "TXT")
    if not area.untold(seen):
        records = [text for text in seen.texts() if spf_record.is_spf(text)]
        if [" ".join(text.lower().split()) for text in records] != ["v=spf1 -all"]:
            what = f"{domain} has the SPF record {records[0]}" if records else f"{domain} has no SPF record"
            area.find("parked.spf", what, _instead(bool(records), spf))
    try:
        walk = await dmarc.walk_up(view.lenient(), domain)
    except DnsTemporary as error:
        area.find(
            "check.incomplete", f"the DMARC record of {domain}: {error}", "see to the name servers, and check again"
        )
        return area
    applies = walk.policy()
    policy = None
    if applies is not None:
        policy = applies[1].p if applies[0] == domain else applies[1].sp or applies[1].p
    if policy != "reject" or (applies is not None and _soft(applies[1])):
        what = f"DMARC of {domain} says {applies[1].text}" if applies is not None else f"{domain} has no DMARC record"
        area.find("parked.dmarc", what, _instead(applies is not None and applies[0] == domain, mark))
    if not area.findings:
        area.say("takes no mail, sends none, and says so")
    return area


def _soft(record: dmarc_record.Record) -> bool:
    return record.testing or not record.usable


def _instead(there: bool, rec: Rec) -> str:
    return f"replace it by\n{rec.line}" if there else rec.line
