"""mtactl suppress: what it shows, what it changes, what it says to nonsense."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from test_handlers import Operator

from mtad.control.admin import Failed


@pytest.fixture
async def operator(tmp_path: Path) -> AsyncIterator[Operator]:
    made = Operator(tmp_path)
    yield made
    await made.bench.close()


async def test_add_list_lookup_remove(operator: Operator) -> None:
    row = await operator.one("suppress.add", address="Bob@Example.ORG", reason="asked for it")
    assert (row["user"], row["reason"], row["expires"]) == ("", "asked for it", None)
    await operator.one("suppress.add", address="bob@example.org", user="alice@example.test", **{"for": "3d"})
    rows = await operator.call("suppress.list")
    assert [one["user"] for one in rows] == ["", "alice@example.test"]
    assert rows[1]["expires"] == operator.now + 3 * 86400
    assert await operator.call("suppress.list", user="alice@example.test") == rows[1:]
    assert await operator.call("suppress.lookup", address="bob@example.org") == rows
    assert await operator.call("suppress.lookup", address="bob@example.org", user="carol") == rows[:1]
    gone = await operator.call("suppress.remove", address="bob@example.org", user="alice@example.test")
    assert gone == rows[1:]
    assert await operator.call("suppress.remove", address="bob@example.org", reason="sorry") == rows[:1]
    assert await operator.call("suppress.list") == []
    audit = [line for line in operator.bench.lines if line.startswith("operator: ")]
    assert len(audit) == 4
    assert "operation=suppress.remove, selector=bob@example.org, reason=sorry" in audit[-1]


@pytest.mark.parametrize(
    ("name", "given", "error", "words"),
    [
        ("suppress.add", {"address": "bob"}, "BadData", "is no address"),
        ("suppress.add", {"address": "bob@"}, "BadData", "is no address"),
        ("suppress.lookup", {"address": "bob@example.org"}, "NothingMatched", "is not suppressed"),
        ("suppress.remove", {"address": "bob@example.org"}, "NotFound", "suppress list"),
        ("suppress.remove", {"address": "bob@example.org", "user": "alice"}, "NotFound", "for alice"),
    ],
)
async def test_nonsense(operator: Operator, name: str, given: dict[str, str], error: str, words: str) -> None:
    with pytest.raises(Failed, match=words) as failed:
        await operator.call(name, **given)
    assert failed.value.name == error
