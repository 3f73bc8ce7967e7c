"""An operation as it could be typed again: for the log and the audit trail. Pure."""

import shlex
from collections.abc import Mapping
from typing import Any

from mtad.control.operation import Operation, Param

MAX = 1000
_UNSAID = frozenset(("reason", "dry_run", "yes"))


def words(operation: Operation, args: Mapping[str, Any]) -> str:
    """The checked arguments in one line, without secrets."""
    shown: list[str] = []
    for param in operation.params:
        if param.name not in _UNSAID and param.kind != "secret":
            shown += _words(param, args[param.name])
    said = " ".join(shown)
    return said if len(said) <= MAX else f"{said[: MAX - 20]}... ({len(said)} characters)"


def _words(param: Param, value: Any) -> list[str]:
    flag = f"--{param.name.replace('_', '-')}"
    if value is param.default and not param.positional:
        return []
    match value:
        case None | () | False:
            return []
        case True:
            return [flag]
        case tuple() as many if param.kind == "lines":
            return [f"{len(many)} lines"]
        case tuple() as many if param.many:
            return [shlex.quote(str(one)) if param.positional else f"{flag} {shlex.quote(str(one))}" for one in many]
        case (sign, number):
            return [f"{flag} {shlex.quote(f'{sign}{number}')}"]
        case float() as seconds:
            return [f"{flag} {_duration(seconds)}"]
        case _:
            return [shlex.quote(str(value)) if param.positional else f"{flag} {shlex.quote(str(value))}"]


def _duration(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds and seconds % length == 0:
            return f"{seconds / length:.0f}{unit}"
    return f"{seconds:.0f}s"
