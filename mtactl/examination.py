"""The course of an examination: gather, judge, group by group; says what it is at, then what it found."""

import asyncio
import os
import re
import shlex
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from tempfile import TemporaryDirectory
from typing import Any

from mtactl import selfmail
from mtactl.base import Options
from mtactl.errors import EX_NOPERM, EX_NOTHING, CallError
from mtactl.perform import call
from mtad import __version__
from mtad.config import Config
from mtad.control.tables import find
from mtad.dns.resolver import Resolver
from mtad.doctor import gather_host, gather_net, judge_access, judge_host, judge_mail, judge_service
from mtad.doctor.finding import QUESTIONS, Finding, error, note, question, wanted
from mtad.inbound import dropped
from mtad.mail.text import clean
from mtad.queue import database
from mtad.tls.chain import examine

BACKUP_FOLDER = "/var/backups/mtad"
VERIFY_MAX_BYTES = 4 << 30
USERS_MAX = 200
DOMAINS_MAX = 10  # whose DNS is checked: each may take a minute
INTEGRITY_MAX = 1000  # messages that are read in passing

Rows = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Wishes:
    only: tuple[str, ...]
    domains: tuple[str, ...]
    offline: bool
    out: str
    backups: str
    self_mail: bool
    user: str


class Asked:
    """What the daemon says, or its data when it is down; each operation once."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._known: dict[str, Rows | CallError] = {}

    def rows(self, verb: str, /, **arguments: Any) -> Rows:
        """CallError, of this call or the same one before."""
        key = f"{verb} {sorted(arguments.items())}"
        if key not in self._known or verb == "queue.wait":
            operation = find(verb)
            assert operation is not None, verb
            try:
                self._known[key] = list(call(operation, self._options, arguments, quiet=True))
            except CallError as failure:
                self._known[key] = failure
        found = self._known[key]
        if isinstance(found, CallError):
            raise found
        return found

    def told(self, verb: str, /, **arguments: Any) -> Rows:
        """The rows of a check, which ends with 1 when it found something. CallError for all else."""
        operation = find(verb)
        assert operation is not None, verb
        rows: Rows = []
        try:
            for row in call(operation, self._options, arguments, quiet=True):
                rows.append(row)
        except CallError as failure:
            if failure.code != EX_NOTHING:
                raise
        return rows


def examination(options: Options, config: Config, wishes: Wishes) -> Iterator[str | Finding]:
    """Texts are what is being looked at."""
    asked = Asked(options)
    for group, title, findings in (
        ("dns", "DNS", lambda: _dns(asked, config, wishes)),
        ("resolver", "name servers", lambda: _resolver(config, wishes)),
        ("tls", "certificates", lambda: _tls(config)),
        ("listen", "ports", lambda: _listen(asked, config, wishes)),
        ("relay", "relaying", lambda: _relay(config)),
        ("dkim", "signing keys", lambda: _dkim(asked, config)),
        ("users", "users", lambda: _users(asked)),
        ("files", "files", lambda: judge_service.files(gather_host.files(config), config)),
        ("service", "service", lambda: _service(asked, config)),
        ("host", "machine", lambda: _host(asked, config)),
        ("queue", "queue", lambda: _queue(asked, config)),
        ("backup", "backups", lambda: _backups(asked, config, wishes)),
        ("version", "versions", lambda: _versions(asked, config)),
        ("mail", "a mail to itself", lambda: _mail(asked, config, wishes)),
        ("ask", "questions", lambda: QUESTIONS),
    ):
        if not any(one == group or one.startswith(f"{group}.") for one in wishes.only) and wishes.only:
            continue
        yield title
        for finding in findings():
            if wanted(finding.id, wishes.only):
                yield replace(finding, what=clean(finding.what, 500), fix=_here(finding.fix, options))


def _here(fix: str, options: Options) -> str:
    """A command as it is typed for this daemon."""
    if options.root:
        fix = re.sub(r"\bmtactl (?=[a-z])", f"mtactl --root {shlex.quote(options.root)} ", fix)
    return "\n".join(clean(line, 2000) for line in fix.splitlines())


def _dns(asked: Asked, config: Config, wishes: Wishes) -> Iterator[Finding]:
    """`dns check` of each domain: its findings are ours, and each part without one is fine."""
    for number, domain in enumerate(wishes.domains):
        if wishes.offline or number >= DOMAINS_MAX:
            yield question("dns.check", f"Is DNS of {domain} as it should be?", "Deliverability is mostly DNS.",
                           f"mtactl dns check {domain}")  # fmt: skip
            continue
        try:
            rows = asked.rows("dns.check", domain=domain)
        except CallError as failure:
            yield _unseen("dns.check", failure)
            continue
        yield from judge_mail.dns(domain, rows)


def _resolver(config: Config, wishes: Wishes) -> Iterator[Finding]:
    facts = asyncio.run(gather_net.resolving(config, Resolver(config.dns, time.time), offline=wishes.offline))
    yield from judge_mail.resolver(facts)


def _tls(config: Config) -> Iterator[Finding]:
    pairs = [(config.tls.cert, config.tls.key)] if config.tls.cert else []
    pairs += [(one.cert, one.key) for one in config.tls.certificates]
    now = time.time()
    found = [examine(cert, key, "" if n else config.hostname, now) for n, (cert, key) in enumerate(pairs)]
    renewal = gather_host.renewal(config.tls.cert)
    yield from judge_mail.certificates(found, config.hostname, now, renewal)


def _listen(asked: Asked, config: Config, wishes: Wishes) -> Iterator[Finding]:
    pid = _pid(asked)
    ports = sorted({address.port for _, address, _ in gather_net.listeners(config)})

    async def look() -> tuple[Any, Any]:
        resolver = Resolver(config.dns, time.time)
        return await asyncio.gather(
            gather_net.seen(config), gather_net.outward(config, resolver, wishes.out, offline=wishes.offline)
        )

    seen, outward = asyncio.run(look())
    yield from judge_mail.listeners(seen, config, time.time())
    yield from judge_service.owners(gather_host.holders(ports), ports, pid)
    yield from judge_service.sendmails(gather_host.sendmails())
    yield from judge_service.firewall(gather_host.service(pid, ports), ports)
    yield from judge_mail.outward(outward)


def _relay(config: Config) -> Iterator[Finding]:
    yield from judge_access.relay(asyncio.run(gather_net.relay_tries(config)))
    yield from judge_access.trusted(config)
    yield from judge_access.limits(config)
    yield from judge_access.token(config)


def _dkim(asked: Asked, config: Config) -> Iterator[Finding]:
    try:
        rows, statuses = asked.rows("dkim.list"), asked.rows("dkim.status")
    except CallError as failure:
        yield _unseen("dkim.keys", failure)
        return
    yield from judge_mail.dkim(rows, statuses, config.domains, time.time())


def _users(asked: Asked) -> Iterator[Finding]:
    try:
        rows = [one for row in asked.rows("user.list")[:USERS_MAX] for one in asked.rows("user.show", name=row["name"])]
    except CallError as failure:
        yield _unseen("users.limits", failure)
        return
    yield from judge_mail.users(rows)


def _status(asked: Asked) -> Mapping[str, Any]:
    """Of the running daemon; empty when it does not answer."""
    try:
        rows = asked.rows("status")
    except CallError:
        return {}
    return rows[0] if rows else {}


def _pid(asked: Asked) -> int:
    return int(_status(asked).get("pid") or 0)


def _service(asked: Asked, config: Config) -> Iterator[Finding]:
    try:
        answers: bool | None = bool(asked.rows("status"))
    except CallError as failure:
        answers = None if failure.code == EX_NOPERM else False
    facts = gather_host.service(_pid(asked), ())
    problems = _status(asked).get("problems", ())
    yield from judge_service.service(facts, config, answers=answers, problems=problems)
    if answers:
        try:
            yield from judge_service.alerts(asked.told("alerts"))
        except CallError as failure:
            yield _unseen("service.alerts", failure)


def _host(asked: Asked, config: Config) -> Iterator[Finding]:
    paths = [config.paths.data, "/", "/var/log"]
    if config.local.deliver is not None and config.local.deliver.path:
        paths.append(config.local.deliver.path.partition("%")[0].rstrip("/") or "/")
    facts = gather_host.machine(paths)
    yield from judge_host.machine(facts, gather_host.process(_pid(asked)).files_limit)


def _queue(asked: Asked, config: Config) -> Iterator[Finding]:
    try:
        [stats] = asked.rows("queue.stats")
    except CallError as failure:
        yield _unseen("queue.size", failure)
        return
    yield from judge_mail.queue(stats, config, time.time())
    folder = config.paths.maildrop
    names = dropped.names(folder)
    left = None if names is None else (len(names), dropped.oldest(folder, names))
    yield from judge_mail.maildrop(folder, left, time.time(), runs=bool(_status(asked)))
    # It reads all of it; on a stopped daemon's data it would make us the daemon's user for good.
    few = stats["messages"] <= INTEGRITY_MAX
    rows: Rows | None = None
    if few and _status(asked):
        try:
            rows = asked.told("check")
        except CallError as failure:
            yield _unseen("queue.integrity", failure)
            return
    yield from judge_mail.integrity(rows)


def _backups(asked: Asked, config: Config, wishes: Wishes) -> Iterator[Finding]:
    folders = [wishes.backups] if wishes.backups else [BACKUP_FOLDER, f"{config.paths.data}/backups"]
    facts = gather_host.backups(folders)
    newest = facts.newest
    if newest is not None and 0 < newest.size_bytes <= VERIFY_MAX_BYTES:
        facts = replace(facts, newest=replace(newest, verified=_verified(newest.path)))
    yield from judge_host.backups(facts, time.time())


def _verified(path: str) -> str | None:
    """What is wrong with a backup, "" when nothing is; None: it is encrypted, and the key is elsewhere."""
    from mtad.backup.archive import BackupError
    from mtad.backup.judge import judge
    from mtad.backup.sealed import MAGIC

    try:
        with open(path, "rb") as file, TemporaryDirectory(prefix="mtad-doctor-") as folder:
            if file.read(len(MAGIC)) == MAGIC:
                return None
            file.seek(0)
            return "; ".join(judge(file, None, folder, keep_bodies=False, progress=lambda octets: None).problems[:5])
    except (BackupError, OSError) as failure:
        return str(failure)


def _versions(asked: Asked, config: Config) -> Iterator[Finding]:
    facts = gather_host.machine(())
    yield from judge_host.versions(facts, __version__, str(_status(asked).get("version") or ""))
    migrations = os.path.join(os.path.dirname(database.__file__), "migrations")
    yield from judge_host.schema(*gather_host.schema(config.paths.database, migrations))


def _mail(asked: Asked, config: Config, wishes: Wishes) -> Iterator[Finding]:
    if wishes.self_mail and not _status(asked):
        yield error("mail.local", "no mail can be tried: the daemon does not answer", "No mail is taken.",
                    "systemctl start mtad")  # fmt: skip
    elif wishes.self_mail:
        yield from selfmail.findings(asked, config, wishes.user)
    else:
        yield question("mail.local", "Does a mail get through each way in, signed and delivered? It was not tried.",
                       "All else can be right, and the mailbox of postmaster full.",
                       "mtactl doctor --self-mail --user NAME")  # fmt: skip


def _unseen(check: str, failure: CallError) -> Finding:
    """A group that cannot be looked at: as good as not checked."""
    if failure.code == EX_NOPERM:
        return note(check, f"not seen: {_one_line(failure)}", "Run the doctor as root to see all.")
    return error(
        check, f"not seen: {_one_line(failure)}", "What cannot be looked at cannot be called good.", "mtactl status"
    )


def _one_line(failure: CallError) -> str:
    return failure.text.replace("\n", "; ")
