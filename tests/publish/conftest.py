"""The DNS server, the certification authority and the SMTP server of other rooms' tests."""

import copy
import sys
from pathlib import Path

import pytest

for room in ("dns", "tls", "outbound"):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / room))

from publish_world import World  # noqa: E402


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Keys and certificates take their time."""
    return World(tmp_path_factory.mktemp("world"))


@pytest.fixture
async def world(made: World) -> World:
    """All is published as it should be."""
    return await copy.copy(made).correct()
