"""THE table of operator verbs: protocol check, access, commands, man pages, completions, docs and tests derive from it.

Pure, and light to import: it is on the start-up path of mtactl.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Literal

from mtad.control import values


class Access(IntEnum):
    """Who may. From SO_PEERCRED: root, the daemon's own user and members of `admin_group` are admins."""

    ANYONE = 0
    OPERATOR = 1
    ADMIN = 2


class Effect(IntEnum):
    """READ changes nothing; CHANGE and DESTROY are audited; DESTROY shows the count and asks first."""

    READ = 0
    CHANGE = 1
    DESTROY = 2


Kind = Literal[
    "text",
    "flag",
    "count",
    "duration",
    "path",
    "domain",
    "user",
    "id",
    "address",
    "secret",
    "choice",
    "compare",
    "quota",
    "fingerprint",
    "lines",
]


@dataclass(frozen=True, slots=True)
class Param:
    name: str  # as in the frame: snake_case; on the command line --snake-case
    kind: Kind
    help: str
    required: bool = False
    positional: bool = False
    many: bool = False
    choices: tuple[str, ...] = ()
    default: Any = None


@dataclass(frozen=True, slots=True)
class Operation:
    name: str  # "queue.list": the words on the command line, the handler, the varlink method QueueList
    summary: str
    params: tuple[Param, ...] = ()
    row: tuple[tuple[str, str], ...] = ()  # (column, type) of what streams back; () = no rows
    access: Access = Access.ADMIN
    effect: Effect = Effect.READ
    offline: Literal["no", "read", "write"] = "no"  # may it run on a stopped daemon's data
    help: str = ""
    examples: tuple[str, ...] = ()
    stream: bool = False  # any number of rows; else exactly one

    @property
    def selects(self) -> bool:
        """Whether it takes the selector vocabulary."""
        return self.params[: len(SELECTOR)] == SELECTOR


class UsageError(Exception):
    """The arguments are wrong (64). `param` is the offending name, "" when it is none in particular."""

    def __init__(self, param: str, text: str) -> None:
        super().__init__(f"{param}: {text}" if param else text)
        self.param = param
        self.text = text


_PARSERS: Mapping[Kind, Callable[[object], Any]] = {
    "text": values.text,
    "flag": values.flag,
    "count": values.count,
    "duration": values.duration,
    "path": values.path,
    "domain": values.domain,
    "user": values.user,
    "id": values.identifier,
    "address": values.text,
    "secret": values.text,
    "choice": values.text,
    "compare": values.compare,
    "quota": values.quota,
    "fingerprint": values.fingerprint,
    "lines": values.line,
}


def check(operation: Operation, given: Mapping[str, Any]) -> dict[str, Any]:
    """The ONE validator, used by both sides: what was `given` in a frame -> parsed values, every parameter present.

    Ages become seconds, comparisons (sign, number); what is absent or null gets its default. Raises UsageError for an
    unknown name, a wrong type or value, a missing one, and for a changing verb without a selector.
    """
    known = {param.name: param for param in operation.params}
    for name in given:
        if name not in known:
            raise UsageError(name[:60], f"{operation.name} knows no such parameter")
    checked: dict[str, Any] = {}
    for param in operation.params:
        value = given.get(param.name)
        if value is None or (param.many and value in ([], ())):
            if param.required:
                raise UsageError(param.name, "is missing")
            checked[param.name] = () if param.many else False if param.kind == "flag" else param.default
        elif param.many:
            if not isinstance(value, list | tuple):
                raise UsageError(param.name, "is not a list")
            if len(value) > values.ITEMS_MAX:
                raise UsageError(param.name, f"has more than {values.ITEMS_MAX} entries")
            checked[param.name] = tuple(_parse(param, item) for item in value)
        else:
            checked[param.name] = _parse(param, value)
    if operation.selects and operation.effect > Effect.READ and not conditions(checked):
        raise UsageError("", "select something, or say --all")
    return checked


def conditions(checked: Mapping[str, Any]) -> list[str]:
    """The names of the conditions that were given; "all" is one."""
    return [name for name in _CONDITIONS if not any(checked.get(name) is nothing for nothing in (None, (), False))]


