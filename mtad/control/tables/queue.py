"""What is in the queue, and what can be done with it."""

from typing import Literal

from mtad.control import values
from mtad.control.operation import ACTING, LAST, REASON, SELECTOR, Access, Effect, Operation, Param

GROUPS = {
    "queue": "See and change what is in the queue",
    "queue hold-rule": "Rules by which new mail is held",
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
    ("subject", "string"),
)
_CHANGED = (
    *_MESSAGE,
    ("changed", "int"),
    ("would_change", "int"),
    ("active", "int"),
    ("audit", "int"),
    ("undo", "string"),
    ("waiting", "[]object"),
)
_BOUNCED = (*_CHANGED, ("of", "int"))
_PURGED = (*_CHANGED, ("trash_s", "int"))
_GROUP = (
    ("by", "string"),
    ("group", "string"),
    ("count", "int"),
    ("messages", "int"),
    ("size_bytes", "int"),
    ("oldest", "int"),
)
_RULE = (
    ("number", "int"),
    ("from", "string"),
    ("to", "string"),
    ("domain", "string"),
    ("user", "string"),
    ("ip", "string"),
    ("reason", "string"),
    ("made_by", "string"),
    ("created", "int"),
    ("expires", "int"),
    ("freezes", "bool"),
)
GROUP_BY = (*values.GROUPS, "site", "subject")
SORT_BY = ("age", "size", "tries", "next", "from", "to", "domain")
_TOGETHER = (
    "All conditions that are given must hold; upper and lower case are the same in all but --message-id, and --state,"
    " --subject and --not-subject may be repeated."
)


def _queue(
    verb: str,
    summary: str,
    text: str,
    *examples: str,
    extra: tuple[Param, ...] = (),
    effect: Effect = Effect.CHANGE,
    access: Access | None = None,
    offline: Literal["no", "write"] = "write",
    row: tuple[tuple[str, str], ...] = _CHANGED,
) -> Operation:
    """A verb that changes what it selects."""
    return Operation(
        f"queue.{verb}",
        summary,
        (*SELECTOR, *extra, *ACTING),
        row,
        access or (Access.OPERATOR if effect is Effect.CHANGE else Access.ADMIN),
        effect,
        offline,
        f"{text} Prints how many recipients it changed. {_TOGETHER}",
        examples,
        stream=True,
    )


OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "queue.list",
        "List what is in the queue",
        (
            *SELECTOR,
            Param("group_by", "choice", "Count together what has this in common, most first.", choices=GROUP_BY),
            Param(
                "sort",
                "choice",
                "In this order: first the youngest, the smallest, the first due, the first of the alphabet.",
                choices=SORT_BY,
            ),
            Param("reverse", "flag", "With --sort: turned round."),
            Param("count", "flag", "Only how many."),
        ),
        (*_MESSAGE, *_GROUP),
        Access.OPERATOR,
        offline="read",
        help="Lists undelivered mail, oldest first: one line per recipient, or with --json one object per message"
        " (the members of `postqueue -j`, and more). --state also shows what is trashed, done or failed. The same"
        " conditions go with every verb of the queue: look first, then change the verb. " + _TOGETHER,
        examples=(
            "mtactl queue list",
            "mtactl queue list --state deferred --domain example.com --older 2h",
            "mtactl queue list --from '@example.org' --size '>10M' --json",
            "mtactl queue list --state deferred --group-by error",
            "mtactl queue list --user alice@example.test --group-by subject",
            "mtactl queue list --user alice@example.test --subject pills --subject watches --not-subject 'Your order'",
            "mtactl queue list --sort size --reverse --limit 10",
        ),
        stream=True,
    ),
    Operation(
        "queue.show",
        "Show everything about a message",
        (
            Param("ids", "id", "Queue ids, or the beginning of one.", required=True, positional=True, many=True),
            Param("content", "flag", "Also the mail: its header and text, or the beginning of that. For admins."),
        ),
        (
            *_MESSAGE,
            ("helo", "string"),
            ("tls", "string"),
            ("body", "string"),
            ("smtputf8", "bool"),
            ("requiretls", "bool"),
            ("priority", "int"),
            ("ret", "string"),
            ("envid", "string"),
            ("hold_until", "int"),
            ("deliver_by", "int"),
            ("attempts", "[]object"),
            ("actions", "[]object"),
            ("content", "string"),
            ("content_left", "int"),
        ),
        Access.OPERATOR,
        offline="read",
        help="Shows a message with its recipients: why each waits and what to type about it, their last replies, every"
        " try, and what operators did to it and why; finished mail too, as long as its history is kept."
        " With --content also the mail, safe to look at; `queue body` prints its octets. That it was read is in the"
        " audit trail.",
        examples=(
            "mtactl queue show 3kf9x2m7q0w1",
            "mtactl queue show 3kf9x2m7q0w1 --content",
            "mtactl queue show 3kf9x --json",
        ),
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
    Operation(
        "queue.body",
        "Print a mail as it is sent",
        (
            Param("id", "id", "Queue id, or the beginning of one.", required=True, positional=True),
            Param("part", "choice", "Only this of it.", choices=("head", "body")),
        ),
        (("queue_id", "string"), ("octets", "string")),
        offline="read",
        help="Prints the octets of a mail that is still in the queue: into a pipe or a file as they are, on a terminal"
        " with everything made visible that a terminal would obey. With --json in base64. That it was read is in the"
        " audit trail.",
        examples=("mtactl queue body 3kf9x2m7q0w1 --part head", "mtactl queue body 3kf9x2m7q0w1 --json"),
        stream=True,
        told=True,
    ),
    _queue(
        "flush",
        "Try deferred mail now",
        "Makes the selected mail due at once. Sites that are broken are tried anew, all of them: with one mail"
        " at first, and more when that is taken. What is suspended, or over its limit for the day, goes on waiting.",
        "mtactl queue flush --all",
        "mtactl queue flush --domain example.com",
    ),
    _queue(
        "hold",
        "Stop delivery of mail until it is released",
        "Holds the selected mail: it is kept, and not tried. Of what is being delivered at that moment the other"
        " side's answer decides: it may still leave. For mail that is yet to come see `queue hold-rule add`.",
        "mtactl queue hold 3kf9x2m7q0w1",
        "mtactl queue hold --user alice@example.test --reason 'stolen password'",
    ),
    _queue(
        "release",
        "Let held mail go on",
        "Releases held mail: it is due at once. Mail to a site that is broken waits until that is tried again;"
        " `queue flush` does not.",
        "mtactl queue release --all",
        "mtactl queue release --from '@example.org'",
    ),
    _queue(
        "retry",
        "Choose when mail is tried next",
        "Sets the time of the next try of the selected mail: now, or with --in or --at later. A try now is also one at"
        " a site that is broken, as with `queue flush`; a later one waits until such a site is tried again.",
        "mtactl queue retry 3kf9x2m7q0w1",
        "mtactl queue retry --domain example.com --in 2h",
        "mtactl queue retry --domain example.com --at 18:30",
        extra=(
            Param("in", "duration", "How long from now: 15m 2h."),
            Param("at", "moment", "At this time: '18:30', '2026-11-25 18:30', or ISO 8601 with a zone."),
        ),
    ),
    _queue(
        "bounce",
        "Give mail up now, with a report to its sender",
        "Ends the selected mail as failed: each sender gets the report that a refusal would have made, with the text of"
        " --reason in it. What is being delivered at that moment is left alone. This cannot be undone. It goes on 200"
        " recipients at a time; interrupted, it stops behind the part it is at, and `mtactl audit` says how many it"
        " were.",
        "mtactl queue bounce --domain exmaple.com --reason 'There is no such domain: check the address'",
        "mtactl queue bounce 3kf9x2m7q0w1 --yes",
        effect=Effect.DESTROY,
        offline="no",
        row=_BOUNCED,
    ),
    _queue(
        "redirect",
        "Send mail to another address, or another way",
        "Gives the selected mail another recipient, or a route of its own as in the setting delivery.route.to, and"
        " tries it at once; held mail stays held. Reports still name the recipient it was for. --back undoes it.",
        "mtactl queue redirect --to old@example.com --to-address new@example.com",
        "mtactl queue redirect --domain example.com --route smtp://192.0.2.9:25",
        "mtactl queue redirect --domain example.com --back",
        extra=(
            Param("to_address", "address", "The address that gets it."),
            Param("route", "text", "Where it goes: smtp://host:port smtps:// lmtp:// maildir:///path/%u."),
            Param("back", "flag", "To where it would go if it had not been redirected."),
        ),
        access=Access.ADMIN,
        offline="no",
    ),
    _queue(
        "purge",
        "Take mail out of the queue, without a report to its sender",
        "Moves the selected mail to the trash: it is not delivered and nobody is told. `queue restore` brings it back"
        " as long as the trash is kept: 3 days, if the setting keep.trash says nothing else. Of what is being delivered"
        " at that moment the other side's answer decides: it may still leave.",
        "mtactl queue purge --to '*@bad.example' --older 2d",
        "mtactl queue purge --user alice@example.test --not-subject 'Your order' --dry-run",
        "mtactl queue purge --from '<>' --state deferred --yes --reason 'bounce storm'",
        effect=Effect.DESTROY,
        row=_PURGED,
    ),
    _queue(
        "restore",
        "Bring purged mail back",
        "Puts mail from the trash back into the queue as it was: held mail is held, other mail keeps its time. --last"
        " is what the last purge took, of what is still in the trash; repeat it to go back one purge more.",
        "mtactl queue restore 3kf9x2m7q0w1",
        "mtactl queue restore --last",
        "mtactl queue restore --audit 5",
        extra=(LAST,),
    ),
    Operation(
        "queue.hold_rule.list",
        "List the hold rules",
        row=_RULE,
        access=Access.OPERATOR,
        offline="read",
        help="Lists the rules by which new mail is held, those of `user freeze` among them.",
        examples=("mtactl queue hold-rule list", "mtactl queue hold-rule list --json"),
        stream=True,
    ),
    Operation(
        "queue.hold_rule.add",
        "Hold mail that is yet to come",
        (
            Param("from", "address", 'Sender: an address, "@domain", or a pattern with * and ?; "<>": no sender.'),
            Param("to", "address", 'Recipient, also before aliases: an address, "@domain", or a pattern.'),
            Param("domain", "domain", "Domain of the recipient."),
            Param("user", "user", "The authenticated user who sends it."),
            Param("ip", "text", "The client's IP address, or a pattern."),
            Param("for", "duration", "How long the rule holds: 2h 3d; without it until it is removed."),
            REASON,
        ),
        (*_RULE, ("audit", "int"), ("undo", "string")),
        Access.OPERATOR,
        Effect.CHANGE,
        "write",
        "From now on mail that meets all conditions is accepted and held. What a rule held is released, bounced or"
        " purged by the rule's number: `queue release --audit NUMBER`. Mail that is in the queue already is for"
        " `queue hold`.",
        (
            "mtactl queue hold-rule add --user alice@example.test --for 1d --reason 'newsletter under review'",
            "mtactl queue hold-rule add --from '@shop.example' --to '@example.com'",
        ),
    ),
    Operation(
        "queue.hold_rule.remove",
        "End a hold rule",
        (Param("number", "count", "Its number in `queue hold-rule list`.", required=True, positional=True), REASON),
        _RULE,
        Access.OPERATOR,
        Effect.CHANGE,
        "write",
        "New mail is not held by it any more. What it held stays held: `queue release --audit NUMBER`.",
        ("mtactl queue hold-rule remove 17",),
    ),
    Operation(
        "queue.watch",
        "Watch mail come, change and go",
        (*SELECTOR, Param("interval", "duration", "How often to look: 5s; 2s without it.")),
        (
            ("at", "float"),
            ("change", "string"),
            ("id", "string"),
            ("state", "string"),
            ("before", "string"),
            ("sender", "string"),
            ("address", "string"),
            ("tries", "int"),
            ("next_attempt", "int"),
            ("delay_reason", "string"),
        ),
        Access.OPERATOR,
        help="Prints the selected recipients, at most 500, and then a line for each that comes, changes its state, is"
        " tried, or is not selected any more, until it is interrupted. A recipient that comes and goes between two"
        " looks is not seen: `mtactl log --follow` has every try.",
        examples=("mtactl queue watch --domain example.com", "mtactl queue watch --user alice@example.test --json"),
        stream=True,
        live=True,
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
            ("last_day", "[]object"),
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
        row=_MESSAGE[:7],
        access=Access.ANYONE,
        offline="read",
        help="Prints the queue in the layout of mailq(1), and what waits in the maildrop. Everybody sees the mail they"
        " submitted on this host; operators see all of it.",
        examples=("mtactl queue mailq", "mailq"),
        stream=True,
    ),
)
