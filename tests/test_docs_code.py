"""The modules, classes and functions that docs/flow.md and docs/architecture.md name are in the code."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
_SPAN = re.compile(r"`([A-Za-z_][\w.]*(?:\.[\w{},]+|/)?)`")


def named(tree: ast.AST) -> dict[str, set[str]]:
    """What a module or a class defines, and what each class of it defines in its turn."""
    found: dict[str, set[str]] = {}
    for node in ast.iter_child_nodes(tree):
        match node:
            case ast.ClassDef():
                found[node.name] = set(named(node))
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                found[node.name] = set()
            case ast.Assign(targets=[ast.Name(id=name), *_]) | ast.AnnAssign(target=ast.Name(id=name)):
                found[name] = set()
    return found


MODULES: dict[str, dict[str, set[str]]] = {}
FILES = [*(ROOT / "mtad").rglob("*.py"), *(ROOT / "mtactl").rglob("*.py")]
for file in FILES:
    parts = file.relative_to(ROOT).with_suffix("").parts
    MODULES[".".join(parts).removesuffix(".__init__")] = named(ast.parse(file.read_text()))
MEMBERS: dict[str, set[str]] = {}  # of all classes and functions, by name
for defined in MODULES.values():
    for name, members in defined.items():
        MEMBERS.setdefault(name, set()).update(members)
ELSEWHERE = {"module.function", "io.mtad.MaildropDrain", "control.{operation,tables,wire}", "MTA_FAULT", ".mtad"}
POINTS = set(re.findall(r"faults\.point\(\"([a-z_.0-9]+)\"\)", "".join(file.read_text() for file in FILES)))
POINTS |= {f"{work}.{moment}_commit" for work in ("accept", "settle") for moment in ("before", "after")}  # the writer's
ANYWHERE = set(MEMBERS).union(*MEMBERS.values())


def known(dotted: str) -> bool:
    """Whether it is a module of ours, below mtad/ or mtactl/, with what is behind it; or a class with its method."""
    *path, last = dotted.split(".")
    for top in ("mtad", "mtactl"):
        full = [top, *path, last] if path[:1] != [top] else [*path, last]
        if ".".join(full) in MODULES:
            return True
        for cut in (1, 2):
            module, rest = MODULES.get(".".join(full[:-cut])), full[-cut:]
            if module is not None and rest[0] in module and set(rest[1:]) <= module[rest[0]]:
                return True
    tails = [name for name in MODULES if name.endswith(f".{path[0]}")] if path else []
    if any(last in MODULES[name] for name in tails):
        return True
    return last in MEMBERS.get(path[0], ()) if len(path) == 1 else not path and last in ANYWHERE


@pytest.mark.parametrize("page", ["flow.md", "architecture.md"])
def test_each_name_is_in_the_code(page: str) -> None:
    spans = set(_SPAN.findall((ROOT / "docs" / page).read_text())) - ELSEWHERE
    names = {span for span in spans if ("." in span or span[0].isupper()) and not span.endswith((".py", ".sock", "/"))}
    assert {name for name in names if not known(name) and name not in POINTS} == set()


def test_what_is_not_there_is_found_out() -> None:
    """That the test above can fail."""
    assert not any(map(known, ("queue.passage.Passage.take", "outbound.routes", "Scheduler.awake", "Route")))
