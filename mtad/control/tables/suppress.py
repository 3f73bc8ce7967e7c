"""Addresses that are not tried."""

from mtad.control.operation import REASON, Access, Effect, Operation, Param

GROUPS = {
    "suppress": "Addresses that mail is not sent to any more",
}

_ADDRESS = Param("address", "text", "An address.", required=True, positional=True)
_USER = Param("user", "user", "Only for mail of this user; uid=NUMBER for programs of this host.")
_ROW = (
    ("address", "string"),
    ("user", "string"),
    ("reason", "string"),
    ("error", "string"),
    ("made_by", "string"),
    ("created", "int"),
    ("expires", "int"),
)

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "suppress.list",
        "List the addresses that are not tried",
        (_USER,),
        _ROW,
        Access.OPERATOR,
        offline="read",
        help="Lists what is suppressed: by operators, and by mtad itself where mail of a user to an address came back"
        " for good (delivery.suppress). Without a user it holds for everybody.",
        examples=("mtactl suppress list", "mtactl suppress list --user alice@example.test --json"),
        stream=True,
    ),
    Operation(
        "suppress.lookup",
        "Show whether and why an address is not tried",
        (_ADDRESS, _USER),
        _ROW,
        Access.OPERATOR,
        offline="read",
        help="Shows what is suppressed of this address. Exits 1 when nothing is.",
        examples=("mtactl suppress lookup bob@example.org",),
        stream=True,
    ),
    Operation(
        "suppress.add",
        "Send no more mail to an address",
        (_ADDRESS, _USER, Param("for", "duration", "How long: 2h 3d 1w; without it, until it is removed."), REASON),
        _ROW,
        Access.OPERATOR,
        Effect.CHANGE,
        "write",
        help="Mail to the address is not tried: it goes back to its sender, with the reason. Also what waits in the"
        " queue, at its next try. Without --user it holds for everybody.",
        examples=(
            "mtactl suppress add bob@example.org --reason 'asked for no more mail'",
            "mtactl suppress add bob@example.org --user alice@example.test --for 30d",
        ),
    ),
    Operation(
        "suppress.remove",
        "Send mail to an address again",
        (_ADDRESS, _USER, REASON),
        _ROW,
        Access.OPERATOR,
        Effect.CHANGE,
        "write",
        help="Removes what is suppressed of this address, for all users or only for one. What was counted against the"
        " address is forgotten too.",
        examples=("mtactl suppress remove bob@example.org", "mtactl suppress remove bob@example.org --user uid=33"),
        stream=True,
    ),
)
