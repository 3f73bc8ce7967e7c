"""What senders are told of TLS: MTA-STS, TLS reports, DANE, who may issue; and where mail programs are sent."""

import asyncio
from functools import partial

from mtad.config.certificate import from_pem
from mtad.dns.resolver import DnsTemporary
from mtad.publish import shown
from mtad.publish.area import Area, Checked, txt
from mtad.publish.records import STS_ID_CHARACTERS, STS_PATH, covers, sts, sts_id, sts_policy, tlsa, tlsrpt
from mtad.publish.view import host_of
from mtad.tls import dane as dane_rules
from mtad.tls import https, mta_sts
from mtad.tls.contexts import TlsError, client_context
from mtad.tls.tlsrpt import report_targets

FETCH_S = 10.0
DAY_S = 86400.0


async def mta_sts_check(checked: Checked) -> Area:
    area, view, domain = Area("mta-sts"), checked.view, checked.domain
    name = f"_mta-sts.{domain}"
    seen = await view.get(name, "TXT")
    if area.untold(seen):
        return area
    ours = txt(name, sts(checked.host))
    try:
        announced = mta_sts.record_id([text.encode("latin-1") for text in seen.texts()])
    except mta_sts.Malformed as error:
        area.find("sts.record", f"{name} is malformed ({error}): {'; '.join(seen.texts())}", f"replace it by\n{ours}")
        return area
    if not announced:
        loose = [text for text in seen.texts() if text.lower().lstrip().startswith(("v=sts", "v =sts"))]
        if loose:
            area.find(
                "sts.record", f'{name} is malformed: {loose[0]!a} must begin with "v=STSv1;"', f"replace it by\n{ours}"
            )
        else:
            area.find("sts.absent", f"{domain} has no MTA-STS policy", f"{_serve(checked)}\nthen publish\n{ours}")
        return area
    area.say(f"policy id {announced}")
    if not checked.offline:
        await _policy(area, checked, announced)
    return area


async def _policy(area: Area, checked: Checked, announced: str) -> None:
    host = f"mta-sts.{checked.domain}"
    try:
        addresses = await checked.view.addresses(host)
    except DnsTemporary as error:
        area.find("check.incomplete", f"the addresses of {host}: {error}", "see to the name servers, and check again")
        return
    if not addresses:
        lines = checked.line("A", host) or checked.line("AAAA", host) or f"{host}. 3600 IN A ADDRESS-OF-THE-WEB-SERVER"
        area.find("sts.fetch", f"{host} has no address", lines)
        return
    try:
        context = await asyncio.to_thread(partial(client_context, "verify", ca_file=checked.config.tls.server_ca))
        answer = await https.request(
            host,
            addresses,
            STS_PATH,
            context,
            port=checked.https_port,
            max_bytes=mta_sts.POLICY_MAX_BYTES,
            timeout_s=FETCH_S,
        )
    except (https.HttpsError, TlsError) as error:
        area.find("sts.fetch", f"https://{host}{STS_PATH}: {error}", _serve(checked))
        return
    if answer.status != 200:
        area.find("sts.fetch", f"https://{host}{STS_PATH} answers {answer.status}", _serve(checked))
        return
    if answer.media_type != "text/plain":
        area.find(
            "sts.policy",
            f"https://{host}{STS_PATH} is {answer.media_type or 'of no type'}, not text/plain",
            _serve(checked),
        )
        return
    try:
        policy = mta_sts.parse_policy(answer.body)
    except mta_sts.Malformed as error:
        area.find("sts.policy", f"https://{host}{STS_PATH} is malformed: {error}", _serve(checked))
        return
    area.say(f"mode {policy.mode}, {', '.join(policy.mx)}, {policy.max_age_s / DAY_S:g} days")
    _compared(area, checked, announced, answer.body.decode("utf-8"))
    if policy.mode != "enforce":
        area.find(
            "sts.mode",
            f"the policy is in mode {policy.mode}",
            "mode: enforce   (dns.sts_mode, or in the policy file; and a new id in the record)",
        )
    mx = await checked.view.get(checked.domain, "MX")
    hosts = [name for record in mx.records if (name := host_of(record.exchange))]
    for name in hosts:
        if not mta_sts.matches(policy.mx, name):
            area.find(
                "sts.mx",
                f"the policy does not name the MX {name}",
                f"mx: {name}   (dns.sts_mx, or in the policy file; and a new id in the record)",
            )
    this = checked.host
    if policy.mode == "none":
        return
    listening = await checked.listening()
    for name in [name for name in listening.names if name in hosts]:
        seen = listening.smtp(name)
        for one in seen:
            if why := shown.fault(one, checked.now):
                what = f"a sender that looks for {name} at {one.where} gives up: {why}"
                area.find("sts.certificate", what, shown.mended(one, this, checked.now))
        if not seen and name == this.hostname:
            _certificate(area, checked)


