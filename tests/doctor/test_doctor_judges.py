"""The graders: facts in, grades out."""

import sqlite3
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from mtad.config import Access, Address, Config, Listen, Paths
from mtad.doctor import gather_host, judge_access, judge_host, judge_mail, judge_service
from mtad.doctor.facts import (
    Archive,
    Backups,
    Disk,
    Entry,
    Holder,
    Machine,
    Outward,
    Process,
    RelayTry,
    Renewal,
    Resolving,
    Sendmail,
    Service,
    Unit,
)
from mtad.doctor.finding import Finding, Grade
from mtad.tls.chain import Examined, Link
from mtad.tls.probe import Seen

NOW = 1_800_000_000.0
DAY = 86400.0
GB = 1 << 30
CONFIG = Config(
    "mail.example.test",
    ("example.test",),
    Paths("/etc/mtad/mtad.toml", "/var/lib/mtad", "/run/mtad"),
    listen=Listen(smtp=(Address("0.0.0.0", 25),), submission=(Address("::", 587),)),
)
LEAF = Link("CN=mail.example.test", "CN=CA", ("mail.example.test",), NOW - DAY, NOW + 30 * DAY, "EC", "sha256", False)


def grades(findings: Iterable[Finding]) -> dict[str, Grade]:
    """The worst of each id; each finding that is not ok says why or what to do."""
    found: dict[str, Grade] = {}
    for one in findings:
        assert one.what, one
        assert one.grade in ("ok", "note") or (one.why and one.fix), one
        if found.get(one.id, "ok") == "ok":
            found[one.id] = one.grade
    return found


MACHINE = Machine(2, 4 * GB, (Disk("/", 50 * GB, 100 * GB, 900, 1000),), True, 0.01, 4096, "unattended-upgrades",
                  False, (3, 12, 1), (3, 51, 3))  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "limit", "check", "grade"),
    [
        ({}, 65536, "host.disk", "ok"),
        ({"disks": (Disk("/", 15 * GB, 100 * GB, 1, -1),)}, 65536, "host.disk", "warning"),
        ({"disks": (Disk("/", 4 * GB, 100 * GB, 1, -1),)}, 65536, "host.disk", "error"),
        ({"disks": (Disk("/", 100 << 20, 200 << 20, 1, -1),)}, 65536, "host.disk", "error"),
        ({"disks": (Disk("/", 50 * GB, 100 * GB, 100, 1000),)}, 65536, "host.inodes", "warning"),
        ({"clock_synchronised": False}, 65536, "host.clock", "warning"),
        ({"clock_error_s": 5.0}, 65536, "host.clock", "warning"),
        ({"clock_synchronised": None}, 65536, "host.clock", "note"),
        ({"memory_bytes": GB}, 65536, "host.size", "note"),
        ({}, 1024, "host.files_limit", "warning"),
        ({}, -1, "host.files_limit", "note"),
        ({"backlog": 128}, 65536, "host.backlog", "note"),
        ({"updates": ""}, 65536, "host.updates", "question"),
        ({"reboot_wanted": True}, 65536, "host.updates", "warning"),
    ],
)
def test_the_machine(changes: dict[str, object], limit: int, check: str, grade: Grade) -> None:
    found = grades(judge_host.machine(replace(MACHINE, **changes), limit))  # type: ignore[arg-type]
    assert found[check] == grade


@pytest.mark.parametrize(
    ("sqlite", "grade"),
    [((3, 40, 1), "note"), ((3, 44, 5), "note"), ((3, 44, 6), "ok"), ((3, 50, 7), "ok"), ((3, 51, 2), "note"),
     ((3, 51, 3), "ok"), ((3, 52, 0), "ok"), ((4, 0, 0), "ok")],
)  # fmt: skip
def test_versions(sqlite: tuple[int, int, int], grade: Grade) -> None:
    found = grades(judge_host.versions(replace(MACHINE, sqlite=sqlite), "1.1", "1.0"))
    assert found == {"version.python": "ok", "version.sqlite": grade, "version.daemon": "warning"}