def _parse(param: Param, value: Any) -> Any:
    try:
        parsed = _PARSERS[param.kind](value)
    except values.BadValue as error:
        shown = f"{value[:60]!a} " if isinstance(value, str) and value and param.kind not in ("secret", "lines") else ""
        raise UsageError(param.name, f"{shown}{error}") from None
    if param.choices and parsed not in param.choices:
        raise UsageError(param.name, f"{value[:60]!a} is none of {', '.join(param.choices)}")
    return parsed


SELECTOR = (
    Param("ids", "id", "Queue ids, ids of recipients (ID.N), or the beginning of an id.", positional=True, many=True),
    Param("from", "address", 'Sender: an address, "@domain", or a pattern with * and ?; "<>" is the null sender.'),
    Param("to", "address", 'Recipient: an address, "@domain", or a pattern with * and ?.'),
    Param("domain", "domain", "Domain of the recipient."),
    Param("user", "user", "The authenticated user who sent it."),
    Param("ip", "text", "The client's IP address."),
    Param("state", "choice", "Delivery state.", many=True, choices=values.STATES),
    Param("error", "text", "Part of the last reply's text, or its code, as 451 or 4.7.1."),
    Param("older", "duration", "Accepted longer ago than: 90s 15m 2h 3d."),
    Param("newer", "duration", "Accepted less long ago than."),
    Param("size", "compare", "Size of the message: '>4k' '<10M'."),
    Param("attempts", "compare", "Number of tries: '>3' '0'."),
    Param("limit", "count", "At most that many recipients."),
    Param("all", "flag", "Everything (that the other conditions leave)."),
)
_LAST = Param("last", "flag", "What the last purge took.")
_CONDITIONS = (*(param.name for param in SELECTOR if param.name != "limit"), _LAST.name)

DRY_RUN = Param("dry_run", "flag", "Show what would be changed, and change nothing.")
YES = Param("yes", "flag", "Do not ask.")
REASON = Param("reason", "text", "Why; goes into the log.")
_ACTING = (DRY_RUN, YES, REASON)

_DOMAIN = Param("domain", "domain", "The domain.", required=True, positional=True)
_BLOCKED = Param(
    "value", "text", "An IP address or network, user@example.org, or @example.org.", required=True, positional=True
)
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
_KEY = (
    ("domain", "string"),
    ("selector", "string"),
    ("algorithm", "string"),
    ("bits", "int"),
    ("name", "string"),
    ("record", "string"),
    ("path", "string"),
    ("created", "int"),
)
_CERTIFICATE = (("cert", "string"), ("key", "string"), ("names", "[]string"), ("expires", "int"))
_BLOCK = (
    ("value", "string"),
    ("kind", "string"),
    ("reason", "string"),
    ("made_by", "string"),
    ("created", "int"),
    ("expires", "int"),
    ("times", "int"),
)
_USER = (("name", "string"), ("created", "int"), ("disabled", "string"))
_SENDERS = (("name", "string"), ("senders", "[]string"))
_CERTIFICATES = (("name", "string"), ("certificates", "[]string"))


