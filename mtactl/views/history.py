"""The life of a mail, the log, and what an account did: lines that are written as they come."""

import textwrap
import time
from collections.abc import Iterable, Iterator, Mapping

from mtactl.views import View
from mtactl.words import Row, age, moment, pairs, size
from mtad.mail.text import clean

TEXT_MAX = 2000
ADVICE_WIDTH = 100
SHOWN = 8
_SUBJECT = "{:>5}  {:>5}  {:>7}  {:>5}  {:>5}  {}"
_TITLES = ("MAILS", "LEFT", "WAITING", "HELD", "TRASH")
_COUNTED = ("messages", "delivered", "waiting", "held", "trashed")


def _second(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def wrapped(lead: str, text: str, width: int) -> Iterator[str]:
    """One line, or as many as the width asks for, each as far in as the first begins."""
    text = clean(text, TEXT_MAX)
    if len(lead) + len(text) <= width:
        yield lead + text
        return
    room = max(width - len(lead), 20)
    lines = textwrap.wrap(text, room, break_on_hyphens=False) or [""]
    yield lead + lines[0]
    yield from (" " * len(lead) + line for line in lines[1:])


def _trace(rows: Iterable[Row], now: float, width: int) -> Iterator[str]:
    """A message's rows stand together, below its id."""
    last = None
    advised: set[str] = set()
    for row in rows:
        if row["queue_id"] != last:
            if last is not None:
                yield ""
            last = row["queue_id"]
            advised.clear()
            yield clean(last) or "refused at the door"
        at = "now" if row["event"] in {"now", "ends"} else _second(row["at"])
        event = row["details"].get("state", "now") if row["event"] == "now" else row["event"]
        yield from wrapped(f"  {at:<19}  {clean(event):<8}  ", row["text"] + _when(row, now), width)
        for label, name in (("to do", "advice"), ("type", "next_step")):
            said = row["details"].get(name)
            if said and said not in advised:
                advised.add(said)
                then = "then type" if label == "type" and row["details"].get("advice") else label
                yield from wrapped(f"{'':33}{then}: ", said, min(width, 33 + ADVICE_WIDTH))


def _when(row: Row, now: float) -> str:
    details = row["details"]
    if row["event"] == "ends":
        told = f"; its sender was told of the delay at {moment(details['told'])}" if details.get("told") else ""
        notice = f"; a notice to its sender at {moment(details['notice'])}" if details.get("notice") else ""
        return f" {moment(details['expires'])}{notice or told}"
    if row["event"] != "now":
        return ""
    at, then = details.get("not_before"), details.get("then", "")
    if at is None:
        return f"; next try {then}" if then else ""
    when = f"not before {moment(at)}" if details.get("shut") else moment(at)
    after = f", {then}" if then else ""
    return f"; next try {when} (in {age(at - now)}){after}; tried {details['tries']}x"


def _log(rows: Iterable[Row], now: float, width: int) -> Iterator[str]:
    for row in rows:
        yield clean(f"{_second(row['at'])} {row['text']}", TEXT_MAX)


def _incident(row: Row, now: float) -> Iterator[str]:
    who = " ".join(f"{name} {row[name]}" for name in ("user", "ip") if row[name])
    sent = f"{row['messages']} messages, {size(row['size_bytes'])}, to {row['recipients']} recipients"
    facts = [
        ("about", who),
        ("since", f"{moment(row['since'])} ({age(now - row['since'])})"),
        ("account", _account(row)),
        ("accepted", f"{sent} at {row['domains']} domains" if row["messages"] else "nothing"),
        ("first, last", f"{_second(row['first'])}, {_second(row['last'])}" if row["first"] else ""),
        ("left", f"{row['delivered']} recipients got it, {row['failed']} failed" if row["messages"] else ""),
        (
            "still here",
            f"{row['waiting']} wait, {row['held']} held, {row['trashed']} in the trash" if row["messages"] else "",
        ),
        ("from", _counts(row["clients"], "ip")),
        ("users", _counts(row["users"], "user")),
        ("senders", _counts(row["senders"], "sender")),
        ("sign-ins", f"{row['sign_ins']} good, {row['sign_ins_failed']} failed"),
        ("passwords", ", ".join(f"{one['label']} (used {moment(one['used'])})" for one in row["app_passwords"])),
        ("certificates", ", ".join(row["certificates"])),
    ]
    yield from pairs([(name, value) for name, value in facts if value])
    subjects = [_SUBJECT.format(*_TITLES, "SUBJECT")] if row["subjects"] else []
    subjects += [
        _SUBJECT.format(*(one.get(name, 0) for name in _COUNTED), one["subject"]) for one in row["subjects"][:SHOWN]
    ]
    for title, lines in (("subjects", subjects), ("what to type next", row["next"])):
        if lines:
            yield ""
            yield f"{title}:"
            yield from (f"  {clean(line, TEXT_MAX)}" for line in lines)


def _account(row: Row) -> str:
    if row["user"] and not row.get("known", True):
        return "there is none of this name"
    return f"disabled: {row['disabled']}" if row["disabled"] else ""


def _counts(counted: Iterable[Row], name: str) -> str:
    return ", ".join(f"{one[name] or ('<>' if name == 'sender' else '-')} {one['messages']}x" for one in counted)


VIEWS: Mapping[str, View] = {
    "trace": View(lines=_trace),
    "log": View(lines=_log),
    "incident.report": View(card=_incident),
}
