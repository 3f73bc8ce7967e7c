"""Queue rows: one line a recipient, or everything about a message."""

import io
import textwrap
import time
from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence

from mtactl.table import Column, table
from mtactl.views import View
from mtactl.views.body import shown
from mtactl.words import Row, age, facts, moment, pairs, size, sparkline
from mtad.mail.text import clean

ADVICE_WIDTH = 80


def _next(row: Row, now: float) -> str:
    at = row.get("not_before", row["next_attempt"])
    if at is None:
        return "-"
    return "now" if at <= now else age(at - now)


def _message(row: Row, now: float) -> Iterator[str]:
    client = " ".join(word for word in (row["client_ip"], row["helo"] and f"helo={row['helo']}", row["tls"]) if word)
    facts = [
        ("id", row["queue_id"]),
        ("state", row["state"]),
        ("from", row["sender"] or "<>"),
        ("subject", row["subject"]),
        ("message-id", row["message_id"]),
        ("size", size(row["message_size"])),
        ("arrived", f"{moment(row['arrival_time'])} ({age(now - row['arrival_time'])})"),
        ("expires", moment(row["expires"])),
        ("by", " ".join(word for word in (row["source"], row["user"], _uid(row)) if word)),
        ("client", client),
        ("priority", str(row.get("priority") or "")),
        ("not before", moment(row["hold_until"]) if row.get("hold_until") else ""),
        ("deliver by", moment(row["deliver_by"]) if row.get("deliver_by") else ""),
        ("asks for", ", ".join(word for word, wanted in _wishes(row) if wanted)),
    ]
    yield from pairs([(name, value) for name, value in facts if value])
    for recipient in row["recipients"]:
        yield ""
        yield f"to {clean(recipient['address'])}"
        facts = [
            ("id", recipient["id"]),
            ("state", recipient["state"]),
            ("alias", recipient["orig_address"] if recipient["orig_address"] != recipient["address"] else ""),
            ("tries", str(recipient["tries"])),
            ("next", _next_words(recipient, now)),
            ("last", recipient["delay_reason"]),
            ("waiting", _waiting(recipient, now)),
            ("to do", recipient.get("advice", "")),
            ("then type" if recipient.get("advice") else "type", recipient.get("next_step", "")),
        ]
        yield from pairs([(name, value) for name, value in facts if value], "  ")
        said = [(one["started"], _attempt(one)) for one in row["attempts"] if one["id"] == recipient["id"]]
        said += [(one["at"], _action(one)) for one in row.get("actions", ()) if one["id"] == recipient["id"]]
        for _, line in sorted(said, key=lambda pair: pair[0]):
            yield "  " + clean(line, 2000)
    if "content" in row:
        yield from _content(row)


def _content(row: Row) -> Iterator[str]:
    """The mail, behind a margin, so that no line of it passes for one of ours."""
    yield ""
    if not row["content"]:
        yield "the mail itself is not kept any more"
        return
    for line in b64decode(row["content"]).removesuffix(b"\n").split(b"\n"):
        yield f"| {shown(line)}".rstrip()
    if row["content_left"]:
        yield f"... and {row['content_left']} octets more: mtactl queue body {row['queue_id']}"


def _wishes(row: Row) -> list[tuple[str, object]]:
    ret, envid = row.get("ret"), row.get("envid")
    return [
        (f"{row.get('body')} content", row.get("body") not in (None, "7BIT")),
        ("SMTPUTF8", row.get("smtputf8")),
        ("REQUIRETLS", row.get("requiretls")),
        (f"reports with {'all of it' if ret == 'FULL' else 'its header'}", ret),
        (f"reports for {envid}", envid),
    ]


def _outcome(row: Row, now: float) -> Iterator[str]:
    yield f"{row['queue_id']} {row['outcome']}"
    for recipient in row["recipients"]:
        said = f"  {recipient['delay_reason']}" if recipient["delay_reason"] else ""
        yield clean(f"  {recipient['state']:<8}  {recipient['address']}{said}", 2000)


def _uid(row: Row) -> str:
    return "" if row["uid"] is None else f"uid={row['uid']}"


def _next_words(recipient: Row, now: float) -> str:
    at, then = recipient.get("not_before", recipient["next_attempt"]), recipient.get("then", "")
    if at is None or at <= now:
        return then or ("" if at is None else "now")
    return f"{'not before ' if then else ''}{moment(at)} (in {age(at - now)}){f', {then}' if then else ''}"


def _waiting(recipient: Row, now: float) -> str:
    words, until = recipient.get("waiting", ""), recipient.get("waiting_until")
    if recipient.get("then") or not until or until <= now:  # the time of the next try says more
        return str(words)
    return f"{words} (until {moment(until)}, in {age(until - now)})"


def _reason(row: Row, now: float) -> str:
    """What was said, without who it was: there is little room for it."""
    before, said, after = row["delay_reason"].partition(" said: ")
    return after if said and before.startswith("host ") and before.count(" ") == 1 else str(row["delay_reason"])


def _attempt(attempt: Row) -> str:
    said = " ".join(str(word) for word in (attempt["code"], attempt["status"], attempt["text"]) if word)
    tls = f" ({attempt['tls']})" if attempt["tls"] else ""
    return f"{_second(attempt['started'])}  {attempt['took_s']:.2f}s  {attempt['relay'] or '-'}{tls}  {said}"


