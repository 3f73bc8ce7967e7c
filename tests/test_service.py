"""The daemon's footing: log lines, directories, sockets and words to a service manager."""

import asyncio
import os
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mtad import service
from mtad.config import Paths


def paths(root: Path) -> Paths:
    return Paths(str(root / "mtad.toml"), str(root / "data"), str(root / "run"))


def test_directories_are_made_with_their_modes_and_then_left_alone(tmp_path: Path) -> None:
    where = paths(tmp_path)
    old = os.umask(0o077)
    try:
        service.make_directories(where)
    finally:
        os.umask(old)
    modes = {
        name: stat.S_IMODE(os.stat(path).st_mode)
        for name, path in (
            ("data", where.data),
            ("spool", where.spool),
            ("dkim", where.dkim),
            ("drop", where.maildrop),
            ("run", where.run),
        )
    }
    assert modes == {"data": 0o711, "spool": 0o700, "dkim": 0o700, "drop": 0o3733, "run": 0o755}
    os.chmod(where.run, 0o700)
    service.make_directories(where)
    assert stat.S_IMODE(os.stat(where.run).st_mode) == 0o700


def test_a_data_directory_that_everyone_can_write_is_refused(tmp_path: Path) -> None:
    where = paths(tmp_path)
    service.make_directories(where)
    os.chmod(where.data, 0o777)
    with pytest.raises(PermissionError, match="chmod o-w"):
        service.make_directories(where)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_data_directory_of_another_user_is_refused_to_that_users_neighbour(tmp_path: Path) -> None:
    where = paths(tmp_path)
    service.make_directories(where)
    os.chown(where.data, 65534, 65534)
    with pytest.raises(PermissionError, match="belongs to another user"):
        service.make_directories(where)


def test_no_privileges_are_dropped_under_a_root_directory(tmp_path: Path) -> None:
    service.drop_privileges(paths(tmp_path))
    assert os.geteuid() == os.getuid()


def test_lines_of_one_turn_are_one_write_and_none_is_lost() -> None:
    read, write = os.pipe()

    async def main() -> None:
        log = service.LogWriter(write, lambda: 0.0, {"JOURNAL_STREAM": "8:1"})
        log.attach(asyncio.get_running_loop())
        for n in range(3):
            log(f"line {n} \udcff")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert os.read(read, 4096) == b"line 0 \\udcff\nline 1 \\udcff\nline 2 \\udcff\n"
        log("again")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert os.read(read, 4096) == b"again\n"
        log.attach(None)
        log("at once")
        assert os.read(read, 4096) == b"at once\n"

    asyncio.run(main())
    os.close(write)
    os.close(read)


def test_lines_begin_with_the_time_where_no_journal_notes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC-2")
    time.tzset()
    read, write = os.pipe()
    log = service.LogWriter(write, iter([0.2, 0.9, 86400.0]).__next__, {})
    for word in ("a", "b", "c"):
        log(word)
    monkeypatch.undo()
    time.tzset()
    assert os.read(read, 4096).decode().splitlines() == [
        "1970-01-01T02:00:00+0200 a",
        "1970-01-01T02:00:00+0200 b",
        "1970-01-02T02:00:00+0200 c",
    ]
    os.close(write)
    os.close(read)


def test_a_log_that_nobody_reads_does_not_stop_the_mail() -> None:
    read, write = os.pipe()
    os.close(read)
    service.LogWriter(write, lambda: 0.0, {"JOURNAL_STREAM": "8:1"})("lost")
    os.close(write)


def test_the_manager_hears_us_and_its_absence_is_no_error(short_dir: Path) -> None:
    path = str(short_dir / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        service.notify("READY=1", {"NOTIFY_SOCKET": path})
        assert manager.recv(100) == b"READY=1"
    service.notify("READY=1", {"NOTIFY_SOCKET": path})
    service.notify("READY=1", {})


@pytest.mark.parametrize(
    ("environ", "interval_s"),
    [
        ({}, 0.0),
        ({"WATCHDOG_USEC": "60000000"}, 30.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, 0.0),
    ],
)
def test_the_watchdog_is_fed_twice_as_often_as_needed(environ: dict[str, str], interval_s: float) -> None:
    assert service.watchdog_interval_s(environ) == interval_s


def test_sockets_meant_for_another_process_are_not_taken() -> None:
    assert service.take_sockets({}) == {}
    assert service.take_sockets({"LISTEN_PID": "1", "LISTEN_FDS": "1"}) == {}


def test_passed_sockets_come_by_name() -> None:
    # A process of its own, for the descriptors must be those from 3 on.
    code = """
import os, socket
from mtad import service
made = [socket.socket() for _ in range(3)]
for fd, sock in enumerate(made, 10): os.dup2(sock.fileno(), fd)
for fd in range(3): os.dup2(10 + fd, 3 + fd)
found = service.take_sockets({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "3", "LISTEN_FDNAMES": "smtp:submit:smtp"})
print({name: [s.fileno() for s in sockets] for name, sockets in found.items()}, os.get_inheritable(3))
os._exit(0)
"""
    done = subprocess.run([sys.executable, "-u", "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert (done.stdout, done.stderr) == ("{'smtp': [3, 5], 'submit': [4]} False\n", "")


def test_as_many_files_as_there_may_be() -> None:
    code = (
        "import resource as r; from mtad import service;"
        " _, hard = r.getrlimit(r.RLIMIT_NOFILE); r.setrlimit(r.RLIMIT_NOFILE, (64, min(hard, 500)));"
        " service.raise_limits(); print(*r.getrlimit(r.RLIMIT_NOFILE))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["500", "500"], done.stderr
