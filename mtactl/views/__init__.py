"""How the rows of each operation look, a module for each group of verbs; loaded when a row of it is shown."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module

from mtactl.table import Column
from mtactl.words import Row

_MODULES = {
    "queue": "queue",
    "user": "user",
    "dkim": "dkim",
    "dns": "dkim",
    "tls": "tls",
    "block": "guard",
    "session": "guard",
    "limit": "guard",
    "site": "site",
    "suspend": "site",
    "suppress": "suppress",
    "config": "daemon",
    "check": "check",
    "explain": "explain",
    "audit": "audit",
    "trace": "history",
    "log": "history",
    "incident": "history",
    "top": "watch",
    "metrics": "watch",
    "alerts": "watch",
}


@dataclass(frozen=True, slots=True)
class View:
    """What is not given follows from the operation's row: a card of all its members, columns of the same names."""

    columns: tuple[Column, ...] = ()
    card: Callable[[Row, float], Iterator[str]] | None = None  # the lines of one row, now
    lines: Callable[[Iterable[Row], float, int], Iterator[str]] | None = None  # of all rows as they come; now, width
    screen: Callable[[Row, float, int], Iterator[str]] | None = None  # of a row that takes the place of the one before
    past: str = ""  # of a verb that counts: "3 recipients held"
    others: "tuple[tuple[str, View], ...]" = ()  # when the first row has this member, or "--option" was given


PLAIN = View()


def view(operation: str) -> View:
    """The view of an operation, by its name."""
    group = operation.partition(".")[0]
    if group not in _MODULES:
        return PLAIN
    if operation == "queue.watch":
        group = "top"
    views: Mapping[str, View] = import_module(f"mtactl.views.{_MODULES[group]}").VIEWS
    return views.get(operation, PLAIN)
