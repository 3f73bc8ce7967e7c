"""Graders of files, other mail servers, the service and what protects it. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mtad.config import Config
from mtad.doctor.facts import Entry, Holder, Sendmail, Service
from mtad.doctor.finding import Finding, error, note, ok, question, warning

# --- files


def files(entries: Sequence[Entry], config: Config) -> Iterator[Finding]:
    """By path: what it is follows from the settings."""
    paths, by_path = config.paths, {entry.path: entry for entry in entries}
    data = by_path[paths.data]
    service = data.owner
    for entry in entries:
        if entry.problem:
            yield note(_check(entry, config), f"{entry.path}: {entry.problem}", "Run the doctor as root to see all.")
        elif not entry.kind:
            yield from _absent(entry, config)
        elif entry.path in (paths.control, paths.submit, paths.run):
            if entry.path != paths.run and entry.kind != "socket":
                yield error("files.sockets", f"{entry.path} is no socket", "Nobody can reach the daemon.",
                            f"rm {entry.path} && systemctl restart mtad")  # fmt: skip
            elif entry.path == paths.run and entry.mode & 0o002:
                yield error(
                    "files.sockets",
                    f"{entry.path} can be written by everybody ({entry.mode:o})",
                    "Anybody could put a socket of his own in place of ours.",
                    f"chmod o-w {entry.path}",
                )
            else:
                yield ok("files.sockets", f"{entry.path} is there")  # fmt: skip
        elif entry.path == paths.config:
            yield from _config(entry)
        elif entry.path == paths.maildrop:
            yield from _maildrop(entry, service)
        elif entry.path.startswith(f"{paths.data}/") or entry.path == paths.data:
            yield from _data(entry, service, config)
        else:
            yield from _key(entry)


def _check(entry: Entry, config: Config) -> str:
    paths = config.paths
    if entry.path in (paths.control, paths.submit, paths.run):
        return "files.sockets"
    if entry.path == paths.config:
        return "files.config"
    if entry.path.startswith(paths.data) and not entry.path.startswith(paths.dkim):
        return "files.data"
    return "files.keys"


def _absent(entry: Entry, config: Config) -> Iterator[Finding]:
    paths = config.paths
    if entry.path in (paths.control, paths.submit):
        yield warning("files.sockets", f"{entry.path} is not there", "The daemon does not run, or runs elsewhere.",
                      "systemctl start mtad")  # fmt: skip
    elif entry.path in (paths.dkim, paths.maildrop, paths.spool, paths.run, paths.data, paths.database):
        yield note(_check(entry, config), f"{entry.path} is not there yet", "The daemon makes it when it starts.")
    elif entry.path == paths.config:
        yield note("files.config", f"there is no {entry.path}: all settings are of the environment")
    else:
        yield error("files.keys", f"{entry.path} is not there", "The settings name it.", "look at the path in"
                    f" {paths.config}, then mtactl config check")  # fmt: skip


def _config(entry: Entry) -> Iterator[Finding]:
    if entry.mode & 0o022:
        yield error("files.config", f"{entry.path} can be written by others than {entry.owner} ({entry.mode:o})",
                    "Whoever writes it makes the daemon run programs.", f"chmod go-w {entry.path}")  # fmt: skip
    elif entry.mode & 0o004:
        yield warning("files.config", f"{entry.path} can be read by everybody ({entry.mode:o})",
                      "A token or password in it is no secret.", f"chmod o-rwx {entry.path}")  # fmt: skip
    else:
        yield ok("files.config", f"{entry.path}: {entry.mode:o} {entry.owner}:{entry.group}")


def _maildrop(entry: Entry, service: str) -> Iterator[Finding]:
    wanted = 0o1733
    if entry.mode & wanted != wanted or entry.mode & 0o044:
        yield warning("files.data", f"{entry.path} has mode {entry.mode:o}, not 3733",
                      "Programs cannot leave mail while the daemon is down, or read that of others.",
                      f"chmod 3733 {entry.path}")  # fmt: skip
    elif entry.owner != service:
        yield error("files.data", f"{entry.path} belongs to {entry.owner}, not to {service}",
                    "The daemon cannot take the mail out.", f"chown {service} {entry.path}")  # fmt: skip
    else:
        yield ok("files.data", f"{entry.path}: {entry.mode:o} {entry.owner}")


def _data(entry: Entry, service: str, config: Config) -> Iterator[Finding]:
    check = "files.keys" if entry.path.startswith(config.paths.dkim) else "files.data"
    # Everybody may pass through the data directory, for maildrop/ lies inside; the database is closed by umask.
    open_to_others = entry.mode & (0o066 if entry.path == config.paths.data else 0o077)
    if entry.path == config.paths.database:
        open_to_others = entry.mode & 0o037
    if entry.owner != service:
        yield error(check, f"{entry.path} belongs to {entry.owner}, not to {service}",
                    "The daemon cannot use it.", f"chown -R {service}: {config.paths.data}")  # fmt: skip
    elif entry.path == config.paths.data and entry.owner == "root" and config.paths.data.startswith("/var/lib/"):
        yield error(check, f"{entry.path} belongs to root", "The service runs as mtad and cannot use it.",
                    f"chown -R mtad:mtad {entry.path}")  # fmt: skip
    elif open_to_others:
        closed = entry.mode & ~(0o066 if entry.path == config.paths.data else 0o077)
        grade = error if check == "files.keys" or entry.mode & 0o022 else warning
        yield grade(check, f"{entry.path} is open to others ({entry.mode:o})",
                    "Whoever has the key signs as you." if check == "files.keys" else "Mail is in it.",
                    f"chmod {closed:o} {entry.path}")  # fmt: skip
    else:
        yield ok(check, f"{entry.path}: {entry.mode:o} {entry.owner}")


def _key(entry: Entry) -> Iterator[Finding]:
    if entry.mode & 0o007:
        yield error("files.keys", f"{entry.path} is open to everybody ({entry.mode:o})",
                    "Whoever reads it can pretend to be this host.", f"chmod o-rwx {entry.path}")  # fmt: skip
    else:
        yield ok("files.keys", f"{entry.path}: {entry.mode:o} {entry.owner}:{entry.group}")


# --- other mail servers


def owners(holders: Sequence[Holder], ports: Sequence[int], pid: int) -> Iterator[Finding]:
    """`pid` of the daemon, 0 when it does not run."""
    fine = True
    for holder in holders:
        if holder.pid and holder.pid != pid and holder.program not in ("systemd", "mtad"):
            fine = False
            yield error("listen.owner", f"port {holder.port} is held by {holder.program} (process {holder.pid})",
                        "Only one program can listen there; mail goes to it.",
                        f"systemctl disable --now {_unit_of(holder.program)}")  # fmt: skip
        elif not pid and not holder.pid:
            fine = False
            yield note("listen.owner", f"who listens on port {holder.port} cannot be seen",
                       "It may be another mail server.", "run the doctor as root")  # fmt: skip
    if fine:
        shown = ", ".join(map(str, ports)) or "none"
        yield ok("listen.owner", f"no other program holds one of our ports ({shown})")


def _unit_of(program: str) -> str:
    return {"master": "postfix", "exim4": "exim4", "sendmail-mta": "sendmail", "smtpd": "opensmtpd"}.get(
        program, program
    )


def sendmails(found: Sequence[Sendmail]) -> Iterator[Finding]:
    for one in found:
        if one.ours:
            yield ok("listen.sendmail", f"{one.path} is ours")
        elif not one.leads_to:
            yield warning("listen.sendmail", f"there is no {one.path}" if one.path else "",
                          "Programs of this host cannot send: cron, monitoring, web applications.",
                          "mtactl install sendmail")  # fmt: skip
        else:
            whose = f", of the package {one.owner}" if one.owner else ""
            way = f" by {one.by}" if one.by else ""
            yield warning("listen.sendmail", f"{one.path} is {one.leads_to}{whose}{way}",
                          "Programs of this host give their mail to another mail server.",
                          "mtactl install sendmail")  # fmt: skip


# --- service


def service(facts: Service, config: Config, *, answers: bool | None, problems: Sequence[str]) -> Iterator[Finding]:
    """`answers`: the daemon does, None: but not to this user; `problems`: what it says of itself."""
    process, unit = facts.process, facts.unit
    if answers is None:
        yield note("service.running", "the daemon runs, and does not answer this user", "Run the doctor as root.")
    elif not answers:
        yield error("service.running", "the daemon does not answer", "No mail is taken and none goes out.",
                    "systemctl start mtad; journalctl -u mtad -n 50")  # fmt: skip
    elif problems:
        for problem in problems:
            yield warning("service.running", problem, "The daemon says so itself.", "mtactl status")
    else:
        yield ok("service.running", f"the daemon answers (process {process.pid})")
    if process.user == "root":
        yield error("service.user", "the daemon runs as root", "A hole in it would be a hole in everything.",
                    "systemd-sysusers deploy/sysusers.d/mtad.conf; use deploy/mtad.service")  # fmt: skip
    elif process.user:
        yield ok("service.user", f"the daemon runs as {process.user}")
    yield from _unit(facts, by_unit=config.paths.data.startswith("/var/lib/"))
    yield from _guards(facts)
    yield from _log(facts)
    if config.listen.http is None:
        yield note("service.monitoring", "there is no HTTP listener to scrape metrics from",
                   "Queue, failures, disk and certificates are worth an alert.",
                   '[listen] http = "127.0.0.1:8080" in mtad.toml')  # fmt: skip
    else:
        yield ok("service.monitoring", f"metrics are at port {config.listen.http.port} of {config.listen.http.host}")
    if unit.manager and unit.loaded and unit.properties.get("ActiveState") != "active" and answers:
        yield note("service.unit", "the daemon that answers was not started by its unit")


def alerts(rows: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    """`rows` of alerts."""
    firing = [row for row in rows if row["firing"]]
    for row in firing:
        yield warning("service.alerts", row["text"], "It is worth waking somebody.", row["advice"] or "mtactl alerts")
    if not firing:
        yield ok("service.alerts", "nothing that should wake somebody")


_HARDENED = {
    "NoNewPrivileges": ("yes",),
    "ProtectSystem": ("strict", "full"),
    "ProtectHome": ("yes", "read-only", "tmpfs"),
    "PrivateTmp": ("yes",),
}


def _unit(facts: Service, *, by_unit: bool) -> Iterator[Finding]:
    unit = facts.unit
    if not unit.manager:
        yield note("service.unit", "systemd does not run here", "Something else has to start the daemon at boot and"
                   " after a crash.")  # fmt: skip
        return
    if not unit.loaded:
        grade = warning if by_unit else note
        yield grade(
            "service.unit",
            "there is no mtad.service",
            "Nothing starts the daemon at boot or after a crash.",
            "scripts/install.sh, in a clone of mtad (docs/installing.md)",
        )
        return  # fmt: skip
    have = unit.properties
    if have.get("UnitFileState") not in ("enabled", "enabled-runtime", "static", "indirect"):
        yield warning("service.unit", f"mtad.service is {have.get('UnitFileState') or 'not enabled'}",
                      "After a restart of the host no mail is taken.", "systemctl enable mtad")  # fmt: skip
    lacking = [f"{name}={good[0]}" for name, good in _HARDENED.items() if have.get(name) not in good]
    if lacking:
        yield warning("service.unit", f"mtad.service lacks {', '.join(lacking)}",
                      "What an intruder of the daemon could reach is not fenced in.",
                      "take deploy/mtad.service; systemd-analyze security mtad")  # fmt: skip
    elif have.get("UnitFileState") in ("enabled", "enabled-runtime", "static", "indirect"):
        yield ok("service.unit", "mtad.service is enabled and hardened")


def _guards(facts: Service) -> Iterator[Finding]:
    if facts.jail and facts.fail2ban == "running":
        yield ok("service.fail2ban", "fail2ban has a jail for mtad")
    else:
        state = {"running": "has no jail for mtad", "installed": "does not run"}.get(facts.fail2ban, "is not installed")
        yield note("service.fail2ban", f"fail2ban {state}",
                   "The daemon blocks clients by itself; fail2ban keeps them off all ports.",
                   "apt-get install fail2ban; scripts/install.sh puts the jail there")  # fmt: skip
    if not facts.confinement:
        yield note("service.confinement", "neither SELinux nor AppArmor is in force",
                   "The unit's own fences hold; this would be a second one.")  # fmt: skip
    elif facts.process.confined:
        yield ok("service.confinement", f"{facts.confinement} confines the daemon: {facts.process.confined}")
    else:
        yield note("service.confinement", f"{facts.confinement} is in force, without a profile for the daemon",
                   "The unit's own fences hold; this would be a second one.")  # fmt: skip


def _log(facts: Service) -> Iterator[Finding]:
    match facts.process.log:
        case "journal" if facts.journal == "volatile":
            yield warning("service.log", "the journal is kept in memory only", "After a restart of the host nobody can"
                          " say what became of a mail.",
                          "mkdir -p /var/log/journal && systemctl restart systemd-journald")  # fmt: skip
        case "journal":
            yield ok("service.log", "the log is in the journal, which bounds itself")
        case "file" if facts.rotation:
            yield ok("service.log", f"{facts.process.log_path} is rotated by {facts.rotation}")
        case "file":
            yield warning("service.log", f"nothing rotates {facts.process.log_path}", "It fills the disk one day.",
                          "use the journal (deploy/mtad.service), or name the file in /etc/logrotate.d/")  # fmt: skip
        case "":
            yield note("service.log", "where the log goes cannot be seen", "", "run the doctor as root")
        case other:
            yield note("service.log", f"the log goes to a {other}", "Nobody keeps it.", "start it by its unit")


def firewall(facts: Service, ports: Sequence[int]) -> Iterator[Finding]:
    if not facts.firewall:
        yield note("listen.firewall", "no firewall of this host was found", "Other services are open to the world.",
                   f"ufw allow 22/tcp; {'; '.join(f'ufw allow {port}/tcp' for port in ports)}; ufw enable")  # fmt: skip
    elif facts.open_ports is None:
        yield question(
            "listen.firewall",
            f"Does {facts.firewall} let ports {', '.join(map(str, ports))} in?",
            "Its rules cannot be read from here with certainty.",
            "nft list ruleset, or iptables -nL INPUT",
        )
    else:  # fmt: skip
        closed = [port for port in ports if port not in facts.open_ports]
        if closed:
            rules = "; ".join(f"ufw allow {port}/tcp" if facts.firewall == "ufw" else
                              f"firewall-cmd --permanent --add-port={port}/tcp" for port in closed)  # fmt: skip
            yield error("listen.firewall", f"{facts.firewall} does not let ports {', '.join(map(str, closed))} in",
                        "Nobody can connect.", rules)  # fmt: skip
        else:
            yield ok("listen.firewall", f"{facts.firewall} lets ports {', '.join(map(str, ports))} in")