def _queue(
    verb: str, summary: str, text: str, *examples: str, extra: tuple[Param, ...] = (), effect: Effect = Effect.CHANGE
) -> Operation:
    """A verb that changes what it selects."""
    return Operation(
        f"queue.{verb}",
        summary,
        (*SELECTOR, *extra, *_ACTING),
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
            ("messages", "int"),
            ("size_bytes", "int"),
            ("active", "int"),
            ("ready", "int"),
            ("deferred", "int"),
            ("held", "int"),
            ("trashed", "int"),
            ("oldest", "int"),
            ("waiting", "[]string"),
            ("problems", "[]string"),
        ),
        access=Access.OPERATOR,
        help="One look at the running daemon: version, uptime, listeners, the queue in numbers, the domains that most"
        " mail waits for, and what is wrong with the settings.",
        examples=("mtactl status", "mtactl status --json | jq .deferred"),
    ),
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
        extra=(_LAST,),
    ),
    Operation(
        "queue.stats",
        "The queue in numbers",
        row=(
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
        ),
        access=Access.OPERATOR,
        offline="read",
        help="Counts recipients by state, and names the domains that have most waiting.",
        examples=("mtactl queue stats", "mtactl queue stats --json"),
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
    Operation(
        "dkim.generate",
        "Make a signing key for a domain",
        (
            _DOMAIN,
            Param("selector", "domain", "The key's name in DNS; by default made from the date."),
            Param("algorithm", "choice", "Kind of key.", choices=("rsa", "ed25519", "both"), default="rsa"),
        ),
        _KEY,
        effect=Effect.CHANGE,
        offline="write",
        help="Makes a private key, and prints the DNS record to publish. Mail from the domain is signed from then on:"
        " publish the record first where mail is already flowing.",
        examples=(
            "mtactl dkim generate example.test",
            "mtactl dkim generate example.test --selector s1 --algorithm both",
        ),
        stream=True,
    ),
    Operation(
        "dkim.list",
        "List the signing keys",
        row=_KEY,
        access=Access.OPERATOR,
        offline="read",
        help="Lists the DKIM keys of all domains.",
        examples=("mtactl dkim list", "mtactl dkim list --json"),
        stream=True,
    ),
    Operation(
        "dkim.show",
        "Show the DNS records of a domain's keys",
        (_DOMAIN, Param("selector", "domain", "Only this key.")),
        _KEY,
        Access.OPERATOR,
        offline="read",
        help="Prints what to publish in DNS for each key of the domain.",
        examples=("mtactl dkim show example.test", "mtactl dkim show example.test --selector s1 --json"),
        stream=True,
    ),
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
        (_NAME, *_ACTING),
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
        (_NAME, _PASSWORD),
        _USER,
        effect=Effect.CHANGE,
        offline="write",
        help="Sets a new password, read as `user add` reads it. App passwords stay.",
        examples=("mtactl user passwd alice@example.test",),
    ),
    Operation(
        "user.verify",
        "Check a user's password",
        (_NAME, _PASSWORD),
        (("name", "string"), ("right", "bool")),
        offline="read",
        help="Says whether this is the user's password, or an app password, and may sign in; exits with 77 if not. The"
        " password is read as `user add` reads it.",
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
        " command. Mail for the user still comes in; mail in the queue stays: see `queue hold --user`.",
        examples=("mtactl user disable alice@example.test --reason 'stolen password, call us'",),
    ),
    Operation(
        "user.enable",
        "Let a user sign in again",
        (_NAME,),
        _USER,
        effect=Effect.CHANGE,
        offline="write",
        help="Undoes `user disable`.",
        examples=("mtactl user enable alice@example.test",),
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
    Operation(
        "reload",
        "Read the configuration, certificates, keys and aliases again",
        row=(("reloaded", "bool"), ("notes", "[]string")),
        effect=Effect.CHANGE,
        help="All or nothing: when something is wrong, everything stays as it was, and every problem is printed (78).",
        examples=("mtactl reload",),
    ),
    Operation(
        "tls.show",
        "Show the certificates in use",
        row=_CERTIFICATE,
        access=Access.OPERATOR,
        help="Lists the certificates that clients get: the default first, then those for the names they ask for.",
        examples=("mtactl tls show", "mtactl tls show --json | jq .expires"),
        stream=True,
    ),
    Operation(
        "tls.reload",
        "Read the certificates again",
        row=_CERTIFICATE,
        effect=Effect.CHANGE,
        help="Reads the certificate and key files, and nothing else; prints what is in use from now on. If one file is"
        " broken, the certificates of before stay (78). The daemon does this by itself within two minutes after a file"
        " changes. Sessions that are open go on as they are.",
        examples=("mtactl tls reload",),
        stream=True,
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
        help="Prints every setting, defaults included. Secrets are not shown.",
        examples=("mtactl config show", "mtactl config show --json"),
        stream=True,
    ),
    Operation(
        "backup.create",
        "Write a backup, while the daemon works",
        (Param("path", "path", "The file to write; it must not exist.", required=True, positional=True),),
        (("path", "string"), ("size_bytes", "int"), ("files", "int")),
        effect=Effect.CHANGE,
        offline="write",
        help="Writes one tar file with the queue, its messages, the users, the DKIM keys and the configuration. The"
        " daemon's user writes it: the directory must let it.",
        examples=("mtactl backup create /var/backups/mtad/today.tar",),
    ),
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

BY_NAME: Mapping[str, Operation] = {operation.name: operation for operation in OPERATIONS}
