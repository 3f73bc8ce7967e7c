"""Accounts."""

from mtad.control.operation import ACTING, DRY_RUN, REASON, Access, Effect, Operation, Param

GROUPS = {
    "user": "Who may submit mail",
    "user app-password": "Passwords for single programs of a user",
    "user certificate": "Client certificates of a user",
}

_NAME = Param("name", "user", "An address; a bare name gets the first domain.", required=True, positional=True)
_LABEL = Param("label", "text", "What it is for: phone, printer ...", required=True, positional=True)
_SENDER = Param("sender", "address", 'An address, or "@domain".', required=True, positional=True)
_FINGERPRINT = Param(
    "fingerprint",
    "fingerprint",
    "SHA-256 of the certificate, in hex, with or without colons.",
    required=True,
    positional=True,
)
_PASSWORD = Param("password", "secret", "The password.", required=True)
_USER = (("name", "string"), ("created", "int"), ("disabled", "string"))
_THAWED = (
    *_USER,
    ("released", "int"),
    ("held", "int"),
    ("password_changed", "bool"),
    ("app_passwords", "[]string"),
    ("messages", "int"),
    ("messages_per_day", "int"),
    ("new_recipients", "int"),
    ("new_recipients_per_day", "int"),
    ("waiting", "[]object"),
    ("audit", "int"),
    ("undo", "string"),
)
_SENDERS = (("name", "string"), ("senders", "[]string"))
_CERTIFICATES = (("name", "string"), ("certificates", "[]string"))

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "user.add",
        "Add a user",
        (_NAME, _PASSWORD, Param("receive_only", "flag", "The user gets mail, and may not submit any.")),
        _USER,
        effect=Effect.CHANGE,
        offline="write",
        help="Adds a user, who may submit mail and has an address. The password is asked for on a terminal; otherwise"
        " it is one line of standard input, or of the descriptor of --password-fd.",
        examples=("mtactl user add alice@example.test", "pass show mail/alice | mtactl user add alice"),
    ),
    Operation(
        "user.list",
        "List the users",
        row=_USER,
        access=Access.OPERATOR,
        offline="read",
        help="Lists the users with the day they were added.",
        examples=("mtactl user list", "mtactl user list --json"),
        stream=True,
    ),
    Operation(
        "user.show",
        "Show everything about a user",
        (_NAME,),
        (
            *_USER,
            ("scheme", "string"),
            ("scram", "bool"),
            ("receive_only", "bool"),
            ("senders", "[]string"),
            ("app_passwords", "[]object"),
            ("certificates", "[]string"),
            ("messages", "int"),
            ("messages_per_day", "int"),
            ("new_recipients", "int"),
            ("new_recipients_per_day", "int"),
        ),
        Access.OPERATOR,
        offline="read",
        help="Shows a user: how the password is kept, app passwords, further sender addresses, certificates, and what"
        " was sent within 24 hours of what may be (0 is no limit). Nothing of a password is shown.",
        examples=("mtactl user show alice@example.test", "mtactl user show alice --json | jq .app_passwords"),
    ),
    Operation(
        "user.remove",
        "Remove a user",
        (_NAME, *ACTING),
        (("name", "string"), ("changed", "int"), ("would_change", "int")),
        effect=Effect.DESTROY,
        offline="write",
        help="Removes a user: no sign-in any more, and the address is refused unless an alias takes it. Delivered mail"
        " stays where it is. Asks first.",
        examples=("mtactl user remove alice@example.test", "mtactl user remove alice --yes"),
    ),
    Operation(
        "user.passwd",
        "Change a user's password",
        (_NAME, _PASSWORD, REASON),
        (*_USER, ("app_passwords", "[]string")),
        effect=Effect.CHANGE,
        offline="write",
        help="Sets a new password. It is asked for on a terminal; otherwise it is one line of standard input, or of the"
        " descriptor of --password-fd. App passwords stay. There is no way back: the old password is not kept.",
        examples=(
            "mtactl user passwd alice@example.test",
            "pass show mail/alice | mtactl user passwd alice --reason 'the old one was stolen'",
        ),
    ),
    Operation(
        "user.verify",
        "Check a user's password",
        (_NAME, _PASSWORD),
        (("name", "string"), ("right", "bool")),
        offline="read",
        help="Says whether this is the user's password, or an app password, and may sign in; exits with 77 if not. It"
        " is asked for on a terminal; otherwise it is a line of standard input or of the descriptor of --password-fd.",
        examples=("mtactl user verify alice@example.test",),
    ),
    Operation(
        "user.disable",
        "Let a user not sign in any more",
        (_NAME, Param("reason", "text", "Why; goes into the log, and the user's mailer is told.")),
        _USER,
        effect=Effect.CHANGE,
        offline="write",
        help="Refuses the user's right passwords from now on, with the reason, and ends open sessions at their next"
        " command. Mail for the user still comes in, and what the user sent before still goes out: see `user freeze`.",
        examples=("mtactl user disable alice@example.test --reason 'stolen password, call us'",),
    ),
    Operation(
        "user.enable",
        "Let a user sign in again",
        (_NAME,),
        _THAWED,
        effect=Effect.CHANGE,
        offline="write",
        help="Undoes `user disable`. After `user freeze` it does what `user thaw` does: mail that was held stays held.",
        examples=("mtactl user enable alice@example.test",),
    ),
    Operation(
        "user.freeze",
        "Stop an account at once: sign-in, sessions, and its mail in the queue",
        (_NAME, REASON),
        (
            *_USER,
            ("held", "int"),
            ("active", "int"),
            ("sessions", "int"),
            ("app_passwords", "[]string"),
            ("audit", "int"),
            ("undo", "string"),
        ),
        effect=Effect.CHANGE,
        offline="write",
        help="For a stolen password: in one transaction the user is disabled, everything of the user in the queue is"
        " held, and what still comes of the user will be held; then the open sessions are ended. What is being"
        " delivered at that moment may still leave; it is counted. Look at what is held with `queue list --user`, then"
        " release, bounce or purge it.",
        examples=("mtactl user freeze alice@example.test --reason 'stolen password, call us'",),
    ),
    Operation(
        "user.thaw",
        "End what `user freeze` began",
        (_NAME, Param("release", "flag", "Also send what was held because of it: look at it first."), REASON),
        _THAWED,
        effect=Effect.CHANGE,
        offline="write",
        help="The user may sign in again, and new mail is not held any more. What was held stays held without"
        " --release. Says when the password is still the one from before, which app passwords work, and when little is"
        " left of what the user may send within 24 hours.",
        examples=("mtactl user thaw alice@example.test", "mtactl user thaw alice@example.test --release"),
    ),
    Operation(
        "user.grant",
        "Let a user send as another address",
        (_NAME, _SENDER),
        _SENDERS,
        effect=Effect.CHANGE,
        offline="write",
        help="Allows one more sender address, or all of a @domain, in the envelope and in From. The own address and"
        " aliases that lead to the user are always allowed.",
        examples=(
            "mtactl user grant alice@example.test info@example.test",
            "mtactl user grant alice@example.test @shop.example",
        ),
    ),
    Operation(
        "user.revoke",
        "Take back a sender address that was granted",
        (_NAME, _SENDER),
        _SENDERS,
        effect=Effect.CHANGE,
        offline="write",
        help="Undoes `user grant`.",
        examples=("mtactl user revoke alice@example.test @shop.example",),
    ),
    Operation(
        "user.limit",
        "Set how much a user may send",
        (
            _NAME,
            Param("messages_per_day", "quota", 'Messages within 24 hours; 0 is any number, "default" the setting.'),
            Param("new_recipients_per_day", "quota", "Recipients within 24 hours who never got mail of the user."),
            Param("receive_only", "choice", "Whether the user may submit no mail at all.", choices=("yes", "no")),
        ),
        (
            ("name", "string"),
            ("messages_per_day", "int"),
            ("new_recipients_per_day", "int"),
            ("receive_only", "bool"),
        ),
        effect=Effect.CHANGE,
        offline="write",
        help="Sets limits of one user in place of limits.user_messages_per_day and limits.user_new_recipients_per_day."
        " Prints those that hold now.",
        examples=(
            "mtactl user limit news@example.test --messages-per-day 20000 --new-recipients-per-day 0",
            "mtactl user limit alice@example.test --messages-per-day default",
        ),
    ),
    Operation(
        "user.app_password.add",
        "Make a password for one program",
        (_NAME, _LABEL),
        (("name", "string"), ("label", "string"), ("password", "string")),
        effect=Effect.CHANGE,
        offline="write",
        help="Generates a password that works like the user's own, and prints it once. It can be removed without"
        " changing any other.",
        examples=("mtactl user app-password add alice@example.test phone",),
    ),
    Operation(
        "user.app_password.list",
        "List a user's app passwords",
        (_NAME,),
        (("label", "string"), ("created", "int"), ("used", "int")),
        Access.OPERATOR,
        offline="read",
        help="Lists the app passwords by their labels, with the day each was last used.",
        examples=("mtactl user app-password list alice@example.test",),
        stream=True,
    ),
    Operation(
        "user.app_password.remove",
        "Remove an app password",
        (_NAME, _LABEL),
        (("name", "string"), ("label", "string")),
        effect=Effect.CHANGE,
        offline="write",
        help="Makes an app password useless at once.",
        examples=("mtactl user app-password remove alice@example.test phone",),
    ),
    Operation(
        "user.certificate.add",
        "Let a user sign in with a client certificate",
        (_NAME, _FINGERPRINT),
        _CERTIFICATES,
        effect=Effect.CHANGE,
        offline="write",
        help="Registers a certificate by its SHA-256 fingerprint, for AUTH EXTERNAL. One that names the user's address"
        " needs none. It must be signed by an authority of tls.client_ca in both cases.",
        examples=(
            "mtactl user certificate add alice@example.test"
            " $(openssl x509 -in alice.pem -noout -fingerprint -sha256 | cut -d= -f2)",
        ),
    ),
    Operation(
        "user.certificate.remove",
        "Forget a client certificate",
        (_NAME, _FINGERPRINT),
        _CERTIFICATES,
        effect=Effect.CHANGE,
        offline="write",
        help="Undoes `user certificate add`.",
        examples=("mtactl user certificate remove alice@example.test " + "0123456789abcdef" * 4,),
    ),
    Operation(
        "user.import",
        "Add users from a password file",
        (
            Param(
                "lines",
                "lines",
                "The file, with lines of user:hash; on the wire each after its number and a blank.",
                required=True,
                positional=True,
                many=True,
            ),
            DRY_RUN,
        ),
        (
            ("line", "int"),
            ("name", "string"),
            ("result", "string"),
            ("problem", "string"),
            ("changed", "int"),
            ("would_change", "int"),
            ("problems", "int"),
        ),
        effect=Effect.CHANGE,
        offline="write",
        help="Adds the users of a password file, as Dovecot and others have them: user:{SCHEME}hash, further fields are"
        " ignored. Known are SHA512-CRYPT, SHA256-CRYPT, SSHA, SSHA256, SSHA512, SHA, SHA256, SHA512, PBKDF2,"
        " SCRAM-SHA-256, PLAIN, and with their Python packages ARGON2ID and BLF-CRYPT. Each hash is replaced by one of"
        " ours when its owner signs in. Users that exist stay as they are. Exits with 65 when lines could not be used.",
        examples=(
            "mtactl user import /etc/dovecot/users --dry-run",
            "doveadm user '*' | ./dump-hashes | mtactl user import -",
        ),
        stream=True,
    ),
)
