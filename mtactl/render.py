"""Rows -> what the operator reads: JSON, a named format, or text. Every remote text is made safe on the way."""

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import TextIO

from mtactl.table import FORMATS, Column, named, table, width_of
from mtactl.views import View, view
from mtactl.words import Row, facts, pairs, plain, shut
from mtad.control.operation import Operation

__all__ = ["FORMATS", "left", "show"]

_NOTHING: Mapping[str, object] = {}


def show(
    operation: Operation, rows: Iterable[Row], style: str, out: TextIO, *,
    dry_run: bool = False, given: Mapping[str, object] = _NOTHING,
) -> None:  # fmt: skip
    """Write the rows of an operation. `style`: "json", "text", or the name of a table format. `given`: its arguments,
    as they were typed."""
    if style == "json":
        for row in rows:
            out.write(json.dumps(row, separators=(", ", ": ")) + "\n")
            if operation.live:
                out.flush()
        return
    now = time.time()
    if operation.name == "queue.mailq":
        from mtactl.submit.queue import mailq

        out.writelines(mailq(rows))
        return
    how = view(operation.name)
    if operation.name == "queue.body":
        from mtactl.views.body import write

        write(rows, out)
        return
    rows = iter(rows)
    first = next(rows, None)
    if first is None:
        rows = ()
    else:
        rows = chain([first], rows)
        told = {*first, *(f"--{name}" for name in given)}
        how = next((other for member, other in how.others if member in told), how)
    if style != "text":
        named(how.columns or _generic(operation), _expanded(rows), style, out, now)
    elif how.screen:
        screens(how.screen, rows, out)
    elif how.lines:
        for line in how.lines(rows, now, width_of(out)):
            out.write(f"{line}\n")
            if operation.live:
                out.flush()
    elif how.past:
        rest: list[Row] = []
        shown = _Counted(_expanded(_but_counts(rows, rest)))
        table(how.columns, shown, out, now)
        for row in rest:
            if shown.count:
                out.writelines(left(operation, given, row.get("would_change", 0), shown.count))
            out.write(_count(operation, how, row, dry_run=dry_run) + "\n")
    elif how.columns:
        table(how.columns, _expanded(rows), out, now)
    else:
        before = 0
        for row in rows:
            lines = list((how.card or _card)(row, now))
            out.write("\n" * (before > 0 and max(before, len(lines)) > 1))  # single lines stand together
            out.writelines(f"{line}\n" for line in lines)
            before = len(lines)


def screens(draw: Callable[[Row, float, int], Iterator[str]], rows: Iterable[Row], out: TextIO) -> None:
    """Each row in place of the one before, where a terminal can do that; else one below the other."""
    if out.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        from mtactl.screen import redraw

        redraw(draw, rows, out)
        return
    for n, row in enumerate(rows):
        out.write("\n" * (n > 0))
        out.writelines(f"{line}\n" for line in draw(row, time.time(), width_of(out)))
        out.flush()


class _Counted:
    """Rows, counted on their way."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows = iter(rows)
        self.count = 0

    def __iter__(self) -> "_Counted":
        return self

    def __next__(self) -> Row:
        row = next(self._rows)
        self.count += 1
        return row


def left(operation: Operation, given: Mapping[str, object], count: int, shown: int) -> Iterator[str]:
    """The line that says how many more there are than were shown, and what shows them."""
    if count > shown:
        from mtactl.again import listing

        command = listing(operation, given)
        yield f"... and {count - shown} more{f': {command}' if command else ''}\n"


def _but_counts(rows: Iterable[Row], counts: list[Row]) -> Iterator[Row]:
    for row in rows:
        if "changed" in row:
            counts.append(row)
        else:
            yield row


def _count(operation: Operation, how: View, row: Row, *, dry_run: bool) -> str:
    number = row["would_change"] if dry_run else row["changed"]
    what = "recipient" if operation.selects else operation.name.partition(".")[0]
    what = what if number == 1 else f"{what}s"
    return f"{number} {what} {'would be ' if dry_run else ''}{how.past}{shut(row.get('waiting', ()))}"


def _expanded(rows: Iterable[Row]) -> Iterator[Row]:
    """A message becomes a line for each recipient."""
    for row in rows:
        recipients = row.get("recipients")
        if isinstance(recipients, list):
            for recipient in recipients:
                yield {**row, **recipient}
        else:
            yield row


def _generic(operation: Operation) -> tuple[Column, ...]:
    def cell(name: str) -> Callable[[Row, float], object]:
        return lambda row, now: plain(row.get(name))

    return tuple(Column(name.upper(), cell(name)) for name, _ in operation.row)


def _card(row: Row, now: float) -> Iterator[str]:
    """All members of a row."""
    yield from pairs([pair for name, value in row.items() for pair in facts(name, value, now)])
