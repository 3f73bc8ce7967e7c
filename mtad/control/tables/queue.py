"""What is in the queue, and what can be done with it."""

from mtad.control import values
from mtad.control.operation import ACTING, LAST, SELECTOR, Access, Effect, Operation, Param

GROUPS = {
    "queue": "See and change what is in the queue",
}

_MESSAGE = (
    ("queue_name", "string"),
    ("queue_id", "string"),
    ("arrival_time", "int"),
    ("message_size", "int"),
    ("forced_expire", "bool"),
    ("sender", "string"),
    ("recipients", "[]object"),
    ("state", "string"),
    ("next_attempt", "int"),
    ("expires", "int"),
    ("tries", "int"),
    ("domains", "[]string"),
    ("source", "string"),
    ("user", "string"),
    ("uid", "int"),
    ("client_ip", "string"),
    ("message_id", "string"),
)
_CHANGED = (*_MESSAGE, ("changed", "int"), ("would_change", "int"))


def _queue(
    verb: str, summary: str, text: str, *examples: str, extra: tuple[Param, ...] = (), effect: Effect = Effect.CHANGE
) -> Operation:
    """A verb that changes what it selects."""
    return Operation(
        f"queue.{verb}",
        summary,
        (*SELECTOR, *extra, *ACTING),
        _CHANGED,
        Access.OPERATOR if effect is Effect.CHANGE else Access.ADMIN,
        effect,
        "write",
        f"{text} Prints how many recipients it changed.",
        examples,
        stream=True,
    )


OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "queue.list",
        "List what is in the queue",
        SELECTOR,
        _MESSAGE,
        Access.OPERATOR,
        offline="read",
        help="Lists undelivered mail, oldest first: one line per recipient, or with --json one object per message"
        " (the members of `postqueue -j`, and more). --state also shows what is trashed, done or failed.",
        examples=(
            "mtactl queue list",
            "mtactl queue list --state deferred --domain example.com --older 2h",
            "mtactl queue list --from '@example.org' --size '>10M' --json",
        ),
        stream=True,
    ),
    Operation(
        "queue.show",
        "Show everything about a message",
        (Param("ids", "id", "Queue ids, or the beginning of one.", required=True, positional=True, many=True),),
        (*_MESSAGE, ("helo", "string"), ("tls", "string"), ("subject", "string"), ("attempts", "[]object")),
        Access.OPERATOR,
        offline="read",
        help="Shows a message with its recipients, their last replies, and every try; finished mail too, as long as its"
        " history is kept.",
        examples=("mtactl queue show 3kf9x2m7q0w1", "mtactl queue show 3kf9x --json"),
        stream=True,
    ),
    Operation(
        "queue.wait",
        "Wait for the outcome of a message",
        (
            Param("id", "id", "Queue id, as a receipt of sendmail names it.", positional=True),
            Param("key", "text", "The idempotency key it was submitted with by the same user, in place of the id."),
            Param("timeout", "duration", "Wait at most that long: 2m, at most 1h; 30s when it is not given."),
        ),
        (*_MESSAGE, ("outcome", "string")),
        Access.ANYONE,
        help="Waits until every recipient has an outcome, and prints it. Exits with 0 when all got the mail, with 69"
        " when somebody will not get it, with 75 when it is still in the queue at the end of the time. Who is no"
        " operator may ask about mail that the same user submitted on this host.",
        examples=("mtactl queue wait 3kf9x2m7q0w1", "mtactl queue wait --key order-4711 --timeout 2m --json"),
        stream=True,
    ),
    _queue(
        "flush",
        "Try deferred mail now",
        "Makes the selected mail due at once.",
        "mtactl queue flush --all",
        "mtactl queue flush --domain example.com",
    ),
    _queue(
        "hold",
        "Stop delivery of mail until it is released",
        "Holds the selected mail: it is kept, and not tried.",
        "mtactl queue hold 3kf9x2m7q0w1",
        "mtactl queue hold --user alice@example.test --reason 'stolen password'",
    ),
    _queue(
        "release",
        "Let held mail go on",
        "Releases held mail: it is due at once.",
        "mtactl queue release --all",
        "mtactl queue release --from '@example.org'",
    ),
    _queue(
        "retry",
        "Choose when mail is tried next",
        "Sets the time of the next try of the selected mail: now, or with --in later.",
        "mtactl queue retry 3kf9x2m7q0w1",
        "mtactl queue retry --domain example.com --in 2h",
        extra=(Param("in", "duration", "How long from now: 15m 2h."),),
    ),
    _queue(
        "purge",
        "Take mail out of the queue, without a report to its sender",
        "Moves the selected mail to the trash: it is not delivered and nobody is told. `queue restore` brings it back"
        " as long as the trash is kept. Shows the count and asks first.",
        "mtactl queue purge --to '*@bad.example' --older 2d",
        "mtactl queue purge --from '<>' --state deferred --yes --reason 'bounce storm'",
        effect=Effect.DESTROY,
    ),
    _queue(
        "restore",
        "Bring purged mail back",
        "Puts mail from the trash back into the queue, due at once.",
        "mtactl queue restore 3kf9x2m7q0w1",
        "mtactl queue restore --last",
        extra=(LAST,),
    ),
    Operation(
        "queue.stats",
        "The queue in numbers",
        (Param("by", "choice", "Also count by what they have in common.", choices=values.GROUPS),),
        (
            ("messages", "int"),
            ("size_bytes", "int"),
            ("active", "int"),
            ("ready", "int"),
            ("deferred", "int"),
            ("held", "int"),
            ("trashed", "int"),
            ("done", "int"),
            ("failed", "int"),
            ("oldest", "int"),
            ("domains", "[]object"),
            ("by", "string"),
            ("groups", "[]object"),
        ),
        access=Access.OPERATOR,
        offline="read",
        help="Counts recipients by state, and names the domains that have most waiting. --by counts what is open and"
        " what failed by the class of the last error (and says what to do about it), by the domain of the recipient, or"
        " by the user, sender or client address; failed mail as long as its history is kept.",
        examples=("mtactl queue stats", "mtactl queue stats --by error", "mtactl queue stats --by domain --json"),
    ),
    Operation(
        "queue.mailq",
        "List the queue as mailq does",
        row=_MESSAGE,
        access=Access.ANYONE,
        offline="read",
        help="Prints the queue in the layout of mailq(1). Everybody sees the mail they submitted on this host;"
        " operators see all of it.",
        examples=("mtactl queue mailq", "mailq"),
        stream=True,
    ),
)