def _compared(area: Area, checked: Checked, announced: str, served: str) -> None:
    """What senders fetch, against the policy of this host; and whether the id was made for it, where we make ids."""
    name, this = f"_mta-sts.{checked.domain}", checked.host
    ours, theirs = mta_sts.parse_policy(sts_policy(this).encode()), mta_sts.parse_policy(served.encode())
    if theirs != ours:
        told = "; ".join(line for line in mta_sts.lines(theirs) if line not in mta_sts.lines(ours))
        lacks = "; ".join(line for line in mta_sts.lines(ours) if line not in mta_sts.lines(theirs))
        words = " and ".join([f"has {told}"] * bool(told) + [f"lacks {lacks}"] * bool(lacks))
        fix = f"{_serve(checked)}\nthen publish\n{txt(name, sts(this))}\nor set dns.sts_mode and dns.sts_mx to it"
        area.find("sts.other", f"the policy that is served is not that of this host: it {words}", fix)
    elif len(announced) == STS_ID_CHARACTERS and announced not in (sts_id(sts_policy(this)), sts_id(served)):
        area.find("sts.id", f"the id {announced} is of another policy", f"replace it by\n{txt(name, sts(this))}")


def _certificate(area: Area, checked: Checked) -> None:
    """Of the file, where no listener answers."""
    this = checked.host
    fix = f"get a certificate for {this.hostname} of a public authority, and name it in tls.cert and tls.key"
    if this.certificate is None:
        area.find("sts.certificate", f"{this.hostname} has no certificate", fix)
    elif this.self_signed:
        area.find("sts.certificate", f"{this.certificate.cert} is signed by itself", fix)
    elif not covers(this.certificate.names, this.hostname):
        names = ", ".join(this.certificate.names[:5]) or "no name"
        area.find("sts.certificate", f"{this.certificate.cert} is not for {this.hostname} but for {names}", fix)
    elif this.certificate.expires_at <= checked.now:
        area.find("sts.certificate", f"{this.certificate.cert} has expired", fix)


def _serve(checked: Checked) -> str:
    """How the policy gets where it belongs."""
    host = f"mta-sts.{checked.domain}"
    lines = sts_policy(checked.host).splitlines()
    http = checked.config.listen.http
    if http is not None:
        place = f"[{http.host}]" if ":" in http.host else http.host
        lines = [f"proxy_pass http://{place}:{http.port};   (it has the policy; keep the Host, see docs/dns.md)"]
    return "\n".join([f"serve as text/plain at https://{host}{STS_PATH}, with a certificate for {host}:", *lines])


async def tlsrpt_check(checked: Checked) -> Area:
    area = Area("tlsrpt")
    name = f"_smtp._tls.{checked.domain}"
    seen = await checked.view.get(name, "TXT")
    if area.untold(seen):
        return area
    ours = txt(name, tlsrpt(checked.domain))
    texts = [text for text in seen.texts() if text.lower().lstrip().startswith("v=tlsrpt")]
    targets = report_targets([text.encode("latin-1") for text in seen.texts()])
    if targets:
        area.say(f"reports go to {', '.join(targets)}")
    elif texts:
        what = "has several records" if len(texts) > 1 else f"is malformed: {texts[0]}"
        area.find("tlsrpt.record", f"{name} {what}", f"replace it by\n{ours}")
    else:
        area.find("tlsrpt.absent", f"{name} has no record", ours)
    return area


async def dane_check(checked: Checked) -> Area:
    """Each name by which senders look for this host, against what they see there."""
    area = Area("dane")
    for name in (await checked.listening()).names:
        await _dane(area, checked, name)
    return area