def test_the_database(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "mta.db")
    connection.execute("PRAGMA user_version = 7")
    connection.close()
    for name in ("0001_a.sql", "0007_b.sql", "README"):
        (tmp_path / name).touch()
    assert gather_host.schema(str(tmp_path / "mta.db"), str(tmp_path)) == (7, 7)
    assert gather_host.schema(str(tmp_path / "0001_a.sql"), str(tmp_path)) == (-1, 7)
    assert gather_host.schema("/nonexistent", "/nonexistent") == (-1, 0)
    assert [grades(judge_host.schema(found, 7))["version.schema"] for found in (-1, 6, 7, 8)] == [
        "note", "note", "ok", "error",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("age_s", "size", "verified", "expected"),
    [
        (3600, 10, "", {"backup.age": "ok", "backup.verified": "ok", "backup.content": "ok"}),
        (2 * DAY, 10, None, {"backup.age": "warning", "backup.verified": "note"}),
        (9 * DAY, 10, "it is damaged", {"backup.age": "error", "backup.verified": "error"}),
        (60, 0, None, {"backup.age": "error", "backup.verified": "note"}),
    ],
)
def test_backups(age_s: float, size: int, verified: str | None, expected: dict[str, Grade]) -> None:
    newest = Archive("/b/mtad-x.tar.gz", NOW - age_s, size, verified)
    assert grades(judge_host.backups(Backups("/b", newest, 3, "/etc/cron.d/x"), NOW)) == {
        **expected, "backup.schedule": "ok",
    }  # fmt: skip
    none = grades(judge_host.backups(Backups("/b", None, 0, ""), NOW))
    assert none == {"backup.age": "warning", "backup.schedule": "warning"}


def test_backups_are_begun_with_what_is_installed(tmp_path: Path) -> None:
    """Not with cron, where our timer needs only to be enabled."""
    assert [one.fix for one in judge_host.backups(Backups("/b", None, 0, "", timer="mtad-backup.timer"), NOW)] == [
        "systemctl start mtad-backup.service", "systemctl enable --now mtad-backup.timer",
    ]  # fmt: skip
    by_cron = [one.fix for one in judge_host.backups(Backups("/b", None, 0, ""), NOW)]
    assert by_cron[0] == "scripts/backup.sh"
    assert "/etc/cron.d/" in by_cron[1]
    (tmp_path / "mtad-backup.timer").touch()
    found = gather_host.backups(["/nonexistent"], [str(tmp_path)])
    assert found.timer == ("" if found.schedule else "mtad-backup.timer")  # the schedule is one of this machine's
    (tmp_path / "timers.target.wants").mkdir()
    (tmp_path / "timers.target.wants/mtad-backup.timer").touch()
    found = gather_host.backups(["/nonexistent"], [str(tmp_path)])
    assert (found.schedule, found.timer) == (f"{tmp_path}/timers.target.wants/mtad-backup.timer", "")


@pytest.mark.parametrize(
    ("found", "runs", "grade"),
    [(None, True, "note"), ((0, 0.0), False, "ok"), ((3, NOW - 10), True, "ok"), ((3, NOW - 90), True, "warning"),
     ((1, NOW), False, "warning")],
)  # fmt: skip
def test_the_maildrop(found: tuple[int, float] | None, runs: bool, grade: Grade) -> None:
    assert grades(judge_mail.maildrop("/m", found, NOW, runs=runs)) == {"queue.maildrop": grade}


@pytest.mark.parametrize(
    ("entry", "grade"),
    [
        (Entry("/etc/mtad/mtad.toml", "file", 0o640, "root", "mtad"), "ok"),
        (Entry("/etc/mtad/mtad.toml", "file", 0o644, "root", "mtad"), "warning"),
        (Entry("/etc/mtad/mtad.toml", "file", 0o660, "root", "mtad"), "error"),
        (Entry("/var/lib/mtad/mta.db", "file", 0o600, "mtad", "mtad"), "ok"),
        (Entry("/var/lib/mtad/mta.db", "file", 0o600, "root", "root"), "error"),
        (Entry("/var/lib/mtad/mta.db", "file", 0o644, "mtad", "mtad"), "warning"),
        (Entry("/var/lib/mtad/dkim/example.test/s.pem", "file", 0o640, "mtad", "mtad"), "error"),
        (Entry("/var/lib/mtad/dkim/example.test/s.pem", problem="Permission denied"), "note"),
        (Entry("/var/lib/mtad/maildrop", "directory", 0o3733, "mtad", "mtad"), "ok"),
        (Entry("/var/lib/mtad/maildrop", "directory", 0o1733, "mtad", "mtad"), "ok"),
        (Entry("/var/lib/mtad/maildrop", "directory", 0o700, "mtad", "mtad"), "warning"),
        (Entry("/etc/ssl/key.pem", "file", 0o640, "root", "ssl-cert"), "ok"),
        (Entry("/etc/ssl/key.pem", "file", 0o644, "root", "root"), "error"),
        (Entry("/etc/ssl/key.pem"), "error"),
        (Entry("/run/mtad/control.sock", "socket", 0o666, "mtad", "mtad"), "ok"),
        (Entry("/run/mtad/control.sock", "file", 0o666, "mtad", "mtad"), "error"),
        (Entry("/run/mtad/submit.sock"), "warning"),
        (Entry("/run/mtad", "directory", 0o777, "mtad", "mtad"), "error"),
    ],
)
def test_files(entry: Entry, grade: Grade) -> None:
    data = Entry("/var/lib/mtad", "directory", 0o711, "mtad", "mtad")
    last = list(judge_service.files([data, entry], CONFIG))[-1]
    assert last.grade == grade, last
    assert grades([last])


