from collections.abc import AsyncIterator, Callable
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