def _stats(row: Row, now: float) -> Iterator[str]:
    """The counts, then the groups as a table: the oldest open one, and for an error what to do."""
    yield from pairs(
        [
            pair
            for name, value in row.items()
            if name not in ("by", "groups", "last_day")
            for pair in facts(name, value, now)
        ]
    )
    yield from _last_day(row.get("last_day", ()))
    if not row["by"]:
        return
    yield ""
    if not row["groups"]:
        yield "no recipient is open or failed" if row["by"] != "error" else "no recipient had an error"
        return
    columns = (
        Column(row["by"].upper(), lambda group, now: group[row["by"]] or "-"),
        Column("OPEN", lambda group, now: group["open"], right=True),
        Column("OLDEST", lambda group, now: "-" if group["oldest"] is None else age(now - group["oldest"]), right=True),
        Column("FAILED", lambda group, now: group["failed"], right=True),
    )
    out = io.StringIO()
    table(columns, row["groups"], out, now)
    yield from out.getvalue().splitlines()
    if row["by"] == "error":
        yield ""
        for group in row["groups"]:
            yield from textwrap.wrap(f"{group['error']}: {group['advice']}", ADVICE_WIDTH, subsequent_indent="  ")


def _last_day(counted: Sequence[Row]) -> Iterator[str]:
    """A line for each name: half an hour a character, as high as there was much, against the most of it."""
    if not any(one["total"] for one in counted):
        return
    yield ""
    yield "last 24 hours:"
    width = max(len(str(one["total"])) for one in counted)
    for one in counted:
        yield f"  {one['name']:<9}  {one['total']:>{width}}  {sparkline(one['half_hours'])}".rstrip()


def _action(action: Row) -> str:
    """What an operator did, in the line of what was tried."""
    operation = action["operation"].replace(".", " ").replace("_", "-")
    reason = f": {action['reason']}" if action["reason"] else ""
    before = f", from {action['address_before']}" if action["address_before"] else ""
    return f"{_second(action['at'])}  {operation} by {action['who'] or '-'}{reason} (audit {action['audit']}{before})"


def _second(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def _totals(row: Row, now: float) -> Iterator[str]:
    count, messages = row["count"], row["messages"]
    oldest = f", the oldest {age(now - row['oldest'])} old" if row["oldest"] is not None else ""
    yield (
        f"{count} recipient{'s' if count != 1 else ''} in {messages} message{'s' if messages != 1 else ''},"
        f" {size(row['size_bytes'])}{oldest}"
    )


def _conditions(row: Row, now: float) -> str:
    return " ".join(f"--{name} {row[name]}" for name in ("from", "to", "domain", "user", "ip") if row[name])


def _until(row: Row, now: float) -> str:
    return "-" if row["expires"] is None else "over" if row["expires"] <= now else f"in {age(row['expires'] - now)}"


def _rule(row: Row, now: float) -> Iterator[str]:
    until = "" if row["expires"] is None else f" until {moment(row['expires'])}"
    yield clean(f"hold rule {row['number']}: mail {_conditions(row, now)} is held{until}", 2000)


def _rule_removed(row: Row, now: float) -> Iterator[str]:
    number = row["number"]
    yield f"hold rule {number} is removed; what it held: `mtactl queue list --audit {number}`"


GROUPS = View(
    (
        Column("COUNT", lambda row, now: row["count"], right=True),
        Column("MESSAGES", lambda row, now: row["messages"], right=True),
        Column("SIZE", lambda row, now: size(row["size_bytes"]), right=True),
        Column("OLDEST", lambda row, now: age(now - row["oldest"]), right=True),
        Column("GROUP", lambda row, now: row["group"] or ("<>" if row["by"] == "sender" else "-")),
    )
)
LIST = (
    Column("ID", lambda row, now: row["id"]),
    Column("STATE", lambda row, now: row["state"]),
    Column("AGE", lambda row, now: age(now - row["arrival_time"]), right=True),
    Column("SIZE", lambda row, now: size(row["message_size"]), right=True),
    Column("TRIES", lambda row, now: row["tries"], right=True),
    Column("NEXT", _next, right=True),
    Column("FROM", lambda row, now: row["sender"] or "<>"),
    Column("TO", lambda row, now: row["address"]),
    Column("REASON", _reason),
)

_SUBJECT = Column("SUBJECT", lambda row, now: row["subject"])
_BY_SUBJECT = (*LIST[:-1], _SUBJECT, LIST[-1])


def _changing(past: str) -> View:
    return View(_BY_SUBJECT, past=past)


def _ending(past: str) -> View:
    """Of a verb that takes mail away or brings it back, whatever kept it in the queue: what it is says its subject."""
    return View((*LIST[:-1], _SUBJECT), past=past)


VIEWS: Mapping[str, View] = {
    "queue.list": View(
        LIST,
        others=(
            ("group", GROUPS),
            ("count", View(card=_totals)),
            *((asked, View(_BY_SUBJECT)) for asked in ("--subject", "--not_subject", "--user", "--audit")),
        ),
    ),
    "queue.show": View(card=_message),
    "queue.stats": View(card=_stats),
    "queue.flush": _changing("due now"),
    "queue.hold": _changing("held"),
    "queue.release": _changing("released"),
    "queue.retry": _changing("rescheduled"),
    "queue.purge": _ending("purged"),
    "queue.restore": _ending("restored"),
    "queue.wait": View(card=_outcome),
    "queue.bounce": _ending("returned to the sender"),
    "queue.redirect": _changing("redirected"),
    "queue.hold_rule.list": View(
        (
            Column("NUMBER", lambda row, now: row["number"], right=True),
            Column("MAIL", _conditions),
            Column("EXPIRES", _until),
            Column("BY", lambda row, now: row["made_by"] or "-"),
            Column("MADE", lambda row, now: moment(row["created"])),
            Column("REASON", lambda row, now: ("frozen: " if row["freezes"] else "") + (row["reason"] or "-")),
        )
    ),
    "queue.hold_rule.add": View(card=_rule),
    "queue.hold_rule.remove": View(card=_rule_removed),
}
