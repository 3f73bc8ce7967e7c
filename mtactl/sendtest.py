"""`mtactl send-test`: a real mail, judged as its receiver would before it leaves, and followed to its end."""

import json
import sys
import time
from base64 import b64decode
from collections.abc import Iterator
from typing import Any

import click

from mtactl.base import Options, say
from mtactl.cli import Verb, common_options, remember
from mtactl.errors import EX_INTERRUPTED, EX_OK, EX_TEMPFAIL, EX_UNAVAILABLE, EX_USAGE, CallError
from mtactl.perform import call
from mtactl.words import age, moment
from mtad.control.operation import UsageError
from mtad.control.tables import find
from mtad.mail.text import clean

HOLD_S = 600  # while it is judged; then it goes by itself, should we be interrupted
POLL_S = 0.25
OCTETS_MAX = 1 << 20


def send_test() -> click.Command:
    def callback(address: str, sender: str, timeout: str, **given: Any) -> int:
        from mtad.control import values

        options = remember(**given)
        try:
            wait_s = values.duration(timeout)
        except values.BadValue as error:
            raise UsageError("timeout", str(error)) from None
        return run(options, address, sender, wait_s)

    return Verb(
        "send-test",
        (("ADDRESS", "Who gets the mail."),),
        (
            "mtactl send-test you@example.org",
            "mtactl send-test you@example.org --from news@example.test --timeout 10m",
            "mtactl send-test you@example.org --json",
        ),
        params=[
            click.Argument(["address"], metavar="ADDRESS"),
            click.Option(["--from", "sender"], default="", metavar="ADDRESS", help="The sender; postmaster of the first"
                         " domain when it is not given."),
            click.Option(["--timeout"], default="2m", metavar="AGE", help="Follow it at most that long.  [2m]"),
            *common_options(hidden=True),
        ],
        help="Sends a real mail. Before it leaves, its stored octets are judged as a receiver would: SPF of each"
        " address of this host, its signatures against DNS, DMARC. Then each try is shown as it happens. Exits with 0"
        " when it was delivered, 69 when it failed, 75 when it still waits at the end of the time.",
        short_help="Send a mail and follow it",
        callback=callback,
    )  # fmt: skip


def run(options: Options, address: str, sender: str, wait_s: float) -> int:
    from mtactl.local import settings
    from mtactl.posting import by_socket, compose
    from mtad.doctor.receiver import predict, words

    config = settings(options.root)
    recipient = _address(address, "ADDRESS")
    sender = _address(sender, "--from") if sender else f"postmaster@{config.domains[0]}"
    if next(_rows("status", options), None) is None:
        raise CallError("the daemon says nothing", EX_TEMPFAIL)
    octets, message_id = compose(
        sender,
        recipient,
        config.hostname,
        f"Test of {config.hostname}",
        f"A test mail of {config.hostname}. If you can read it, mail of this host arrives.",
    )
    queue_id, held = by_socket(config.paths.submit, sender, recipient, octets, hold_s=HOLD_S)
    show = _Show(options)
    show.accepted(queue_id, sender, recipient, message_id)
    if held:
        try:
            stored = b"".join(b64decode(row["octets"]) for row in _rows("queue.body", options, id=queue_id))
            head = stored.partition(b"\r\n\r\n")[0]
            show.head(head)
            found = predict(config, stored[:OCTETS_MAX], sender)
            show.verdicts(words(found), good=found.good)
        except CallError as failure:
            say(f"what a receiver would say is not known: {failure.text}")
        except KeyboardInterrupt:
            say(f"{queue_id} leaves within {age(HOLD_S)}; to stop it: mtactl queue purge {queue_id}")
            return EX_INTERRUPTED
        list(_rows("queue.flush", options, ids=[queue_id]))
    else:
        say("limits.hold_max is 0, so it could not be held back and judged before")
    return _follow(options, show, queue_id, wait_s)


