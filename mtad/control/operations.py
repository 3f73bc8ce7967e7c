"""THE table of operator verbs. Protocol check, access, click tree, man pages, completions, docs and tests derive from it.

Pure, and light to import: it is on the start-up path of mtactl.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Literal


class Access(IntEnum):
    """Who may. From SO_PEERCRED: root and the daemon's own user are admins, members of `admin_group` operators and admins."""

    ANYONE = 0
    OPERATOR = 1
    ADMIN = 2


class Effect(IntEnum):
    """READ changes nothing; CHANGE and DESTROY are audited; DESTROY shows the count and asks first."""

    READ = 0
    CHANGE = 1
    DESTROY = 2


Kind = Literal["text", "flag", "count", "duration", "path", "domain", "user", "id", "address", "secret", "choice", "compare"]


@dataclass(frozen=True, slots=True)
class Param:
    name: str  # as in the frame: snake_case; on the command line --snake-case
    kind: Kind
    help: str
    required: bool = False
    positional: bool = False
    many: bool = False
    choices: tuple[str, ...] = ()
    default: Any = None


@dataclass(frozen=True, slots=True)
class Operation:
    name: str  # "queue.list": the words on the command line, the handler, the varlink method QueueList
    summary: str
    params: tuple[Param, ...] = ()
    row: tuple[tuple[str, str], ...] = ()  # (column, type) of what streams back; () = no rows
    access: Access = Access.ADMIN
    effect: Effect = Effect.READ
    offline: Literal["no", "read", "write"] = "no"  # may it run on a stopped daemon's data
    help: str = ""
    examples: tuple[str, ...] = ()


def check(operation: Operation, given: Mapping[str, Any]) -> dict[str, Any]:
    """The ONE validator, used by both sides."""
    raise NotImplementedError
