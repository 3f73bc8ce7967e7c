"""Facts about the machine: what /proc, the file systems and the package tools say. Blocking; never raises for what is
or is not there."""

import ctypes
import errno
import grp
import os
import pwd
import shutil
import sqlite3
import stat
import struct
import subprocess
import sys
from collections.abc import Iterable, Sequence
from glob import escape, glob

from mtad.config import Config
from mtad.doctor.facts import Archive, Backups, Disk, Entry, Holder, Machine, Process, Renewal, Sendmail, Service, Unit
from mtad.mail.text import clean

COMMAND_S = 10.0
FILE_MAX_BYTES = 1 << 20
SENDMAILS = ("/usr/sbin/sendmail", "/usr/bin/mailq", "/usr/bin/newaliases")
_TIME_ERROR = 5  # adjtimex(2): the clock is not synchronised
_LISTENS = "0A"  # TCP_LISTEN in /proc/net/tcp
UNIT = "mtad.service"
TIMER = "mtad-backup.timer"
UNIT_FOLDERS = (
    "/etc/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)
_PROPERTIES = (
    "LoadState ActiveState UnitFileState FragmentPath User NoNewPrivileges ProtectSystem ProtectHome PrivateTmp"
    " CapabilityBoundingSet MemoryDenyWriteExecute SystemCallFilter RestrictAddressFamilies LimitNOFILE"
)


def read(path: str) -> str:
    """The beginning of a text file, "" where it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(FILE_MAX_BYTES)
    except OSError:
        return ""


def run(*words: str) -> tuple[int, str]:
    """Exit code and what a program of this host printed; (-1, "") when it cannot be run."""
    if shutil.which(words[0]) is None:
        return -1, ""
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, errors="replace", timeout=COMMAND_S, check=False,
            stdin=subprocess.DEVNULL, env={**os.environ, "LC_ALL": "C"},
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return -1, ""
    return done.returncode, done.stdout[:FILE_MAX_BYTES]


def entry(path: str) -> Entry:
    """How a path is now; a link is what it leads to."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return Entry(path)
    except OSError as error:
        return Entry(path, problem=error.strerror or "it cannot be looked at")
    mode = found.st_mode
    kind = (
        "directory" if stat.S_ISDIR(mode)
        else "socket" if stat.S_ISSOCK(mode)
        else "file" if stat.S_ISREG(mode)
        else "other"
    )  # fmt: skip
    return Entry(path, kind, stat.S_IMODE(mode), user_name(found.st_uid), group_name(found.st_gid))


def user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


# --- the machine


def machine(paths: Iterable[str]) -> Machine:
    synchronised, error_s = _clock()
    version = sqlite3.sqlite_version_info
    backlog = read("/proc/sys/net/core/somaxconn").strip()
    return Machine(
        len(os.sched_getaffinity(0)),
        os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        _disks(paths),
        synchronised,
        error_s,
        int(backlog) if backlog.isdigit() else -1,
        _updates(),
        os.path.exists("/run/reboot-required"),
        sys.version_info[:3],
        (version[0], version[1], version[2]),
    )


def _disks(paths: Iterable[str]) -> tuple[Disk, ...]:
    """One for each file system."""
    found: dict[int, Disk] = {}
    for path in paths:
        while path != "/" and not os.path.exists(path):
            path = os.path.dirname(path)
        try:
            device, sizes = os.stat(path).st_dev, os.statvfs(path)
        except OSError:
            continue
        found.setdefault(
            device,
            Disk(path, sizes.f_bavail * sizes.f_frsize, sizes.f_blocks * sizes.f_frsize, sizes.f_favail or -1,
                 sizes.f_files or -1),
        )  # fmt: skip
    return tuple(found.values())


def _clock() -> tuple[bool | None, float]:
    """Whether the kernel's clock is steered, and by how much it may be wrong (adjtimex(2))."""
    try:
        adjtimex = ctypes.CDLL(None, use_errno=True).adjtimex
    except (OSError, AttributeError):
        return None, 0.0
    if struct.calcsize("l") != 8:
        return None, 0.0
    buffer = ctypes.create_string_buffer(256)  # struct timex with modes = 0: only look
    state = adjtimex(buffer)
    if state < 0:
        return None, 0.0
    error_us: int = struct.unpack_from("l", buffer, 24)[0]
    return state != _TIME_ERROR, error_us / 1e6


def _updates() -> str:
    periodic = "".join(map(read, sorted(glob("/etc/apt/apt.conf.d/*"))))
    lines = [line.split("//")[0] for line in periodic.splitlines()]
    if any("APT::Periodic::Unattended-Upgrade" in line and '"0"' not in line for line in lines):
        return "unattended-upgrades"
    for name in ("dnf-automatic.timer", "dnf-automatic-install.timer", "dnf5-automatic.timer"):
        if glob(f"/etc/systemd/system/*.wants/{name}"):
            return name
    return ""


def schema(database: str, migrations: str) -> tuple[int, int]:
    """The version of the database, -1 where it cannot be read, and the newest that this installation knows."""
    known = [int(name[:4]) for name in map(os.path.basename, glob(f"{escape(migrations)}/*.sql")) if name[:4].isdigit()]
    try:
        with open(database, "rb") as file:
            head = file.read(64)
    except OSError:
        return -1, max(known, default=0)
    # The user version of SQLite's header: without a connection, so no lock and no checkpoint.
    return (struct.unpack_from(">I", head, 60)[0] if len(head) == 64 else -1), max(known, default=0)


# --- the service


def process(pid: int) -> Process:
    """What /proc says of the daemon."""
    if pid <= 0 or not os.path.isdir(f"/proc/{pid}"):
        return Process()
    try:
        user = user_name(os.stat(f"/proc/{pid}").st_uid)
    except OSError:
        return Process()
    limit = next(
        (line.split()[3] for line in read(f"/proc/{pid}/limits").splitlines() if line.startswith("Max open files")), ""
    )
    log, path = _log(pid)
    label = read(f"/proc/{pid}/attr/current").strip("\0\n ")
    confined = "" if label in ("", "unconfined", "kernel") or ":unconfined_t:" in label else clean(label, 100)
    return Process(pid, user, int(limit) if limit.isdigit() else -1, log, path, confined)


def _log(pid: int) -> tuple[str, str]:
    """Where its standard error goes."""
    try:
        target = os.readlink(f"/proc/{pid}/fd/2")
    except OSError:
        return "", ""
    if target.startswith("socket:"):
        return "journal", ""
    if target.startswith("/dev/"):
        return "terminal", target
    return ("file", target) if target.startswith("/") else ("pipe", "")


def service(pid: int, ports: Sequence[int]) -> Service:
    firewall, opened = _firewall(ports)
    found = process(pid)
    jails = "".join(map(read, [*glob("/etc/fail2ban/jail.d/*"), "/etc/fail2ban/jail.local"]))
    running = os.path.exists("/run/fail2ban/fail2ban.sock")
    return Service(
        _unit(),
        found,
        _confinement(),
        "[mtad]" in jails,
        "running" if running else "installed" if os.path.isdir("/etc/fail2ban") else "",
        "persistent" if os.path.isdir("/var/log/journal") else "volatile" if os.path.isdir("/run/log/journal") else "",
        _rotation(found.log_path),
        firewall,
        opened,
    )


def _unit() -> Unit:
    if not os.path.isdir("/run/systemd/system"):
        return Unit(False)
    code, text = run("systemctl", "show", UNIT, *(f"--property={name}" for name in _PROPERTIES.split()))
    pairs = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    return Unit(True, code == 0 and pairs.get("LoadState") == "loaded", pairs)


def _confinement() -> str:
    if read("/sys/fs/selinux/enforce").strip() == "1":
        return "SELinux"
    if read("/sys/module/apparmor/parameters/enabled").strip() == "Y":
        return "AppArmor"
    return ""


def _rotation(path: str) -> str:
    """The file of logrotate that names a log."""
    folder = os.path.dirname(path)
    for name in sorted(glob("/etc/logrotate.d/*")):
        if path and (path in (text := read(name)) or f"{folder}/*" in text):
            return name
    return ""


def _firewall(ports: Sequence[int]) -> tuple[str, tuple[int, ...] | None]:
    """Who guards this host, and which of our ports it lets in where it says so."""
    if "ENABLED=yes" in read("/etc/ufw/ufw.conf"):
        rules = read("/etc/ufw/user.rules")
        if not rules:
            return "ufw", None
        return "ufw", tuple(port for port in ports if f"--dport {port} -j ACCEPT" in rules)
    code, text = run("firewall-cmd", "--list-all")
    if code == 0:
        words = {"smtp": 25, "smtp-submission": 587, "smtps": 465, "submission": 587, "submissions": 465}
        found = {words.get(word, 0) for word in text.split()}
        found |= {int(word[:-4]) for word in text.split() if word.endswith("/tcp") and word[:-4].isdigit()}
        return "firewalld", tuple(port for port in ports if port in found)
    code, text = run("nft", "list", "ruleset")
    if code == 0 and "hook input" in text:
        return "nftables", None
    if read("/proc/net/ip_tables_names").strip():
        return "iptables", None
    return "", None


# --- other mail servers


def sendmails() -> tuple[Sendmail, ...]:
    return tuple(map(_sendmail, SENDMAILS))


def _sendmail(path: str) -> Sendmail:
    if not os.path.lexists(path):
        return Sendmail(path, "", ours=False)
    real = os.path.realpath(path)
    ours = os.path.basename(real) in {"mtad-sendmail", "mtad-mailq", "mtad-newaliases"}
    by, first = "", os.readlink(path) if os.path.islink(path) else ""
    if first.startswith("/etc/alternatives/"):
        by = "alternatives"
    elif f"\n{path}\n" in f"\n{read('/var/lib/dpkg/diversions')}":
        by = "dpkg-divert"
    owner = ""
    if not ours and os.path.exists(real):
        owner = _package(real)
    return Sendmail(path, real if os.path.exists(real) else "", ours, owner, by)


def _package(path: str) -> str:
    code, text = run("dpkg-query", "--search", path)
    if code == 0 and ":" in text:
        return clean(text.splitlines()[-1].partition(":")[0], 60)
    code, text = run("rpm", "--query", "--file", "--queryformat", "%{NAME}", path)
    return clean(text, 60) if code == 0 else ""


def holders(ports: Sequence[int]) -> tuple[Holder, ...]:
    """Who listens on these ports."""
    inodes: dict[str, int] = {}
    for name in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in read(name).splitlines()[1:]:
            fields = line.split()
            if len(fields) > 9 and fields[3] == _LISTENS:
                port = int(fields[1].rpartition(":")[2], 16)
                if port in ports:
                    inodes[f"socket:[{fields[9]}]"] = port
    owners: dict[int, tuple[int, str]] = dict.fromkeys(inodes.values(), (0, ""))
    for directory in glob("/proc/[0-9]*") if inodes else ():
        try:
            targets = {os.readlink(f"{directory}/fd/{name}") for name in os.listdir(f"{directory}/fd")}
        except OSError:
            continue
        for inode in inodes.keys() & targets:
            pid = int(directory.rpartition("/")[2])
            owners[inodes[inode]] = (pid, clean(read(f"{directory}/comm").strip(), 40))
    return tuple(Holder(port, pid, program) for port, (pid, program) in sorted(owners.items()))


# --- certificates and backups


def renewal(cert: str) -> Renewal:
    """What renews certificates: by its files, timers and cron tables."""
    tables = {
        path: read(path)
        for path in [
            *glob("/etc/cron*/*"), *glob("/var/spool/cron/*"), *glob("/var/spool/cron/crontabs/*"), "/etc/crontab",
            *glob("/etc/systemd/system/*.timer"), *glob("/etc/systemd/system/timers.target.wants/*"),
        ]
        if os.path.isfile(path)
    }  # fmt: skip
    for program, places in (
        ("certbot", ("/etc/letsencrypt/renewal/*.conf",)),
        ("acme.sh", ("/root/.acme.sh/*/*.conf", "/etc/acme.sh/*/*.conf")),
        ("lego", ("/root/.lego/certificates", "/etc/lego/*", "/var/lib/lego/*")),
        ("dehydrated", ("/etc/dehydrated/config", "/var/lib/dehydrated/certs/*")),
        ("getssl", ("/root/.getssl/*",)),
        ("acme-client", ("/etc/acme-client.conf",)),
        ("caddy", ("/var/lib/caddy/.local/share/caddy/certificates/*",)),
    ):
        if any(map(glob, places)):
            named = next((path for path, text in tables.items() if program in text or program in path), "")
            return Renewal(program, "its own" if program == "caddy" else named)
    named = next((path for path, text in tables.items() if cert and os.path.basename(cert) in text), "")
    return Renewal("", named)


def backups(folders: Sequence[str], units: Sequence[str] = UNIT_FOLDERS) -> Backups:
    """The newest of what scripts/backup.sh and `backup create` leave there. `units`: where units are installed."""
    folder = next((one for one in folders if os.path.isdir(one)), folders[0])
    schedule = next(
        (
            path
            for path in [
                *(path for one in units for path in glob(f"{one}/timers.target.wants/{TIMER}")),
                *sorted(glob("/etc/cron*/*")),
                *glob("/var/spool/cron/crontabs/*"), "/etc/crontab",
            ]
            if "mtad-backup" in path or ("backup" in (text := read(path)) and "mta" in text)
        ),
        "",
    )  # fmt: skip
    timer = TIMER if not schedule and any(os.path.exists(f"{one}/{TIMER}") for one in units) else ""
    found: list[Archive] = []
    try:
        with os.scandir(folder) as entries:
            for one in entries:
                if one.name.startswith("mtad") and ".tar" in one.name and one.is_file():
                    state = one.stat()
                    found.append(Archive(one.path, state.st_mtime, state.st_size))
    except OSError as error:
        gone = error.errno == errno.ENOENT
        return Backups(folder, None, 0, schedule, "" if gone else error.strerror or "it cannot be read", timer)
    newest = max(found, key=lambda one: one.made_at, default=None)
    return Backups(folder, newest, len(found), schedule, timer=timer)


# --- files


def files(config: Config) -> tuple[Entry, ...]:
    """What holds secrets, and what others must reach: in an order that the judge knows by path."""
    paths = config.paths
    keys = [
        path for pair in [(config.tls.key,), *((one.key,) for one in config.tls.certificates)] for path in pair if path
    ]
    secrets = [config.dns.update.secret_file, *(rule.password_file for rule in config.delivery.routes)]
    pems = sorted(glob(f"{escape(paths.dkim)}/*/*.pem"))[:1000]
    wanted = [
        paths.config, paths.data, paths.database, paths.spool, paths.dkim, paths.maildrop, paths.run, paths.control,
        paths.submit, *keys, *filter(None, secrets), *pems,
    ]  # fmt: skip
    return tuple(map(entry, dict.fromkeys(wanted)))