def _follow(options: Options, show: "_Show", queue_id: str, wait_s: float) -> int:
    """Each try as it ends, until there is an outcome or the time is over."""
    end, told = time.monotonic() + wait_s, 0
    while True:
        row = next(_rows("queue.show", options, ids=[queue_id]), None)
        if row is None:
            raise CallError(f"{queue_id} is not known any more", EX_UNAVAILABLE)
        for attempt in row["attempts"][told:]:
            show.attempt(attempt)
        told = len(row["attempts"])
        recipients = row["recipients"]
        states = {one["state"] for one in recipients}
        if states <= {"done", "failed", "trashed"}:
            done = states == {"done"}
            show.outcome("delivered" if done else "failed", _reasons(recipients, done=done), None)
            return EX_OK if done else EX_UNAVAILABLE
        if time.monotonic() >= end:
            show.outcome("deferred" if told else "waiting", _reasons(recipients, done=False), row["next_attempt"])
            if not options.json:
                say(f"it is tried on; follow it: mtactl queue wait {queue_id} --timeout 1h")
            return EX_TEMPFAIL
        time.sleep(POLL_S)


def _reasons(recipients: list[dict[str, Any]], *, done: bool) -> str:
    return "" if done else "; ".join(dict.fromkeys(one["delay_reason"] for one in recipients if one["delay_reason"]))


def _rows(verb: str, options: Options, /, **arguments: Any) -> Iterator[dict[str, Any]]:
    operation = find(verb)
    assert operation is not None, verb
    return call(operation, options, arguments)


def _address(given: str, name: str) -> str:
    from mtad.mail import address as addresses

    try:
        if "@" not in given:
            raise addresses.AddressError("it has no domain")
        return addresses.parse(given, utf8=True)
    except addresses.AddressError as error:
        raise CallError(f"{name}: {clean(given, 60)!a} is no mail address: {error}", EX_USAGE) from None


class _Show:
    """What is told on the way: lines, or an object each."""

    def __init__(self, options: Options) -> None:
        self._json = options.json

    def _row(self, step: str, **members: Any) -> None:
        if self._json:
            print(json.dumps({"step": step, **members}), flush=True)

    def _line(self, text: str = "") -> None:
        if not self._json:
            print(clean(text, 2000), flush=True)

    def accepted(self, queue_id: str, sender: str, recipient: str, message_id: str) -> None:
        self._row("accepted", queue_id=queue_id, sender=sender, recipient=recipient, message_id=message_id)
        self._line(f"{queue_id}  from {sender} to {recipient}")

    def head(self, head: bytes) -> None:
        text = head.decode("utf-8", "replace")
        self._row("head", head=text)
        self._line()
        self._line("The header as it is sent:")
        for line in text.replace("\t", "    ").split("\r\n"):
            self._line(f"  {line}")

    def verdicts(self, found: list[tuple[str, str, str]], *, good: bool) -> None:
        self._row(
            "verdicts", good=good, verdicts=[dict(zip(("check", "result", "why"), one, strict=True)) for one in found]
        )
        self._line()
        self._line("A receiver would find:")
        for what, verdict, why in found:
            self._line(f"  {what:<6} {verdict:<10} {why}")
        if not good:
            self._line("  Such mail may be refused or taken for spam; mtactl dns check says what to publish.")
        self._line()

    def attempt(self, one: dict[str, Any]) -> None:
        self._row("attempt", **one)
        at = time.strftime("%H:%M:%S", time.localtime(one["started"]))
        tls = f"  {one['tls']}" if one["tls"] else ""
        said = f"{one['code']} {one['status']} {one['text']}".replace("\n", " ")
        self._line(f"{at}  {one['relay'] or 'here'}{tls}  {one['took_s']:.1f}s  {said}")

    def outcome(self, outcome: str, reason: str, next_at: int | None) -> None:
        self._row("outcome", outcome=outcome, reason=reason, next_attempt=next_at)
        when = f", next try at {moment(next_at)}" if next_at is not None and outcome != "delivered" else ""
        self._line(f"{outcome}{f': {reason}' if reason else ''}{when}")
        sys.stdout.flush()
