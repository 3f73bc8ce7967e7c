"""The commands about sendmail as a program of this host: `sendmail explain` and `install sendmail`."""

import json
import os
import sys
from typing import Any

import click

from mtactl.base import say
from mtactl.cli import Verb, common_options, remember
from mtactl.errors import EX_OK, EX_USAGE, CallError


def explain() -> click.Command:
    def callback(words: tuple[str, ...], **given: Any) -> int:
        options = remember(**given)
        if options.root:
            os.environ["MTA_ROOT"] = options.root
        facts = explained(list(words))
        if options.json:
            print(json.dumps(facts))
        else:
            print("\n".join(_lines(facts)))
        return EX_USAGE if facts["problem"] else EX_OK

    return Verb(
        "explain",
        (("ARGS", "What a program gives to sendmail, after --."),),
        (
            "mtactl sendmail explain -- -t -i -f bounces@example.test",
            "mtactl sendmail explain -- -oem -FCron -odi root < mail",
        ),
        params=[click.Argument(["words"], nargs=-1, metavar="[--] ARGS..."), *common_options(hidden=True)],
        help="Says how sendmail understands each argument, and the envelope that follows; nothing is sent. With -t the"
        " header is read from standard input, if that is no terminal. Exits with 64 when sendmail would refuse.",
        callback=callback,
    )


def explained(words: list[str]) -> dict[str, Any]:
    """What sendmail makes of these arguments."""
    from mtactl.submit.base import Failure, Places, Voice
    from mtactl.submit.mail import Mail, asked, envelope_sender
    from mtactl.submit.options import UsageError, named, read

    argv = ["sendmail", *words]
    options, voice, places = named(argv), Voice(), Places()
    voice.quiet = True
    facts: dict[str, Any] = {"mode": "", "arguments": [], "envelope": None, "problem": ""}
    try:
        read(options, argv)
        if options.mode == "send":
            fields = _fields() if options.scan_headers else []
            if options.scan_headers and not fields and not options.recipients:
                recipients = list[str]()
            else:
                recipients, _ = asked(options, fields, voice)
            mail = Mail(options, envelope_sender(options), recipients, b"", iter(()), whole=False)
            facts["envelope"] = {
                "sender": mail.sender,
                "recipients": recipients,
                "from_header": options.scan_headers,
                "commands": [line.decode("utf-8", "replace").rstrip() for line in (mail.mail, *mail.rcpts)],
                "socket": places.submit,
                "maildrop": "" if os.environ.get("MTA_SENDMAIL_STRICT") == "1" else places.maildrop,
            }
    except (UsageError, Failure) as error:
        facts["problem"] = str(error)
    facts["mode"] = options.mode
    facts["arguments"] = [
        {"argument": written, "standing": standing, "meaning": meaning} for written, standing, meaning in options.heard
    ]
    facts["warnings"] = [*options.warnings, *voice.said]
    return facts


def _fields() -> list[tuple[bytes, bytes]]:
    """The header on standard input; none of a terminal."""
    if sys.stdin is None or sys.stdin.isatty():
        return []
    from mtactl.submit.mail import HELD
    from mtactl.submit.mail import read as read_mail
    from mtactl.submit.text import Lines, field_name, head_and_body

    fields, _, _ = head_and_body(read_mail(Lines(dots=True), HELD))
    return [(field_name(field), field) for field in fields]


def _lines(facts: dict[str, Any]) -> list[str]:
    from mtad.mail.text import clean

    rows = [(one["argument"], one["standing"], one["meaning"]) for one in facts["arguments"]]
    width = max((len(row[0]) for row in rows), default=0)
    shown = [f"{written:<{width}}  {standing:<8}  {meaning}" for written, standing, meaning in rows]
    if facts["problem"]:
        shown.append(f"refused: {facts['problem']}")
    shown += [f"warning: {text}" for text in facts["warnings"]]
    envelope = facts["envelope"]
    if envelope is None:
        return [clean(line, 2000) for line in [*shown, *([] if facts["problem"] else [f"mode      {facts['mode']}"])]]
    to = ", ".join(envelope["recipients"]) or "those of To, Cc and Bcc"
    more = ", and those of the header on standard input" if envelope["from_header"] and not shown else ""
    shown += [*([""] if shown else []), f"from      <{envelope['sender']}>", f"to        {to}{more}",
              f"over      {envelope['socket']}",
              f"or into   {envelope['maildrop'] or 'nothing: exit 75'}, while the daemon is down"]  # fmt: skip
    return [clean(line, 2000) for line in shown]


def install() -> click.Command:
    def callback(dry_run: bool, undo: bool, system_root: str, target: str, **given: Any) -> int:
        options = remember(**given)
        from mtactl import diversion
        from mtactl.steps import Trouble

        if os.geteuid() != 0 and system_root == "/":
            raise CallError("install sendmail changes /usr/sbin: only root can do that", 77)
        try:
            steps = diversion.plan(system_root, target or diversion.own_program(), undo=undo)
            if not options.json and not steps:
                say("nothing to do: " + ("it is not installed" if undo else "it is installed"))
            for step in steps:
                print(json.dumps({"step": str(step), "done": not dry_run}) if options.json else
                      f"{'would ' if dry_run else ''}{step}", flush=True)  # fmt: skip
                if not dry_run:
                    step.run()
        except Trouble as trouble:
            raise CallError(str(trouble), 73) from None
        return EX_OK

    return Verb(
        "sendmail",
        (),
        ("mtactl install sendmail --dry-run", "mtactl install sendmail", "mtactl install sendmail --undo"),
        params=[
            click.Option(["--dry-run"], is_flag=True, help="Show the steps, and change nothing."),
            click.Option(["--undo"], is_flag=True, help="Bring back what was there before."),
            click.Option(["--system-root"], default="/", metavar="DIR", help="Install into the system below DIR."),
            click.Option(["--target"], default="", metavar="PATH", help="Our program; by default beside mtactl."),
            *common_options(hidden=True),
        ],
        help="Makes /usr/sbin/sendmail, /usr/lib/sendmail, mailq and newaliases ours. What belongs to"
        " update-alternatives becomes a choice of it, and is chosen; --undo takes the choice out, and the best of the"
        " others takes its place. What else is there is moved aside, with dpkg-divert where there is dpkg, so that no"
        " upgrade of its package brings it back. Can be run again.",
        callback=callback,
    )
