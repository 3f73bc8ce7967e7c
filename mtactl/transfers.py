"""`mtactl queue export` and `mtactl queue import`: the steps of a transfer in their order, over a pipe."""

import json
import os
import re
import select
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import IO, Any

import click

from mtactl import apart
from mtactl.base import Options, say
from mtactl.cli import Verb, common_options, option, remember
from mtactl.errors import EX_DATAERR, EX_NOTHING, EX_OK, EX_TEMPFAIL, EX_USAGE, CallError
from mtad.control.operation import SELECTOR

PART_BYTES = 384 * 1024
LINE_MAX_BYTES = 16 << 20  # as the daemon takes it
ANSWER_S = 600.0  # storing a large queue takes its time
_HEADER = re.compile(rb'\{"mtad_transfer":\d+,"id":"([0-9a-f]{12})"')


def export() -> click.Command:
    def callback(resume: str, abort: str, confirm: str, to_command: str, **given: Any) -> int:
        options = remember(**given)
        selected = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in given.items()
            if name not in Options.__slots__ and value not in (None, False, (), "")
        }
        if sum(bool(word) for word in (resume, abort, confirm, selected)) != 1:
            raise CallError("say what to export, or one of --resume, --abort and --confirm", EX_USAGE)
        if abort:
            done = _one(options, "transfer.abort", {"id": abort})
            _tell(options, done, f"transfer {abort} is aborted: {done['recipients']} recipients are in the queue again")
            return EX_OK
        if confirm:
            return _confirm(options, confirm, sys.stdout.buffer)
        if not to_command and sys.stdout.isatty():
            raise CallError("what is exported is not for a terminal: pipe it, or say --to-command", EX_USAGE)
        if selected:
            resume = _one(options, "transfer.begin", selected)["id"]
            say(f"transfer {resume}: the mail is out of this queue; mtactl queue export --abort {resume} puts it back")
        return _to_command(options, resume, to_command) if to_command else _to_pipe(options, resume)

    return Verb(
        "export",
        (("ID...", next(param.help for param in SELECTOR if param.positional)),),
        (
            "mtactl queue export --all --to-command 'ssh other.example.test mtactl queue import'",
            "mtactl queue export --domain example.com | ssh other.example.test mtactl queue import",
            "mtactl queue export --confirm RECEIPT | ssh other.example.test mtactl queue import",
            "mtactl queue export --resume 0123456789ab --to-command 'ssh other.example.test mtactl queue import'",
            "mtactl queue export --abort 0123456789ab",
        ),
        params=[
            click.Argument(["ids"], nargs=-1, metavar="[ID...]"),
            *(option(param) for param in SELECTOR if not param.positional),
            click.Option(
                ["--to-command"], default="", metavar="COMMAND", help="Pipe it there, and confirm the receipt."
            ),
            click.Option(["--confirm"], default="", metavar="RECEIPT", help="Let go of what the other host received."),
            click.Option(["--resume"], default="", metavar="TRANSFER", help="Send a transfer again that was cut off."),
            click.Option(["--abort"], default="", metavar="TRANSFER", help="Put the mail back into this queue."),
            *common_options(hidden=True),
        ],
        help="Moves mail to another host's queue, with ids, times, attempts and DSN options. It leaves this queue"
        " before its first octet is sent, and becomes active there once this host has confirmed the receipt: it is"
        " never active on both. What is cut off can be resumed, or aborted until it is confirmed. (docs/recovery.md)",
        callback=callback,
    )


def import_() -> click.Command:
    def callback(activate: str, discard: str, **given: Any) -> int:
        options = remember(**given)
        if activate and discard:
            raise CallError("say --activate or --discard", EX_USAGE)
        if activate:
            return _activate(options, activate)
        if discard:
            done = _one(options, "transfer.discard", {"id": discard})
            _tell(options, done, f"transfer {discard} is forgotten")
            return EX_OK
        if sys.stdin.isatty():
            raise CallError("pipe into it what `mtactl queue export` prints", EX_USAGE)
        return _take(options, sys.stdin.buffer)

    return Verb(
        "import",
        (),
        (
            "ssh old.example.test mtactl queue export --all | mtactl queue import",
            "mtactl queue import --activate CONFIRMATION",
            "mtactl queue import --discard 0123456789ab",
        ),
        params=[
            click.Option(["--activate"], default="", metavar="CONFIRMATION", help="Put what came into the queue."),
            click.Option(["--discard"], default="", metavar="TRANSFER", help="Forget what was received."),
            *common_options(hidden=True),
        ],
        help="Takes what `queue export` of another host prints. The mail is stored and not active; the receipt is"
        " printed. When the other host confirms it, on the same pipe or a later one, the mail is active here.",
        callback=callback,
    )


# --- out


def _lines(options: Options, transfer: str) -> Iterator[bytes]:
    for row in apart.rows(options, "transfer.send", {"id": transfer}):
        yield row["line"].encode() + b"\n"