def test_who_holds_our_ports() -> None:
    mine, postfix, hidden = Holder(25, 7, "python"), Holder(25, 9, "master"), Holder(25, 0, "")
    assert grades(judge_service.owners([mine], [25], 7)) == {"listen.owner": "ok"}
    assert grades(judge_service.owners([hidden], [25], 0)) == {"listen.owner": "note"}
    [found] = judge_service.owners([postfix], [25], 7)
    assert (found.grade, found.fix) == ("error", "systemctl disable --now postfix")
    other = Sendmail("/usr/sbin/sendmail", "/usr/sbin/exim4", ours=False, owner="exim4-daemon-light", by="alternatives")
    [found] = judge_service.sendmails([other])
    assert found.what == "/usr/sbin/sendmail is /usr/sbin/exim4, of the package exim4-daemon-light by alternatives"
    assert found.fix == "mtactl install sendmail"


UNIT = Unit(True, True, {"ActiveState": "active", "UnitFileState": "enabled", "NoNewPrivileges": "yes",
                         "ProtectSystem": "strict", "ProtectHome": "yes", "PrivateTmp": "yes"})  # fmt: skip
SERVICE = Service(UNIT, Process(7, "mtad", 65536, "journal"), "AppArmor", True, "running", "persistent", "", "ufw", ())


@pytest.mark.parametrize(
    ("changes", "check", "grade"),
    [
        ({}, "service.unit", "ok"),
        ({"unit": Unit(True, True, {**UNIT.properties, "UnitFileState": "disabled"})}, "service.unit", "warning"),
        ({"unit": Unit(True, True, {**UNIT.properties, "ProtectSystem": "no"})}, "service.unit", "warning"),
        ({"unit": Unit(True)}, "service.unit", "warning"),
        ({"unit": Unit(False)}, "service.unit", "note"),
        ({"process": Process(7, "root")}, "service.user", "error"),
        ({}, "service.user", "ok"),
        ({}, "service.fail2ban", "ok"),
        ({"jail": False}, "service.fail2ban", "note"),
        ({}, "service.confinement", "note"),
        ({"process": Process(7, "mtad", 1, "journal", "", "mtad (enforce)")}, "service.confinement", "ok"),
        ({"journal": "volatile"}, "service.log", "warning"),
        ({"process": Process(7, "mtad", 1, "file", "/var/log/mtad.log")}, "service.log", "warning"),
        ({"process": Process(7, "mtad", 1, "file", "/var/log/mtad.log"), "rotation": "/etc/logrotate.d/mtad"},
         "service.log", "ok"),
        ({}, "service.running", "ok"),
    ],
)  # fmt: skip
def test_the_service(changes: dict[str, object], check: str, grade: Grade) -> None:
    facts = replace(SERVICE, **changes)  # type: ignore[arg-type]
    assert grades(judge_service.service(facts, CONFIG, answers=True, problems=()))[check] == grade
    down = grades(judge_service.service(facts, CONFIG, answers=False, problems=()))
    assert down["service.running"] == "error"
    unseen = grades(judge_service.service(facts, CONFIG, answers=None, problems=()))
    assert unseen["service.running"] == "note"


def test_the_firewall() -> None:
    assert grades(judge_service.firewall(replace(SERVICE, open_ports=(25, 587)), [25, 587])) == {
        "listen.firewall": "ok"
    }
    [found] = judge_service.firewall(replace(SERVICE, open_ports=(25,)), [25, 587])
    assert (found.grade, found.fix) == ("error", "ufw allow 587/tcp")
    assert grades(judge_service.firewall(replace(SERVICE, open_ports=None), [25])) == {"listen.firewall": "question"}
    assert grades(judge_service.firewall(replace(SERVICE, firewall=""), [25])) == {"listen.firewall": "note"}


