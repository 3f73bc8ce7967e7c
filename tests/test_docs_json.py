"""docs/json.md names what there is: kinds and members, as the tables and the timeline have them."""

import ast
import re
from pathlib import Path

import pytest

from mtad.control.operations import BY_NAME
from mtad.mail.event import KINDS


def section(text: str, title: str) -> str:
    return text.partition(f"\n## {title}")[2].partition("\n## ")[0]


def codes(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def first_table(text: str) -> list[str]:
    table = text.partition("|---|---|\n")[2].partition("\n\n")[0]
    return [name for line in table.splitlines() for name in codes(line.split("|")[1])]


@pytest.mark.parametrize(("title", "operation"), [("Events", "log"), ("The life of a mail", "trace")])
def test_the_members_are_those_of_the_row(repository: Path, title: str, operation: str) -> None:
    text = section((repository / "docs/json.md").read_text(), title)
    assert first_table(text) == [name for name, _ in BY_NAME[operation].row]


def test_the_kinds_are_all(repository: Path) -> None:
    text = section((repository / "docs/json.md").read_text(), "Events")
    (line,) = [line for line in text.splitlines() if line.startswith("| `kind`")]
    assert tuple(codes(line)[1:-1]) == KINDS


def test_the_details_are_those_of_the_timeline(repository: Path) -> None:
    """What each call of `_row` in the timeline gives beyond its text."""
    text = section((repository / "docs/json.md").read_text(), "The life of a mail").rpartition("|---|---|\n")[2]
    told = {names[0]: names[1:] for names in map(codes, text.strip().splitlines())}
    told["signed"] = told["signed"][:1]
    del told["refused"]  # made by the handler
    tree = ast.parse((repository / "mtad/control/handlers/timeline.py").read_text())
    made = {}
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "_row":
            event = call.args[2]
            assert isinstance(event, ast.Constant)
            made[event.value] = [keyword.arg for keyword in call.keywords]
    assert made == told


def test_the_queue_is_a_superset_of_postqueue(repository: Path) -> None:
    text = section((repository / "docs/json.md").read_text(), "The queue")
    assert set(codes(text)[2:9]) <= {name for name, _ in BY_NAME["queue.list"].row}
