"""Graders of the machine, the versions and the backups. Pure."""

from collections.abc import Iterator

from mtad.doctor.facts import Backups, Machine
from mtad.doctor.finding import Finding, error, note, ok, question, warning

GB = 1 << 30
MEMORY_MIN_BYTES = int(1.8 * GB)  # "2 GB" as machines with a little of it reserved report it
DISK_WARN, DISK_ERROR = 0.80, 0.95  # in use
DISK_MIN_BYTES = 512 << 20
CLOCK_ERROR_MAX_S = 1.0
FILES_MIN, FILES_GOOD = 4096, 65536
BACKLOG_MIN = 1024
BACKUP_MAX_S, BACKUP_ERROR_S = 26 * 3600.0, 8 * 86400.0
PYTHON_MIN = (3, 11)
_FIXED_SQLITE = (3, 51, 3)  # two connections that checkpoint at once could corrupt a WAL database before
_BACKPORTS = {(3, 44): 6, (3, 50): 7}


def machine(facts: Machine, files_limit: int) -> Iterator[Finding]:
    gigabytes = f"{facts.memory_bytes / GB:.1f} GB"
    if facts.processors < 2 or facts.memory_bytes < MEMORY_MIN_BYTES:
        yield note("host.size", f"{facts.processors} processors, {gigabytes} of memory",
                   "Two processors and 2 GB are the usual minimum; one person's mail needs less.",
                   "watch `mtactl queue stats`; ask the provider for more when mail waits")  # fmt: skip
    else:
        yield ok("host.size", f"{facts.processors} processors, {gigabytes} of memory")
    yield from _disks(facts)
    yield from _clock(facts)
    yield from _limits(facts, files_limit)
    yield from _updates(facts)


def _disks(facts: Machine) -> Iterator[Finding]:
    for disk in facts.disks:
        used = 1 - disk.free_bytes / disk.total_bytes if disk.total_bytes else 0.0
        room = f"{disk.path}: {used:.0%} in use, {disk.free_bytes / GB:.1f} GB free"
        why = "On a full disk every mail is refused with 452."
        fix = f"du -xh --max-depth=2 {disk.path} | sort -h | tail"
        if used >= DISK_ERROR or disk.free_bytes < DISK_MIN_BYTES:
            yield error("host.disk", room, why, fix)
        elif used >= DISK_WARN:
            yield warning("host.disk", room, why, fix)
        else:
            yield ok("host.disk", room)
        if disk.total_inodes > 0:
            gone = 1 - disk.free_inodes / disk.total_inodes
            told = f"{disk.path}: {gone:.0%} of the inodes in use"
            if gone >= DISK_WARN:
                grade = error if gone >= DISK_ERROR else warning
                yield grade("host.inodes", told, "Without a free inode no file can be made, whatever room there is.",
                            f"find {disk.path} -xdev -printf '%h\\n' | sort | uniq -c | sort -n | tail")  # fmt: skip
            else:
                yield ok("host.inodes", told)


def _clock(facts: Machine) -> Iterator[Finding]:
    match facts.clock_synchronised:
        case True if facts.clock_error_s <= CLOCK_ERROR_MAX_S:
            yield ok("host.clock", f"the clock is synchronised, to {facts.clock_error_s * 1000:.0f} ms")
        case None:
            yield note("host.clock", "the kernel does not say whether the clock is synchronised", "",
                       "timedatectl timesync-status")  # fmt: skip
        case _:
            yield warning("host.clock", "the clock is not synchronised",
                          "A wrong Date makes mail look like spam, and signatures and certificates end too early.",
                          "timedatectl set-ntp true")  # fmt: skip


def _limits(facts: Machine, files_limit: int) -> Iterator[Finding]:
    if files_limit < 0:
        yield note("host.files_limit", "how many files the daemon may open is not known: it does not run, or root has"
                   " to ask")  # fmt: skip
    elif files_limit < FILES_MIN:
        yield warning("host.files_limit", f"the daemon may open {files_limit} files",
                      "Each connection takes one or two; then nobody is let in any more.",
                      f"LimitNOFILE={FILES_GOOD} in the unit: systemctl edit mtad")  # fmt: skip
    else:
        yield ok("host.files_limit", f"the daemon may open {files_limit} files")
    if 0 <= facts.backlog < BACKLOG_MIN:
        yield note("host.backlog", f"net.core.somaxconn is {facts.backlog}",
                   "In a burst, connections beyond it are dropped and tried again a second later.",
                   "echo net.core.somaxconn=4096 > /etc/sysctl.d/60-mtad.conf && sysctl --system")  # fmt: skip
    else:
        yield ok("host.backlog", f"net.core.somaxconn is {facts.backlog}")


