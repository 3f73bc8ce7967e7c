"""The daemon as a whole, where no process is needed to see it."""

import random
import socket
import time
from pathlib import Path

import pytest

from mtad.accounts.account import StoredUser
from mtad.accounts.users import Users
from mtad.app import App, Options
from mtad.config import load
from mtad.queue.store import StoreError


class NoStore:
    """A store that cannot be read now."""

    async def load_users(self) -> list[StoredUser]:
        raise StoreError("disk I/O error")


async def test_a_reload_that_breaks_off_is_over_for_the_service_manager(
    short_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After RELOADING=1 it waits for READY=1, and fails the unit when none comes."""
    (short_dir / "mtad.toml").write_text('hostname = "mx.example.test"\ndomains = ["example.test"]\n')
    lines: list[str] = []
    options = Options(str(short_dir))
    app = App(options, load(options.root, options.config), lines.append)  # type: ignore[arg-type]  (it is only written to here)
    app._users = Users(NoStore(), time.time, random.Random(1))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(short_dir / "notify"))
        manager.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(short_dir / "notify"))
        await app._reload_quietly()
        assert manager.recv(4096).startswith(b"RELOADING=1")
        assert manager.recv(4096).startswith(b"READY=1")
    assert any("disk I/O error" in line for line in lines)
