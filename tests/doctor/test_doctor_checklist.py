"""Each box of the deployment checklist has a check, or a question for what no program can know: none is forgotten."""

from pathlib import Path

import pytest

from mtad.doctor.finding import CHECKS, GROUPS, QUESTIONS, wanted

CHECKLIST = Path(__file__).resolve().parents[3] / "shared" / "notes" / "deployment-checklist.md"
IDS = {*CHECKS, *(one.id for one in QUESTIONS)}

# The beginning of a box -> what looks at it.
BOXES = {
    "Set up MX records": "dns.check",
    "Configure A/AAAA records": "dns.check",
    "Set up reverse DNS": "dns.check",
    "Publish SPF record": "dns.check",
    "Generate DKIM keys and publish": "dkim.keys dns.check",
    "Publish DMARC policy": "dns.check",
    "Verify DNS propagation": "dns.check",
    "Obtain valid TLS certificate": "tls.certificate",
    "Set certificate auto-renewal": "tls.renewal",
    "Test certificate validity and chain": "tls.certificate tls.expiry listen.smtp",
    "Update `config.py` with certificate paths": "tls.certificate",
    "Set proper file permissions": "files.keys",
    "Dedicated server or VPS with static IP": "ask.static_ip",
    "Minimum 2 CPU cores": "host.size",
    "Open ports 25, 587, 465": "listen.firewall ask.reachable",
    "Configure iptables/firewall rules": "listen.firewall",
    "Set up monitoring": "service.monitoring",
    "Configure log rotation": "service.log",
    "Set up automated backups": "backup.schedule backup.age",
    "Create dedicated `mta` user": "service.user",
    "Change `MTA_ADMIN_TOKEN`": "relay.token",
    "Review and adjust rate limits": "relay.limits users.limits",
    "Enable fail2ban": "service.fail2ban",
    "Configure SELinux/AppArmor": "service.confinement",
    "Disable unnecessary services": "ask.services",
    "Keep system packages updated": "host.updates",
    "Generate DKIM private key": "dkim.keys",
    "Publish DKIM public key": "dns.check",
    "Test DKIM signing": "mail.dkim",
    "Configure SPF alignment": "dns.check",
    "Test DMARC compliance": "dns.check mail.dkim",
    "Send to Gmail": "ask.gmail",
    "Send to Outlook/Hotmail": "ask.outlook",
    "Send to Yahoo Mail": "ask.yahoo",
    "Verify DKIM signature passes": "mail.dkim ask.gmail",
    "Verify SPF passes": "dns.check ask.gmail",
    "Verify DMARC alignment": "dns.check ask.gmail",
    "Check spam score": "ask.spam_score",
    "Check queue size": "queue.size queue.age",
    "Review error logs": "ask.error_log service.running service.alerts",
    "Monitor delivery rates": "queue.failed queue.deferred",
    "Review bounce messages": "ask.bounces",
    "Check disk usage": "host.disk host.inodes",
    "Review authentication failures": "ask.sign_ins",
    "Update blacklists": "ask.blocks",
    "Rotate DKIM keys": "dkim.age dkim.rotation",
    "Review and update user accounts": "ask.accounts users.limits",
    "Check TLS certificate expiration": "tls.expiry",
    "Review rate limits": "relay.limits",
    "Database maintenance": "queue.integrity backup.age backup.verified",
    "Security audit": "ask.audit",
    "Review and update dependencies": "host.updates version.python version.sqlite",
    "Load testing": "ask.load_test",
    "Disaster recovery drill": "ask.drill",
    "Queue database": "backup.content",
    "Queued message files": "backup.content",
    "User database": "backup.content",
    "DKIM private keys": "backup.content",
    "Configuration files": "backup.content",
    "Logs (for compliance)": "ask.log_backup",
}


@pytest.mark.skipif(not CHECKLIST.is_file(), reason="the shared notes are not here")
def test_no_box_is_forgotten() -> None:
    boxes = [line[6:] for line in CHECKLIST.read_text("utf-8").splitlines() if line.startswith("- [ ] ")]
    assert len(boxes) > 50
    assert [box for box in boxes if not any(box.startswith(begin) for begin in BOXES)] == []
    assert [begin for begin in BOXES if not any(box.startswith(begin) for box in boxes)] == []


def test_the_ids_are_there_and_in_a_group() -> None:
    assert {check for checks in BOXES.values() for check in checks.split()} - IDS == set()
    assert {check.partition(".")[0] for check in IDS} == set(GROUPS)
    assert len(IDS) == len(CHECKS) + len(QUESTIONS)
    assert all(one.grade == "question" and one.fix for one in QUESTIONS)


@pytest.mark.parametrize(
    ("check", "only", "is_wanted"),
    [
        ("dns.spf.lookups", (), True),
        ("dns.spf.lookups", ("dns",), True),
        ("dns.spf.lookups", ("dns.spf",), True),
        ("dns.spf", ("dns.spf.lookups",), True),
        ("dns.spf", ("dns.sp",), False),
        ("tls.expiry", ("tls.expiry", "dns"), True),
        ("tls.expiry", ("dns",), False),
    ],
)
def test_only(check: str, only: tuple[str, ...], is_wanted: bool) -> None:
    assert wanted(check, only) is is_wanted


def test_every_check_is_made(repository: Path) -> None:
    """An id that nothing gives would be a check in name alone."""
    places = [*(repository / "mtad" / "doctor").glob("judge_*.py"), repository / "mtactl" / "selfmail.py"]
    source = "".join(path.read_text("utf-8") for path in places)
    given = {check for check in CHECKS if f'"{check}"' in source}
    given |= {f"{group}.{kind}" for group in ("listen", "mail") for kind in ("smtp", "submission", "submissions")}
    assert set(CHECKS) - given == set()


def test_every_check_is_documented(repository: Path) -> None:
    text = (repository / "docs" / "doctor.md").read_text("utf-8")
    assert [group for group in GROUPS if f"| `{group}` |" not in text] == []
