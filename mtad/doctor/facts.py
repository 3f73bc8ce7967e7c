"""What was found on this host, as plain data: gathered in one place, judged in another."""

from dataclasses import dataclass, field

UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Entry:
    """A file, directory or socket. `kind`: file, directory, socket, other, "" = there is none."""

    path: str
    kind: str = ""
    mode: int = 0  # permission bits
    owner: str = ""  # a name, or a number where there is no such user
    group: str = ""
    problem: str = ""  # why it could not be looked at


@dataclass(frozen=True, slots=True)
class Disk:
    """Of the file system that holds `path`; -1 where nobody counts."""

    path: str
    free_bytes: int
    total_bytes: int
    free_inodes: int
    total_inodes: int


@dataclass(frozen=True, slots=True)
class Machine:
    processors: int
    memory_bytes: int
    disks: tuple[Disk, ...]
    clock_synchronised: bool | None  # None: the kernel does not say
    clock_error_s: float
    backlog: int  # net.core.somaxconn; -1 unknown
    updates: str  # what updates packages by itself; "" = nothing was found
    reboot_wanted: bool
    python: tuple[int, int, int]
    sqlite: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Unit:
    """The systemd unit of the daemon. `properties` as `systemctl show` has them."""

    manager: bool  # systemd runs this host
    loaded: bool = False
    properties: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Process:
    """The running daemon. pid 0: it does not run, or its place in /proc cannot be seen."""

    pid: int = 0
    user: str = ""
    files_limit: int = -1  # -1 unknown
    log: str = ""  # journal, file, terminal; "" unknown
    log_path: str = ""
    confined: str = ""  # label of SELinux or AppArmor; "" none


@dataclass(frozen=True, slots=True)
class Service:
    unit: Unit
    process: Process
    confinement: str  # "SELinux enforcing", "AppArmor"; "" = neither is in force
    jail: bool  # fail2ban has a jail for mtad
    fail2ban: str  # running, installed, ""
    journal: str  # persistent, volatile, ""
    rotation: str  # a logrotate file that names the log, ""
    firewall: str  # what guards this host, "" = nothing was found
    open_ports: tuple[int, ...] | None  # of ours, what the firewall lets in; None: it does not say


@dataclass(frozen=True, slots=True)
class Sendmail:
    """One of the paths by which programs send. `owner`: the package, or "" ; `by`: how it came there."""

    path: str
    leads_to: str  # its real path, "" = there is none
    ours: bool
    owner: str = ""
    by: str = ""  # "alternatives", "dpkg-divert", ""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who listens on a port. pid 0: somebody whom we may not see."""

    port: int
    pid: int
    program: str


@dataclass(frozen=True, slots=True)
class Archive:
    """A backup. `verified`: "" when it verifies, else why not; None when that was not tried."""

    path: str
    made_at: float
    size_bytes: int
    verified: str | None = None


@dataclass(frozen=True, slots=True)
class Backups:
    folder: str
    newest: Archive | None
    count: int
    schedule: str  # the timer or cron file that makes them, "" = none was found
    problem: str = ""
    timer: str = ""  # our unit for it, which is installed and not enabled


@dataclass(frozen=True, slots=True)
class Renewal:
    """What renews certificates on this host."""

    program: str = ""  # certbot, acme.sh, lego, ...; "" = none was found
    schedule: str = ""  # its timer or cron file


@dataclass(frozen=True, slots=True)
class Resolving:
    """How names are looked up. `distrust`: why their word on DNSSEC does not count."""

    servers: tuple[str, ...]
    latency_s: float = 0.0
    problem: str = ""  # why they do not answer at all
    distrust: str = ""
    lists: str = ""  # what the test entry of an address list was answered; "" = as it should be
    asked: bool = True  # False: --offline


@dataclass(frozen=True, slots=True)
class Outward:
    """Port 25 of another host."""

    target: str
    problem: str = ""  # "" = it answers
    greeting: str = ""
    asked: bool = True


@dataclass(frozen=True, slots=True)
class RelayTry:
    """A stranger asks a listener to send to a stranger; `code` is the worst answer. 0: could not be asked."""

    where: str
    source: str  # the address it asked from
    sender: str
    recipient: str
    code: int
    answer: str
