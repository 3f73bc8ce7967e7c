"""`mtactl dns records` and `dns check`: rows of the daemon, or of the same code here, as operators want to see them."""

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import click

from mtactl.base import Options, say
from mtactl.cli import Verb, common_options, remember
from mtactl.errors import EX_NOTHING, EX_OK, CallError
from mtactl.perform import call
from mtad.control.operation import UsageError, check
from mtad.control.operations import BY_NAME
from mtad.control.wire import ERRORS

SEVERITIES = ("error", "warning", "info")
_COLOURS = {"error": "red", "warning": "yellow", "info": "cyan"}
FORMATS = ("table", "zone", "json", "nsupdate", "cloudflare", "route53", "octodns", "mta-sts")

_DOMAIN = (("DOMAIN", "The domain."),)
_SERVER = click.Option(
    ["--server"],
    multiple=True,
    metavar="ADDRESS",
    help="Ask this authoritative server, as 192.0.2.53 or 192.0.2.53:5353, not those of the NS records.",
)


def dns_records() -> click.Command:
    def callback(domain: str, style: str | None, diff: bool, **given: Any) -> int:
        from mtad.publish import formats

        options = remember(**given)
        style = style or ("json" if options.json else "zone" if not sys.stdout.isatty() else "table")
        arguments = _arguments(domain, given)
        if diff or style in formats.MERGED:
            arguments["live"] = True
        rows = list(_rows("dns.records", options, arguments))
        policy = next((row["policy"] for row in rows if row["policy"]), "")
        if diff:
            return _show_diff(options, rows)
        if style in formats.MERGED and any(row["live"] is None and not row["elsewhere"] for row in rows):
            say("what DNS has is not known for some names: look before you replace anything")
        if style == "json":
            for row in rows:
                print(json.dumps({name: value for name, value in row.items() if name != "state" or value}))
        elif style == "table":
            _table(rows, policy, domain)
        else:
            for line in formats.FORMATS[style](_ascii(domain), rows, policy):
                print(line)
        if not any(row["type"] in ("A", "AAAA") for row in rows) and not arguments.get("parked"):
            say("the addresses of this host are not known: set dns.addresses")
        return EX_OK

    return Verb(
        "records",
        _DOMAIN,
        (
            "mtactl dns records example.test",
            "mtactl dns records example.test --format zone > example.test.zone",
            "mtactl dns records example.test --format nsupdate | nsupdate -k /etc/bind/key",
            "mtactl dns records example.test --diff",
            "mtactl dns records shop.example --parked",
        ),
        params=[
            click.Argument(["domain"], metavar="DOMAIN"),
            click.Option(
                ["--format", "style"],
                type=click.Choice(FORMATS),
                metavar="NAME",
                help=f"One of {', '.join(FORMATS)}; a table on a terminal, else zone.",
            ),
            click.Option(["--diff"], is_flag=True, help="Only what DNS has not, or has in another way."),
            click.Option(["--parked"], is_flag=True, help="The domain is not for mail: say so."),
            _SERVER,
            *common_options(hidden=True),
        ],
        help="Prints every record that mail of the domain needs, made from what this host is: its name, addresses,"
        " certificate, keys and listeners. What belongs into other zones is a comment there. nsupdate, cloudflare,"
        " route53 and octodns look at what DNS has, so that TXT records of others stay. With --diff the exit is 1 when"
        " something is to do.",
        callback=callback,
    )


def dns_check() -> click.Command:
    def callback(domain: str, watch: bool, interval: str, **given: Any) -> int:
        from mtad.control import values

        options = remember(**given)
        arguments = _arguments(domain, given)
        try:
            pause_s = values.duration(interval)
        except values.BadValue as error:
            raise UsageError("interval", str(error)) from None
        before: set[tuple[str, str]] | None = None
        while True:
            findings, areas = _checked(options, arguments, _ascii(domain), quiet=watch and before is not None)
            bad = any(finding["severity"] == "error" for finding in findings)
            if not watch:
                if options.json:
                    print(json.dumps({"domain": _ascii(domain), "findings": findings, "areas": areas}))
                return EX_NOTHING if bad else EX_OK
            now = {(finding["id"], finding["what"]) for finding in findings}
            _changes(options, _ascii(domain), findings, before, now)
            if not any(finding["severity"] != "info" for finding in findings):
                return EX_OK
            before = now
            time.sleep(max(pause_s, 1.0))

    return Verb(
        "check",
        _DOMAIN,
        (
            "mtactl dns check example.test",
            "mtactl dns check example.test --watch --interval 30s",
            "mtactl dns check example.test --server 192.0.2.53",
            "mtactl dns check shop.example --parked",
            "mtactl dns check example.test --json | jq -r '.findings[].fix'",
        ),
        params=[
            click.Argument(["domain"], metavar="DOMAIN"),
            click.Option(["--watch"], is_flag=True, help="Check again and again, until nothing is wrong."),
            click.Option(["--interval"], default="1m", metavar="AGE", help="The pause of --watch.  [1m]"),
            click.Option(["--parked"], is_flag=True, help="The domain is not for mail: it has to say so."),
            click.Option(
                ["--offline"],
                is_flag=True,
                help="Only the domain's own records: no lists of bad addresses, no policy over HTTPS.",
            ),
            _SERVER,
            *common_options(hidden=True),
        ],
        help="Asks every authoritative server of the domain, over UDP and TCP, and the configured resolver, and judges"
        " the records as a receiver of mail would: name servers, MX, addresses and their names, SPF with what each term"
        " costs, DKIM against the keys here, DMARC, MTA-STS, TLS reports, DANE, CAA, SRV and lists of bad addresses."
        " Each finding says what is wrong, why it matters, and the line that puts it right. Takes a minute at most."
        " Exit 1 when one is an error.",
        callback=callback,
    )


