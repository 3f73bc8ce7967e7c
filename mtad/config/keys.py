"""THE table of settings: what each key is called, how it is read, where it lands in the tree, and what it means.

The loader, `describe`, the generated reference and the file that `mtactl init` writes all derive from it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mtad.config import parse


@dataclass(frozen=True, slots=True)
class Key:
    """One setting. `default` is a TOML literal, or words in parentheses where it is worked out."""

    path: str  # "delivery.retry"; "delivery.route.match" is a key of each [[delivery.route]]
    type: str  # for people: "duration", "list of addresses"
    default: str
    help: str
    parse: Callable[[Any], Any]
    field: str  # its name in the tree
    variable: str = ""  # the MTA_* variable that overrides it
    base: str = "none"  # "file": a relative path starts at the configuration file
    variable_parse: Callable[[Any], Any] | None = None  # where a variable is read more loosely

    @property
    def section(self) -> str:
        return self.path.rpartition(".")[0]

    @property
    def name(self) -> str:
        return self.path.rpartition(".")[2]


SECTIONS: dict[str, str] = {
    "": "",
    "listen": "Where the daemon listens. An empty list is off. Where none of the mail listeners"
    " is named: ports 25, 587 and 465 on all"
    " addresses for the system service, and 2525, 2587 and 2465 on loopback otherwise.",
    "access": "Who may relay, and who may operate.",
    "tls": "The certificate for STARTTLS and for submissions. Sign-in needs it.",
    "tls.certificate": "More certificates, for clients that ask for a name in one of them. All others get tls.cert.",
    "dns": "How names are looked up.",
    "delivery": "How mail leaves. Mail that cannot go now is tried again until it expires.",
    "delivery.route": "Where mail for a domain goes instead of to its MX. The first match wins.",
    "local": "Mail for our own domains, after aliases.",
    "limits": "Bounds against mistakes and abuse.",
    "keep": "How long finished mail stays visible.",
}

# Sections of which there may be several: [[...]] tables.
REPEATED = ("delivery.route", "tls.certificate")

_RETRY = '["5m", "15m", "30m", "1h", "2h", "4h"]'

KEYS: tuple[Key, ...] = (
    Key("hostname", "domain", "(required)", "This host's name in greetings and trace fields; its address should resolve"
        " back to it.", parse.domain, "hostname", "MTA_HOSTNAME"),
    Key("domains", "list of domains", "(required)", "Mail for these is ours. The first one completes bare user names.",
        parse.several(parse.domain, required=True), "domains", "MTA_DOMAIN"),
    Key("listen.smtp", "list of addresses", "(by role)", "From other servers: only mail for `domains`, or from"
        " trusted networks.", parse.several(parse.listener), "smtp"),
    Key("listen.submission", "list of addresses", "(by role)", "From users: STARTTLS, then sign-in. Needs a"
        " certificate.", parse.several(parse.listener), "submission"),
    Key("listen.submissions", "list of addresses", "(by role)", "The same over implicit TLS. Needs a certificate.",
        parse.several(parse.listener), "submissions"),
    Key("listen.http", "address", '""', "Metrics, health and queue statistics, for reading only. Empty is off.",
        parse.optional_listener, "http"),
    Key("access.trusted_networks", "list of networks", '["127.0.0.0/8", "::1"]', "Clients that may send to anyone"
        " without signing in.", parse.several(parse.network), "trusted_networks"),
    Key("access.admin_group", "text", '"mtad-admin"', "Members of this system group operate the daemon with mtactl.",
        parse.text, "admin_group"),
    Key("access.admin_token", "secret", '""', "Bearer token for the HTTP listener, at least 16 characters.",
        parse.token, "admin_token", "MTA_ADMIN_TOKEN"),
    Key("tls.cert", "path", '""', "PEM file with the certificate, followed by its chain.", parse.text, "cert",
        "MTA_TLS_CERT", "file"),
    Key("tls.key", "path", '""', "PEM file with the private key.", parse.text, "key", "MTA_TLS_KEY", "file"),
    Key("tls.client_ca", "path", '""', "PEM file with the authorities of client certificates, for sign-in by"
        " certificate. Empty: users are not asked for one.", parse.text, "client_ca", base="file"),
    Key("tls.certificate.cert", "path", "(required)", "PEM file with the certificate, followed by its chain. The names"
        " are those in the certificate.", parse.text, "cert", base="file"),
    Key("tls.certificate.key", "path", "(required)", "PEM file with its private key.", parse.text, "key", base="file"),
    Key("dns.servers", "list of addresses", "[]", "Name servers to ask; empty means the system's.",
        parse.several(parse.dns_server), "servers"),
    Key("dns.timeout", "duration", '"5s"', "How long one lookup may take.", parse.positive_duration, "timeout_s"),
    Key("delivery.port", "port", "25", "The port used towards MX hosts.", parse.port, "port"),
    Key("delivery.allow_private_addresses", "flag", "false", "Deliver to MX hosts with loopback and private addresses.",
        parse.flag, "allow_private_addresses"),
    Key("delivery.workers", "count", "50", "Deliveries at the same time.", parse.count, "workers",
        "MTA_DELIVERY_WORKERS"),
    Key("delivery.max_per_domain", "count", "20", "Deliveries to one domain at the same time.", parse.count,
        "max_per_domain", "MTA_MAX_CONN_PER_DOMAIN"),
    Key("delivery.interval", "duration", '"1s"', "The longest pause between two looks at the queue.",
        parse.positive_duration, "interval_s", "MTA_DELIVERY_INTERVAL", variable_parse=parse.bare_duration),
    Key("delivery.retry", "list of durations", _RETRY, "Pauses between tries; the last one repeats.",
        parse.several(parse.positive_duration, required=True), "retry_s"),
    Key("delivery.expire", "duration", '"5d"', "When undelivered mail goes back to its sender.",
        parse.positive_duration, "expire_s"),
    Key("delivery.delay_warning", "duration", '"4h"', "When the sender is told of a delay; 0 is never.", parse.duration,
        "delay_warning_s"),
    Key("delivery.route.match", "domain pattern", "(required)", 'The recipient\'s domain; * and ? stand for anything,'
        ' "*" alone is every domain but our own.', parse.domain_glob, "match"),
    Key("delivery.route.to", "target", "(required)", "smtp:// smtps:// lmtp:// lmtp:///path.sock maildir:///path/%u"
        " reject: discard:; a user for sign-in goes before the host, as smtp://user@host:587.", parse.target, "to"),
    Key("delivery.route.password_file", "path", '""', "File that holds the password of that user, readable by the"
        " service only.", parse.text, "password_file", base="file"),
    Key("delivery.route.tls", "choice", '("verify" with a user, else "may")', "may: use TLS where offered; encrypt:"
        " insist; verify: insist, and check the certificate's name.", parse.one_of("may", "encrypt", "verify"), "tls"),
    Key("local.deliver", "target", "(maildir:// data/mailboxes/%d/%u)", "Where mailboxes are: maildir:// with %d"
        " and %u, or lmtp://.", parse.target, "deliver"),
    Key("local.aliases", "list of paths", "(/etc/aliases)", "Alias files in the format of aliases(5). Under --root:"
        " aliases in that directory.", parse.several(parse.text), "aliases", base="file"),
    Key("local.catch_all", "address", '""', "Takes mail for unknown local parts; empty refuses it.",
        parse.optional_address, "catch_all"),
    Key("local.delimiter", "character", '"+"', "Separates a sub-address: alice+lists reaches alice.", parse.delimiter,
        "delimiter"),
    Key("limits.message_size", "size", '"50M"', "The largest mail.", parse.size, "message_size_bytes"),
    Key("limits.header_size", "size", '"256k"', "The largest header block.", parse.size, "header_size_bytes"),
    Key("limits.recipients", "count", "1000", "Recipients of one mail.", parse.count, "recipients"),
    Key("limits.connections", "count", "1000", "Connections at the same time.", parse.count, "connections",
        "MTA_MAX_CONNECTIONS_GLOBAL"),
    Key("limits.connections_per_ip", "count", "50", "Connections of one address at the same time.", parse.count,
        "connections_per_ip"),
    Key("limits.errors", "count", "20", "Errors before a session is ended.", parse.count, "errors"),
    Key("limits.command_timeout", "duration", '"5m"', "How long a session may be silent between commands.",
        parse.positive_duration, "command_timeout_s"),
    Key("limits.data_timeout", "duration", '"3m"', "How long a session may be silent within a mail.",
        parse.positive_duration, "data_timeout_s"),
    Key("limits.received", "count", "50", "Received fields before a mail counts as looping.", parse.count, "received"),
    Key("keep.history", "duration", '"7d"', "Finished mail in `mtactl queue show` and `queue list --state done`.",
        parse.positive_duration, "history_s"),
    Key("keep.trash", "duration", '"3d"', "Purged mail can be restored.", parse.positive_duration, "trash_s"),
)  # fmt: skip


def describe() -> list[tuple[str, str, str, str]]:
    """(key, type, default, help) of every setting, in the order of the file."""
    return [(key.path, key.type, key.default, key.help) for key in KEYS]
