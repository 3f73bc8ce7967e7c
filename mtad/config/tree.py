"""One frozen tree of settings."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Address:
    """A listening address: host and port."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Paths:
    """Where everything is, absolute. Derived from --root / MTA_ROOT, the user and the defaults (docs: interface)."""

    config: str
    data: str  # mta.db, queue/, dkim/, maildrop/
    run: str  # control.sock, submit.sock

    @property
    def database(self) -> str:
        return f"{self.data}/mta.db"

    @property
    def spool(self) -> str:
        return f"{self.data}/queue"

    @property
    def dkim(self) -> str:
        return f"{self.data}/dkim"

    @property
    def maildrop(self) -> str:
        return f"{self.data}/maildrop"

    @property
    def control(self) -> str:
        return f"{self.run}/control.sock"

    @property
    def submit(self) -> str:
        return f"{self.run}/submit.sock"


@dataclass(frozen=True, slots=True)
class Listen:
    smtp: tuple[Address, ...] = ()
    submission: tuple[Address, ...] = ()
    submissions: tuple[Address, ...] = ()
    http: Address | None = None
    proxy_from: tuple[str, ...] = ()  # networks whose connections begin with the PROXY protocol


@dataclass(frozen=True, slots=True)
class Access:
    trusted_networks: tuple[str, ...] = ("127.0.0.0/8", "::1/128")
    admin_group: str = "mtad-admin"
    admin_token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """One more certificate, for clients that ask for a name in it."""

    cert: str  # absolute paths
    key: str


@dataclass(frozen=True, slots=True)
class Tls:
    cert: str = ""  # absolute path; "" = none, then STARTTLS, AUTH and submissions are off
    key: str = ""
    client_ca: str = ""  # authorities of client certificates; "" = users are not asked for one
    server_ca: str = ""  # more authorities for the certificates of other servers, beside the system's
    certificates: tuple[CertificateFiles, ...] = ()


@dataclass(frozen=True, slots=True)
class DnsUpdate:
    """A server that takes changes of our zones (RFC 2136), signed with TSIG (RFC 8945)."""

    server: Address | None = None  # None = the operator changes DNS by hand
    zones: tuple[str, ...] = ()  # empty = each of our domains is one
    key: str = ""  # name of the TSIG key
    algorithm: str = "hmac-sha256"
    secret_file: str = ""
    ttl_s: float = 3600.0


@dataclass(frozen=True, slots=True)
class Dns:
    servers: tuple[Address, ...] = ()  # empty = the system's
    timeout_s: float = 5.0
    authorities: tuple[Address, ...] = ()  # authoritative for our domains; empty = found by NS
    addresses: tuple[str, ...] = ()  # of this host, as others see them; empty = found out
    lists: tuple[str, ...] = ("zen.spamhaus.org", "bl.spamcop.net")  # where ours may be listed
    update: DnsUpdate = field(default_factory=DnsUpdate)
    sts_mode: str = "auto"  # auto | enforce | testing | none: of our own MTA-STS policy
    sts_mx: tuple[str, ...] = ()  # MX hosts beside this one, for that policy
    trust_ad: str = "loopback"  # loopback | yes | no: whose word counts that an answer was validated (DNSSEC)


@dataclass(frozen=True, slots=True)
class Target:
    """Where a route leads: the parsed form of "smtp://user@host:port" and its kin."""

    scheme: str  # smtp smtps lmtp maildir mx pipe reject discard
    host: str = ""  # name or address literal without brackets
    port: int = 0
    path: str = ""  # LMTP socket, or maildir pattern
    user: str = ""  # AUTH to a smarthost; the password comes from `password_file`
    text: str = ""  # reject:

    def written(self) -> str:
        """As it stands in a file: mtad.config.routing.target reads it."""
        if self.scheme in {"reject", "discard", "mx", "pipe"}:
            return f"{self.scheme}:{self.text}"
        if self.path:
            return f"{self.scheme}://{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{f'{self.user}@' if self.user else ''}{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class RouteRule:
    """Where some mail goes. It holds when `match` and each of `senders` and `users` that is not empty do."""

    match: str  # glob over the recipient domain; "*" = all
    to: Target
    password_file: str = ""
    tls: str = "may"  # may | encrypt | verify
    senders: tuple[str, ...] = ()  # addresses, "@domain", globs, "<>"
    users: tuple[str, ...] = ()  # names of users who signed in, or globs
    source: tuple[str, ...] = ()  # our addresses to connect from
    command: tuple[str, ...] = ()  # of a pipe: a program and its arguments, with %u and %d
    run_as: str = ""  # of a pipe: the user, or user:group, when the daemon is root
    quota_bytes: int = 0  # of each maildir; 0 = none


@dataclass(frozen=True, slots=True)
class TlsRule:
    """What the MX hosts of some domains must show; it goes before DANE and MTA-STS."""

    match: str  # glob over the recipient domain
    mode: str  # may | encrypt | verify | pinned
    pins: tuple[str, ...] = ()  # SHA-256 of public keys, in hexadecimal
    mx: tuple[str, ...] = ()  # the only hosts that may be used: names, or "*." for one label; () = any


@dataclass(frozen=True, slots=True)
class Rate:
    """So many within a window of so many seconds; count 0 = no limit."""

    count: int = 0
    window_s: float = 1.0

    def __str__(self) -> str:
        """As it is written in the file."""
        if not self.count:
            return "0"
        for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
            if self.window_s >= length and self.window_s % length == 0:
                return f"{self.count}/{self.window_s / length:.0f}{unit}"
        return f"{self.count}/{self.window_s:g}s"