def _arguments(domain: str, given: dict[str, Any]) -> dict[str, Any]:
    arguments = {name: value for name, value in given.items() if name not in Options.__slots__ and value}
    if "server" in arguments:
        arguments["server"] = list(arguments["server"])
    return {"domain": domain, **arguments}


def _rows(name: str, options: Options, arguments: dict[str, Any]) -> Iterator[dict[str, Any]]:
    operation = BY_NAME[name]
    check(operation, arguments)
    return call(operation, options, arguments)


def _ascii(domain: str) -> str:
    from mtad.dkim.keys import DkimKeyError, domain_of

    try:
        return domain_of(domain)
    except DkimKeyError as error:
        raise CallError(str(error), ERRORS["Usage"]) from None


# --- records


def _table(rows: Sequence[dict[str, Any]], policy: str, domain: str) -> None:
    """A card for each: the values are too long for columns, and are to be copied."""
    for row in rows:
        place = f"   in {row['elsewhere']}" if row["elsewhere"] else ""
        print(f"{row['name']}  {row['type']}   ({row['about']}){place}")
        print(f"    {row['text']}")
    if policy:
        print(f"https://mta-sts.{_ascii(domain)}/.well-known/mta-sts.txt   (a file, as text/plain)")
        for line in policy.splitlines():
            print(f"    {line}")


def _show_diff(options: Options, rows: Sequence[dict[str, Any]]) -> int:
    changes = [row for row in rows if row["state"] != "same"]
    for row in changes:
        if options.json:
            print(json.dumps(row))
            continue
        shown = f"{row['name']}. {row['ttl']} IN {row['type']} "
        print(f"; {row['state']}: {row['about']}" + (f" ({row['elsewhere']})" if row["elsewhere"] else ""))
        if row["state"] == "differs":
            for old in _instead(row):
                print(f"- {shown}{old}")
        print(f"+ {shown}{row['value']}")
    if not changes and not options.json:
        say(f"all {len(rows)} records are as they should be")
    return EX_NOTHING if changes else EX_OK


def _instead(row: dict[str, Any]) -> Iterable[str]:
    """What would go: of TXT records only those of the same purpose."""
    from mtad.publish.formats import replaced

    old = row["live"] or ()
    return [one for one in old if row["type"] != "TXT" or replaced(one, row)]


# --- check


def _checked(
    options: Options, arguments: dict[str, Any], domain: str, *, quiet: bool
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(all findings, all areas). Areas are shown as they come."""
    findings: list[dict[str, Any]] = []
    areas: list[dict[str, Any]] = []
    show = _nothing if options.json or quiet else _area
    progress = sys.stderr.isatty() and not options.json
    if progress:
        print(f"asking about {domain} ...", end="\r", file=sys.stderr, flush=True)
    for row in _rows("dns.check", options, arguments):
        if progress:
            print("\033[K", end="", file=sys.stderr, flush=True)
            progress = False
        findings += row["findings"]
        areas.append({"area": row["area"], "said": row["said"]})
        show(row)
    if show is _area:
        counts = [(sum(one["severity"] == severity for one in findings), severity) for severity in SEVERITIES]
        words = ", ".join(
            f"{count} {name}{'s' if count > 1 and name != 'info' else ''}" for count, name in counts if count
        )
        print(f"{domain}: {words or 'nothing is wrong'}")
    return findings, areas


def _nothing(row: dict[str, Any]) -> None:
    pass


def _area(row: dict[str, Any]) -> None:
    worst = next((one for one in SEVERITIES if any(found["severity"] == one for found in row["findings"])), "ok")
    said: Sequence[str] = row["said"] or [""]
    print(f"{_painted(worst, f'{worst:<8}')}{row['area']:<14}{said[0]}".rstrip())
    for line in said[1:]:
        print(f"{'':22}{line}")
    for finding in sorted(row["findings"], key=lambda one: SEVERITIES.index(one["severity"])):
        print(f"{'':8}{_painted(finding['severity'], finding['id'])}: {finding['what']}")
        print(f"{'':8}  why: {finding['why']}")
        first, *more = finding["fix"].split("\n")
        print(f"{'':8}  fix: {first}")
        for line in more:
            print(f"{'':8}       {line}")
    sys.stdout.flush()


def _painted(severity: str, text: str) -> str:
    colour = _COLOURS.get(severity, "green")
    return click.style(text, fg=colour) if sys.stdout.isatty() else text


def _changes(
    options: Options,
    domain: str,
    findings: Sequence[dict[str, Any]],
    before: set[tuple[str, str]] | None,
    now: set[tuple[str, str]],
) -> None:
    """What --watch says after each look: all of it at first as JSON, then what came and went."""
    if options.json:
        if before is None or before != now:
            print(json.dumps({"domain": domain, "findings": list(findings)}), flush=True)
        return
    if before is None:
        return
    clock = time.strftime("%H:%M:%S")
    tell: Callable[[str], None] = lambda text: print(f"{clock} {text}", flush=True)  # noqa: E731
    for id_, what in sorted(before - now):
        tell(f"gone  {id_}: {what}")
    for id_, what in sorted(now - before):
        tell(f"new   {id_}: {what}")
    if before != now:
        tell(f"{len(now)} left" if now else "nothing is wrong any more")