def _updates(facts: Machine) -> Iterator[Finding]:
    if facts.reboot_wanted:
        yield warning("host.updates", "an update waits for a restart of the host", "Until then the old kernel or"
                      " libraries run, with their known holes.", "systemctl reboot")  # fmt: skip
    if facts.updates:
        yield ok("host.updates", f"packages are updated by {facts.updates}")
    else:
        yield question("host.updates", "Who keeps the system's packages up to date? Nothing does it by itself.",
                       "Most hosts that are broken into run something that was mended long before.",
                       "apt-get install unattended-upgrades && dpkg-reconfigure -plow unattended-upgrades")  # fmt: skip


def versions(facts: Machine, installed: str, running: str) -> Iterator[Finding]:
    python = ".".join(map(str, facts.python))
    if facts.python < PYTHON_MIN:
        yield error("version.python", f"Python {python}", "It gets no security fixes.", "install Python 3.11 or later")
    else:
        yield ok("version.python", f"Python {python}")
    sqlite = ".".join(map(str, facts.sqlite))
    if facts.sqlite >= _FIXED_SQLITE or facts.sqlite[2] >= _BACKPORTS.get(facts.sqlite[:2], 1000):
        yield ok("version.sqlite", f"SQLite {sqlite}")
    else:
        yield note("version.sqlite", f"SQLite {sqlite} can lose pages of a WAL database when two programs checkpoint it"
                   " at once", "The daemon never lets that happen; a sqlite3 shell on the live file would.",
                   "open mta.db with no other program while the daemon runs")  # fmt: skip
    if running and running != installed:
        yield warning("version.daemon", f"mtad {running} runs, and {installed} is installed",
                      "What you read in the documentation may not be what runs.", "systemctl restart mtad")  # fmt: skip
    elif running:
        yield ok("version.daemon", f"mtad {running} runs and is installed")


def schema(found: int, known: int) -> Iterator[Finding]:
    """Versions of the database: the one that is there, -1 where that is not seen, and the one that is installed."""
    if found < 0:
        yield note("version.schema", "the version of the database cannot be read", "It is made at the first start.")
    elif found > known:
        yield error("version.schema", f"the database has version {found}, and this mtad knows {known}",
                    "An older mtad must not touch it, and does not start.",
                    "install the newer mtad again, or mtactl backup restore a backup of before")  # fmt: skip
    elif found < known:
        yield note("version.schema", f"the database has version {found}; the next start makes it {known}", "",
                   "scripts/backup.sh && systemctl restart mtad")  # fmt: skip
    else:
        yield ok("version.schema", f"the database has version {found}, as it should")


def backups(facts: Backups, now: float) -> Iterator[Finding]:
    why = "What is not backed up is gone with the disk: users, keys, and mail that others gave up after our 250."
    by_unit = facts.timer or facts.schedule.endswith(".timer")
    make = "systemctl start mtad-backup.service" if by_unit else "scripts/backup.sh"
    if facts.problem:
        yield note("backup.age", f"{facts.folder}: {facts.problem}", "", "run the doctor as root, or say --backups DIR")
    elif facts.newest is None:
        yield warning("backup.age", f"there is no backup in {facts.folder}", why, make)
    else:
        newest = facts.newest
        old_s = now - newest.made_at
        told = f"the newest of {facts.count} is {old_s / 3600:.0f} hours old: {newest.path}"
        if newest.size_bytes == 0:
            yield error("backup.age", f"{newest.path} is empty", why, make)
        elif old_s > BACKUP_ERROR_S:
            yield error("backup.age", told, why, make)
        elif old_s > BACKUP_MAX_S:
            yield warning("backup.age", told, why, make)
        else:
            yield ok("backup.age", told)
        match newest.verified:
            case None:
                yield note("backup.verified", f"{newest.path} was not verified now", "",
                           f"mtactl backup verify {newest.path}")  # fmt: skip
            case "":
                yield ok("backup.verified", f"{newest.path} verifies")
                yield ok("backup.content", "it holds the queue, its bodies, the users, the keys and the configuration")
            case wrong:
                yield error("backup.verified", f"{newest.path}: {wrong}", why, make)
    if facts.schedule:
        yield ok("backup.schedule", f"backups are made by {facts.schedule}")
    else:
        begin = (
            f"systemctl enable --now {facts.timer}"
            if facts.timer
            else "echo '0 2 * * * root /opt/mtad/scripts/backup.sh' > /etc/cron.d/mtad-backup"
        )
        yield warning("backup.schedule", "nothing makes backups by itself", why, begin)
