"""The daemon itself: how it is, its settings, aliases and maildrop."""

from mtad.control.operation import Access, Effect, Operation

GROUPS = {
    "alias": "Aliases",
    "maildrop": "Mail that was submitted while the daemon was down",
    "config": "Settings",
}


OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "status",
        "Is the daemon well, and what is it doing",
        row=(
            ("version", "string"),
            ("hostname", "string"),
            ("domains", "[]string"),
            ("pid", "int"),
            ("uptime_s", "int"),
            ("listeners", "[]string"),
            ("sessions", "int"),
            ("deliveries", "int"),
            ("certificates", "[]string"),
            ("dane", "string"),
            ("messages", "int"),
            ("size_bytes", "int"),
            ("active", "int"),
            ("ready", "int"),
            ("deferred", "int"),
            ("held", "int"),
            ("trashed", "int"),
            ("oldest", "int"),
            ("maildrop", "int"),
            ("waiting", "[]string"),
            ("problems", "[]string"),
        ),
        access=Access.OPERATOR,
        help="One look at the running daemon: version, uptime, listeners, the queue in numbers, the domains that most"
        " mail waits for, and what is wrong with the settings.",
        examples=("mtactl status", "mtactl status --json | jq .deferred"),
    ),
    Operation(
        "reload",
        "Read the configuration, certificates, keys and aliases again",
        row=(("reloaded", "bool"), ("notes", "[]string")),
        effect=Effect.CHANGE,
        help="All or nothing: when something is wrong, everything stays as it was, and every problem is printed (78).",
        examples=("mtactl reload",),
    ),
    Operation(
        "alias.check",
        "Check the alias files, and use them",
        row=(("files", "[]string"), ("problems", "[]string"), ("reloaded", "bool")),
        effect=Effect.CHANGE,
        offline="read",
        help="What newaliases does: reads the alias files; without a problem they are in use at once, otherwise every"
        " problem is printed (65) and the old ones stay.",
        examples=("mtactl alias check", "newaliases"),
    ),
    Operation(
        "maildrop.drain",
        "Take in the mail that was submitted while the daemon was down",
        row=(("accepted", "int"),),
        access=Access.ANYONE,
        help="The daemon does this by itself; sendmail calls it after it wrote a file to the maildrop.",
        examples=("mtactl maildrop drain",),
    ),
    Operation(
        "config.show",
        "Show the settings in use",
        row=(("key", "string"), ("value", "string")),
        offline="read",
        help="Prints every setting, defaults included; --no-pager prints it without stopping. Secrets are not shown.",
        examples=("mtactl config show", "mtactl config show --no-pager", "mtactl config show --json"),
        stream=True,
    ),
)