def _to_pipe(options: Options, transfer: str) -> int:
    for line in _lines(options, transfer):
        sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()
    say("now give the receipt that the other host printed to: mtactl queue export --confirm RECEIPT")
    return EX_OK


def _to_command(options: Options, transfer: str, command: str) -> int:
    again = f"mtactl queue export --resume {transfer} --to-command {shlex.quote(command)}"
    state = next((row for row in apart.rows(options, "transfer.list", {}) if row["id"] == transfer), None)
    if state is None:
        raise CallError(f"there is no transfer {transfer!a} here", EX_DATAERR)
    receipt = state["receipt"] if state["state"] == "confirmed" else ""
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # the other one may go away: that is told
    words = ["/bin/sh", "-c", command]
    with subprocess.Popen(words, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        try:
            if not receipt:
                for line in _lines(options, transfer):
                    rest = memoryview(line)
                    while rest:
                        rest = rest[other.stdin.write(rest) :]
                receipt = _answer(other.stdout, "receipt: ")
            if receipt:
                _confirm(options, receipt, other.stdin)
            other.stdin.close()
            active = _answer(other.stdout, "active: ") if receipt else ""
        except BrokenPipeError:
            active = ""
            other.stdin = None
        if not active:
            other.terminate()
        code = other.wait()
    if not active:
        raise CallError(f"the other host did not take it to the end (exit {code}); go on with: {again}", EX_TEMPFAIL)
    _tell(options, {"id": transfer, "state": "confirmed"}, f"transfer {transfer} is active there")
    return EX_OK


def _answer(source: IO[bytes], word: str) -> str:
    """What the other side says behind a word; "" when it ends, or says nothing for ANSWER_S."""
    while select.select([source], [], [], ANSWER_S)[0] and (line := source.readline(1000)):
        text = line.decode("utf-8", "replace").strip()
        if text.startswith(word):
            return text.removeprefix(word)
    return ""


def _confirm(options: Options, receipt: str, out: IO[bytes]) -> int:
    done = _one(options, "transfer.confirm", {"receipt": receipt})
    out.write(json.dumps({"confirm": done["confirmation"]}).encode() + b"\n")
    out.flush()
    if out is sys.stdout.buffer:
        say("the mail is the other host's: pipe this into `mtactl queue import` there")
    return EX_OK


# --- in


def _take(options: Options, source: IO[bytes]) -> int:
    transfer, part, pending, done = "", 0, [], False
    size = 0
    while line := source.readline(LINE_MAX_BYTES + 1):
        if len(line) > LINE_MAX_BYTES:
            raise CallError("that is not what `mtactl queue export` prints: a line is too long", EX_DATAERR)
        if line.startswith(b'{"confirm"'):
            return _activate(options, str(_json(line).get("confirm", "")))
        if not transfer:
            found = _HEADER.match(line)
            if found is None:
                raise CallError("that is not what `mtactl queue export` prints", EX_DATAERR)
            transfer = found[1].decode()
        pending.append(line)
        size += len(line)
        last = line.startswith(b'{"end"')
        if size < PART_BYTES and not last:
            continue
        octets, pending, size = b"".join(pending), [], 0
        for start in range(0, len(octets), PART_BYTES):
            part += 1
            ends = last and start + PART_BYTES >= len(octets)
            row = _part(options, transfer, part, octets[start : start + PART_BYTES], last=ends)
        if last:
            done = True
            print(f"receipt: {row['receipt']}", flush=True)
            if row["state"] == "active":
                print(f"active: {transfer}", flush=True)
    if not transfer:
        raise CallError("there was nothing on standard input", EX_NOTHING)
    if not done:
        raise CallError(f"transfer {transfer} was cut off; nothing of it is in the queue here", EX_DATAERR)
    say("received, and not active: on the sending host, mtactl queue export --confirm RECEIPT")
    return EX_OK


def _part(options: Options, transfer: str, part: int, octets: bytes, *, last: bool) -> dict[str, Any]:
    from base64 import b64encode

    given = {"id": transfer, "part": part, "octets": b64encode(octets).decode(), **({"last": True} if last else {})}
    return _one(options, "transfer.receive", given)


def _activate(options: Options, confirmation: str) -> int:
    done = _one(options, "transfer.activate", {"confirmation": confirmation})
    print(json.dumps(done) if options.json else f"active: {done['id']}", flush=True)
    return EX_OK


def _json(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise CallError("that is not what `mtactl queue export` prints", EX_DATAERR)
    return found


# --- both


def _one(options: Options, name: str, given: dict[str, Any]) -> dict[str, Any]:
    return next(apart.rows(options, name, given))


def _tell(options: Options, row: dict[str, Any], text: str) -> None:
    print(json.dumps(row) if options.json else text, file=sys.stdout if os.isatty(1) or options.json else sys.stderr)
