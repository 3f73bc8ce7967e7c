"""What would become of a mail."""

from mtad.control.operation import Access, Operation, Param

GROUPS: dict[str, str] = {}

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "explain",
        "What would become of mail to an address, and why",
        (
            Param("address", "address", "The recipient.", required=True, positional=True),
            Param("from", "address", 'The sender; by default --user, else "<>", the sender of reports.'),
            Param("user", "user", "The user who signed in to send it."),
        ),
        (
            ("address", "string"),
            ("sender", "string"),
            ("user", "string"),
            ("steps", "[]object"),
            ("ways", "[]object"),
            ("more", "int"),
            ("problem", "string"),
        ),
        Access.OPERATOR,
        offline="read",
        help="Follows aliases, routes, DNS and TLS policies exactly as a delivery does, and prints each decision with"
        " its reason, and what the pace of the destination allows now. Nothing is sent. Without a running daemon it"
        " knows no pace.",
        examples=(
            "mtactl explain bob@example.org",
            "mtactl explain team@example.test --from news@shop.example",
            "mtactl explain bob@example.org --user alice@example.test --json",
        ),
    ),
)
