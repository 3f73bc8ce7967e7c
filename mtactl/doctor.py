"""`mtactl doctor`: the whole of what a mail host needs, looked at from this host."""

import json
import os
import sys
from typing import Any

import click

from mtactl.base import Options, say
from mtactl.cli import Verb, common_options, remember
from mtactl.errors import EX_NOTHING, EX_OK, EX_USAGE, CallError


def doctor() -> click.Command:
    def callback(**given: Any) -> int:
        everything, only = given.pop("all"), tuple(given.pop("only"))
        wishes = {name: given.pop(name) for name in ("domain", "offline", "out", "backups", "self_mail", "user")}
        options = remember(**given)
        return run(options, only, everything=everything, **wishes)

    return Verb(
        "doctor",
        (),
        (
            "mtactl doctor",
            "mtactl doctor --all",
            "mtactl doctor --only dns --only tls.expiry --json",
            "mtactl doctor --self-mail --user alice@example.test",
        ),
        params=[
            click.Option(["--all"], is_flag=True, help="Show what is fine, too, and the questions in full."),
            click.Option(["--only"], multiple=True, metavar="ID", help="Only this check, or this group of them."),
            click.Option(["--domain"], default="", metavar="DOMAIN", help="Check the DNS of this domain only."),
            click.Option(["--offline"], is_flag=True, help="Ask nobody outside this host."),
            click.Option(["--out"], default="gmail.com", metavar="HOST", help="Whose port 25 to try: a domain, or"
                         " HOST:PORT.  [gmail.com]"),
            click.Option(["--backups"], default="", metavar="DIR", help="Where backups are.  [/var/backups/mtad]"),
            click.Option(["--self-mail"], is_flag=True, help="Send postmaster a mail through every listener."),
            click.Option(["--user"], default="", metavar="USER", help="With --self-mail: sign in as this user, with an"
                         " app password made for it and removed again."),
            *common_options(hidden=True),
        ],
        help="Looks at everything that the deployment checklist names and a program can see: DNS, certificates, ports,"
        " permissions, protection, machine, queue, backups, versions; and asks about the rest. Prints what is wrong,"
        " why it matters and what mends it. As root it sees most; the daemon may be down. Exits with 1 when there is"
        " an error.",
        short_help="Is this host fit to serve mail",
        callback=callback,
    )  # fmt: skip


def run(
    options: Options,
    only: tuple[str, ...],
    *,
    everything: bool,
    domain: str,
    offline: bool,
    out: str,
    backups: str,
    self_mail: bool,
    user: str,
) -> int:
    from mtad.doctor.finding import CHECKS, GROUPS, QUESTIONS, worst

    known = {*CHECKS, *GROUPS, *(one.id for one in QUESTIONS)}
    for one in only:
        if one not in known and not one.startswith("dns."):
            from difflib import get_close_matches

            close = get_close_matches(one, known, 1)
            raise CallError(f"--only: there is no check {one!a}" + (f"; {close[0]}?" if close else ""), EX_USAGE)
    from mtactl.examination import Wishes, examination
    from mtactl.local import settings

    config = settings(options.root)
    wishes = Wishes(
        only, (domain,) if domain else config.domains, offline, out, backups or os.environ.get("BACKUP_DIR", ""),
        self_mail, user,
    )  # fmt: skip
    progress = not options.json and sys.stderr.isatty()
    findings = []
    for step in examination(options, config, wishes):
        if isinstance(step, str):
            if progress:
                print(f"\r\x1b[K{step} ...", end="", file=sys.stderr, flush=True)
            continue
        findings.append(step)
        if options.json:
            row = {"id": step.id, "grade": step.grade, "what": step.what, "why": step.why, "fix": step.fix}
            print(json.dumps(row), flush=True)
    if progress:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    if not options.json:
        from mtactl.views.doctor import report

        sys.stdout.writelines(f"{line}\n" for line in report(findings, everything=everything or bool(only)))
        sys.stdout.flush()
    if not findings:
        say("there was nothing to check")
    return EX_NOTHING if worst(findings) == "error" else EX_OK