async def _dane(area: Area, checked: Checked, host: str) -> None:
    view, this = checked.view, checked.host
    name = f"_25._tcp.{host}"
    seen = await view.get(name, "TLSA")
    if not seen.records:
        area.say(f"no TLSA records at {name}")
        return
    right = (
        f"{name}. 3600 IN TLSA {tlsa(this.certificate.leaf)}"
        if this.certificate is not None
        else f"remove the TLSA records of {name}."
    )
    records = [dane_rules.Tlsa(one.usage, one.selector, one.mtype, bytes(one.cert)) for one in seen.records]
    usable = dane_rules.usable(records)
    keys = await view.get(view.zone.name or checked.domain, "DNSKEY")
    if not seen.secure and not keys.records:
        area.find(
            "dane.unsigned",
            f"{name} has TLSA records, but its zone is not signed",
            f"sign the zone, or remove the TLSA records of {name}.",
        )
    for one in records:
        if not one.usable:
            area.find("dane.unusable", f"{name} has {one}", f"replace it by\n{right}")
    if not usable:
        return
    names = (host, checked.domain)
    file = await asyncio.to_thread(_chain, this.certificate.cert) if this.certificate is not None else ()
    by_file = dane_rules.verify(file, usable, names, checked.now)
    looked = [(f"what {look.where} shows", look.seen.chain) for look in (await checked.listening()).smtp(host)]
    if not looked and this.certificate is None:
        area.find("dane.mismatch", f"{name} has TLSA records, but this host has no certificate", right)
        return
    for what, chain in looked or [(this.certificate.cert if this.certificate else "", file)]:
        fault = dane_rules.verify(chain, usable, names, checked.now)
        if fault is None:
            area.say(f"{name} matches {what}")
        else:
            # A renewed file that is not in use yet is no matter of DNS.
            fix = f"replace it by\n{right}" if by_file is not None else "mtactl tls reload"
            area.find("dane.mismatch", f"{name} does not match {what}: {fault.words}", fix)


def _chain(path: str) -> tuple[bytes, ...]:
    from cryptography.hazmat.primitives.serialization import Encoding

    try:
        with open(path, "rb") as file:
            found = from_pem(file.read(1 << 20))
    except (OSError, ValueError):
        return ()
    return tuple(one.public_bytes(Encoding.DER) for one in found[: dane_rules.CHAIN_MAX])


async def caa_check(checked: Checked) -> Area:
    """RFC 8659 3: the records of the name itself, or of the closest above that has any."""
    area, this = Area("caa"), checked.host
    labels = this.hostname.split(".")
    names = [".".join(labels[cut:]) for cut in range(len(labels) - 1)]
    answers = await asyncio.gather(*(checked.view.get(name, "CAA") for name in names[:8]))
    at = next((seen for seen in answers if seen.records), None)
    if at is None:
        area.say("any authority may issue")
        return area
    issuers = [
        bytes(record.value).decode("latin-1").partition(";")[0].strip().lower()
        for record in at.records
        if bytes(record.tag).lower() == b"issue"
    ]
    area.say(f"{at.name}: {', '.join(one or 'nobody' for one in issuers) or 'any authority'} may issue")
    if issuers and this.issuer and this.issuer not in issuers:
        what = f"CAA of {at.name} does not allow {this.issuer}, which issued the certificate of {this.hostname}"
        area.find("caa.issuer", what, f'{at.name}. 3600 IN CAA 0 issue "{this.issuer}"')
    return area


async def srv_check(checked: Checked) -> Area:
    area, view, this = Area("srv"), checked.view, checked.host
    for service, port in (("_submissions", this.submissions), ("_submission", this.submission)):
        name = f"{service}._tcp.{checked.domain}"
        seen = await view.get(name, "SRV")
        for record in seen.records:
            target = host_of(record.target)
            if not target:
                continue
            area.say(f"{name} is {target} port {record.port}")
            if port and (target != this.hostname or record.port != port):
                what = f"{name} leads to {target} port {record.port}, this host listens as {this.hostname} port {port}"
                area.find("srv.elsewhere", what, f"replace it by\n{name}. 3600 IN SRV 0 1 {port} {this.hostname}.")
    if not area.said:
        area.say("no records")
    return area