@pytest.mark.parametrize(
    ("token", "grade"),
    [
        ("a" * 40, "error"),
        ("changeme12345678", "error"),
        ("correct-horse-battery", "warning"),
        ("9f2c4d1e8b7a6053f1e2d3c4b5a69788", "ok"),
        ("mysecretpasswordtoken", "error"),
    ],
)
def test_tokens(token: str, grade: Grade) -> None:
    assert grades(judge_access.token(replace(CONFIG, access=Access(admin_token=token)))) == {"relay.token": grade}


def test_no_token() -> None:
    for host, grade in (("127.0.0.1", "ok"), ("::1", "ok"), ("localhost", "ok"), ("0.0.0.0", "error")):
        listen = replace(CONFIG.listen, http=Address(host, 8080))
        assert grades(judge_access.token(replace(CONFIG, listen=listen))) == {"relay.token": grade}


@pytest.mark.parametrize(
    ("networks", "grade"),
    [
        (("127.0.0.0/8", "::1"), "ok"),
        (("10.1.2.0/24", "fd00::/64"), "ok"),
        (("10.0.0.0/8",), "warning"),
        (("0.0.0.0/0",), "error"),
        (("::/0",), "error"),
    ],
)
def test_trusted_networks(networks: tuple[str, ...], grade: Grade) -> None:
    assert grades(judge_access.trusted(replace(CONFIG, access=Access(networks)))) == {"relay.trusted": grade}


def test_relaying() -> None:
    refused = RelayTry("smtp 192.0.2.1:25", "192.0.2.1", "a@example.net", "b@example.com", 550, "no")
    asked = RelayTry("submission 192.0.2.1:587", "192.0.2.1", "a@example.net", "b@example.com", 530, "sign in")
    assert grades(judge_access.relay([refused, asked])) == {"relay.open": "ok", "relay.sign_in": "ok"}
    assert grades(judge_access.relay([refused, replace(refused, code=250)]))["relay.open"] == "error"
    assert grades(judge_access.relay([replace(asked, code=250)]))["relay.sign_in"] == "error"
    assert grades(judge_access.relay([replace(refused, code=0)])) == {"relay.open": "note", "relay.sign_in": "note"}


@pytest.mark.parametrize(
    ("left_s", "changes", "expected"),
    [
        (30 * DAY, {}, {"tls.certificate": "ok", "tls.expiry": "ok"}),
        (6 * DAY, {"problems": ("it expires in 6.0 days",)}, {"tls.certificate": "ok", "tls.expiry": "warning"}),
        (-DAY, {"problems": ("it has expired 1 days ago",)}, {"tls.certificate": "ok", "tls.expiry": "error"}),
        (30 * DAY, {"problems": ("it is not for x",)}, {"tls.certificate": "warning", "tls.expiry": "ok"}),
        (30 * DAY, {"matches": False, "problems": ("k does not belong",)}, {"tls.certificate": "error"}),
    ],
)
def test_certificates(left_s: float, changes: dict[str, object], expected: dict[str, Grade]) -> None:
    one = Examined("c", "k", (replace(LEAF, expires_at=NOW + left_s),), True)
    found = judge_mail.certificates([replace(one, **changes)], "x", NOW, Renewal("certbot", "/etc/cron.d/certbot"))  # type: ignore[arg-type]
    assert grades(found) == {**expected, "tls.renewal": "ok"}
    assert grades(judge_mail.certificates([], "x", NOW, Renewal())) == {"tls.certificate": "error"}


@pytest.mark.parametrize(
    ("kind", "seen", "grade"),
    [
        ("smtp", Seen("STARTTLS", problem="connection refused"), "error"),
        ("smtp", Seen("STARTTLS", "220 x", problem="STARTTLS is not offered"), "error"),
        ("submission", Seen("STARTTLS", "220 x", protocol="TLSv1.3", early_auth=("PLAIN",)), "error"),
        ("submission", Seen("STARTTLS", "220 x", protocol="TLSv1.3"), "error"),
        ("smtp", Seen("STARTTLS", "220 x", protocol="TLSv1.3", old=("TLSv1",)), "warning"),
        ("smtp", Seen("STARTTLS", "220 x", protocol="TLSv1.3"), "warning"),  # no certificate that can be read
    ],
)
def test_listeners(kind: str, seen: Seen, grade: Grade) -> None:
    first = next(iter(judge_mail.listeners([(kind, "127.0.0.1:25", seen)], CONFIG, NOW)))
    assert (first.id, first.grade) == (f"listen.{kind}", grade)


