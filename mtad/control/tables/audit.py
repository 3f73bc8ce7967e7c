"""The audit trail."""

from mtad.control.operation import Access, Operation, Param

GROUPS: dict[str, str] = {}

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "audit",
        "Show what operators did",
        (
            Param("since", "duration", "Not longer ago than: 90s 15m 2h 3d."),
            Param("user", "text", "Who did it: a login name as it is shown, or a uid."),
            Param("operation", "text", "What was done: 'queue purge', or a group: 'queue'."),
            Param("limit", "count", "The newest so many; 100 without it."),
        ),
        (
            ("number", "int"),
            ("at", "float"),
            ("who", "string"),
            ("uid", "int"),
            ("operation", "string"),
            ("selector", "string"),
            ("reason", "string"),
            ("changed", "int"),
        ),
        Access.OPERATOR,
        offline="read",
        help="Every operation that changed something, oldest first: when, who, what, to what, why, and how many it"
        " changed. Changes of the queue and their lines here are one transaction. The number is what --audit of the"
        " queue verbs takes. Kept for 365 days, if the setting keep.audit says nothing else.",
        examples=(
            "mtactl audit",
            "mtactl audit --since 2h --operation queue",
            "mtactl audit --user alice --json | jq -r .selector",
        ),
        stream=True,
    ),
)
