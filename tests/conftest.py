"""What all tests share: short directories for sockets, and where the shared suites are."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

REPOSITORY = Path(__file__).resolve().parents[1]

# The real programs that several rooms test against: peer_postfix, peer_knot, peer_dovecot, peer_opendkim.
sys.path.insert(0, str(REPOSITORY / "tests" / "peers"))

# How fast this machine is just now is no property of the code.
settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")

# No test may find the machine's own daemon or configuration, or the width of the terminal it was started from.
for name in [name for name in os.environ if name.startswith("MTA_") or name in ("COLUMNS", "LINES")]:
    del os.environ[name]


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A directory with a short path: a Unix socket's is limited to 107 octets."""
    path = tempfile.mkdtemp(prefix="mtad-", dir="/tmp")
    yield Path(path)
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Short names for tests, the same in every process: long values may hold keys that were made a moment ago."""
    return argname if isinstance(val, str | bytes) and len(val) > 40 else None
