"""Columns of text: streamed into a pipe, a table of rich on a terminal, by tabulate where a format is asked for.

rich and tabulate are heavy, so they are imported where they are used.
"""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import TextIO

from mtactl.fit import cut, fit
from mtactl.words import Row
from mtad.mail.text import clean

PAGE = 200  # rows that are looked at for the width of the columns; also the most that rich gets
WIDTH_MIN = 40
CELL_MAX = 200
FORMATS = ("plain", "simple", "grid", "rounded_grid", "github", "pipe", "orgtbl", "rst", "html", "latex", "tsv")

_COLOURS = {"deferred": "yellow", "held": "magenta", "failed": "red", "active": "green", "trashed": "dim"}


@dataclass(frozen=True, slots=True)
class Column:
    title: str
    cell: Callable[[Row, float], object]  # of a row, now
    right: bool = False


def table(columns: Sequence[Column], rows: Iterable[Row], out: TextIO, now: float) -> None:
    """Aligned columns. The first page sets the widths, so that any number of rows streams through."""
    if not columns:
        return
    rows = iter(rows)
    first = list(_cells(columns, islice(rows, PAGE + 1), now))
    if not first:
        return
    width = width_of(out)
    titles = [column.title for column in columns]
    widths = [max(map(len, cells)) for cells in zip(titles, *first, strict=True)]
    lines = chain([tuple(titles)], first, _cells(columns, rows, now))
    if out.isatty():
        plan = fit(titles, widths, width)
        columns, widths = [columns[index] for index, _ in plan], [wide for _, wide in plan]
        fitted: Iterator[tuple[str, ...]] = (
            tuple([cut(cells[index], wide) for index, wide in plan]) for cells in lines
        )
        if len(first) <= PAGE:
            _rich(columns, list(fitted), out, width)
            return
    else:
        fitted = lines
    _aligned(columns, widths, fitted, width, out)


def plain_table(columns: Sequence[Column], rows: Sequence[Row], out: TextIO, now: float, width: int) -> None:
    """The same for a few rows that are part of something else."""
    lines = [tuple(column.title for column in columns), *_cells(columns, rows, now)]
    _aligned(columns, [max(map(len, cells)) for cells in zip(*lines, strict=True)], lines, width, out)


def _aligned(
    columns: Sequence[Column], widths: Sequence[int], lines: Iterable[tuple[str, ...]], width: int, out: TextIO
) -> None:
    fields = "  ".join(f"%{'' if column.right else '-'}{wide}s" for column, wide in zip(columns, widths, strict=True))
    for cells in lines:
        line = (fields % cells).rstrip()
        out.write(f"{line if len(line) <= width else line[: width - 3] + '...'}\n")


def named(columns: Sequence[Column], rows: Iterable[Row], style: str, out: TextIO, now: float) -> None:
    from tabulate import tabulate

    lines = list(_cells(columns, rows, now))
    # Look-alikes stay what they are: a queue id "1e5" is no number.
    out.write(tabulate(lines, [column.title for column in columns], tablefmt=style, disable_numparse=True) + "\n")


def _cells(columns: Sequence[Column], rows: Iterable[Row], now: float) -> Iterator[tuple[str, ...]]:
    """A page at a time, and column by column: there may be many."""
    rows = iter(rows)
    while page := list(islice(rows, PAGE + 1)):
        yield from zip(
            *([clean(str(column.cell(row, now)), CELL_MAX) for row in page] for column in columns), strict=True
        )


def width_of(out: TextIO) -> int:
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
