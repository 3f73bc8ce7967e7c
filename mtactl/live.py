"""Values for the completion of a shell, asked of the running daemon. Whatever goes wrong, there are none."""

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import click
from click.shell_completion import CompletionItem

from mtactl.base import Options
from mtactl.client import Client, socket_path
from mtactl.errors import CallError
from mtad.control.operation import Kind
from mtad.control.tables import find

ANSWER_S = 1.0  # nobody waits for a completion
ITEMS_MAX = 200

_Rows = Iterable[dict[str, Any]]
_Pairs = Iterable[tuple[str, str]]  # (value, what is said about it)


def _ids(rows: _Rows) -> _Pairs:
    return ((row["queue_id"], f"{row['state']} from {row['sender'] or '<>'}") for row in rows)


def _users(rows: _Rows) -> _Pairs:
    return ((row["name"], row["disabled"]) for row in rows)


def _domains(rows: _Rows) -> _Pairs:
    """Ours, and those that most mail waits for."""
    for row in rows:
        yield from ((name, "ours") for name in row["domains"])
        yield from ((words.partition(" ")[0], "waits") for words in row["waiting"])


_SOURCES: Mapping[Kind, tuple[str, Mapping[str, Any], Callable[[_Rows], _Pairs]]] = {
    "id": ("queue.list", {"limit": ITEMS_MAX}, _ids),
    "user": ("user.list", {}, _users),
    "domain": ("status", {}, _domains),
}


def complete(kind: Kind, context: click.Context, param: click.Parameter, begun: str) -> list[CompletionItem]:
    """What a value of this kind that begins so may be."""
    name, arguments, pairs = _SOURCES[kind]
    operation = find(name)
    options = context.find_object(Options) or Options()
    path = socket_path(options.socket, options.root, os.environ, os.geteuid())
    try:
        assert operation is not None
        found = dict(pairs(Client(path, answer_s=ANSWER_S).call(operation, arguments)))
    except (CallError, OSError, KeyError):
        return []
    return [CompletionItem(value, help=about) for value, about in found.items() if value.startswith(begun)][:ITEMS_MAX]
