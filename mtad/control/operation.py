"""What an operator verb is: its parameters, who may, what it changes; and the one check of what was given.

Pure, and light to import: it is on the start-up path of mtactl. The verbs themselves are in `mtad.control.tables`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Literal

from mtad.control import values


class Access(IntEnum):
    """Who may. From SO_PEERCRED: root, the daemon's own user and members of `admin_group` are admins."""

    ANYONE = 0
    OPERATOR = 1
    ADMIN = 2


class Effect(IntEnum):
    """READ changes nothing; CHANGE and DESTROY are audited; DESTROY shows the count and asks first."""

    READ = 0
    CHANGE = 1
    DESTROY = 2


Kind = Literal[
    "text",
    "flag",
    "count",
    "duration",
    "path",
    "domain",
    "user",
    "id",
    "address",
    "secret",
    "choice",
    "compare",
    "quota",
    "fingerprint",
    "lines",
    "key",
    "moment",
    "octets",
]


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
    stream: bool = False  # any number of rows; else exactly one
    live: bool = False  # rows may come over any length of time: each is sent at once; {} is a sign of life
    told: bool = False  # reading it is worth a line in the audit trail, as all that changes something is

    @property
    def selects(self) -> bool:
        """Whether it takes the selector vocabulary."""
        return self.params[: len(SELECTOR)] == SELECTOR


class UsageError(Exception):
    """The arguments are wrong (64). `param` is the offending name, "" when it is none in particular."""

    def __init__(self, param: str, text: str) -> None:
        super().__init__(f"{param}: {text}" if param else text)
        self.param = param
        self.text = text


_PARSERS: Mapping[Kind, Callable[[object], Any]] = {
    "text": values.text,
    "flag": values.flag,
    "count": values.count,
    "duration": values.duration,
    "path": values.path,
    "domain": values.domain,
    "user": values.user,
    "id": values.identifier,
    "address": values.text,
    "secret": values.text,
    "choice": values.text,
    "compare": values.compare,
    "quota": values.quota,
    "fingerprint": values.fingerprint,
    "lines": values.line,
    "key": values.key_file,
    "moment": values.moment,
    "octets": values.octets,
}


def check(operation: Operation, given: Mapping[str, Any]) -> dict[str, Any]:
    """The ONE validator, used by both sides: what was `given` in a frame -> parsed values, every parameter present.

    Ages become seconds, comparisons (sign, number); what is absent or null gets its default. Raises UsageError for an
    unknown name, a wrong type or value, a missing one, and for a changing verb without a selector.
    """
    known = {param.name: param for param in operation.params}
    for name in given:
        if name not in known:
            raise UsageError(name[:60], f"{operation.name} knows no such parameter")
    checked: dict[str, Any] = {}
    for param in operation.params:
        value = given.get(param.name)
        if value is None or (param.many and value in ([], ())):
            if param.required:
                raise UsageError(param.name, "is missing")
            checked[param.name] = () if param.many else False if param.kind == "flag" else param.default
        elif param.many:
            if param.kind == "text" and isinstance(value, str):
                value = [value]  # who wants one subject need not make a list
            if not isinstance(value, list | tuple):
                raise UsageError(param.name, "is not a list")
            if len(value) > values.ITEMS_MAX:
                raise UsageError(param.name, f"has more than {values.ITEMS_MAX} entries")
            checked[param.name] = tuple(_parse(param, item) for item in value)
        else:
            checked[param.name] = _parse(param, value)
    if operation.selects and operation.effect > Effect.READ and set(conditions(checked)) <= {"not_subject"}:
        only = ": --not-subject alone leaves nearly everything" if checked["not_subject"] else ""
        raise UsageError("", f"select something, or say --all{only}")
    return checked


def conditions(checked: Mapping[str, Any]) -> list[str]:
    """The names of the conditions that were given; "all" is one."""
    return [name for name in _CONDITIONS if not any(checked.get(name) is nothing for nothing in (None, (), False))]


def _parse(param: Param, value: Any) -> Any:
    try:
        parsed = _PARSERS[param.kind](value)
    except values.BadValue as error:
        shown = (
            f"{value[:60]!a} "
            if isinstance(value, str) and value and param.kind not in ("secret", "lines", "key", "octets")
            else ""
        )
        raise UsageError(param.name, f"{shown}{error}") from None
    if param.choices and parsed not in param.choices:
        raise UsageError(param.name, f"{value[:60]!a} is none of {', '.join(param.choices)}")
    return parsed


SELECTOR = (
    Param("ids", "id", "Queue ids, ids of recipients (ID.N), or the beginning of an id.", positional=True, many=True),
    Param("from", "address", 'Sender: an address, "@domain", or a pattern with * and ?; "<>" is the null sender.'),
    Param("to", "address", 'Recipient: an address, "@domain", or a pattern with * and ?.'),
    Param("domain", "domain", "Domain of the recipient."),
    Param("user", "user", "The authenticated user who sent it; a bare name gets the first domain; or a pattern."),
    Param("ip", "text", "The client's IP address."),
    Param("state", "choice", "Delivery state; may be repeated: any of them.", many=True, choices=values.STATES),
    Param(
        "error",
        "text",
        "Class of the last error (see queue stats --by error), its code as 451 or 4.7.1, or part of it.",
    ),
    Param("older", "duration", "Accepted longer ago than: 90s 15m 2h 3d."),
    Param("newer", "duration", "Accepted less long ago than."),
    Param("size", "compare", "Size of the message: '>4k' '<10M'."),
    Param("attempts", "compare", "Number of tries: '>3' '0'."),
    Param("message_id", "text", "The Message-ID field, with or without its <>."),
    Param("subject", "text", "Part of the subject; may be repeated: any of them.", many=True),
    Param("not_subject", "text", "What is no part of the subject; may be repeated: none of them.", many=True),
    Param("audit", "count", "What the operation of that number in `mtactl audit` changed."),
    Param("limit", "count", "At most that many recipients."),
    Param("all", "flag", "Everything (that the other conditions leave)."),
)
LAST = Param("last", "flag", "What the last purge took, of what is still in the trash.")
_CONDITIONS = (*(param.name for param in SELECTOR if param.name != "limit"), LAST.name)

DRY_RUN = Param("dry_run", "flag", "Show what would be changed, and change nothing.")
YES = Param("yes", "flag", "Do not ask.")
REASON = Param("reason", "text", "Why; goes into the log and the audit trail.")
ACTING = (DRY_RUN, YES, REASON)
