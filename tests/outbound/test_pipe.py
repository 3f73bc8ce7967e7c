"""Programs that take mail: real ones, each a small script."""

import asyncio
import os
import pwd
import subprocess
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mtad.mail.envelope import Content, Message, Peer, Recipient
from mtad.mail.reply import Reply
from mtad.outbound.pipe import Programs, _Run, verdict, words
from mtad.outbound.route import Pipe

CONTENT = Content(b"Subject: hi\r\nReturn-Path: <forged@x>\r\n\r\n", b"one\r\n.two\r\n")
MESSAGE = Message("0123456789ab", "a@x.test", 40, 0.0, 1e9, Peer("smtp"))


@pytest.fixture
def programs():
    made = Programs()
    yield made
    made.close()


@pytest.fixture
def run(programs, tmp_path: Path):
    numbers = iter(range(100))

    async def call(script: str, *args: str, to="bob@own.test", content=CONTENT, timeout_s=20.0, run_as="") -> Reply:
        program = tmp_path / f"program{next(numbers)}"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        command = (str(program), *args)
        me = pwd.getpwuid(os.geteuid()).pw_name
        plan = Pipe(command, run_as or me, timeout_s)
        return await programs.deliver(plan, Recipient(MESSAGE.id, 1, to, to, "own.test"), MESSAGE, content)

    return call


def short(reply: Reply) -> str:
    return f"{reply.code} {reply.status} {reply.text}"


async def test_it_gets_the_mail_its_words_and_a_clean_environment(run, tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET", "s3cret")
    reply = await run(
        f'cat >{tmp_path}/mail; env >{tmp_path}/env; printf "%s\\n" "$@" >{tmp_path}/args; pwd',
        "--for",
        "%u@%d",
        "100%%",
    )
    assert reply.ok
    assert (tmp_path / "mail").read_bytes() == (
        b"Return-Path: <a@x.test>\nDelivered-To: bob@own.test\nSubject: hi\n\none\n.two\n"
    )
    assert (tmp_path / "args").read_text() == "--for\nbob@own.test\n100%\n"
    names = {line.partition("=")[0] for line in (tmp_path / "env").read_text().splitlines()}
    assert names <= {"PATH", "LANG", "HOME", "USER", "LOGNAME", "PWD", "SHLVL", "_", "OLDPWD"}


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (0, "250 2.0.0"),
        (1, "451 4.3.0"),
        (64, "451 4.3.0"),
        (65, "554 5.6.0"),
        (67, "550 5.1.1"),
        (70, "451 4.3.0"),
        (75, "451 4.3.0"),
        (77, "550 5.7.1"),
        (78, "451 4.3.0"),
        (127, "451 4.3.0"),
        (255, "451 4.3.0"),
        (-11, "451 4.3.0"),
    ],
)
def test_exit_codes(code, said):
    reply = verdict(code, "why", "/bin/x")
    assert f"{reply.code} {reply.status}" == said
    assert reply.ok or "why" in (reply.text if reply.permanent else reply.cause)


async def test_what_it_says_is_cut_and_cleaned(run):
    reply = await run("printf 'no \\033[2J such\\nlist\\r\\n'; head -c 300000 /dev/zero | tr '\\0' x; exit 67")
    assert reply.code == 550
    assert reply.text.startswith("The program knows no such recipient: no ")
    assert len(reply.text) < 300
    assert reply.text.isprintable()


async def test_a_program_that_reads_nothing_is_no_failure(run, tmp_path):
    body = tmp_path / "body"
    body.write_bytes(b"x" * 100_000)
    assert (await run("exit 0", content=Content(b"A: b\r\n\r\n", str(body)))).ok


async def test_too_long_and_all_it_started_is_killed(run, tmp_path):
    fifo = tmp_path / "alive"
    os.mkfifo(fifo)
    reading = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    reply = await run(f"exec 3>{fifo}; sleep 1000 & sleep 1000", timeout_s=0.3)
    assert short(reply).startswith("451 4.3.0")
    os.set_blocking(reading, True)
    assert await asyncio.to_thread(os.read, reading, 1) == b""  # every holder of the other end is gone
    os.close(reading)


async def test_a_child_it_leaves_behind_is_not_waited_for(run):
    assert (await run("sleep 30 & exit 0", timeout_s=25)).ok


