"""The sites that mail goes to, and what operators suspended."""

from mtad.control.operation import REASON, Access, Effect, Operation, Param

GROUPS = {
    "site": "The sites that mail goes to, and how they are paced",
    "suspend": "Mail that is not sent for now",
}

ABOUT = {
    "site": "\n\nA site is the mail hosts that one or more domains share; mail for all of them is paced together.\n\n"
    "The breaker is open, and the site's state broken, while it takes no mail: until the time of the next probe nothing"
    " goes there, whenever a mail itself would be due.\n\n"
    "A probe is the one mail that tries such a site first. If it is taken the breaker closes, else the next wait is"
    " twice as long.\n\n"
    "The pace is how many deliveries may be at work there at the same time: few at first, more with each mail that is"
    " taken, half as many after trouble.\n\n"
    "RUNNING is how many are at work; OF, how many may be at the same time now (0: closed); MAX, how many it can grow"
    " to (delivery.max_per_domain, or delivery.site).",
}

_SITE = Param(
    "site", "text", "Its name, one of its MX hosts, or a domain whose mail goes there.", required=True, positional=True
)
_STATE = (
    ("site", "string"),
    ("state", "string"),
    ("concurrency", "int"),
    ("ceiling", "int"),
    ("running", "int"),
    ("queued", "int"),
    ("rate", "string"),
    ("breaker", "string"),
    ("warmup", "string"),
    ("suspended", "string"),
)
_WHOLE = (
    *_STATE,
    ("asked", "string"),
    ("cause", "string"),
    ("opened", "int"),
    ("probe", "int"),
    ("probe_plan", "[]string"),
    ("seen", "int"),
    ("retry", "[]string"),
    ("hosts", "[]string"),
    ("domains", "[]string"),
)
_SUSPENSION = (
    ("kind", "string"),
    ("value", "string"),
    ("reason", "string"),
    ("made_by", "string"),
    ("created", "int"),
    ("expires", "int"),
)
_OF = (
    Param("domain", "domain", "Mail to this domain."),
    Param("site", "text", "Mail to this site: its name in `site list`, or one of its MX hosts."),
    Param("user", "user", "Mail of this user."),
)

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "site.list",
        "List the sites that mail goes to",
        row=_STATE,
        access=Access.OPERATOR,
        offline="read",
        help="A site is what the domains with the same MX hosts share. Lists those of which something is known: how"
        " many deliveries may be at work, whether the breaker is open, how far a warm-up is. `queued` counts the"
        " recipients in the queue, for the 200 domains with most of them.",
        examples=("mtactl site list", "mtactl site list --json | jq -r 'select(.breaker != \"\").site'"),
        stream=True,
    ),
    Operation(
        "site.show",
        "Show how a site is paced, and why",
        (_SITE,),
        _WHOLE,
        Access.OPERATOR,
        offline="read",
        help="Shows everything that is known of a site: state, concurrency, rate, breaker, warm-up, its domains.",
        examples=("mtactl site show gmail.com", "mtactl site show mx.example.org --json"),
    ),
    Operation(
        "site.reset",
        "Forget what was learnt of a site",
        (_SITE, REASON),
        (("site", "string"), ("asked", "string"), ("state", "string")),
        Access.OPERATOR,
        Effect.CHANGE,
        "write",
        help="Closes the breaker and begins anew with few deliveries. What a warm-up counted today stays.",
        examples=("mtactl site reset example.org --reason 'they unblocked us'",),
    ),
    Operation(
        "suspend.list",
        "List what is suspended",
        row=_SUSPENSION,
        access=Access.OPERATOR,
        offline="read",
        help="Lists what operators suspended and what is not over yet.",
        examples=("mtactl suspend list",),
        stream=True,
    ),
    Operation(
        "suspend.add",
        "Send no mail to a domain or site, or of a user, for now",
        (*_OF, Param("for", "duration", "How long: 90s 15m 2h 3d; without it, until it is removed."), REASON),
        _SUSPENSION,
        Access.OPERATOR,
        Effect.CHANGE,
        "write",
        help="The mail stays in the queue, and its time runs on. Deliveries that are at work end as they began. Takes"
        " one of --domain, --site and --user. A suspension of the same is replaced.",
        examples=(
            "mtactl suspend add --domain example.org --for 2h --reason 'their disk is full'",
            "mtactl suspend add --site mx.example.net",
            "mtactl suspend add --user alice@example.test --reason 'spam run'",
        ),
    ),
    Operation(
        "suspend.remove",
        "Send mail again that was suspended",
        (*_OF, REASON),
        _SUSPENSION,
        Access.OPERATOR,
        Effect.CHANGE,
        "write",
        help="Removes a suspension, named as `suspend list` shows it; what waited is due at once.",
        examples=("mtactl suspend remove --domain example.org", "mtactl suspend remove --user alice@example.test"),
    ),
)
