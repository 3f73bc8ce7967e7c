"""A host of ours and the world around it: DNS by Knot, an MX that is Postfix, mailboxes by Dovecot."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import peer_dovecot
import peer_knot
import peer_postfix
import pytest
from peer_knot import Knot
from peer_mtad import Make, Mtad
from peer_postfix import Postfix


@pytest.fixture
def mtad(short_dir: Path) -> Iterator[Make]:
    """Makes hosts; all are stopped at the end, and none may have logged a traceback."""
    made: list[Mtad] = []

    def make(name: str = "m", **settings: Any) -> Mtad:
        made.append(Mtad(short_dir / name, **settings))
        return made[-1]

    yield make
    for host in made:
        host.stop()
        assert "Traceback" not in host.log, host.log


@pytest.fixture
def postfix(short_dir: Path) -> Iterator[Postfix]:
    """The MX of remote.test."""
    if reason := peer_postfix.missing():
        pytest.skip(reason)
    server = Postfix(short_dir / "postfix", {"virtual_mailbox_domains": "remote.test"})
    server.start()
    yield server
    server.stop()


@pytest.fixture
def knot(short_dir: Path) -> Iterator[Callable[[str], Knot]]:
    """Serves remote.test, null.test, dangling.test, and example.test with what it is given."""
    if reason := peer_knot.missing():
        pytest.skip(reason)
    started: list[Knot] = []

    def start(own: str = "") -> Knot:
        zones = {
            "remote.test": "@ 60 MX 10 mx\nmx 60 A 127.0.0.1\n",
            "null.test": "@ 60 MX 0 .\n",
            "dangling.test": "@ 60 MX 10 nowhere\n",
            "example.test": own,
        }
        started.append(Knot(short_dir / "knot", zones).start())
        return started[-1]

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def dovecot(short_dir: Path) -> Iterator[peer_dovecot.Dovecot]:
    if reason := peer_dovecot.missing():
        pytest.skip(reason)
    server = peer_dovecot.Dovecot(short_dir / "dovecot").start()
    yield server
    server.stop()
