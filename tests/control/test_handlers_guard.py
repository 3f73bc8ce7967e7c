"""Blocks, sessions and limits as operations."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from test_handlers import Operator

from mtad.control.admin import Failed
from mtad.control.operation import UsageError


@pytest.fixture
async def operator(tmp_path: Path) -> AsyncIterator[Operator]:
    made = Operator(tmp_path)
    yield made
    await made.bench.close()


async def test_blocks(operator: Operator) -> None:
    now = int(operator.now)
    added = await operator.one("block.add", value="192.0.2.0/24", reason="spam run", **{"for": "2h"})
    assert added == {
        "value": "192.0.2.0/24", "kind": "network", "reason": "spam run", "made_by": "uid=0", "created": now,
        "expires": now + 7200, "times": 1,
    }  # fmt: skip
    forever = await operator.one("block.add", value="@Bad.Example")
    assert (forever["value"], forever["kind"], forever["expires"]) == ("@bad.example", "domain", None)
    assert await operator.call("block.list") == [added, forever]
    assert operator.bench.blocks.of_ip("192.0.2.99") is not None
    removed = await operator.one("block.remove", value="192.0.2.0/24", reason="they cleaned up")
    assert removed == added
    assert await operator.call("block.list") == [forever]
    audited = [line for line in operator.bench.lines if line.startswith("operator:")]
    assert [line.split("operation=")[1].split(",")[0] for line in audited] == [
        "block.add", "block.add", "block.remove",
    ]  # fmt: skip
    assert 'reason="spam run"' in audited[0]


async def test_a_block_of_the_daemon_is_seen_and_lifted(operator: Operator) -> None:
    blocks = operator.bench.blocks
    await blocks.record(*blocks.punish("192.0.2.7", "20/10m failed sign-ins", 3600, 86400))
    (row,) = await operator.call("block.list")
    assert (row["made_by"], row["reason"], row["expires"]) == (
        "mtad", "20/10m failed sign-ins", int(operator.now) + 3600,
    )  # fmt: skip
    await operator.one("block.remove", value="192.0.2.7")
    assert blocks.of_ip("192.0.2.7") is None
    assert await operator.bench.store.load_blocks() == []


@pytest.mark.parametrize(
    ("name", "given", "error"),
    [
        ("block.add", {"value": "alice"}, "BadData"),
        ("block.add", {"value": "300.1.1.1"}, "BadData"),
        ("block.remove", {"value": "192.0.2.7"}, "NotFound"),
        ("block.remove", {"value": "x"}, "BadData"),
        ("session.close", {"number": 3}, "NotFound"),
        ("limit.show", {"who": "a b"}, "BadData"),
    ],
)
async def test_what_cannot_be_done(operator: Operator, name: str, given: dict[str, Any], error: str) -> None:
    with pytest.raises(Failed) as caught:
        await operator.call(name, **given)
    assert caught.value.name == error
    assert not [line for line in operator.bench.lines if line.startswith("operator:")]


async def test_an_age_needs_a_unit(operator: Operator) -> None:
    with pytest.raises(UsageError):
        await operator.call("block.add", value="192.0.2.7", **{"for": "5"})


async def test_sessions(operator: Operator) -> None:
    assert await operator.one("session.list") == {
        "number": 17, "client_ip": "192.0.2.7", "port": 4242, "uid": None, "user": "", "helo": "client.test",
        "since": 1_800_000_000, "source": "smtp", "listener": "127.0.0.1:25", "tls": "", "state": "data", "mails": 2,
        "commands": 30, "errors": 4,
    }  # fmt: skip
    assert await operator.one("session.close", number=17) == {"number": 17, "closed": True}
    assert any("operation=session.close, selector=17" in line for line in operator.bench.lines)


@pytest.mark.parametrize(
    ("who", "value"),
    [("192.0.2.7", "192.0.2.0/24"), ("Alice@example.test", "alice@example.test"), ("alice", "@example.test"),
     ("@bad.example", "")],
)  # fmt: skip
async def test_limits_of_somebody(operator: Operator, who: str, value: str) -> None:
    first = {"scope": "client", "what": "errors", "count": 3, "limit": "100/10m", "setting": "limits.error_rate"}
    assert await operator.call("limit.show", who=who) == [first]
    if value:
        await operator.one("block.add", value=value, reason="why", **{"for": "1h"})
        _, blocked = await operator.call("limit.show", who=who)
        assert (blocked["what"], blocked["setting"]) == ("blocked: why", f"block {value}")
        assert blocked["expires"] == int(operator.now) + 3600


async def test_the_limits(operator: Operator) -> None:
    assert (await operator.one("limit.show"))["scope"] == "all"
