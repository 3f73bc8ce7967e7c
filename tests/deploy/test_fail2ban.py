"""The fail2ban filter matches what our events write, and no client can make it match another address."""

import configparser
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from mtad.events import Events
from mtad.inbound import guard, limits, policy, words
from mtad.mail.envelope import Peer
from mtad.mail.reply import Reply

ROOT = Path(__file__).resolve().parents[2]
FILTER = ROOT / "deploy" / "fail2ban" / "filter.d" / "mtad.conf"
JAIL = ROOT / "deploy" / "fail2ban" / "jail.d" / "mtad.conf"

BAD = Peer("smtp", ip="192.0.2.7", port=4242, helo="x")
BAD6 = Peer("submission", ip="2001:db8::7", port=4242)
LIAR = Peer("smtp", ip="192.0.2.7", port=4242, helo="x]: 550 5.7.1 unknown[198.51.100.1]:1: 550 5.7.1 ")
LIE = "a\nwarning: unknown[198.51.100.1]:1: SASL PLAIN authentication failed: user="

Say = Callable[[Events], object]
MATCHED: list[tuple[Say, str]] = [
    (lambda e: e.auth_failed(BAD, "alice", "PLAIN"), "192.0.2.7"),
    (lambda e: e.auth_failed(BAD6, LIE, "LOGIN"), "2001:db8::7"),
    (lambda e: e.auth_failed(BAD, LIE, "nonsense"), "192.0.2.7"),
    (lambda e: e.refused(BAD, "connect", guard.BLOCKED.because("spam"), ""), "192.0.2.7"),
    (lambda e: e.refused(BAD6, "connect", guard.BLOCKED_NOW, ""), "2001:db8::7"),
    (lambda e: e.refused(BAD, "connect", guard.TOO_FAST, ""), "192.0.2.7"),
    (lambda e: e.refused(BAD, "connect", limits.TOO_MANY_YOURS, ""), "192.0.2.7"),
    (lambda e: e.refused(BAD, "connect", words.TOO_EARLY, ""), "192.0.2.7"),
    (lambda e: e.refused(BAD, "command", words.TOO_MANY_ERRORS, ""), "192.0.2.7"),
    (lambda e: e.refused(BAD, "command", words.NOT_MAIL, ""), "192.0.2.7"),
    (lambda e: e.refused(BAD, "mail", guard.SENDER_BLOCKED, LIE), "192.0.2.7"),
    (lambda e: e.refused(LIAR, "rcpt", policy.RELAY_DENIED, LIE), "192.0.2.7"),
]
LEFT_ALONE: list[Say] = [
    lambda e: e.refused(BAD, "rcpt", policy.USER_UNKNOWN, "nobody@example.test"),
    lambda e: e.refused(BAD, "final", Reply(451, "4.3.0", "Local error"), ""),
    lambda e: e.refused(BAD, "connect", limits.TOO_MANY, ""),
    lambda e: e.refused(BAD, "rcpt", guard.TOO_MANY_RECIPIENTS, ""),
    lambda e: e.refused(LIAR, "rcpt", policy.USER_UNKNOWN, LIE),
    lambda e: e.auth_ok(BAD, "alice"),
    lambda e: e.tls_failed(BAD, LIE),
    lambda e: e.connected(BAD),
    lambda e: e.auth_failed(Peer("local", uid=1000), "x", "PLAIN"),
]


def line_of(say: Say) -> str:
    lines: list[str] = []
    say(Events(lambda: 0.0, lines.append, debug=True))
    (line,) = lines
    return line


def patterns(mode: str) -> list[re.Pattern[str]]:
    """The failregex as fail2ban would have it."""
    parser = configparser.RawConfigParser()
    parser.read(FILTER)
    section = dict(parser["Definition"])
    found = []
    for text in section["failregex"].splitlines():
        text = text.replace("%(_lead)s", section["_lead"]).replace("<_<mode>>", section[f"_{mode}"])
        found.append(re.compile(text.replace("<HOST>", r"(?P<host>[0-9a-f.:]+)")))
    return found


@pytest.mark.parametrize("lead", ["", " ", "mx.example.test mtad[123]: "])
@pytest.mark.parametrize(("say", "host"), MATCHED)
def test_a_refusal_matches_with_its_client(say: Say, host: str, lead: str) -> None:
    for mode in ("normal", "aggressive"):
        found = [match["host"] for pattern in patterns(mode) for match in pattern.finditer(lead + line_of(say))]
        assert found == [host]


@pytest.mark.parametrize("say", LEFT_ALONE)
def test_what_is_no_attack_does_not_match(say: Say) -> None:
    assert not [pattern for pattern in patterns("normal") if pattern.search(line_of(say))]


def test_the_aggressive_mode_takes_every_permanent_refusal() -> None:
    assert [pattern for pattern in patterns("aggressive") if pattern.search(line_of(LEFT_ALONE[0]))]
    assert not [pattern for pattern in patterns("aggressive") if pattern.search(line_of(LEFT_ALONE[1]))]


def test_the_jail_names_the_filter() -> None:
    parser = configparser.RawConfigParser()
    parser.read(JAIL)
    assert parser["mtad"]["filter"] == FILTER.stem
    assert parser["mtad"]["enabled"] == "true"


def test_fail2ban_agrees(tmp_path: Path) -> None:
    program = shutil.which("fail2ban-regex")
    if program is None:
        pytest.skip("fail2ban-regex is not installed (Debian package fail2ban)")
    says = [say for say, _ in MATCHED] + LEFT_ALONE
    log = tmp_path / "mtad.log"
    log.write_text("".join(f"2026-01-02T03:04:05+0000 {line_of(say)}\n" for say in says))
    done = subprocess.run([program, "--print-all-matched", str(log), str(FILTER)], capture_output=True, text=True)
    counts = re.search(r"Lines: (\d+) lines, (\d+) ignored, (\d+) matched, (\d+) missed", done.stdout)
    assert counts is not None, done.stdout + done.stderr
    assert [int(count) for count in counts.groups()] == [len(says), 0, len(MATCHED), len(LEFT_ALONE)], done.stdout
