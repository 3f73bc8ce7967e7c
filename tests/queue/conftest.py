"""The engines that the contract is held against."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from queue_mails import NOW

from mtad.config import Paths
from mtad.queue.sqlite import SqliteStore, open_store
from mtad.queue.store import Store


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(str(tmp_path / "mtad.toml"), str(tmp_path / "data"), str(tmp_path / "run"))


@pytest.fixture
async def sqlite_store(paths: Paths) -> AsyncIterator[SqliteStore]:
    opened = open_store(paths, lambda: NOW)
    yield opened
    await opened.close()


@pytest.fixture(params=["sqlite"])
async def store(request: pytest.FixtureRequest, paths: Paths) -> AsyncIterator[Store]:
    engines: dict[str, Callable[[], Store]] = {"sqlite": lambda: open_store(paths, lambda: NOW)}
    opened = engines[request.param]()
    yield opened
    await opened.close()
