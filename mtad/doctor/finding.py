"""What the doctor says: a finding for each check, and the index of all checks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Grade = Literal["ok", "note", "warning", "error", "question"]

GRADES: tuple[Grade, ...] = ("error", "warning", "note", "question", "ok")
"""The worst first. question: no program can know it; the fix says how a person finds out."""


@dataclass(frozen=True, slots=True)
class Finding:
    """`id` is a check of CHECKS, or one with a further part ("dns.spf.lookups"); `fix` is a command or a line to
    write, "" where there is nothing to do."""

    id: str
    grade: Grade
    what: str
    why: str = ""
    fix: str = ""


def ok(check: str, what: str) -> Finding:
    return Finding(check, "ok", what)


def note(check: str, what: str, why: str = "", fix: str = "") -> Finding:
    return Finding(check, "note", what, why, fix)


def warning(check: str, what: str, why: str, fix: str) -> Finding:
    return Finding(check, "warning", what, why, fix)


def error(check: str, what: str, why: str, fix: str) -> Finding:
    return Finding(check, "error", what, why, fix)


def question(check: str, what: str, why: str, fix: str) -> Finding:
    return Finding(check, "question", what, why, fix)


GROUPS: Mapping[str, str] = {
    "dns": "DNS",
    "resolver": "Name servers of this host",
    "tls": "Certificates",
    "listen": "Ports",
    "relay": "Who may send through us",
    "dkim": "Signing keys",
    "users": "Users",
    "files": "Files and permissions",
    "service": "Service and protection",
    "host": "Machine",
    "queue": "Queue",
    "backup": "Backups",
    "version": "Versions",
    "mail": "A mail to itself",
    "ask": "Questions for you",
}
"""The first part of an id -> its title, in the order of the report."""

CHECKS: Mapping[str, str] = {
    "dns.check": "what `mtactl dns check` finds: MX, addresses, PTR, SPF, DKIM, DMARC, MTA-STS, DANE, on every server",
    "resolver.answers": "the name servers answer, and how fast",
    "resolver.dnssec": "they validate, which DANE needs",
    "resolver.lists": "address lists (DNSBL) answer them",
    "tls.certificate": "there is a certificate: readable, whole, with its key, for this host, trusted",
    "tls.expiry": "it is valid for 7 more days",
    "tls.renewal": "something renews it",
    "listen.smtp": "the listener for other servers answers and offers TLS",
    "listen.submission": "the one for users too, with sign-in only after TLS",
    "listen.submissions": "and the one over implicit TLS",
    "listen.owner": "the ports are ours, and no other mail server is there",
    "listen.sendmail": "/usr/sbin/sendmail is ours",
    "listen.firewall": "a firewall of this host lets the ports in",
    "listen.out": "port 25 of other hosts can be reached",
    "relay.open": "strangers cannot send to strangers, whatever way they write it",
    "relay.sign_in": "the listeners for users want a sign-in",
    "relay.trusted": "the networks that may relay are no wider than they need be",
    "relay.limits": "rates are limited",
    "relay.token": "the token of the HTTP listener is hard to guess",
    "dkim.keys": "each domain has a key that signs, of enough bits",
    "dkim.age": "no key is older than its schedule",
    "dkim.rotation": "no rotation waits for somebody",
    "users.limits": "each user has a limit on what is sent in a day",
    "users.passwords": "passwords are kept as they should be",
    "files.config": "the configuration is not open to everybody",
    "files.data": "the data belong to the service and to nobody else",
    "files.keys": "private keys are readable by the service alone",
    "files.sockets": "the sockets are there, with the right modes",
    "service.running": "the daemon runs, and what it complains of",
    "service.user": "it does not run as root",
    "service.unit": "its unit starts at boot and is hardened",
    "service.fail2ban": "fail2ban watches its log",
    "service.confinement": "SELinux or AppArmor",
    "service.log": "logs are kept, and do not grow for ever",
    "service.monitoring": "somebody can scrape metrics",
    "service.alerts": "what `mtactl alerts` would wake somebody for",
    "host.size": "two processors, 2 GB of memory",
    "host.disk": "room on the disks",
    "host.inodes": "and inodes",
    "host.clock": "the clock is synchronised",
    "host.files_limit": "enough open files",
    "host.backlog": "net.core.somaxconn",
    "host.updates": "system packages are kept up to date",
    "queue.size": "no more than 1000 messages wait",
    "queue.age": "none is older than the delay warning",
    "queue.deferred": "not most of it was refused once already",
    "queue.failed": "deliveries that failed, of those that ended",
    "queue.maildrop": "nothing waits in the maildrop",
    "queue.integrity": "what `mtactl check` finds: the database, each message against its digest, the files",
    "backup.age": "the newest backup is of yesterday or today",
    "backup.verified": "and verifies",
    "backup.schedule": "something makes them",
    "backup.content": "they hold queue, bodies, users, keys and configuration",
    "version.python": "Python is maintained",
    "version.sqlite": "SQLite",
    "version.daemon": "the daemon that runs is the version that is installed",
    "version.schema": "and the database is of that version",
    "mail.smtp": "a mail to postmaster through the listener for other servers (--self-mail)",
    "mail.local": "the same through sendmail's socket",
    "mail.submission": "the same through the listener for users (--user)",
    "mail.submissions": "and the one over implicit TLS",
    "mail.dkim": "the mail of the host's own domain is signed, and the signature verifies",
}

QUESTIONS: tuple[Finding, ...] = (
    question("ask.static_ip", "Is the address of this host static, and its own?",
             "Reputation belongs to an address; one that changes starts again at nothing.",
             "look at the contract with your provider"),
    question("ask.reachable", "Do ports 25, 587 and 465 answer from outside?",
             "A firewall of the provider cannot be seen from here.",
             "from another network: openssl s_client -starttls smtp -connect HOST:25"),
    question("ask.services", "Is everything switched off that this host does not need?",
             "What does not run cannot be broken into.", "ss -tulpn; systemctl list-units --type=service"),
    question("ask.gmail", "Does mail to Gmail arrive in the inbox, with SPF, DKIM and DMARC as PASS?",
             "Only the receiver knows what it makes of you.",
             "mtactl send-test YOU@gmail.com, then \"Show original\" there"),
    question("ask.outlook", "Does mail to Outlook or Hotmail arrive in the inbox?",
             "Microsoft keeps a list of its own.", "mtactl send-test YOU@outlook.com, then \"View message source\""),
    question("ask.yahoo", "Does mail to Yahoo arrive in the inbox?", "Yahoo delays unknown senders.",
             "mtactl send-test YOU@yahoo.com, then \"View raw message\""),
    question("ask.spam_score", "What does a spam filter say of your mail?",
             "Content counts too.", "mtactl send-test the address that mail-tester.com shows you"),
    question("ask.error_log", "Has somebody read the errors of today?", "Not every error is a pattern.",
             "journalctl -u mtad -p warning --since today"),
    question("ask.bounces", "Has somebody looked at what bounced this week?",
             "Bounces are how the world tells you.", "mtactl queue stats --by error"),
    question("ask.sign_ins", "Has somebody looked at failed sign-ins this week?",
             "Guessing goes before breaking in.", "journalctl -u mtad --since '7 days ago' | grep auth:"),
    question("ask.blocks", "Are the blocks still right?", "Addresses change hands.", "mtactl block list"),
    question("ask.accounts", "Does everybody who has an account still need one?",
             "An account that nobody uses is one that nobody watches.", "mtactl user list"),
    question("ask.audit", "When was the last security audit?", "Quarterly is a good habit.",
             "mtactl audit; mtactl doctor --all"),
    question("ask.load_test", "When was the last load test?", "Growth is silent.", "scripts/bench.sh"),
    question("ask.drill", "When was a backup last restored, on another host?",
             "A backup that was never restored is a hope.",
             "mtactl backup restore FILE --root DIR on a spare host"),
    question("ask.log_backup", "Do rules that bind you ask for logs to be kept?", "They are not in the backups.",
             "journalctl -u mtad --since yesterday | gzip > /var/backups/mtad/log-$(date +%F).gz"),
)  # fmt: skip


def wanted(check: str, only: Sequence[str]) -> bool:
    """Whether a check is among those that were asked for: an id, or the beginning of ids up to a dot."""
    return not only or any(check == one or check.startswith(f"{one}.") or one.startswith(f"{check}.") for one in only)


def worst(findings: Sequence[Finding]) -> Grade:
    return min((finding.grade for finding in findings), key=GRADES.index, default="ok")
