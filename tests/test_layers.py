"""The rules of the house about who imports whom (docs/architecture.md), read from the source without running it."""

import ast
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]

# From the ground up. A room imports rooms of lower floors only, never a neighbour: in- and outbound meet in the queue.
FLOORS = (
    {"mail"},
    {"config", "events", "faults"},
    {"dns", "tls", "dkim", "accounts"},
    {"auth"},
    {"publish"},
    {"queue"},
    {"inbound", "outbound", "backup"},
    {"control", "doctor"},
    {"app", "housekeeping", "command", "service", "__main__"},
)
TOP = len(FLOORS) - 1
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}

# What mail may not touch: sockets, files, clocks, randomness, threads, processes, the environment.
IMPURE = """
    asyncio concurrent contextvars ctypes fcntl ftplib glob http imaplib io logging mmap multiprocessing os pathlib
    platform poplib posix pwd queue random sched secrets select selectors shutil signal smtplib socket socketserver
    sqlite3 ssl subprocess sys syslog tempfile threading time urllib uuid
"""
IMPURE_CALLS = frozenset({"open", "print", "input", "exec", "eval", "now", "today", "utcnow", "getfqdn"})

# What mtactl may load before it knows what to do.
LIGHT = (
    "mtad",
    "mtad.mail",
    "mtad.control",
    "mtad.control.operation",
    "mtad.control.operations",
    "mtad.control.tables",
    "mtad.control.wire",
)
STARTS = ("mtactl.cli", "mtactl.sendmail")


class Import(NamedTuple):
    target: str  # "mtad.queue.store"; for "from a import b" both "a" and "a.b" are listed
    line: int
    late: bool  # inside a function
    relative: bool


def imports(source: str) -> Iterator[Import]:
    def visit(node: ast.AST, late: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(alias.name, child.lineno, late, False)
            elif isinstance(child, ast.ImportFrom):
                module = child.module or ""
                yield Import(module, child.lineno, late, child.level > 0)
                for alias in child.names:
                    yield Import(f"{module}.{alias.name}", child.lineno, late, child.level > 0)
            else:
                yield from visit(child, late or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda))

    yield from visit(ast.parse(source), False)


def room_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[0] == "mtad" else ""


def violations(sources: Mapping[str, str]) -> list[str]:
    """Every broken rule, as "module:line what"."""
    found = []
    for module, source in sources.items():
        for item in dict.fromkeys(imports(source)):
            where = f"{module}:{item.line}"
            if item.relative:
                found.append(f"{where} relative import")
            elif module.startswith("mtad."):
                found += _upward(sources, module, item, where)
                if room_of(module) == "mail":
                    found += _impure(item, where)
                if item.target.split(".")[0] == "mtactl":
                    found.append(f"{where} imports mtactl")
        if room_of(module) == "mail":
            found += _impure_calls(module, source)
        if module.startswith("mtad.") and room_of(module) not in FLOOR:
            found.append(f"{module} is in no room")
    for start in STARTS:
        found += _heavy(sources, start)
    return found


def _upward(sources: Mapping[str, str], module: str, item: Import, where: str) -> Iterator[str]:
    here, there = room_of(module), room_of(item.target)
    if there not in FLOOR or here not in FLOOR or here == there:
        return
    if FLOOR[there] >= FLOOR[here] and FLOOR[here] < TOP:
        yield f"{where} {here} imports {there}"


def _impure(item: Import, where: str) -> Iterator[str]:
    top = item.target.split(".")[0]
    if top in IMPURE.split():
        yield f"{where} mail imports {top}"
    elif top != "mtad" and top not in sys.stdlib_module_names:
        yield f"{where} mail imports the third-party {top}"


