"""Rows -> what the operator reads. The only place with columns and colour; every remote text is made safe here.

Piped, rows stream through plain columns. On a terminal a short list becomes a table of rich; tabulate makes the
formats that are asked for by name. Both are heavy, so they are imported where they are used.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, TextIO

from mtactl.fit import cut, fit
from mtad.control.operations import Operation
from mtad.mail.text import clean

Row = Mapping[str, Any]

PAGE = 200  # rows that are looked at for the width of the columns; also the most that rich gets
WIDTH_MIN = 40
CELL_MAX = 200
TTL_S = 3600  # of the records we propose: a mistake is over within the hour
FORMATS = ("plain", "simple", "grid", "rounded_grid", "github", "pipe", "orgtbl", "rst", "html", "latex", "tsv")

_PAST = {
    "queue.flush": "due now",
    "queue.hold": "held",
    "queue.release": "released",
    "queue.retry": "rescheduled",
    "queue.purge": "purged",
    "queue.restore": "restored",
    "user.import": "added",
}
_DONE = {
    "user.add": "{name}: added",
    "user.passwd": "{name}: password changed",
    "user.verify": "{name}: the password is right",
    "user.disable": "{name}: disabled",
    "user.enable": "{name}: enabled",
    "user.app_password.remove": "{name}: app password {label} removed",
}
_TITLES = {"uptime_s": "uptime", "size_bytes": "size"}
_SENTENCES = {"notes", "problems"}
_COLOURS = {"deferred": "yellow", "held": "magenta", "failed": "red", "active": "green", "trashed": "dim"}


@dataclass(frozen=True, slots=True)
class Column:
    title: str
    cell: Callable[[Row, float], object]
    right: bool = False


def age(seconds: float) -> str:
    """ "45s" "12m" "3h" "6d"."""
    seconds = max(seconds, 0.0)
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length * (2 if unit == "d" else 1):
            return f"{int(seconds // length)}{unit}"
    return f"{int(seconds)}s"


def moment(at: float | None) -> str:
    """Local time, "2026-11-22 08:05"; "-" for none."""
    return "-" if at is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(at))


def size(octets: int) -> str:
    """ "812" "4.1k" "12M"."""
    if octets < 1024:
        return str(octets)
    for unit in "kMGTPE":
        octets_f = octets / 1024
        if octets_f < 9.95:
            return f"{octets_f:.1f}{unit}"
        if octets_f < 1023.5 or unit == "E":
            return f"{octets_f:.0f}{unit}"
        octets = int(octets_f)
    return str(octets)


def show(operation: Operation, rows: Iterable[Row], style: str, out: TextIO, *, dry_run: bool = False) -> None:
    """Write the rows of an operation. `style`: "json", "text", or the name of a table format."""
    if style == "json":
        out.writelines(json.dumps(row, separators=(", ", ": ")) + "\n" for row in rows)
        return
    now = time.time()
    if operation.name == "queue.mailq":
        from mtactl.submit.queue import mailq

        out.writelines(mailq(rows))
        return
    columns = _COLUMNS.get(operation.name) or (_COLUMNS["queue.list"] if operation.selects else ())
    if style != "text":
        _named(columns or _generic(operation), _expanded(operation, rows), style, out, now)
    elif operation.name in _PAST:
        rest: list[Row] = []
        _table(columns, _expanded(operation, _but_counts(rows, rest)), out, now)
        out.writelines(_count(operation, row, dry_run=dry_run) + "\n" for row in rest)
    elif columns:
        _table(columns, _expanded(operation, rows), out, now)
    else:
        for n, row in enumerate(rows):
            out.write("\n" * (n > 0))
            out.writelines(f"{line}\n" for line in _card(operation, row, now))


def _but_counts(rows: Iterable[Row], counts: list[Row]) -> Iterator[Row]:
    for row in rows:
        if "changed" in row:
            counts.append(row)
        else:
            yield row


def _count(operation: Operation, row: Row, *, dry_run: bool) -> str:
    number = row["would_change"] if dry_run else row["changed"]
    what = "recipient" if operation.selects else operation.name.partition(".")[0]
    what = what if number == 1 else f"{what}s"
    return f"{number} {what} {'would be ' if dry_run else ''}{_PAST[operation.name]}"


def _expanded(operation: Operation, rows: Iterable[Row]) -> Iterator[Row]:
    """A message becomes a line for each recipient."""
    for row in rows:
        recipients = row.get("recipients")
        if isinstance(recipients, list):
            for recipient in recipients:
                yield {**row, **recipient}
        else:
            yield row


def _next(row: Row, now: float) -> str:
    at = row["next_attempt"]
    if at is None:
        return "-"
    return "now" if at <= now else age(at - now)


def _expires(row: Row, now: float) -> str:
    at = row.get("expires")
    return "never" if at is None else f"in {age(at - now)}"


def _client(row: Row, now: float) -> str:
    return row["client_ip"] or ("-" if row["uid"] is None else f"uid={row['uid']}")


_COLUMNS: Mapping[str, tuple[Column, ...]] = {
    "queue.list": (
        Column("ID", lambda row, now: row["id"]),
        Column("STATE", lambda row, now: row["state"]),
        Column("AGE", lambda row, now: age(now - row["arrival_time"]), right=True),
        Column("SIZE", lambda row, now: size(row["message_size"]), right=True),
        Column("TRIES", lambda row, now: row["tries"], right=True),
        Column("NEXT", _next, right=True),
        Column("FROM", lambda row, now: row["sender"] or "<>"),
        Column("TO", lambda row, now: row["address"]),
        Column("REASON", lambda row, now: row["delay_reason"]),
    ),
    "user.list": (
        Column("NAME", lambda row, now: row["name"]),
        Column("ADDED", lambda row, now: moment(row["created"])),
        Column("DISABLED", lambda row, now: row["disabled"]),
    ),
    "user.app_password.list": (
        Column("LABEL", lambda row, now: row["label"]),
        Column("ADDED", lambda row, now: moment(row["created"])),
        Column("USED", lambda row, now: moment(row["used"])),
    ),
    "user.import": (
        Column("LINE", lambda row, now: row["line"], right=True),
        Column("NAME", lambda row, now: row["name"]),
        Column("RESULT", lambda row, now: row["result"]),
        Column("PROBLEM", lambda row, now: row["problem"]),
    ),
    "dkim.list": (
        Column("DOMAIN", lambda row, now: row["domain"]),
        Column("SELECTOR", lambda row, now: row["selector"]),
        Column("ALGORITHM", lambda row, now: row["algorithm"]),
        Column("BITS", lambda row, now: row["bits"], right=True),
        Column("CREATED", lambda row, now: moment(row.get("created"))),
    ),
    **dict.fromkeys(
        ("tls.show", "tls.reload"),
        (
            Column("CERTIFICATE", lambda row, now: row["cert"]),
            Column("NAMES", lambda row, now: " ".join(row["names"]) or "-"),
            Column("EXPIRES", lambda row, now: moment(row["expires"])),
            Column("IN", lambda row, now: "over" if row["expires"] <= now else age(row["expires"] - now), right=True),
        ),
    ),
    "block.list": (
        Column("BLOCKED", lambda row, now: row["value"]),
        Column("EXPIRES", _expires),
        Column("BY", lambda row, now: row["made_by"]),
        Column("TIMES", lambda row, now: row["times"], right=True),
        Column("REASON", lambda row, now: row["reason"] or "-"),
    ),
    "session.list": (
        Column("NUMBER", lambda row, now: row["number"], right=True),
        Column("CLIENT", _client),
        Column("USER", lambda row, now: row["user"] or "-"),
        Column("AGE", lambda row, now: age(now - row["since"]), right=True),
        Column("LISTENER", lambda row, now: row["source"]),
        Column("TLS", lambda row, now: row["tls"].partition(" ")[0] or "-"),
        Column("STATE", lambda row, now: row["state"]),
        Column("MAILS", lambda row, now: row["mails"], right=True),
        Column("COMMANDS", lambda row, now: row["commands"], right=True),
        Column("ERRORS", lambda row, now: row["errors"], right=True),
        Column("HELO", lambda row, now: row["helo"] or "-"),
    ),
    "limit.show": (
        Column("SCOPE", lambda row, now: row["scope"]),
        Column("WHAT", lambda row, now: row["what"]),
        Column("COUNT", lambda row, now: row["count"], right=True),
        Column("LIMIT", lambda row, now: row["limit"] or _expires(row, now)),
        Column("SETTING", lambda row, now: row["setting"]),
    ),
    "config.show": (
        Column("KEY", lambda row, now: row["key"]),
        Column("VALUE", lambda row, now: row["value"]),
    ),
}


def _generic(operation: Operation) -> tuple[Column, ...]:
    def cell(name: str) -> Callable[[Row, float], object]:
        return lambda row, now: _plain(row.get(name))

    return tuple(Column(name.upper(), cell(name)) for name, _ in operation.row)


def _plain(value: object) -> str:
    match value:
        case None | "":
            return "-"
        case bool():
            return "yes" if value else "no"
        case list():
            return ", ".join(_plain(one) for one in value) or "-"
        case dict():
            return " ".join(_plain(one) for one in value.values())
        case _:
            return str(value)


def _cells(columns: Sequence[Column], row: Row, now: float) -> list[str]:
    return [clean(str(column.cell(row, now)), CELL_MAX) for column in columns]


def _table(columns: Sequence[Column], rows: Iterable[Row], out: TextIO, now: float) -> None:
    """Aligned columns. The first page sets the widths, so that any number of rows streams through."""
    if not columns:
        return
    lines = (_cells(columns, row, now) for row in rows)
    first = list(islice(lines, PAGE + 1))
    if not first:
        return
    width = _width(out)
    titles = [column.title for column in columns]
    widths = [max(map(len, cells)) for cells in zip(titles, *first, strict=True)]
    if out.isatty():
        plan = fit(titles, widths, width)
        columns, widths = [columns[index] for index, _ in plan], [wide for _, wide in plan]
        fitted: Iterator[list[str]] = (
            [cut(cells[index], wide) for index, wide in plan] for cells in chain([titles], first, lines)
        )
        if len(first) <= PAGE:
            _rich(columns, list(fitted), out, width)
            return
    else:
        fitted = chain([titles], first, lines)
    for cells in fitted:
        fields = [
            cell.rjust(wide) if column.right else cell.ljust(wide)
            for cell, wide, column in zip(cells, widths, columns, strict=True)
        ]
        line = "  ".join(fields).rstrip()
        out.write(f"{line if len(line) <= width else line[: width - 3] + '...'}\n")


def _width(out: TextIO) -> int:
    """COLUMNS, or the terminal's width; a pipe has no end."""
    given = os.environ.get("COLUMNS", "")
    if given.isdigit() and int(given) > 0:
        return max(int(given), WIDTH_MIN)
    if out.isatty():
        try:
            return max(os.get_terminal_size(out.fileno()).columns, WIDTH_MIN)
        except OSError:
            return 80
    return sys.maxsize


