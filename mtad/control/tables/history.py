"""What happened: the life of a mail, the log, what an account did."""

from mtad.control import values
from mtad.control.operation import Access, Operation, Param

GROUPS = {
    "incident": "When somebody else has an account, or spam goes out",
}
ABOUT = {
    "incident": "\n\nWhile mail goes out by the second, first stop the account:"
    " mtactl user freeze NAME --reason TEXT\n\n"
    "Then see here what it was, and what of it is still here.",
}

_FOLLOW = Param("follow", "flag", "Go on with what happens from now on.")

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "trace",
        "Tell the life of a mail, from its connection to the last reply",
        (
            Param(
                "word",
                "text",
                "Queue id or the beginning of one, Message-ID, address, or the client's IP address.",
                positional=True,
            ),
            Param("from", "address", 'Sender: an address, "@domain", or a pattern with * and ?; "<>": no sender.'),
            Param("to", "address", 'Recipient, also before aliases: an address, "@domain", or a pattern.'),
            Param("subject", "text", "Part of the subject."),
            Param("since", "duration", "Accepted not longer ago than: 90s 15m 2h 3d."),
            Param("limit", "count", "The newest so many messages; 10 without it."),
            Param("follow", "flag", "Go on until every recipient has its outcome."),
        ),
        (
            ("queue_id", "string"),
            ("at", "float"),
            ("event", "string"),
            ("id", "string"),
            ("to", "string"),
            ("text", "string"),
            ("details", "object"),
        ),
        Access.OPERATOR,
        offline="read",
        help="One timeline of a message: who brought it and how, whether it was held, what aliases made of its"
        " recipients, its signatures, when it was safe on disk, each try with host, TLS and reply, reports and what"
        " became of them, what operators did, and how it stands with each recipient. Also what was refused at the door,"
        " by address or IP. From the database, so it needs no log, as long as history is kept: 7"
        " days, if the setting keep.history says nothing else.",
        examples=(
            "mtactl trace 3kf9x2m7q0w1",
            "mtactl trace bob@example.org --since 1d",
            "mtactl trace --from alice@example.test --subject invoice",
            "mtactl trace 3kf9x --follow --json | jq -r .text",
        ),
        stream=True,
        live=True,
    ),
    Operation(
        "log",
        "Show what happened, and with --follow what happens",
        (
            Param("kind", "choice", "Only this kind of event.", many=True, choices=values.EVENTS),
            Param("from", "address", 'Sender: an address, "@domain", or a pattern with * and ?; "<>": no sender.'),
            Param("to", "address", 'Recipient: an address, "@domain", or a pattern.'),
            Param("user", "user", "The authenticated user."),
            Param("ip", "text", "The client's IP address, or a pattern."),
            Param("since", "duration", "Not longer ago than: 90s 15m 2h 3d."),
            Param("limit", "count", "Of the past, the newest so many; 100 without it."),
            _FOLLOW,
        ),
        (
            ("at", "float"),
            ("kind", "string"),
            ("queue_id", "string"),
            ("from", "string"),
            ("to", "[]string"),
            ("ip", "string"),
            ("user", "string"),
            ("text", "string"),
            ("lost", "int"),
        ),
        Access.OPERATOR,
        offline="read",
        help="The events of the past from the database, oldest first, and with --follow those to come, as the daemon's"
        " log has them. Mail as long as its history is kept, refusals, sign-ins and the like the newest 10000 of each"
        " kind. A reader that is too slow loses lines and is told how many; the mail never waits for it.",
        examples=(
            "mtactl log --since 1h --kind deferred --kind failed",
            "mtactl log --follow --ip 192.0.2.7",
            "mtactl log --user alice@example.test --json | jq -r .text",
        ),
        stream=True,
        live=True,
    ),
    Operation(
        "incident.report",
        "What a user or client sent, what left and what is still here",
        (
            Param("user", "user", "The account."),
            Param("ip", "text", "The client's IP address, or a pattern."),
            Param("since", "duration", "Look back that far: 90s 15m 2h 3d; 1d without it."),
        ),
        (
            ("user", "string"),
            ("ip", "string"),
            ("since", "int"),
            ("disabled", "string"),
            ("messages", "int"),
            ("size_bytes", "int"),
            ("recipients", "int"),
            ("domains", "int"),
            ("first", "int"),
            ("last", "int"),
            ("delivered", "int"),
            ("failed", "int"),
            ("waiting", "int"),
            ("held", "int"),
            ("trashed", "int"),
            ("clients", "[]object"),
            ("users", "[]object"),
            ("senders", "[]object"),
            ("subjects", "[]object"),
            ("sign_ins", "int"),
            ("sign_ins_failed", "int"),
            ("app_passwords", "[]object"),
            ("certificates", "[]string"),
            ("known", "bool"),
            ("next", "[]string"),
        ),
        Access.OPERATOR,
        offline="read",
        help="What was accepted of an account or a client: how much, from where, to how many recipients, what of it"
        " left and what can still be stopped; and the commands that stop it. When mail goes out by the second, first"
        " `user freeze`, then look.",
        examples=(
            "mtactl incident report --user alice@example.test",
            "mtactl incident report --ip 192.0.2.7 --since 2h --json",
        ),
    ),
)
