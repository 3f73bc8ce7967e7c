"""The operator verbs, a module for each group, loaded when a word of it is asked for.

Each module has OPERATIONS, and GROUPS: what the words in front of its verbs are about. `mtad.control.operations` is all
of them.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from mtad.control.operation import Operation

INDEX: Mapping[str, str] = {
    "status": "daemon",
    "reload": "daemon",
    "queue": "queue",
    "trace": "history",
    "log": "history",
    "incident": "history",
    "top": "watch",
    "metrics": "watch",
    "alerts": "watch",
    "explain": "explain",
    "site": "site",
    "suspend": "site",
    "suppress": "suppress",
    "user": "user",
    "block": "guard",
    "session": "guard",
    "limit": "guard",
    "dkim": "dkim",
    "dns": "dns",
    "tls": "tls",
    "alias": "daemon",
    "maildrop": "daemon",
    "config": "daemon",
    "backup": "backup",
    "transfer": "transfer",
    "audit": "audit",
    "check": "check",
}
"""The first word of a verb -> the module that has it, in the order of the help."""


def load(module: str) -> Any:
    """A module of INDEX."""
    return import_module(f"mtad.control.tables.{module}")


def find(name: str) -> Operation | None:
    """An operation by its name, as "queue.list"."""
    module = INDEX.get(name.partition(".")[0])
    if module is None:
        return None
    operations: tuple[Operation, ...] = load(module).OPERATIONS
    return next((operation for operation in operations if operation.name == name), None)
