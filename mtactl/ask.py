"""Asking before something is done: the beginning of what it is about, how many it is, and a question."""

import sys
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

import click

from mtactl import render
from mtad.control.operation import Operation


def sure(operation: Operation, preview: Callable[[], Iterator[dict[str, Any]]]) -> bool:
    """`preview` gives the rows of a dry run. True also when there is nothing to lose: the answer will say so."""
    rows = list(preview())
    count = next((row["would_change"] for row in rows if "would_change" in row), 0)
    if not count:
        return True
    render.show(operation, (row for row in rows if "would_change" not in row), "text", sys.stderr)
    shown = sum(len(row.get("recipients", ())) for row in rows)
    sys.stderr.writelines(chain(render.left(count, shown)))
    active = next((row["active"] for row in rows if "active" in row), 0)
    note = f" ({active} being delivered just now)" if active else ""
    what = "recipient" if operation.selects else operation.name.partition(".")[0]
    words = operation.name.replace(".", " ").replace("_", "-")
    if click.confirm(f"{words}: {count} {what}{'s' if count != 1 else ''}{note}. Go on?", err=True):
        return True
    print("mtactl: nothing was changed", file=sys.stderr)
    return False
