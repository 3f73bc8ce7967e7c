"""`mtactl verify`: one mail in a file, as a receiver would judge it."""

import json
import time
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import click

from mtactl.cli import Verb, common_options, remember
from mtactl.errors import EX_DATAERR, EX_NOTHING, EX_OK, CallError

if TYPE_CHECKING:
    from mtad.auth.judge import Judgement


OF_WIDTH = 60  # a longer name, which the mail chooses, does not move the other lines


def verify() -> click.Command:
    def callback(file: str, ip: str, helo: str, mail_from: str, **given: Any) -> int:
        import asyncio
        import socket

        from mtactl.signing import MAIL_MAX_BYTES, crlf, read
        from mtad.auth.judge import field, judge
        from mtad.config import ConfigErrors, Dns
        from mtad.config.load import load
        from mtad.dns.questions import Questions
        from mtad.dns.resolver import Resolver

        options = remember(**given)
        if ip:
            try:
                ip = str(ip_address(ip.removeprefix("[").removesuffix("]").removeprefix("IPv6:")))
            except ValueError:
                raise CallError(f"--ip: {ip[:60]!a} is no IP address", EX_DATAERR) from None
        mail_from = mail_from.removeprefix("<").removesuffix(">")
        for name, value in (("--mail-from", mail_from), ("--helo", helo)):
            if len(value) > 320 or any(char <= " " or char == "\x7f" for char in value):
                raise CallError(f"{name}: {value[:60]!a} cannot stand there", EX_DATAERR)
        octets = crlf(read(file, MAIL_MAX_BYTES))
        if not octets.strip():
            raise CallError(f"{file} holds no mail", EX_DATAERR)
        try:
            config = load(options.root)
            servers, receiver = config.dns, config.hostname
        except ConfigErrors:  # no daemon's settings here: the system's resolver will do
            servers, receiver = Dns(), socket.gethostname()
        dns = Questions(Resolver(servers, time.time))
        judged = asyncio.run(judge(dns, octets, ip, helo, mail_from, time.time(), receiver))
        shown = field(judged, receiver)
        if options.json:
            print(json.dumps({**_row(judged), "authentication_results": shown.partition(": ")[2]}))
        else:
            _show(judged)
            print(shown.replace("\r\n", "\n"))
        return EX_OK if judged.good else EX_NOTHING

    return Verb(
        "verify",
        (("FILE", 'The mail; "-" is standard input.'),),
        (
            "mtactl verify mail.eml --ip 192.0.2.1 --helo mail.example.org --mail-from alice@example.org",
            "mtactl verify - --json < mail.eml",
        ),
        params=[
            click.Argument(["file"], metavar="FILE"),
            click.Option(["--ip"], default="", metavar="ADDRESS", help="Who sent it; without it SPF says nothing."),
            click.Option(["--helo"], default="", metavar="NAME", help="The name in its EHLO."),
            click.Option(["--mail-from"], default="", metavar="ADDRESS", help="The sender of the envelope."),
            *common_options(hidden=True),
        ],
        help="Judges a mail by SPF, DKIM, DMARC and ARC with what DNS says now, and prints the Authentication-Results"
        " field. Exit 0 when DMARC passes, or when the author's domain has no policy and SPF or DKIM passes; else 1.",
        callback=callback,
    )


def _row(judged: "Judgement") -> dict[str, Any]:
    spf, dmarc = judged.spf, judged.dmarc
    return {
        "spf": {"result": spf.verdict, "of": judged.spf_of, "reason": spf.reason, "lookups": spf.lookups},
        "dkim": [
            {"domain": one.domain, "selector": one.selector, "result": one.result, "reason": one.reason}
            for one in judged.dkim
        ],
        "dmarc": {
            "result": dmarc.verdict,
            "domain": dmarc.author_domain,
            "policy_domain": dmarc.policy_domain,
            "policy": dmarc.policy or "",
            "aligned_spf": list(dmarc.aligned_spf),
            "aligned_dkim": list(dmarc.aligned_dkim),
            "reason": dmarc.reason,
        },
        "arc": {
            "result": judged.arc.verdict,
            "reason": judged.arc.reason,
            "sealers": list(judged.arc.sealers),
        },
    }


def _show(judged: "Judgement") -> None:
    from mtad.mail.text import clean

    spf, dmarc = judged.spf, judged.dmarc
    rows = [("spf", spf.verdict, judged.spf_of, spf.reason)]
    rows += [
        ("dkim", one.result, f"{one.selector or '-'}._domainkey.{one.domain or '-'}", one.reason) for one in judged.dkim
    ]
    if not judged.dkim:
        rows.append(("dkim", "none", "", "the mail has no signature"))
    by = [*(f"SPF {one}" for one in dmarc.aligned_spf), *(f"DKIM {one}" for one in dmarc.aligned_dkim)]
    policy = f"p={dmarc.policy} at {dmarc.policy_domain}" if dmarc.policy else ""
    why = "; ".join(part for part in (policy, f"aligned: {', '.join(by)}" if by else "", dmarc.reason) if part)
    rows.append(("dmarc", dmarc.verdict, dmarc.author_domain, why))
    if judged.arc.verdict != "none":
        rows.append(("arc", judged.arc.verdict, ", ".join(judged.arc.sealers), judged.arc.reason))
    shown = [(method, result, clean(of, 300), clean(reason, 300)) for method, result, of, reason in rows]
    width = min(max(len(of) for _, _, of, _ in shown), OF_WIDTH)
    for method, result, of, reason in shown:
        print(f"{method:<5}  {result:<9}  {of:<{width}}  {reason}".rstrip())