def test_keys() -> None:
    key = {"domain": "example.test", "selector": "s1", "algorithm": "rsa", "bits": 2048, "stage": "active"}
    life = {"domain": "example.test", "selector": "s1", "stage": "active", "since": NOW - DAY, "waits_for": "",
            "next_rotation": None}  # fmt: skip

    def found(key: dict[str, object], life: dict[str, object]) -> dict[str, Grade]:
        return grades(judge_mail.dkim([key], [life], ["example.test"], NOW))

    assert found(key, life) == {"dkim.keys": "ok", "dkim.age": "ok", "dkim.rotation": "ok"}
    assert found({**key, "bits": 1024}, life)["dkim.keys"] == "warning"
    assert found({**key, "stage": "pending"}, life)["dkim.keys"] == "error"
    assert found(key, {**life, "since": NOW - 200 * DAY})["dkim.age"] == "warning"
    assert found(key, {**life, "since": NOW - 200 * DAY, "next_rotation": NOW + DAY})["dkim.age"] == "ok"
    assert found(key, {**life, "next_rotation": NOW - 8 * DAY})["dkim.age"] == "warning"
    assert found(key, {**life, "waits_for": "its record"})["dkim.rotation"] == "note"


def test_users() -> None:
    user = {"name": "alice", "disabled": False, "receive_only": False, "scram": True, "messages_per_day": 1000}
    assert grades(judge_mail.users([user])) == {"users.limits": "ok", "users.passwords": "ok"}
    assert grades(judge_mail.users([{**user, "messages_per_day": 0, "scram": False}])) == {
        "users.limits": "warning",
        "users.passwords": "note",
    }


QUEUE = {"messages": 3, "active": 0, "ready": 1, "deferred": 1, "done": 100, "failed": 1, "oldest": int(NOW) - 60}


@pytest.mark.parametrize(
    ("changes", "bad"),
    [
        ({}, ""),
        ({"messages": 1001}, "queue.size"),
        ({"oldest": int(NOW) - 5 * 3600}, "queue.age"),
        ({"ready": 5, "deferred": 20}, "queue.deferred"),
        ({"failed": 20}, "queue.failed"),
        ({"oldest": None}, ""),
    ],
)
def test_the_queue(changes: dict[str, object], bad: str) -> None:
    found = grades(judge_mail.queue({**QUEUE, **changes}, CONFIG, NOW))
    assert [check for check, grade in found.items() if grade == "warning"] == [bad] * bool(bad)


def test_name_servers_and_the_way_out() -> None:
    good = Resolving(("127.0.0.1",), 0.02)
    assert set(grades(judge_mail.resolver(good)).values()) == {"ok"}
    assert grades(judge_mail.resolver(replace(good, servers=("8.8.8.8",))))["resolver.lists"] == "warning"
    assert grades(judge_mail.resolver(replace(good, lists="127.255.255.254")))["resolver.lists"] == "note"
    assert grades(judge_mail.resolver(replace(good, latency_s=3)))["resolver.answers"] == "warning"
    assert grades(judge_mail.resolver(replace(good, problem="no answer"))) == {"resolver.answers": "error"}
    assert grades(judge_mail.resolver(replace(good, asked=False))) == {"resolver.answers": "question"}
    assert grades(judge_mail.outward(Outward("x:25", "", "220 x"))) == {"listen.out": "ok"}
    assert grades(judge_mail.outward(Outward("x:25", "no connection within 10 s"))) == {"listen.out": "error"}
    assert grades(judge_mail.outward(Outward("x:25", asked=False))) == {"listen.out": "question"}


def test_what_dns_check_found() -> None:
    finding = {"id": "spf.missing", "severity": "error", "what": "none", "why": "because", "fix": "a line"}
    rows = [{"area": "spf", "said": [], "findings": [finding]}, {"area": "mx", "said": ["mail"], "findings": []}]
    found = list(judge_mail.dns("example.test", rows))
    assert [(one.id, one.grade, one.what) for one in found] == [
        ("dns.spf.missing", "error", "example.test: none"),
        ("dns.check", "ok", "example.test: mx: mail"),
    ]


def test_what_check_and_alerts_say() -> None:
    good = {"level": "good", "what": "3 messages", "fix": "", "done": ""}
    assert grades(judge_mail.integrity([good])) == {"queue.integrity": "ok"}
    assert grades(judge_mail.integrity(None)) == {"queue.integrity": "note"}
    assert grades(judge_mail.integrity([{**good, "level": "error"}, good])) == {"queue.integrity": "error"}
    alert = {"name": "queue", "firing": False, "text": "1001 wait", "advice": ""}
    assert grades(judge_service.alerts([alert])) == {"service.alerts": "ok"}
    assert grades(judge_service.alerts([alert, {**alert, "firing": True}])) == {"service.alerts": "warning"}
