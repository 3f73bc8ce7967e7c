"""kill -9 at each durable step: what was promised before holds, what was not is whole or absent."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from queue_mails import NOW, OK, message_id

from mtad.config import Paths
from mtad.mail.envelope import State
from mtad.queue.sqlite import ORPHAN_AGE_S, open_read_only, open_store
from mtad.queue.store import Selector

HERE = Path(__file__).parent
EVERY = Selector(states=("active", "ready", "deferred", "held", "trashed", "done", "failed"))


def die(root: Path, *arguments: str, fault: str = "") -> list[str]:
    """Run until the kill; the promises that were given."""
    path = os.pathsep.join((str(HERE), str(HERE.parents[1])))
    run = subprocess.run(
        [sys.executable, str(HERE / "queue_crash.py"), arguments[0], str(root), *arguments[1:]],
        env={**os.environ, "PYTHONPATH": path, "MTA_FAULT": fault},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == -signal.SIGKILL, run.stderr
    return run.stdout.splitlines()


@pytest.mark.parametrize("size", ["small", "large"])
@pytest.mark.parametrize(
    ("fault", "promised", "state"),
    [
        ("accept.before_commit", [], None),
        ("accept.after_commit", [], State.READY),
        ("lease.after", ["accepted"], State.READY),
        ("settle.before_commit", ["accepted", "leased"], State.READY),
        ("settle.after_commit", ["accepted", "leased"], State.DONE),
        ("", ["accepted", "leased", "settled"], State.DONE),
    ],
)
async def test_kill(
    tmp_path: Path, paths: Paths, size: str, fault: str, promised: list[str], state: State | None
) -> None:
    assert die(tmp_path, "life", size, fault=fault) == promised
    file = Path(paths.spool) / message_id(1)
    store = open_store(paths, lambda: NOW)
    try:
        rows = await store.select(EVERY, NOW)
        assert [row.recipient.state for row in rows] == ([] if state is None else [state])
        assert [attempt.reply for attempt in await store.attempts(message_id(1))] == (
            [OK] if state is State.DONE else []
        )
        if state is State.READY:
            (job,) = await store.lease(NOW, NOW + 60, 1)  # at once, whoever had it before
            content = await store.content(job.message.id)
            body = Path(content.body).read_bytes() if isinstance(content.body, str) else content.body
            assert len(content.head) + len(body) == job.message.size_bytes
        if size == "large" and state is not State.READY and fault:
            assert file.exists()  # nothing names it any more
            later = file.stat().st_mtime + ORPHAN_AGE_S
            await store.sweep(later, 1e9, 1e9)
            assert file.exists()
            await store.sweep(later + 1, 1e9, 1e9)
            assert file.exists()  # the clock may have jumped while the mail was coming in: it is looked at twice
            await store.sweep(later + 2, 1e9, 1e9)
        assert file.exists() == (size == "large" and state is State.READY)
    finally:
        await store.close()


async def test_a_dead_daemons_queue_can_be_read(tmp_path: Path, paths: Paths) -> None:
    die(tmp_path, "life", "small", fault="lease.after")
    before = {name: Path(paths.data, name).read_bytes() for name in ("mta.db", "mta.db-wal")}
    store = open_read_only(paths, lambda: NOW)
    try:
        (row,) = await store.select(Selector(), NOW)
        assert row.message.id == message_id(1)
        assert (await store.content(message_id(1))).body == b"hello\r\n"
    finally:
        await store.close()
    assert {name: Path(paths.data, name).read_bytes() for name in before} == before


async def test_no_room_for_the_log(tmp_path: Path, paths: Paths) -> None:
    assert die(tmp_path, "no-room") == ["3 refused", "open: 1", "accepted"]
    store = open_store(paths, lambda: NOW)
    try:
        assert [row.message.id for row in await store.select(Selector(), NOW)] == [message_id(1), message_id(5)]
    finally:
        await store.close()


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace to make a sync fail")
async def test_what_was_refused_because_the_disk_failed_does_not_come_back(tmp_path: Path, paths: Paths) -> None:
    """The pages of that mail are whole in the log, for a crash to find."""
    life = subprocess.Popen(
        [sys.executable, str(HERE / "queue_crash.py"), "no-sync", str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(HERE), str(HERE.parents[1])))},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    fault = ("-e", "trace=fdatasync,fsync", "-e", "inject=fdatasync,fsync:error=EIO:when=1")
    with life:
        assert life.stdout.readline() == "accepted\n"
        tracer = subprocess.Popen(["strace", "-f", "-p", str(life.pid), *fault], stderr=subprocess.PIPE, text=True)
        with tracer:
            if "attached" not in (said := tracer.stderr.readline()):
                life.kill()
                pytest.skip(f"cannot trace here: {said}")
            said, _ = life.communicate("\n", timeout=60)
            tracer.stderr.read()
    assert said == "refused\n"
    store = open_store(paths, lambda: NOW)
    try:
        assert [row.message.id for row in await store.select(Selector(), NOW)] == [message_id(1)]
    finally:
        await store.close()