def _impure_calls(module: str, source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in IMPURE_CALLS:
                yield f"{module}:{node.lineno} mail calls {name}"


def loaded_by(sources: Mapping[str, str], start: str) -> dict[str, str]:
    """All modules that importing `start` imports, and who asked first. Late imports do not count."""
    reached = {start: ""}
    waiting = [start]
    while waiting:
        module = waiting.pop()
        for item in imports(sources.get(module, "")):
            if item.late or item.target in reached:
                continue
            top = item.target.split(".")[0]
            known = item.target in sources
            if known or top not in ("mtad", "mtactl"):
                reached[item.target] = module
            if known:
                packages = item.target.split(".")
                parents = [".".join(packages[:n]) for n in range(1, len(packages) + 1)]
                waiting += [item.target, *(parent for parent in parents if parent not in reached)]
                reached.update({parent: module for parent in parents if parent not in reached})
    return reached


def _heavy(sources: Mapping[str, str], start: str) -> Iterator[str]:
    if start not in sources:
        return
    for module, asked_by in loaded_by(sources, start).items():
        top = module.split(".")[0]
        if top == "mtad" and asked_by.startswith("mtactl") and not (module in LIGHT or room_of(module) == "mail"):
            yield f"{start} loads {module} (from {asked_by})"
        if top == "mtad" and FLOOR.get(room_of(module), 0) > 0 and not module.startswith("mtad.control"):
            yield f"{start} loads {module} (from {asked_by})"
        if start == "mtactl.sendmail" and top not in ("mtad", "mtactl") and top not in sys.stdlib_module_names:
            yield f"{start} loads the third-party {module} (from {asked_by})"


def tree() -> dict[str, str]:
    sources = {}
    for package in ("mtad", "mtactl"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            sources[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text(encoding="utf-8")
    return sources


def test_the_house_keeps_its_rules() -> None:
    sources = tree()
    assert len(sources) > 30
    assert violations(sources) == []


CLEAN = {
    "mtad": "__version__ = '1'",
    "mtad.mail.reply": "import re\nfrom datetime import datetime\ndate = datetime.fromtimestamp(0)",
    "mtad.queue.store": "from mtad.mail.reply import Reply\nfrom mtad import faults, __version__",
    "mtad.faults": "import os",
    "mtad.inbound.accept": "import asyncio\nfrom mtad.queue import store",
    "mtad.outbound.route": "from mtad.dns import resolver",
    "mtad.dns.resolver": "import socket, dns.message",
    "mtad.control.operations": "from mtad.mail.reply import Reply",
    "mtad.control.server": "from mtad.queue.store import Store",
    "mtad.app": "from mtad import service\nfrom mtad.inbound.accept import Acceptor",
    "mtad.service": "",
    "mtactl": "",
    "mtactl.cli": "import click\n"
    "from mtad.control.operations import X\ndef f():\n    from mtad.queue.store import Store",
    "mtactl.local": "from mtad.queue.store import Store",
    "mtactl.sendmail": "import sys\nfrom mtad.mail.reply import Reply",
}

PLANTED = [
    ("mtad.mail.reply", "import socket", "mtad.mail.reply:1 mail imports socket"),
    ("mtad.mail.reply", "def f():\n    import time", "mtad.mail.reply:2 mail imports time"),
    ("mtad.mail.reply", "from os.path import join", "mtad.mail.reply:1 mail imports os"),
    ("mtad.mail.reply", "import dkim", "mtad.mail.reply:1 mail imports the third-party dkim"),
    ("mtad.mail.reply", "x = open('f')", "mtad.mail.reply:1 mail calls open"),
    ("mtad.mail.reply", "import datetime\ndatetime.datetime.now()", "mtad.mail.reply:2 mail calls now"),
    ("mtad.mail.reply", "from mtad.events import Events", "mtad.mail.reply:1 mail imports events"),
    ("mtad.mail.reply", "from mtad import events", "mtad.mail.reply:1 mail imports events"),
    ("mtad.mail.reply", "if TYPE_CHECKING:\n    from mtad.app import App", "mtad.mail.reply:2 mail imports app"),
    ("mtad.queue.store", "def f():\n    import mtad.control.server", "mtad.queue.store:2 queue imports control"),
    ("mtad.inbound.accept", "from mtad.outbound import route", "mtad.inbound.accept:1 inbound imports outbound"),
    ("mtad.outbound.route", "from mtad.inbound.accept import A", "mtad.outbound.route:1 outbound imports inbound"),
    ("mtad.dns.resolver", "from mtad.tls import contexts", "mtad.dns.resolver:1 dns imports tls"),
    ("mtad.dns.resolver", "from . import records", "mtad.dns.resolver:1 relative import"),
    ("mtactl.local", "from .cli import main", "mtactl.local:1 relative import"),
    ("mtad.control.server", "import mtactl.client", "mtad.control.server:1 imports mtactl"),
    ("mtad.cellar.wine", "", "mtad.cellar.wine is in no room"),
    ("mtactl.cli", "from mtad.queue.store import Store", "mtactl.cli loads mtad.queue.store (from mtactl.cli)"),
    ("mtactl.cli", "import mtactl.local", "mtactl.cli loads mtad.queue.store (from mtactl.local)"),
    ("mtactl.cli", "from mtad.control import server", "mtactl.cli loads mtad.control.server (from mtactl.cli)"),
    ("mtad.control.operations", "from mtad.queue import store",
     "mtactl.cli loads mtad.queue.store (from mtad.control.operations)"),
    ("mtactl.sendmail", "import click", "mtactl.sendmail loads the third-party click (from mtactl.sendmail)"),
]  # fmt: skip


def test_a_clean_house_is_clean() -> None:
    assert violations(CLEAN) == []


@pytest.mark.parametrize(("module", "source", "complaint"), PLANTED)
def test_a_planted_violation_is_found(module: str, source: str, complaint: str) -> None:
    sources = CLEAN | {module: source}
    if module == "mtad.control.operations":
        sources["mtactl.cli"] = "from mtad.control.operations import X"
    assert complaint in violations(sources)
