"""Who is connected, who is kept out, and what counts against which limit."""

from mtad.control.operation import REASON, Access, Effect, Operation, Param

GROUPS = {
    "block": "Who is kept out",
    "session": "Who is connected",
    "limit": "Limits of clients and users, and what counts against them",
}

_BLOCKED = Param(
    "value", "text", "An IP address or network, user@example.org, or @example.org.", required=True, positional=True
)
_BLOCK = (
    ("value", "string"),
    ("kind", "string"),
    ("reason", "string"),
    ("made_by", "string"),
    ("created", "int"),
    ("expires", "int"),
    ("times", "int"),
)

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "block.list",
        "List who is kept out",
        row=_BLOCK,
        access=Access.OPERATOR,
        offline="read",
        help="Lists the blocks in force: those that operators made, and those that mtad made itself, for clients with"
        " too many errors or failed sign-ins.",
        examples=("mtactl block list", "mtactl block list --json | jq -r 'select(.made_by == \"mtad\").value'"),
        stream=True,
    ),
    Operation(
        "block.add",
        "Keep a client, a user or a sender out",
        (
            _BLOCKED,
            Param("for", "duration", "How long: 90s 15m 2h 3d; without it, until it is removed."),
            REASON,
        ),
        _BLOCK,
        Access.OPERATOR,
        Effect.CHANGE,
        "write",
        help="Blocks an IP address or network (refused when it connects), an address (refused as the sender of a mail,"
        " and as a user who signs in), or all addresses of a @domain. Sessions that are open end at their next command."
        " Programs of this host are not concerned. A block of the same value is replaced.",
        examples=(
            "mtactl block add 192.0.2.7 --for 2h --reason 'spam run'",
            "mtactl block add 2001:db8::/32",
            "mtactl block add alice@example.test --reason 'stolen password'",
            "mtactl block add @bad.example",
        ),
    ),
    Operation(
        "block.remove",
        "Let somebody in again",
        (_BLOCKED, REASON),
        _BLOCK,
        Access.OPERATOR,
        Effect.CHANGE,
        "write",
        help="Removes a block, named as `block list` shows it. Of a client that mtad blocked itself, everything that"
        " was counted is forgotten too.",
        examples=("mtactl block remove 192.0.2.7", "mtactl block remove @bad.example --reason 'they cleaned up'"),
    ),
    Operation(
        "session.list",
        "List who is connected",
        row=(
            ("number", "int"),
            ("client_ip", "string"),
            ("port", "int"),
            ("uid", "int"),
            ("user", "string"),
            ("helo", "string"),
            ("since", "int"),
            ("source", "string"),
            ("listener", "string"),
            ("tls", "string"),
            ("state", "string"),
            ("mails", "int"),
            ("commands", "int"),
            ("errors", "int"),
        ),
        access=Access.OPERATOR,
        help="Lists the open sessions, oldest first: who, since when, on which listener, what they do now, and what"
        " they did so far.",
        examples=("mtactl session list", "mtactl session list --json | jq 'select(.errors > 5)'"),
        stream=True,
    ),
    Operation(
        "session.close",
        "End a session",
        (Param("number", "count", "Its number in `session list`.", required=True, positional=True), REASON),
        (("number", "int"), ("closed", "bool")),
        Access.OPERATOR,
        Effect.CHANGE,
        help="Says 421 to the client and closes the connection. A mail that is just being stored is still answered.",
        examples=("mtactl session close 17",),
    ),
    Operation(
        "limit.show",
        "Show what counts against which limit",
        (Param("who", "text", "A client's IP address, a user, or a @domain.", positional=True),),
        (
            ("scope", "string"),
            ("what", "string"),
            ("count", "int"),
            ("limit", "string"),
            ("setting", "string"),
            ("expires", "int"),
        ),
        Access.OPERATOR,
        help="Without an argument: the limits, and for how many clients, users and domains something is counted. With"
        " one: what counts for it now, how long it waits for answers to its mistakes, and whether it is blocked.",
        examples=("mtactl limit show", "mtactl limit show 192.0.2.7", "mtactl limit show alice@example.test --json"),
        stream=True,
    ),
)
