"""What an operator types and reads when the queue is changed: ids from a pipe, times, questions, undo, safe text."""

import io
import json
import shlex
import sys
import time
from base64 import b64encode
from pathlib import Path

import pytest
from cli_run import Run
from control_daemon import Daemon, varlink
from test_cli import LATER, on_terminal

from mtactl import perform, progress, render
from mtactl.again import listing
from mtactl.piped import ids
from mtactl.when import moment
from mtad.control import wire
from mtad.control.handlers import verbs
from mtad.control.operation import UsageError
from mtad.control.operations import BY_NAME

MAILQ = """\
-Queue ID-  --Size-- ----Arrival Time---- -Sender/Recipient-------
3kf9x2m7q0w1*    1234 Sat Nov 22 06:03:01  alice@example.com
               (host mx.example.net[192.0.2.1] said: 451 4.7.1 try later)
                                         bob@example.net

3kf9x2m7q0w2!    1234 Sat Nov 22 06:03:01  MAILER-DAEMON
                                         bob@example.net

-- 1 Kbytes in 2 Requests.
"""


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("3kf9\n3kfa.2 and more\n\n", ["3kf9", "3kfa.2"]),
        (MAILQ, ["3kf9x2m7q0w1", "3kf9x2m7q0w2"]),
        ("Mail queue is empty\n", []),
        ("ID               STATE\n3kf9x2m7q0w1.1  held\n", ["3kf9x2m7q0w1.1"]),
        ('{"queue_name": "hold", "queue_id": "3kf9x2m7q0w1"}\n{broken\n', ["3kf9x2m7q0w1", "{broken"]),
        ("", []),
    ],
)
def test_ids_are_read_from_what_was_listed(text: str, found: list[str]) -> None:
    assert ids(io.StringIO(text)) == found


