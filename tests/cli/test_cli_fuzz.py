"""Any words on the command line: an exit code that is documented, lines that no terminal obeys, JSON that parses."""

import json
import os

import pytest
from cli_run import Run
from control_daemon import Daemon
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from test_cli import LATER

from mtad.control.operation import Operation, Param
from mtad.control.operations import OPERATIONS

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "60"))
MANY = settings(deadline=None, derandomize="FUZZ_EXAMPLES" not in os.environ)
"""The same command lines in each run; `scripts/fuzz.sh` looks for others."""

DOCUMENTED = {0, 1, 64, 65, 69, 73, 75, 77, 78}  # docs/reference.md, without 70: that is a defect of ours
ASKING = {
    "tls.test",
    "explain",
    "dns.check",
    "dns.push",
    "dkim.status",
    "dkim.rotate",
}  # other hosts, which tests leave alone
HOSTILE = st.sampled_from(
    [
        "", " ", "-", "--", "-x", "--all", "--json", "%", "_", "*", "'", '"', "';--", "\\", "a\nb", "a\tb", "\x1b[2J",
        "\x9b31m", "\u202eabc", "\udcff", "[red]x[/red]", "../../x", "/etc/passwd", "@", "a@b.test", "@b.test",
        "3kf9x2m7q0w1",
        "3kf9.1", "1h", ">4k", "-5", "0", "99999999999999999999", "1e400", "a" * 5000, "é", "alice", "b.test", "all",
    ]
)  # fmt: skip
WORD = HOSTILE | st.text(st.characters(exclude_characters="\0"), max_size=12)


def spelled(param: Param, value: str) -> list[str]:
    if param.positional:
        return [value]
    name = f"--{param.name.replace('_', '-')}"
    return [name] if param.kind == "flag" else [f"{name}={value}"]


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    """A verb with some of its parameters,
    whose values may be anything; sometimes with words that do not belong there."""
    operation: Operation = draw(st.sampled_from([one for one in OPERATIONS if not left_out(one)]))
    words = operation.name.split(".")
    for param in operation.params:
        if param.required or draw(st.integers(0, 3)) == 0:
            value = draw(st.sampled_from(param.choices)) if param.choices and draw(st.booleans()) else draw(WORD)
            words += spelled(param, value)
    if draw(st.integers(0, 4)) == 0:
        words.insert(draw(st.integers(0, len(words))), draw(WORD))
    return draw(st.sampled_from([["--json"], ["--json"], ["--plain"], []])) + words


def left_out(operation: Operation) -> bool:
    """What may take any length of time, and what asks others."""
    return operation.live or operation.name == "queue.wait" or operation.name in ASKING


@pytest.fixture
def queue(daemon: Daemon) -> Daemon:
    for n in range(3):
        daemon.do(daemon.bench.accept(f"u{n}@b.test", "\x1b[2J@b.test", user="alice", reply=LATER))
    return daemon


@settings(MANY, max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=command_lines())
@example(words=["--json", "queue", "list"])
@example(words=["queue", "show", "\x1b[2J"])
@example(words=["--json", "queue", "list", "--from=\udcff"])
def test_any_command_line_has_an_outcome(queue: Daemon, here: Run, words: list[str]) -> None:
    ran = here(*words)
    assert ran.returncode in DOCUMENTED, (ran.returncode, ran.stderr)
    for line in (ran.stdout + ran.stderr).split("\n"):
        assert line.replace("\t", "").isprintable(), line
    if words[0] == "--json" and ran.returncode == 0 and not {"--help", "-h"} & {*words}:
        for line in ran.stdout.splitlines():
            json.loads(line)
    if ran.returncode not in (0, 1):
        assert ran.stderr


@settings(MANY, max_examples=EXAMPLES // 3, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=command_lines())
def test_without_a_daemon_too(here: Run, words: list[str]) -> None:
    ran = here(*words)
    assert ran.returncode in DOCUMENTED, (ran.returncode, ran.stderr)
    for line in (ran.stdout + ran.stderr).split("\n"):
        assert line.replace("\t", "").isprintable(), line