@dataclass(frozen=True, slots=True)
class SiteRule:
    """How mail to one site is paced: [delivery.site."gmail.com"]."""

    match: str  # the name of a recipient domain or of MX hosts, or of a domain above them
    connections: int = 0  # 0 = max_per_domain
    rate: Rate = Rate()
    per_day: int = 0  # messages on the first day of a warm-up; 0 = any number
    growth: float = 1.0  # with each further day on which mail was sent
    retry_s: tuple[float, ...] = ()  # () = that of all


@dataclass(frozen=True, slots=True)
class Delivery:
    port: int = 25
    allow_private_addresses: bool = False
    workers: int = 50
    max_per_domain: int = 20
    interval_s: float = 1.0
    retry_s: tuple[float, ...] = (300.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0)  # the last repeats
    expire_s: float = 5 * 86400.0
    delay_warning_s: float = 4 * 3600.0  # 0 = never
    report_strangers: str = "spf"  # spf | always | never: senders of mail from outside
    double_bounce: str = "postmaster"  # postmaster | log: what no sender can be told
    suppress: str = "user"  # user | off: addresses that bounced are not tried any more for whoever wrote to them
    suppress_after: int = 2  # hard bounces within `suppress_s`
    suppress_s: float = 30 * 86400.0
    routes: tuple[RouteRule, ...] = ()
    sites: tuple[SiteRule, ...] = ()
    tls: tuple[TlsRule, ...] = ()
    mta_sts: bool = True
    dane: bool = True
    tls_reports: bool = True
    source: tuple[str, ...] = ()  # our addresses to connect from, where the route names none
    prefer: str = "ipv4"  # ipv4 | ipv6 (first), ipv4-only | ipv6-only
    srs: bool = True  # forwarded mail gets a sender of ours


@dataclass(frozen=True, slots=True)
class Local:
    deliver: Target | None = None  # for `domains`, after aliases
    aliases: tuple[str, ...] = ()
    catch_all: str = ""
    delimiter: str = "+"  # sub-address
    quota_bytes: int = 0  # of each maildir of `deliver`; 0 = none
    pipe_timeout_s: float = 300.0


@dataclass(frozen=True, slots=True)
class Smtp:
    bare_newline: str = "reject"  # reject | normalize: a CR or LF in a mail that is not part of CRLF
    early_talkers: str = "refuse"  # refuse | allow: strangers that do not wait for the greeting, or for EHLO's answer


@dataclass(frozen=True, slots=True)
class Submission:
    check_from: str = "refuse"  # refuse | off


@dataclass(frozen=True, slots=True)
class Limits:
    message_size_bytes: int = 50 * 1024 * 1024
    header_size_bytes: int = 256 * 1024
    recipients: int = 1000
    connections: int = 1000
    connections_per_ip: int = 50
    errors: int = 20
    command_timeout_s: float = 300.0
    data_timeout_s: float = 180.0  # per block (RFC 5321 4.5.3.2.5)
    received: int = 50
    line_length_bytes: int = 1024 * 1024  # between two line ends of a mail; 0 = no limit
    hold_max_s: float = 30 * 86400.0  # FUTURERELEASE; 0 = not offered
    session_timeout_s: float = 2 * 3600.0
    data_rate_min: int = 500  # octets per second, beyond `data_grace_s`; 0 = any
    data_grace_s: float = 60.0
    greet_delay_s: float = 0.0
    proxy_timeout_s: float = 5.0
    # In sliding windows: by client (an IPv4 address, or the /64 of an IPv6 address), user, and sender's domain.
    connection_rate: Rate = Rate(1200, 60.0)
    message_rate: Rate = Rate(600, 60.0)
    recipient_rate: Rate = Rate(3000, 60.0)
    error_rate: Rate = Rate(100, 600.0)
    auth_failure_rate: Rate = Rate(20, 600.0)
    user_message_rate: Rate = Rate(600, 3600.0)
    user_recipient_rate: Rate = Rate(6000, 3600.0)
    user_auth_failure_rate: Rate = Rate(100, 3600.0)
    domain_message_rate: Rate = Rate()
    domain_recipient_rate: Rate = Rate()
    user_messages_per_day: int = 1000  # in any 24 hours; 0 = no limit
    user_new_recipients_per_day: int = 200  # who never got mail of this user; 0 = no limit
    delay_max_s: float = 20.0
    error_block_s: float = 900.0
    auth_block_s: float = 3600.0
    block_max_s: float = 86400.0
    exempt: tuple[str, ...] = ()  # networks that are never slowed down or blocked by the daemon itself


@dataclass(frozen=True, slots=True)
class SignRule:
    match: str  # glob over the author's domain
    by: str  # the domain whose keys sign; "" = nobody


@dataclass(frozen=True, slots=True)
class Dkim:
    check_s: float = 60.0
    margin_s: float = 2 * 86400.0
    rules: tuple[SignRule, ...] = ()  # the first match wins; without one, the domain itself or the next one above


@dataclass(frozen=True, slots=True)
class Keep:
    history_s: float = 7 * 86400.0
    trash_s: float = 3 * 86400.0
    audit_s: float = 365 * 86400.0


@dataclass(frozen=True, slots=True)
class Config:
    hostname: str
    domains: tuple[str, ...]
    paths: Paths
    listen: Listen = field(default_factory=Listen)
    access: Access = field(default_factory=Access)
    tls: Tls = field(default_factory=Tls)
    dns: Dns = field(default_factory=Dns)
    delivery: Delivery = field(default_factory=Delivery)
    local: Local = field(default_factory=Local)
    smtp: Smtp = field(default_factory=Smtp)
    submission: Submission = field(default_factory=Submission)
    limits: Limits = field(default_factory=Limits)
    keep: Keep = field(default_factory=Keep)
    dkim: Dkim = field(default_factory=Dkim)
    warnings: tuple[str, ...] = ()  # what is odd but works; told at start and by `mtad check`