async def test_given_up_it_is_killed_and_that_is_temporary(run, tmp_path):
    started = tmp_path / "started"
    os.mkfifo(started)
    task = asyncio.create_task(run(f"echo >{started}; sleep 1000"))
    await asyncio.to_thread(started.read_text)
    task.cancel()
    assert (await task).temporary


async def test_given_up_while_it_starts_it_is_killed(run, monkeypatch):
    started = asyncio.get_running_loop().create_future()
    given_up = threading.Event()

    class Slow(subprocess.Popen):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            started.get_loop().call_soon_threadsafe(started.set_result, None)
            assert given_up.wait(10)

    monkeypatch.setattr(subprocess, "Popen", Slow)
    task = asyncio.create_task(run("sleep 3"))
    await started
    task.cancel()
    asyncio.get_running_loop().call_soon(given_up.set)  # after the task has seen it
    reply = await task
    assert reply.temporary
    assert "killed" in reply.cause


def test_nothing_is_signalled_that_was_waited_for(monkeypatch):
    """Its id may be another's by then: while a signal is on its way, nobody waits for it."""
    runs = _Run(("/bin/sleep", "1000"), pwd.getpwuid(os.geteuid()).pw_name, 20.0)
    killed, over = os.killpg, threading.Event()
    states = []

    def killpg(group, number):
        killed(group, number)
        os.waitid(os.P_PID, group, os.WEXITED | os.WNOWAIT)  # it has ended, and the other thread learns of it
        over.wait(0.2)
        states.append(Path(f"/proc/{group}/stat").read_text().rpartition(")")[2].split()[0])

    monkeypatch.setattr(os, "killpg", killpg)
    with ThreadPoolExecutor(1) as executor:
        running = executor.submit(runs, iter(()))
        running.add_done_callback(lambda _: over.set())
        while not states:
            if runs._process is not None:
                runs.kill()
        assert running.result(10).temporary
    assert states == ["Z"]
    runs.kill()
    assert states == ["Z"]


async def test_what_cannot_run_waits_for_the_operator(run, programs):
    assert short(await run("exit 0", run_as="no-such-user-here")).startswith("451 4.3.5")
    to = Recipient(MESSAGE.id, 1, "b@own.test", "b@own.test", "own.test")
    reply = await programs.deliver(Pipe(("/nonexistent/program",), "nobody"), to, MESSAGE, CONTENT)
    assert short(reply).startswith("451 4.3.5")
    assert "/nonexistent/program" in reply.cause


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
async def test_as_root_it_runs_as_somebody_and_never_as_root(programs):
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # that of the test is closed to others
        os.chmod(folder, 0o777)
        argv = ("/bin/sh", "-c", 'id -u >"$0"; id -G >>"$0"', f"{folder}/who")
        to = Recipient(MESSAGE.id, 1, "b@own.test", "b@own.test", "own.test")
        assert (await programs.deliver(Pipe(argv, "nobody"), to, MESSAGE, CONTENT)).ok
        assert "0" not in Path(folder, "who").read_text().split()
    reply = await programs.deliver(Pipe(("/bin/true",)), to, MESSAGE, CONTENT)
    assert reply.temporary
    assert "run_as" in reply.cause


# --- row 22: what a stranger writes is only a word

HOSTILE = ("$(touch canary)", "`touch canary`", "|touch canary", ";touch canary", "a&&touch canary",
           "${run{touch canary}}", "() { :; }; touch canary", ">canary", "*", "~root", "a b", "'\"", "\\")  # fmt: skip


@pytest.mark.parametrize("local", HOSTILE)
async def test_row_22_shell_characters_are_letters(run, tmp_path, local, monkeypatch):
    monkeypatch.chdir(tmp_path)
    reply = await run(f'printf "%s\\n" "$@" >{tmp_path}/args', "--for", "%u", "<%u@%d>", to=f"{local}@own.test")
    assert reply.ok
    assert (tmp_path / "args").read_text() == f"--for\n{local}\n<{local}@own.test>\n"
    assert not (tmp_path / "canary").exists()


def test_row_22_a_recipient_is_no_option():
    assert words(("/p", "%u"), "-rf@own.test") is None
    assert words(("/p", "--to=%u"), "-rf@own.test") == ["/p", "--to=-rf"]
    assert words(("/p", "%u"), "%d%u@own.test") == ["/p", "%d%u"]
