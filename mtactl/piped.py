"""Ids from standard input, as another program printed them."""

import json
from collections.abc import Iterable, Iterator

_FLAGS = "*!#"  # behind an id of mailq: active, held, to be expired
_TITLES = frozenset(("ID", "-Queue"))  # the first words of the lists of `queue list` and mailq
_EMPTY = "Mail queue is empty"


def ids(lines: Iterable[str]) -> list[str]:
    """The first word of each line; of an object of `queue list --json` or `postqueue -j` its queue_id. Lines that begin
    with a blank or "(", and heads and totals of mailq, belong to the line before."""
    return list(_ids(lines))


def _ids(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        if line.startswith("{"):
            yield _member(line)
            continue
        word = line.split(None, 1)[0] if line.strip() else ""
        if not word or line[0] in " \t(-" or word in _TITLES or line.strip() == _EMPTY:
            continue
        yield word.rstrip(_FLAGS)


def _member(line: str) -> str:
    try:
        found = json.loads(line)
    except ValueError:
        return line.strip()  # it is refused as an id, in the words for that
    return str(found.get("queue_id", "")) if isinstance(found, dict) else ""
