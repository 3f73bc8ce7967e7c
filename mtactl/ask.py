"""Asking before something is done: the beginning of what it is about, how many it is, and a question."""

import sys
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import Any

import click

from mtactl import render
from mtactl.words import age
from mtad.control.operation import Operation


def sure(operation: Operation, given: Mapping[str, object], preview: Callable[[], Iterator[dict[str, Any]]]) -> bool:
    """`preview` gives the rows of a dry run of what was `given`. True also when there is nothing to lose: the answer
    will say so."""
    rows = list(preview())
    count = next((row["would_change"] for row in rows if "would_change" in row), 0)
    if not count:
        return True
    render.show(operation, (row for row in rows if "would_change" not in row), "text", sys.stderr, given=given)
    shown = sum(len(row.get("recipients", ())) for row in rows)
    sys.stderr.writelines(chain(render.left(operation, given, count, shown)))
    active = next((row["active"] for row in rows if "active" in row), 0)
    kept = next((row["trash_s"] for row in rows if "trash_s" in row), None)
    trash = f" to the trash for {_long(kept)}" if kept is not None else ""
    note = f" ({active} being delivered just now)" if active else ""
    what = "recipient" if operation.selects else operation.name.partition(".")[0]
    words = operation.name.replace(".", " ").replace("_", "-")
    if click.confirm(f"{words}: {count} {what}{'s' if count != 1 else ''}{trash}{note}. Go on?", err=True):
        return True
    print("mtactl: nothing was changed", file=sys.stderr)
    return False


def _long(seconds: float) -> str:
    days = int(seconds // 86400)
    return f"{days} day{'s' if days != 1 else ''}" if days and seconds % 86400 == 0 else age(seconds)
