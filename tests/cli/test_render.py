"""What the operator reads: short, aligned, and never obeyed by a terminal."""

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtactl import render, table
from mtactl import words as spoken
from mtactl.views import queue
from mtad.control.operation import Operation
from mtad.control.operations import BY_NAME, OPERATIONS


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-5, "0s"), (0, "0s"), (59.9, "59s"), (60, "1m"), (3599, "59m"), (7200, "2h"), (86400, "24h"), (2 * 86400, "2d")],
)
def test_age(seconds: float, words: str) -> None:
    assert spoken.age(seconds) == words


@pytest.mark.parametrize(
    ("octets", "words"),
    [(0, "0"), (1023, "1023"), (1024, "1.0k"), (4200, "4.1k"), (10_200, "10k"), (1 << 20, "1.0M"), (1_048_575, "1.0M"),
     (50 << 20, "50M"), (3 << 30, "3.0G"), (1 << 60, "1.0E")],
)  # fmt: skip
def test_size(octets: int, words: str) -> None:
    assert spoken.size(octets) == words


@given(st.integers(0, 1 << 62))
def test_a_size_is_short(octets: int) -> None:
    assert len(spoken.size(octets)) <= 5


def message(text: str, n: int = 1) -> dict[str, object]:
    recipient = {
        "address": text, "orig_address": f"{text}o", "delay_reason": text, "id": "3kf9x2m7q0w1.1", "state": "deferred",
        "tries": 1, "next_attempt": 1_800_000_000, "code": 451, "status": text,
    }  # fmt: skip
    attempt = {
        "id": "3kf9x2m7q0w1.1", "started": 1.5, "took_s": 0.1, "relay": text, "tls": text, "code": 451, "status": text,
        "text": text,
    }  # fmt: skip
    return {
        "queue_name": "deferred", "queue_id": "3kf9x2m7q0w1", "arrival_time": 1_700_000_000, "message_size": 1000,
        "forced_expire": False, "sender": text, "recipients": [recipient] * n, "state": "deferred",
        "next_attempt": None, "expires": 1_800_000_000, "tries": 1, "domains": [text], "source": "local", "user": text,
        "uid": None, "client_ip": text, "message_id": text, "helo": text, "tls": text, "subject": text,
        "attempts": [attempt],
    }  # fmt: skip


def shown(operation: Operation, rows: list[dict[str, object]], style: str) -> str:
    out = io.StringIO()
    render.show(operation, rows, style, out)
    return out.getvalue()


@pytest.mark.parametrize("name", ["queue.list", "queue.show", "queue.hold", "queue.mailq"])
@pytest.mark.parametrize("style", ["text", "json", "plain", "html"])
@given(
    text=st.text(max_size=40) | st.sampled_from(["\x1b]0;x\x07", "a\r\nb", "\u202eabc", "\x9b31m", "\ud800", "[/red]"])
)
def test_hostile_text_reaches_no_terminal(name: str, style: str, text: str) -> None:
    said = shown(BY_NAME[name], [message(text)], style)
    assert said
    for line in said.split("\n"):
        assert line.isprintable(), line
    if style == "json":
        assert json.loads(said)["sender"] == text


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_no_rows_are_shown_as_nothing(operation: Operation) -> None:
    said = shown(operation, [], "text")
    assert said == ("Mail queue is empty\n" if operation.name == "queue.mailq" else "")
    assert shown(operation, [], "json") == ""


def test_columns_stay_aligned_when_many_rows_stream() -> None:
    rows = [message(f"u{n}@b.test") for n in range(1000)]
    pulled = 0

    def stream():
        nonlocal pulled
        for row in rows:
            pulled += 1
            yield row

    class Out(io.StringIO):
        def write(self, text: str) -> int:
            first_write.append(pulled)
            return super().write(text)

    first_write: list[int] = []
    out = Out()
    render.show(BY_NAME["queue.list"], stream(), "text", out)
    assert first_write[0] <= table.PAGE + 2  # a long list begins before it has ended
    lines = out.getvalue().splitlines()
    assert len(lines) == 1001
    assert {line.index("deferred") for line in lines[1:]} == {lines[0].index("STATE")}


def test_look_alike_numbers_stay_text() -> None:
    said = shown(BY_NAME["user.list"], [{"name": "1e5", "created": 0, "disabled": "0012"}], "plain")
    assert said.splitlines()[1].split()[0] == "1e5"
    assert said.splitlines()[1].split()[-1] == "0012"


def test_notes_have_a_line_each() -> None:
    said = shown(BY_NAME["reload"], [{"reloaded": True, "notes": ["one, of two", "two"]}], "text")
    assert said == "reloaded: yes\nnotes:    one, of two\n          two\n"
    assert shown(BY_NAME["reload"], [{"reloaded": True, "notes": []}], "text") == "reloaded: yes\nnotes:    -\n"


def test_a_card_shows_each_recipient_with_its_tries() -> None:
    said = shown(BY_NAME["queue.show"], [message("a@b.test")], "text")
    assert "to a@b.test\n" in said
    assert "  alias: a@b.testo\n" in said
    assert said.rstrip().endswith("0.10s  a@b.test (a@b.test)  451 a@b.test a@b.test")


def test_where_released_mail_has_to_wait_is_said() -> None:
    assert spoken.shut([]) == ""
    until = 1_800_000_000
    said = spoken.shut(
        [{"site": "big.test", "recipients": 38, "until": until}, {"site": "b", "recipients": 1, "until": None}]
    )
    assert said == f"; 38 wait for big.test until {spoken.moment(until)}; 1 waits for b, which is suspended"


def test_the_reason_in_a_table_is_what_was_said() -> None:
    reason = next(column.cell for column in queue.LIST if column.title == "REASON")
    for whole, shown in (
        ("host mx.b.test[192.0.2.1] said: 451 4.7.1 listed said: x", "451 4.7.1 listed said: x"),
        ("Connection refused", "Connection refused"),
        ("put off by host of the said: x", "put off by host of the said: x"),
    ):
        assert reason({"delay_reason": whole}, 0.0) == shown


def test_rows_of_a_line_stand_together() -> None:
    rows = [{"address": "b@b.test", "user": user, "expires": None} for user in ("", "al@a.test")]
    out = io.StringIO()
    render.show(BY_NAME["suppress.remove"], iter(rows), "text", out)
    assert out.getvalue() == "b@b.test: gets mail again, whoever sends it\nb@b.test: gets mail of al@a.test again\n"


def test_a_limit_of_nothing_is_none() -> None:
    row = {"scope": "domain", "what": "messages", "count": 0, "limit": "0", "setting": "limits.domain_message_rate"}
    out = io.StringIO()
    render.show(BY_NAME["limit.show"], iter([row]), "text", out)
    assert out.getvalue().splitlines()[1].split() == ["domain", "messages", "0", "none", "limits.domain_message_rate"]
