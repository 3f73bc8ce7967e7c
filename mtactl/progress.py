"""How far long work is, or for how long it goes on: one line on the standard error of a terminal, which is wiped in the
end."""

import sys
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

T = TypeVar("T")

SHOWN_EVERY_S = 0.2
WORKING_S = 1.0


class Progress:
    """`word` says what was done with so many of `total`, 0 when nobody knows; `words` writes a number of them."""

    def __init__(self, word: str, total: int, words: Callable[[int], str] = str) -> None:
        self._word, self._total, self._words = word, total, words
        self._done = 0
        self._shown_at = time.monotonic()
        self._show = sys.stderr is not None and sys.stderr.isatty()
        self._drawn = False

    def add(self, number: int) -> None:
        self.set(self._done + number, self._total)

    def set(self, done: int, total: int) -> None:
        self._done, self._total = done, total
        now = time.monotonic()
        if self._show and now - self._shown_at >= SHOWN_EVERY_S:
            self._shown_at, self._drawn = now, True
            part = f"{min(100 * done // total, 100)} %, " if total else ""
            of = f" of {self._words(total)}" if total else ""
            sys.stderr.write(f"\r{part}{self._words(done)}{of} {self._word}\x1b[K")
            sys.stderr.flush()

    def end(self) -> None:
        """Wipe it: something else is written now. It comes back when there is more."""
        if self._drawn:
            self._drawn = False
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def working(rows: Iterator[T], every_s: float = WORKING_S) -> Iterator[T]:
    """The rows. Until the first of them comes, which may be all there is, a terminal is told for how long."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield from rows
        return
    import threading

    began, over = time.monotonic(), threading.Event()

    def tell() -> None:
        words = ""
        while not over.wait(every_s):
            words = f"working, {time.monotonic() - began:.0f}s"
            sys.stderr.write(f"{words}\x1b[K\r")  # the cursor stays in front: what is said now stands over it
            sys.stderr.flush()
        if words:
            sys.stderr.write("\x1b[K")
            sys.stderr.flush()

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        first = next(rows, None)
    finally:
        over.set()
        teller.join()
    if first is not None:
        yield first
        yield from rows