def _rich(columns: Sequence[Column], lines: Sequence[Sequence[str]], out: TextIO, width: int) -> None:
    """The lines, their titles first, in colour."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        # A setting is shown in full.
        wraps = column.title == "VALUE"
        table.add_column(
            Text(column.title), justify="right" if column.right else "left", no_wrap=not wraps, overflow="fold"
        )
    for cells in lines[1:]:
        # Text, never markup: a remote's "[red]" is three letters in brackets.
        table.add_row(*(Text(cell, style=_COLOURS.get(cell, "")) for cell in cells))
    Console(file=out, highlight=False, markup=False, emoji=False, width=width).print(table)


def _named(columns: Sequence[Column], rows: Iterable[Row], style: str, out: TextIO, now: float) -> None:
    from tabulate import tabulate

    lines = [_cells(columns, row, now) for row in rows]
    # Look-alikes stay what they are: a queue id "1e5" is no number.
    out.write(tabulate(lines, [column.title for column in columns], tablefmt=style, disable_numparse=True) + "\n")


def _card(operation: Operation, row: Row, now: float) -> Iterator[str]:
    if operation.name == "queue.show":
        yield from _message(row, now)
    elif "record" in row:
        yield from _record(row)
    elif "would_change" in row or "changed" in row:
        yield f"{row['name']} {'would be' if 'would_change' in row else 'is'} removed"
    elif operation.name in {"block.add", "block.remove"}:
        until = f" until {moment(row['expires'])}" if row["expires"] is not None else ""
        yield f"{row['value']}: {f'blocked{until}' if operation.name == 'block.add' else 'not blocked any more'}"
    elif operation.name == "session.close":
        yield f"session {row['number']} is closed"
    elif operation.name in _DONE:
        yield _DONE[operation.name].format(**row)
    elif operation.name == "user.app_password.add":
        yield str(row["password"])
    elif operation.name in {"user.grant", "user.revoke"}:
        yield f"{clean(row['name'])} may also send as: {clean(', '.join(row['senders']) or '-', 2000)}"
    elif operation.name == "user.show":
        yield from _user(row)
    else:
        yield from _pairs([pair for name, value in row.items() for pair in _facts(name, value, now)])


def _user(row: Row) -> Iterator[str]:
    facts = [
        ("name", row["name"]),
        ("added", moment(row["created"])),
        ("disabled", row["disabled"]),
        ("receives only", "yes" if row["receive_only"] else ""),
        ("password", f"{row['scheme']}{', SCRAM' if row['scram'] else ''}"),
        ("messages", f"{row['messages']} of {row['messages_per_day'] or 'any number'} within 24 hours"),
        ("new recipients", f"{row['new_recipients']} of {row['new_recipients_per_day'] or 'any number'}"),
        *_lines("also sends as", row["senders"]),
        *_lines("certificates", row["certificates"]),
        *_lines("app passwords", [f"{one['label']} (used {moment(one['used'])})" for one in row["app_passwords"]]),
    ]
    yield from _pairs([(name, value) for name, value in facts if value])


def _lines(title: str, values: Sequence[str]) -> list[tuple[str, str]]:
    return list(zip([title] + [""] * (len(values) - 1), values, strict=True)) if values else []


def _pairs(pairs: Sequence[tuple[str, str]], indent: str = "") -> Iterator[str]:
    width = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        yield f"{indent}{clean(name)}{':' if name else ' '}{'':<{width - len(name)}} {clean(value, 2000)}"


def _facts(name: str, value: object, now: float) -> list[tuple[str, str]]:
    """What a card says of a member: sentences have a line each."""
    title = _TITLES.get(name, name)
    if name in _SENTENCES and isinstance(value, list) and value:
        return list(zip([title] + [""] * (len(value) - 1), map(str, value), strict=True))
    return [(title, _fact(name, value, now))]


def _fact(name: str, value: object, now: float) -> str:
    match name, value:
        case ("uptime_s", int() | float() as seconds):
            return age(seconds)
        case ("oldest", int() as at):
            return f"{moment(at)} ({age(now - at)})"
        case ("size_bytes", int() as octets):
            return size(octets)
        case ("domains", list() as many) if many and isinstance(many[0], dict):
            return ", ".join(f"{one['domain']} {one['recipients']}" for one in many)
        case _:
            return _plain(value)


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
    ]
    yield from _pairs([(name, value) for name, value in facts if value])
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
        ]
        yield from _pairs([(name, value) for name, value in facts if value], "  ")
        for attempt in row["attempts"]:
            if attempt["id"] == recipient["id"]:
                yield "  " + clean(_attempt(attempt), 2000)


def _uid(row: Row) -> str:
    return "" if row["uid"] is None else f"uid={row['uid']}"


def _next_words(recipient: Row, now: float) -> str:
    at = recipient["next_attempt"]
    return "" if at is None else "now" if at <= now else f"{moment(at)} (in {age(at - now)})"


def _attempt(attempt: Row) -> str:
    said = " ".join(str(word) for word in (attempt["code"], attempt["status"], attempt["text"]) if word)
    tls = f" ({attempt['tls']})" if attempt["tls"] else ""
    started = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(attempt["started"]))
    return f"{started}  {attempt['took_s']:.2f}s  {attempt['relay'] or '-'}{tls}  {said}"


def _record(row: Row) -> Iterator[str]:
    """The TXT record as zone files have it: strings of at most 255 octets."""
    value = str(row["record"])
    strings = " ".join(f'"{value[at : at + 255]}"' for at in range(0, len(value), 255))
    yield clean(f"; {row['algorithm']} {row['bits']} bits, {row['path']}")
    yield clean(f"{row['name']}. {TTL_S} IN TXT ( {strings} )", 2000)
