import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from inbound_house import House, end_house, make_certificate, make_house

from mtad.config import Tls


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture
async def house(short_dir: Path, certificate: Tls) -> AsyncIterator[House]:
    made = await make_house(short_dir, tls=certificate)
    yield made
    await end_house(made)


@pytest.fixture
def house_factory(short_dir: Path, certificate: Tls) -> Callable[[], AbstractAsyncContextManager[House]]:
    """For tests that bring their own event loop."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[House]:
        made = await make_house(short_dir, tls=certificate)
        try:
            yield made
        finally:
            await end_house(made)

    return opened


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    """A loop for tests that hypothesis runs many times."""
    with asyncio.Runner() as made:
        yield made


@pytest.fixture(scope="module")
def steady(runner: asyncio.Runner) -> Iterator[House]:
    """A house for all tests of a module; its clock stands still."""
    with tempfile.TemporaryDirectory(dir="/tmp") as root:
        made = runner.run(make_house(Path(root)))
        made.now = 1_800_000_000.0
        yield made
        runner.run(end_house(made))
