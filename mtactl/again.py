"""What was typed, to be typed again: the command that lists what a verb of the queue is about. Pure."""

import shlex
from collections.abc import Mapping

from mtad.control.operation import SELECTOR, Operation

IDS_MAX = 10
# What a verb changes, where that is not what `queue list` shows by itself.
_WAITING = ("active", "ready", "deferred")
_STATES: Mapping[str, tuple[str, ...]] = {
    "queue.release": ("held",),
    "queue.restore": ("trashed",),
    "queue.hold": _WAITING,
    "queue.flush": _WAITING,
    "queue.retry": _WAITING,
}


def listing(operation: Operation, given: Mapping[str, object]) -> str:
    """`given` are the arguments as they were typed. "" where the list would be of something else, or too long to
    type."""
    ids = given.get("ids", ())
    if not operation.selects or given.get("last") or not isinstance(ids, tuple) or "-" in ids or len(ids) > IDS_MAX:
        return ""
    words = ["mtactl", "queue", "list"]
    if "state" not in given:
        given = {**given, "state": _STATES.get(operation.name, ())}
    for param in SELECTOR:
        value = given.get(param.name)
        if param.name == "all" or value is None:
            continue
        many = value if isinstance(value, tuple) else (value,)
        flag = f"--{param.name.replace('_', '-')}"
        for one in map(str, many):
            words += [one] if param.positional else [f"{flag}={one}"] if one.startswith("-") else [flag, one]
    return shlex.join(words)
