"""A screen that is drawn again and again. rich is heavy, so this is imported where a terminal is looked at."""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from mtactl.table import width_of
from mtactl.words import Row


def redraw(draw: Callable[[Row, float, int], Iterator[str]], rows: Iterable[Row], out: TextIO) -> None:
    """One row after the other on the whole screen, until there is none, or somebody interrupts it. The last one stays
    on the screen that was there before."""
    console = Console(file=out, highlight=False, markup=False, emoji=False)
    last: list[str] = []
    try:
        with Live(console=console, auto_refresh=False, screen=True) as live:
            for row in rows:
                last = list(draw(row, time.time(), width_of(out)))
                live.update(_text(last[: _height(out)]), refresh=True)
    finally:
        out.writelines(f"{line}\n" for line in last)


def _text(lines: list[str]) -> Text:
    """Text, never markup; a title stands out."""
    shown = Text(no_wrap=True, overflow="crop")
    for line in lines:
        shown.append(f"{line}\n", style="bold" if line[:1].isupper() and line.upper() == line else "")
    return shown


def _height(out: TextIO) -> int:
    try:
        return max((os.get_terminal_size(out.fileno()).lines or 24) - 1, 3)
    except OSError:
        return 23
