"""What an operator sees of the past and of what goes on: in a pipe, on a terminal, without colours, through a pager."""

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from cli_run import Run
from control_daemon import Daemon
from hypothesis import given
from hypothesis import strategies as st
from test_cli import LATER, on_terminal

from mtactl import render
from mtactl.pager import program
from mtactl.words import sparkline
from mtad.control.operations import BY_NAME

HOSTILE = st.text(max_size=40) | st.sampled_from(
    ["\x1b[2J", "a\r\nb", "\u202eabc", "\x9b31m", "[red]", "[/]", "\ud800"]
)


def sample(name: str, text: str) -> dict[str, Any]:
    """A row with `text` wherever somebody else may have written."""
    if name == "trace":
        details = {"state": "deferred", "tries": 1, "next": 1_800_000_000, "advice": text, "shut_until": None}
        return {
            "queue_id": "3kf9x2m7q0w1", "at": 1.5, "event": "now", "id": "", "to": text, "text": text,
            "details": details,
        }  # fmt: skip
    if name == "log":
        return {
            "at": 1.5,
            "kind": "refused",
            "queue_id": "",
            "from": text,
            "to": [text],
            "ip": "",
            "user": "",
            "text": text,
        }
    if name == "queue.watch":
        return {
            "at": 1.5, "change": "came", "id": "3kf9x2m7q0w1.1", "state": "deferred", "before": "", "sender": text,
            "address": text, "tries": 0, "next_attempt": 1, "delay_reason": text,
        }  # fmt: skip
    if name == "top":
        counts = dict.fromkeys(("messages", "size_bytes", "active", "ready", "deferred", "held", "trashed"), 1)
        tried = {"delivered": 1, "deferred": 1, "failed": 1}
        return {
            "at": 1.5, "interval_s": 2.0, "hostname": text, "uptime_s": 1, "sessions": 1, "deliveries": 1,
            "rates": dict.fromkeys(("accepted", *tried, "refused", "sign_in_failed"), 0.5),
            "queue": {**counts, "oldest": None}, "sites": [{"site": text, **tried}],
            "senders": [{"sender": text, "messages": 1}], "errors": [], "waiting": [],
        }  # fmt: skip
    one = {"ip": text, "user": text, "sender": text, "subject": text, "messages": 1}
    numbers = "messages size_bytes recipients domains delivered failed waiting held trashed sign_ins sign_ins_failed"
    return {
        **dict.fromkeys(numbers.split(), 1), "user": text, "ip": text, "disabled": text,
        "since": 1, "first": 1, "last": 2,
        "clients": [one], "users": [one], "senders": [one], "subjects": [one], "next": [text], "certificates": [text],
        "app_passwords": [{"label": text, "used": None}],
    }  # fmt: skip


@pytest.mark.parametrize("name", ["trace", "log", "incident.report", "top", "queue.watch"])
@pytest.mark.parametrize("style", ["text", "json"])
@given(text=HOSTILE)
def test_hostile_text_reaches_no_terminal(name: str, style: str, text: str) -> None:
    out = io.StringIO()
    render.show(BY_NAME[name], [sample(name, text)], style, out)
    for line in out.getvalue().split("\n"):
        assert line.isprintable(), line


def test_a_screen_takes_markup_for_text() -> None:
    from mtactl.screen import _text

    assert _text(["[red]SITE[/]", "[/]"]).plain == "[red]SITE[/]\n[/]\n"


def test_a_life_in_a_pipe(daemon: Daemon, mtactl: Run) -> None:
    message_id = daemon.accept("b@b.test", reply=LATER)
    done = mtactl("trace", "b@b.test")
    lines = done.stdout.splitlines()
    assert lines[0] == message_id
    assert [line.split()[2] for line in lines[1:4]] == ["session", "accepted", "try"]
    assert lines[4].startswith("  now                  deferred  b@b.test: deferred, ")
    assert {
        line.index(word) for line, word in zip(lines[1:5], ("session", "accepted", "try", "deferred"), strict=True)
    } == {23}
    narrow = mtactl("trace", message_id, COLUMNS="80").stdout.splitlines()
    assert max(map(len, narrow)) <= 80
    rows = [json.loads(line) for line in mtactl("trace", message_id, "--json").stdout.splitlines()]
    assert [row["event"] for row in rows] == ["session", "accepted", "try", "now", "ends"]
    nothing = mtactl("trace", "x@x.test")
    assert (nothing.returncode, nothing.stdout) == (1, "")


