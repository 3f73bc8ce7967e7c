"""THE table of settings: what each key is called, how it is read, where it lands in the tree, and what it means.

The loader, `describe`, the generated reference and the file that `mtactl init` writes all derive from it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mtad.config import names, parse, routing


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
    "dns.update": "A server that takes the records of signing keys by itself (RFC 2136 with TSIG): `mtactl dns push`.",
    "delivery": "How mail leaves. Mail that cannot go now is tried again until it expires.",
    "delivery.route": "Where mail for a domain goes instead of to its MX. The first match wins.",
    "delivery.tls": "Which TLS the MX hosts of a domain must have, whatever DANE and MTA-STS say. The first match"
    " wins.",
    "delivery.site": "How mail is paced to one site: to a recipient domain or MX hosts of that name, or below it. Of"
    " several that match, the longest name counts.",
    "local": "Mail for our own domains, after aliases.",
    "smtp": "How strict the dialogue is.",
    "submission": "What users may write.",
    "limits": "Bounds against mistakes and abuse.",
    "keep": "How long finished mail stays visible.",
    "dkim": "Signing keys and their rotation.",
    "dkim.sign": "Whose keys sign for a domain. The first match wins; without one, the keys of the author's domain, or"
    " of the next domain of ours above it.",
}

# Sections of which there may be several: [[...]] tables.
REPEATED = ("delivery.route", "delivery.tls", "delivery.site", "tls.certificate", "dkim.sign")

# Those of them whose tables have names instead of numbers: [delivery.site."gmail.com"]; how a name is read, an example.
KEYED: dict[str, tuple[Callable[[Any], str], str]] = {"delivery.site": (names.domain, "gmail.com")}

_RETRY = '["5m", "15m", "30m", "1h", "2h", "4h"]'

KEYS: tuple[Key, ...] = (
    Key("hostname", "domain", "(required)", "This host's name in greetings and trace fields; its address should resolve"
        " back to it.", names.domain, "hostname", "MTA_HOSTNAME"),
    Key("domains", "list of domains", "(required)", "Mail for these is ours. The first one completes bare user names.",
        parse.several(names.domain, required=True), "domains", "MTA_DOMAIN"),
    Key("listen.smtp", "list of addresses", "(by role)", "From other servers: only mail for `domains`, or from"
        " trusted networks.", parse.several(names.listener), "smtp"),
    Key("listen.submission", "list of addresses", "(by role)", "From users: STARTTLS, then sign-in. Needs a"
        " certificate.", parse.several(names.listener), "submission"),
    Key("listen.submissions", "list of addresses", "(by role)", "The same over implicit TLS. Needs a certificate.",
        parse.several(names.listener), "submissions"),
    Key("listen.http", "address", '""', "Metrics, health and queue statistics, for reading only. Empty is off.",
        names.optional_listener, "http"),
    Key("listen.proxy_from", "list of networks", "[]", "Load balancers whose connections begin with the PROXY protocol,"
        " version 1 or 2, which names the client. From all others it is an error.", parse.several(names.network),
        "proxy_from"),
    Key("access.trusted_networks", "list of networks", '["127.0.0.0/8", "::1"]', "Clients that may send to anyone"
        " without signing in.", parse.several(names.network), "trusted_networks"),
    Key("access.admin_group", "text", '"mtad-admin"', "Members of this system group operate the daemon with mtactl.",
        parse.text, "admin_group"),
    Key("access.admin_token", "secret", '""', "Bearer token for the HTTP listener, at least 16 characters.",
        parse.token, "admin_token", "MTA_ADMIN_TOKEN"),
    Key("tls.cert", "path", '""', "PEM file with the certificate, followed by its chain.", parse.text, "cert",
        "MTA_TLS_CERT", "file"),
    Key("tls.key", "path", '""', "PEM file with the private key.", parse.text, "key", "MTA_TLS_KEY", "file"),
    Key("tls.client_ca", "path", '""', "PEM file with the authorities of client certificates, for sign-in by"
        " certificate. Empty: users are not asked for one.", parse.text, "client_ca", base="file"),
    Key("tls.server_ca", "path", '""', "PEM file with authorities that other servers' certificates may come from,"
        " beside the system's.", parse.text, "server_ca", base="file"),
    Key("tls.certificate.cert", "path", "(required)", "PEM file with the certificate, followed by its chain. The names"
        " are those in the certificate.", parse.text, "cert", base="file"),
    Key("tls.certificate.key", "path", "(required)", "PEM file with its private key.", parse.text, "key", base="file"),
    Key("dns.servers", "list of addresses", "[]", "Name servers to ask; empty means the system's.",
        parse.several(names.dns_server), "servers"),
    Key("dns.timeout", "duration", '"5s"', "How long one lookup may take.", parse.positive_duration, "timeout_s"),
    Key("dns.trust_ad", "choice", '"loopback"', "Whose word counts that an answer was validated with DNSSEC, which DANE"
        " needs: loopback (a resolver on this machine), yes (any of the servers), or no.",
        parse.one_of("loopback", "yes", "no"), "trust_ad"),
    Key("dns.authorities", "list of addresses", "[]", "Authoritative servers of our domains; empty means those of the"
        " NS records. For a network whose inside has servers of its own.", parse.several(names.dns_server),
        "authorities"),
    Key("dns.addresses", "list of IP addresses", "[]", "Public addresses of this host, for `mtactl dns records` and"
        " `dns check`; empty means those of the interface that leads out. Behind NAT they have to be named.",
        parse.several(names.ip), "addresses"),
    Key("dns.lists", "list of domains", '["zen.spamhaus.org", "bl.spamcop.net"]', "Lists of bad"
        " addresses that `mtactl dns check` asks about ours; empty asks none.", parse.several(names.domain), "lists"),
    Key("dns.sts_mode", "choice", '"auto"', "Mode of the MTA-STS policy of our domains: enforce, testing, none; auto is"
        " enforce where others can verify the certificate, else testing.",
        parse.one_of("auto", "enforce", "testing", "none"), "sts_mode"),
    Key("dns.sts_mx", "list of domains", "[]", "MX hosts of our domains beside this one, a backup's, for that policy.",
        parse.several(names.domain), "sts_mx"),
    Key("dns.update.server", "address", '""', "The server to send changes to; empty means that DNS is changed by hand.",
        names.optional_dns_server, "server"),
    Key("dns.update.zones", "list of domains", "[]", "Zones that may be changed there; empty means `domains`.",
        parse.several(names.domain), "zones"),
    Key("dns.update.key", "domain", '""', "Name of the TSIG key.", names.optional_domain, "key"),
    Key("dns.update.algorithm", "choice", '"hmac-sha256"', "Of that key: hmac-sha256, hmac-sha384 or hmac-sha512.",
        parse.one_of("hmac-sha256", "hmac-sha384", "hmac-sha512"), "algorithm"),
    Key("dns.update.secret_file", "path", '""', "File with its secret in base64, readable by the service only.",
        parse.text, "secret_file", base="file"),
    Key("dns.update.ttl", "duration", '"1h"', "How long others may remember the records that are set.",
        parse.positive_duration, "ttl_s"),
    Key("delivery.port", "port", "25", "The port used towards MX hosts.", parse.port, "port"),
    Key("delivery.allow_private_addresses", "flag", "false", "Deliver to MX hosts with loopback and private addresses.",
        parse.flag, "allow_private_addresses"),
    Key("delivery.workers", "count", "50", "Deliveries at the same time.", parse.count, "workers",
        "MTA_DELIVERY_WORKERS"),
    Key("delivery.max_per_domain", "count", "20", "Deliveries to one site (the domains with the same MX hosts) at"
        " the same time. They begin with 2, and grow while the site takes mail.", parse.count,
        "max_per_domain", "MTA_MAX_CONN_PER_DOMAIN"),
    Key("delivery.interval", "duration", '"1s"', "The longest pause between two looks at the queue.",
        parse.positive_duration, "interval_s", "MTA_DELIVERY_INTERVAL", variable_parse=parse.bare_duration),
    Key("delivery.retry", "list of durations", _RETRY, "Pauses between tries; the last one repeats.",
        parse.several(parse.positive_duration, required=True), "retry_s"),
    Key("delivery.expire", "duration", '"5d"', "When undelivered mail goes back to its sender.",
        parse.positive_duration, "expire_s"),
    Key("delivery.delay_warning", "duration", '"4h"', "When the sender is told of a delay; 0 is never.", parse.duration,
        "delay_warning_s"),
    Key("delivery.source", "list of IP addresses", "[]", "Addresses of this host to connect from, at most one of IPv4"
        " and one of IPv6; with only one, the other kind is not used. Empty leaves it to the system.",
        parse.several(names.ip), "source"),
    Key("delivery.prefer", "choice", '"ipv4"', "Which addresses of a host are tried first: ipv4 or ipv6; the others"
        " join after a quarter of a second. ipv4-only and ipv6-only use no others.",
        parse.one_of("ipv4", "ipv6", "ipv4-only", "ipv6-only"), "prefer"),
    Key("delivery.srs", "flag", "true", "Mail that an alias sends on to another house leaves with a sender of ours,"
        " from which reports find back (SRS); false keeps the sender, whose SPF record then fails there.", parse.flag,
        "srs"),
    Key("delivery.report_strangers", "choice", '"spf"', "Reports to senders of mail that came in from outside: spf,"
        " when SPF shows that it is theirs; always, which makes backscatter; never.",
        parse.one_of("spf", "always", "never"), "report_strangers"),
    Key("delivery.double_bounce", "choice", '"postmaster"', "When no sender can be told of a failure: tell the"
        " postmaster of the first domain, or only log it.", parse.one_of("postmaster", "log"), "double_bounce"),
    Key("delivery.suppress", "choice", '"user"', "Addresses that do not exist: no more tries for the user who wrote to"
        " them, or off.", parse.one_of("user", "off"), "suppress"),
    Key("delivery.suppress_after", "count", "2", "So many mails to an address must come back before that.",
        parse.count, "suppress_after"),
    Key("delivery.suppress_for", "duration", '"30d"', "How long it lasts, and how long a failed mail counts.",
        parse.positive_duration, "suppress_s"),
    Key("delivery.route.match", "domain pattern", "(required)", 'The recipient\'s domain; * and ? stand for anything,'
        ' "*" alone is every domain but our own.', names.domain_glob, "match"),
    Key("delivery.route.from", "list of patterns", "[]", 'Only mail of these senders: an address, "@domain", a pattern'
        ' with * and ?, or "<>" for reports. Empty is any.', parse.several(names.sender_glob), "senders"),
    Key("delivery.route.user", "list of patterns", "[]", "Only mail of these users, who signed in: a name, or a pattern"
        " with * and ?. Empty is any.", parse.several(names.user_glob), "users"),
    Key("delivery.route.to", "target", "(required)", "smtp:// smtps:// lmtp:// lmtp:///path.sock maildir:///path/%u"
        " pipe: mx: reject: discard:; a user for sign-in goes before the host, as smtp://user@host:587. mx: is the way"
        " by DNS, for a route that only sets source or tls.", routing.target, "to"),
    Key("delivery.route.password_file", "path", '""', "File that holds the password of that user, readable by the"
        " service only.", parse.text, "password_file", base="file"),
    Key("delivery.route.tls", "choice", '("verify" with a user, else "may")', "may: use TLS where offered; encrypt:"
        " insist; verify: insist, and check the certificate's name.", parse.one_of("may", "encrypt", "verify"), "tls"),
    Key("delivery.tls.match", "domain pattern", "(required)", "The recipient's domain; * and ? stand for anything.",
        names.domain_glob, "match"),
    Key("delivery.tls.mode", "choice", "(required)", "may: use TLS where offered; encrypt: insist; verify: insist, and"
        " check the certificate's name; pinned: insist on one of `pins`.",
        parse.one_of("may", "encrypt", "verify", "pinned"), "mode"),
    Key("delivery.tls.pins", "list of digests", "[]", "SHA-256 of the host's public key, in hexadecimal or base64.",
        parse.several(parse.pin), "pins"),
    Key("delivery.tls.mx", "list of domains", "[]", 'The only MX hosts that may be used, so that forged DNS answers'
        ' lead nowhere; "*.example.org" stands for one label. Empty: any.', parse.several(names.host_pattern), "mx"),
    Key("delivery.site.connections", "count", "(delivery.max_per_domain)", "Deliveries to it at the same time, at"
        " most.", parse.count, "connections"),
    Key("delivery.site.rate", "rate", '"0"', "Mails to it, evenly spread: \"100/1m\" is one each 0.6 seconds; 0 is any"
        " number.", parse.rate, "rate"),
    Key("delivery.site.per_day", "number", "0", "Mails to it on the first day of a warm-up (days are UTC); 0 is any"
        " number.", parse.number, "per_day"),
    Key("delivery.site.growth", "factor", "1.0", "How much more on each further day on which mail was sent.",
        parse.factor, "growth"),
    Key("delivery.site.retry", "list of durations", "(delivery.retry)", "Pauses between tries; the last one repeats.",
        parse.several(parse.positive_duration, required=True), "retry_s"),
    Key("delivery.mta_sts", "flag", "true", "Follow the MTA-STS policies of domains (RFC 8461).", parse.flag,
        "mta_sts"),
    Key("delivery.dane", "flag", "true", "Follow TLSA records (RFC 7672). Needs a validating resolver, see"
        " dns.trust_ad.", parse.flag, "dane"),
    Key("delivery.tls_reports", "flag", "true", "Send a daily report to domains that ask for one (TLSRPT, RFC 8460).",
        parse.flag, "tls_reports"),
    Key("delivery.route.source", "list of IP addresses", "[]", "Addresses of this host to connect from, at most one of"
        " IPv4 and one of IPv6; with only one, the other kind is not used. Empty is delivery.source.",
        parse.several(names.ip), "source"),
    Key("delivery.route.command", "list of words", "[]", 'For pipe: the program, by its whole path, and its arguments;'
        " %u is the local part, %d the domain, %% a percent sign. No shell reads it.", parse.several(routing.word),
        "command"),
    Key("delivery.route.run_as", "text", '""', "For pipe: the user, or user:group, of the program when the daemon runs"
        " as root.", parse.text, "run_as"),
    Key("delivery.route.quota", "size", "0", "For maildir: how much each mailbox may hold; 0 is any size.",
        parse.optional_size, "quota_bytes"),
    Key("local.deliver", "target", "(maildir:// data/mailboxes/%d/%u)", "Where mailboxes are: maildir:// with %d"
        " and %u, or lmtp://.", routing.target, "deliver"),
    Key("local.aliases", "list of paths", "(/etc/aliases)", "Alias files in the format of aliases(5). Under --root:"
        " aliases in that directory.", parse.several(parse.text), "aliases", base="file"),
    Key("local.catch_all", "address", '""', "Takes mail for unknown local parts; empty refuses it.",
        names.optional_address, "catch_all"),
    Key("local.quota", "size", "0", "How much each mailbox of local.deliver may hold, as maildir; 0 is any size. Mail"
        " for a full one waits.", parse.optional_size, "quota_bytes"),
    Key("local.pipe_timeout", "duration", '"5m"', "How long the program of a pipe may take before it is killed.",
        parse.positive_duration, "pipe_timeout_s"),
    Key("local.delimiter", "character", '"+"', "Separates a sub-address: alice+lists reaches alice.", parse.delimiter,
        "delimiter"),
    Key("smtp.bare_newline", "choice", '"reject"', "A CR or LF in a mail that is not part of CRLF: reject the mail, or"
        " normalize it to CRLF before it is signed and stored.", parse.one_of("reject", "normalize"), "bare_newline"),
    Key("smtp.early_talkers", "choice", '"refuse"', "Strangers that speak before the greeting, or go on behind their"
        " EHLO without its answer: refuse or allow.", parse.one_of("refuse", "allow"), "early_talkers"),
    Key("submission.check_from", "choice", '"refuse"', "Mail of a user whose From names an address that is not the"
        " user's, an alias leading there, or granted: refuse, or off to let it pass. The envelope is always checked.",
        parse.one_of("refuse", "off"), "check_from"),
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
    Key("limits.line_length", "size", '"1M"', "The longest line of a mail; none is ever folded. 0 is no limit, 998"
        " what RFC 5321 promises to everybody.", parse.line_length, "line_length_bytes"),
    Key("limits.hold_max", "duration", '"30d"', "How far ahead a mail may be submitted for later delivery; 0 is not at"
        " all.", parse.duration, "hold_max_s"),
    Key("limits.session_timeout", "duration", '"2h"', "How long a session may last in all.", parse.positive_duration,
        "session_timeout_s"),
    Key("limits.data_rate_min", "number", "500", "Octets per second at which a mail must come in; 0 is any rate.",
        parse.number, "data_rate_min"),
    Key("limits.data_grace", "duration", '"1m"', "How far a mail may be behind that rate.", parse.duration,
        "data_grace_s"),
    Key("limits.greet_delay", "duration", '"0s"', "Let strangers on listen.smtp wait for the greeting; who speaks"
        " before it is refused. With 0, only what came with the connection counts.", parse.duration, "greet_delay_s"),
    Key("limits.proxy_timeout", "duration", '"5s"', "How long a load balancer may take to name the client.",
        parse.positive_duration, "proxy_timeout_s"),
    Key("limits.connection_rate", "rate", '"1200/1m"', "New connections of one client (an IPv4 address, or the /64 of"
        " an IPv6 address); 0 is no limit.", parse.rate, "connection_rate"),
    Key("limits.message_rate", "rate", '"600/1m"', "Mails of one client that has not signed in.", parse.rate,
        "message_rate"),
    Key("limits.recipient_rate", "rate", '"3000/1m"', "Recipients of such a client.", parse.rate, "recipient_rate"),
    Key("limits.error_rate", "rate", '"100/10m"', "Errors of such a client before it is blocked for error_block.",
        parse.rate, "error_rate"),
    Key("limits.auth_failure_rate", "rate", '"20/10m"', "Failed sign-ins of one client before it is blocked for"
        " auth_block.", parse.rate, "auth_failure_rate"),
    Key("limits.user_message_rate", "rate", '"600/1h"', "Mails of one user.", parse.rate, "user_message_rate"),
    Key("limits.user_recipient_rate", "rate", '"6000/1h"', "Recipients of one user.", parse.rate,
        "user_recipient_rate"),
    Key("limits.user_auth_failure_rate", "rate", '"100/1h"', "Failed sign-ins as one user; beyond it only clients from"
        " which the user has signed in before may try.", parse.rate, "user_auth_failure_rate"),
    Key("limits.domain_message_rate", "rate", '"0"', "Mails of one sender's domain.", parse.rate,
        "domain_message_rate"),
    Key("limits.domain_recipient_rate", "rate", '"0"', "Recipients of mails of one sender's domain.", parse.rate,
        "domain_recipient_rate"),
    Key("limits.delay_max", "duration", '"20s"', "Answers to a client's errors and failed sign-ins take 1, 2, 4 ..."
        " seconds, up to this; 0 is at once.", parse.duration, "delay_max_s"),
    Key("limits.error_block", "duration", '"15m"', "The first block for errors; each further one is twice as long.",
        parse.positive_duration, "error_block_s"),
    Key("limits.auth_block", "duration", '"1h"', "The first block for failed sign-ins; each further one is twice as"
        " long.", parse.positive_duration, "auth_block_s"),
    Key("limits.block_max", "duration", '"1d"', "The longest of these blocks.", parse.positive_duration, "block_max_s"),
    Key("limits.user_messages_per_day", "number", "1000", "Messages of one user within 24 hours, where `mtactl user"
        " limit` says nothing else; 0 is any number.", parse.number, "user_messages_per_day"),
    Key("limits.user_new_recipients_per_day", "number", "200", "Recipients within 24 hours who never got mail of this"
        " user before; 0 is any number.", parse.number, "user_new_recipients_per_day"),
    Key("limits.exempt", "list of networks", "[]", "Clients that are never slowed down or blocked by the daemon itself,"
        " as a webmail server that limits its users.", parse.several(names.network), "exempt"),
    Key("keep.history", "duration", '"7d"', "Finished mail in `mtactl queue show` and `queue list --state done`.",
        parse.positive_duration, "history_s"),
    Key("keep.trash", "duration", '"3d"', "Purged mail can be restored.", parse.positive_duration, "trash_s"),
    Key("dkim.check", "duration", '"1m"', "The pause between two looks at DNS while a new key waits for it.",
        parse.positive_duration, "check_s"),
    Key("dkim.margin", "duration", '"2d"', "How long a key that was replaced stays published beyond delivery.expire.",
        parse.duration, "margin_s"),
    Key("dkim.sign.match", "domain pattern", "(required)", "The domain of the author's address; * and ? stand for"
        " anything.", names.domain_glob, "match"),
    Key("dkim.sign.by", "domain", "(required)", "The domain whose keys sign: d=; empty is no signature.",
        names.optional_domain, "by"),
    Key("keep.audit", "duration", '"365d"', "What operators did, in `mtactl audit`.", parse.positive_duration,
        "audit_s"),
)  # fmt: skip


def describe() -> list[tuple[str, str, str, str]]:
    """(key, type, default, help) of every setting, in the order of the file."""
    return [(key.path, key.type, key.default, key.help) for key in KEYS]