NOW = 1_800_000_000  # 2027-01-15 08:00 UTC


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("08:01", NOW + 60),
        ("08:00:30", NOW + 30),
        ("07:59", NOW + 86400 - 60),
        ("2027-01-15 09:00", NOW + 3600),
        ("2027-01-15T09:00:00Z", NOW + 3600),
        ("2027-01-15T09:00:00+01:00", NOW),
        ("2027-01-16", NOW + 16 * 3600),
    ],
)
def test_a_time_is_read(text: str, seconds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    assert moment("at", text, NOW) == seconds


@pytest.mark.parametrize("text", ["", "soon", "25:00", "2027-13-01", "2027-01-15 07:00", "9999999", "\x1b[2J"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        moment("at", text, NOW)
    assert str(caught.value).isprintable()


def test_mailq_is_fed_back(mtactl: Run, daemon: Daemon) -> None:
    daemon.accept("a@b.test", reply=LATER)
    daemon.accept("c@c.test", reply=LATER)
    listed = mtactl("queue", "mailq").stdout
    done = mtactl("queue", "hold", "-", stdin=listed)
    assert (done.returncode, done.stdout) == (0, "2 recipients held\n")
    assert done.stderr == "mtactl: to undo it: mtactl queue release --audit 1\n"
    assert mtactl("queue", "release", "--audit", "1").stdout == "2 recipients released\n"
    assert mtactl("queue", "hold", "-", stdin="nonsense!\n").returncode == 64


def test_a_long_preview_says_how_many_more(mtactl: Run, daemon: Daemon) -> None:
    for _ in range(25):
        daemon.accept("a@b.test")
    shown = mtactl("queue", "purge", "--all", "--dry-run").stdout.splitlines()
    assert len(shown) == 1 + 20 + 2
    assert shown[-2:] == ["... and 5 more: mtactl queue list", "25 recipients would be purged"]
    assert shown[0].split()[-1] == "SUBJECT"
    assert shown[1].split()[-1] == "Hi"
    shown = mtactl("queue", "hold", "--subject", "hi", "--to", "a@*", "--dry-run").stdout.splitlines()
    assert shown[0].split()[-2:] == ["SUBJECT", "REASON"]
    (command,) = (line.partition(": mtactl ")[2] for line in shown if line.startswith("... and 5 more"))
    assert command == "queue list --to 'a@*' --state active --state ready --state deferred --subject hi"
    assert len(mtactl(*shlex.split(command)).stdout.splitlines()) == 26


@pytest.mark.parametrize(
    ("name", "given", "command"),
    [
        ("queue.purge", {"all": True}, "mtactl queue list"),
        ("queue.release", {"audit": 5}, "mtactl queue list --state held --audit 5"),
        ("queue.restore", {"last": True}, ""),
        ("queue.purge", {"ids": ("-",)}, ""),
        ("queue.purge", {"ids": ("3kf9", "3kfa")}, "mtactl queue list 3kf9 3kfa"),
        ("queue.purge", {"state": ("held",), "limit": 30}, "mtactl queue list --state held --limit 30"),
        ("queue.purge", {"subject": ("a'b; rm -rf /", "-x")},
         """mtactl queue list --subject 'a'"'"'b; rm -rf /' --subject=-x"""),
        ("user.remove", {"name": "alice"}, ""),
    ],
)  # fmt: skip
def test_what_lists_all_of_it(name: str, given: dict[str, object], command: str) -> None:
    assert listing(BY_NAME[name], given) == command


@pytest.mark.parametrize(
    ("given", "title"),
    [((), False), (("--user", "alice"), True), (("--subject", "hi"), True), (("--not-subject", "ho"), True),
     (("--audit", "1"), True), (("--to", "@b.test"), False)],
)  # fmt: skip
def test_a_list_shows_subjects_where_they_are_asked_about(
    mtactl: Run, daemon: Daemon, given: tuple[str, ...], title: bool
) -> None:
    daemon.accept("a@b.test", user="alice@example.test", subject="Hi \u202e there")
    mtactl("queue", "hold", "--all", "--reason", "look")
    lines = mtactl("queue", "list", *given).stdout.splitlines()
    assert ("SUBJECT" in lines[0].split()) is title
    assert ("Hi \\u202e there" in lines[1]) is title
    assert json.loads(mtactl("queue", "list", "--json").stdout)["subject"] == "Hi \u202e there"


def test_what_is_purged_is_said_to_be_in_the_trash_and_how_long(
    daemon: Daemon, short_dir: Path, repository: Path
) -> None:
    daemon.accept("a@b.test")
    code, shown = on_terminal(["queue", "purge", "--to", "a@b.test"], ["n"], short_dir, repository)
    assert code == 1
    assert "queue purge: 1 recipient to the trash for 3 days. Go on? [y/N]:" in shown


def test_what_can_be_undone_asks_on_a_terminal_unless_ids_were_typed(
    daemon: Daemon, short_dir: Path, repository: Path
) -> None:
    first = daemon.accept("a@b.test")
    code, shown = on_terminal(["queue", "hold", "--to", "a@b.test"], ["n"], short_dir, repository)
    assert code == 1
    assert f"{first}.1" in shown  # what it is about
    assert "queue hold: 1 recipient. Go on? [y/N]:" in shown
    code, shown = on_terminal(["queue", "hold", first], [], short_dir, repository)
    assert code == 0
    assert "Go on?" not in shown
    code, shown = on_terminal(["queue", "release", "--all", "--yes"], [], short_dir, repository)
    assert code == 0
    assert "1 recipient released" in shown


def test_what_is_on_the_wire_is_said(mtactl: Run, daemon: Daemon) -> None:
    daemon.accept("a@b.test")
    daemon.do(daemon.bench.lease())
    done = mtactl("queue", "purge", "--all", "--yes")
    assert done.stdout == "1 recipient purged\n"
    assert "1 is being delivered just now: what the other side answers wins" in done.stderr


def test_groups_counts_and_the_trail(mtactl: Run, daemon: Daemon) -> None:
    for number in range(3):
        daemon.accept(f"u{number}@b.test")
    daemon.accept("u@c.test", sender="")
    lines = mtactl("queue", "list", "--group-by", "domain").stdout.splitlines()
    cells = [line.split() for line in lines]
    ages = [row.pop(3) for row in cells]
    assert cells == [
        ["COUNT", "MESSAGES", "SIZE", "GROUP"], ["3", "3", "2.9k", "b.test"], ["1", "1", "1000", "c.test"],
    ]  # fmt: skip
    assert ages[0] == "OLDEST"
    assert all(age.endswith("s") for age in ages[1:])
    assert mtactl("queue", "list", "--group-by", "sender").stdout.splitlines()[-1].endswith("<>")
    assert mtactl("queue", "list", "--count").stdout.startswith("4 recipients in 4 messages, 3.9k")
    mtactl("queue", "purge", "--domain", "b.test", "--yes", "--reason", "a \x41 reason")
    title, line = mtactl("audit").stdout.splitlines()
    assert title.split() == ["NUMBER", "WHEN", "WHO", "OPERATION", "CHANGED", "SELECTOR", "REASON"]
    assert line.split()[-6:] == ["3", "--domain", "b.test", "a", "A", "reason"]
    assert "queue purge" in line
    assert json.loads(mtactl("audit", "--json").stdout)["operation"] == "queue.purge"


def test_a_mail_comes_out_as_it_went_in(mtactl: Run, daemon: Daemon) -> None:
    message_id = daemon.accept("a@b.test", size=5000)
    assert mtactl("queue", "body", message_id).stdout == "Subject: Hi\r\n\r\n".replace("\r\n", "\n") + "x" * 4985
    assert mtactl("queue", "body", "zzzz").returncode == 1


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    "octets", [b"\x1b[2J\x07 [red]\r\n", b"\xff\x9b31m\r\n", "\u202eabc\u2028".encode(), b"a\tb\x00"]
)
def test_a_mail_moves_no_terminal(octets: bytes) -> None:
    out = Terminal()
    row = {"queue_id": "3kf9x2m7q0w1", "octets": b64encode(octets).decode()}
    render.show(BY_NAME["queue.body"], [row], "text", out)
    assert all(line.isprintable() for line in out.getvalue().split("\n"))
    assert out.getvalue().endswith("\n")


def test_how_far_it_is_is_shown_on_a_terminal_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ("40 %, 200 of 500 recipients done", "", "80 %, 400 of 500 recipients done", "")
    for err, shown in ((Terminal(), "".join(f"\r{line}\x1b[K" for line in lines)), (io.StringIO(), "")):
        monkeypatch.setattr(sys, "stderr", err)
        monkeypatch.setattr(progress, "SHOWN_EVERY_S", 0.0)
        rows = [{"changed": 200, "of": 500}, {"name": "a"}, {"changed": 400, "of": 500}, {"changed": 500}]
        assert list(perform._but_progress(iter(rows))) == [{"name": "a"}, {"changed": 500}]
        assert err.getvalue() == shown


def test_a_bounce_in_parts_has_one_answer(mtactl: Run, daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verbs, "BOUNCED_AT_ONCE", 1)
    for number in range(3):
        daemon.accept(f"u{number}@b.test")
    method = f"{wire.INTERFACE}.QueueBounce"
    parts = varlink(daemon.path, method, {"domain": "b.test", "limit": 2}, more=True)
    assert [part["parameters"].get("of") for part in parts] == [2, 2, None]
    assert parts[-1]["parameters"]["changed"] == 2
    ran = mtactl("queue", "bounce", "--domain", "b.test", "--yes", "--json")
    assert [json.loads(line)["changed"] for line in ran.stdout.splitlines()] == [1]


HOSTILE = "\x1b[2J[red]\u202e[/]1e5"


@pytest.mark.parametrize("style", ["text", "plain", "grid"])
@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("queue.list", {"by": "sender", "group": HOSTILE, "count": 1, "messages": 1, "size_bytes": 1, "oldest": 1}),
        ("audit", {"number": 1, "at": 1.0, "who": HOSTILE, "uid": 0, "operation": "queue.hold", "selector": HOSTILE,
                   "reason": HOSTILE, "changed": 1}),
        ("queue.hold_rule.list", {"number": 1, "from": HOSTILE, "to": "", "domain": "", "user": "", "ip": "",
                                  "reason": HOSTILE, "made_by": HOSTILE, "created": 1, "expires": None,
                                  "freezes": False}),
    ],
)  # fmt: skip
def test_hostile_words_stay_words(
    name: str, row: dict[str, object], style: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither rich's markup nor a terminal's commands, and tabulate makes no number of it."""
    monkeypatch.setenv("COLUMNS", "250")
    for out in (io.StringIO(), Terminal()):
        render.show(BY_NAME[name], [row], style, out)
        said = out.getvalue()
        assert "[red]\\u202e[/]1e5" in said
        assert "\x1b[2J" not in said
        assert "\u202e" not in said


def test_numbers_that_look_like_others_stay() -> None:
    row = {"by": "user", "group": "1e5", "count": 1, "messages": 1, "size_bytes": 1, "oldest": 1}
    out = io.StringIO()
    render.show(BY_NAME["queue.list"], [row, {**row, "group": "0012"}], "plain", out)
    assert [line.split()[-1] for line in out.getvalue().splitlines()[1:]] == ["1e5", "0012"]


def test_show_with_the_mail_is_safe_to_look_at(mtactl: Run, daemon: Daemon) -> None:
    message_id = daemon.accept("a@b.test", size=70_000)
    lines = mtactl("queue", "show", message_id, "--content").stdout.splitlines()
    assert "| Subject: Hi" in lines
    assert lines[-1] == f"... and {70_000 - 65536} octets more: mtactl queue body {message_id}"
    assert "  waiting: due: it is tried in a moment" in lines