def test_colours_only_where_they_are_wanted(daemon: Daemon, mtactl: Run, short_dir: Path, repository: Path) -> None:
    daemon.accept("b@b.test", reply=LATER)
    colour = "\x1b["
    assert colour in on_terminal(["queue", "list"], [], short_dir, repository)[1]
    plain = on_terminal(["queue", "list"], [], short_dir, repository, NO_COLOR="1")[1]
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", plain)  # bold is no colour
    assert colour not in on_terminal(["queue", "list"], [], short_dir, repository, TERM="dumb")[1]
    assert colour not in mtactl("queue", "list").stdout
    dumb = on_terminal(["top", "--once", "--interval", "1s"], [], short_dir, repository, TERM="dumb")[1]
    assert colour not in dumb
    assert "per second  accepted 0.0" in dumb
    assert (
        "per second  accepted 0.0" in on_terminal(["top", "--once", "--interval", "1s"], [], short_dir, repository)[1]
    )


def test_a_pager_gets_what_is_long(daemon: Daemon, short_dir: Path, repository: Path) -> None:
    pager = {"MTACTL_PAGER": "sed s/^/paged/", "PAGER": "false"}
    daemon.accept("b@b.test")
    assert "paged" not in on_terminal(["queue", "list"], [], short_dir, repository, **pager)[1]
    for n in range(40):
        daemon.accept(f"u{n}@b.test")
    code, said = on_terminal(["queue", "list"], [], short_dir, repository, **pager)
    assert (code, said.count("paged"), said.count("@b.test")) == (0, 42, 41)
    for words, more in ((["--no-pager", "queue", "list"], {}), (["queue", "list"], {"TERM": "dumb"})):
        said = on_terminal(words, [], short_dir, repository, **{**pager, **more})[1]
        assert (said.count("paged"), said.count("@b.test")) == (0, 41)


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"TERM": "xterm", "PAGER": "sh -c x"}, ["sh", "-c", "x"]),
        ({"TERM": "xterm", "PAGER": "sh", "MTACTL_PAGER": "env"}, ["env"]),
        ({"TERM": "xterm", "PAGER": "sh", "MTACTL_PAGER": ""}, ()),
        ({"TERM": "xterm", "PAGER": "cat"}, ()),
        ({"TERM": "xterm", "PAGER": "no-such-pager -x"}, ()),
        ({"TERM": "xterm", "PAGER": "'"}, ()),
        ({"TERM": "dumb", "PAGER": "sh"}, ()),
        ({"PAGER": "sh"}, ()),
    ],
)
def test_which_pager(environ: dict[str, str], words: list[str]) -> None:
    assert list(program(environ)) == list(words)


def test_a_sparkline_is_as_high_as_there_was_much(monkeypatch: pytest.MonkeyPatch) -> None:
    class Out(io.StringIO):
        encoding = "utf-8"

    monkeypatch.setattr("sys.stdout", Out())
    assert sparkline([0, 1, 4, 8]) == " ▁▄█"
    assert sparkline([0, 0]) == "  "
    monkeypatch.setattr(Out, "encoding", "ascii")
    assert sparkline([0, 1, 8]) == " .#"


def test_alerts_are_an_exit_code(daemon: Daemon, mtactl: Run) -> None:
    assert mtactl("alerts").returncode == 0
    assert mtactl("alerts", "--rules").stdout.startswith(
        "groups:\n  - name: mtad\n    rules:\n      - alert: MtadQueueLong\n"
    )
    metrics = mtactl("metrics").stdout
    assert "# TYPE mtad_queue_messages gauge\nmtad_queue_messages 0\n" in metrics


def test_following_needs_a_daemon(mtactl: Run, short_dir: Path) -> None:
    with Daemon(short_dir) as daemon:
        daemon.accept("b@b.test")
    assert mtactl("log").returncode == 0  # from the data of the stopped one
    for words in (["log", "--follow"], ["trace", "b@b.test", "--follow"]):
        done = mtactl(*words)
        assert (done.returncode, done.stdout) == (64, "")
        assert "needs a running mtad" in done.stderr
