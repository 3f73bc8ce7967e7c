"""The operations on accounts."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from test_handlers import Operator

from mtad.control.admin import Failed

ALICE = "alice@example.test"
PRINT = "ab" * 32


@pytest.fixture
async def operator(tmp_path: Path) -> AsyncIterator[Operator]:
    made = Operator(tmp_path)
    await made.one("user.add", name="alice", password="long enough")
    yield made
    await made.bench.close()


async def fails(operator: Operator, name: str, /, **given: Any) -> str:
    with pytest.raises(Failed) as caught:
        await operator.call(name, **given)
    return caught.value.name


async def test_show(operator: Operator) -> None:
    assert await operator.one("user.show", name="alice") == {
        "name": ALICE,
        "created": 1_800_000_000,
        "disabled": "",
        "scheme": "scrypt",
        "scram": True,
        "receive_only": False,
        "senders": [],
        "app_passwords": [],
        "certificates": [],
        "messages": 0,
        "messages_per_day": 1000,
        "new_recipients": 0,
        "new_recipients_per_day": 200,
    }
    await operator.bench.accept("b@b.test", "c@c.test", user=ALICE)
    shown = await operator.one("user.show", name="alice")
    assert (shown["messages"], shown["new_recipients"]) == (1, 2)


async def test_verify(operator: Operator) -> None:
    assert await operator.one("user.verify", name="alice", password="long enough") == {"name": ALICE, "right": True}
    assert await fails(operator, "user.verify", name="alice", password="long enouhg") == "Denied"
    await operator.one("user.disable", name="alice", reason="gone")
    assert await fails(operator, "user.verify", name="alice", password="long enough") == "Denied"


async def test_disable_and_enable(operator: Operator) -> None:
    assert (await operator.one("user.disable", name="alice", reason="call us"))["disabled"] == "call us"
    assert (await operator.one("user.enable", name="alice"))["disabled"] == ""
    assert (await operator.one("user.disable", name="alice"))["disabled"] == "disabled"
    assert any("operation=user.disable" in line and 'reason="call us"' in line for line in operator.bench.lines)


async def test_senders(operator: Operator) -> None:
    granted = await operator.one("user.grant", name="alice", sender="Info@Example.TEST")
    assert granted == {"name": ALICE, "senders": ["Info@example.test"]}
    await operator.one("user.grant", name="alice", sender="@Sh\u00f6p.test")
    again = await operator.one("user.grant", name="alice", sender="@xn--shp-tna.test")
    assert again["senders"] == ["Info@example.test", "@xn--shp-tna.test"]
    assert await fails(operator, "user.grant", name="alice", sender="nonsense") == "BadData"
    assert await fails(operator, "user.grant", name="alice", sender="@") == "BadData"
    assert (await operator.one("user.revoke", name="alice", sender="@sh\u00f6p.test"))["senders"] == [
        "Info@example.test"
    ]
    assert await fails(operator, "user.revoke", name="alice", sender="@shop.test") == "NotFound"


async def test_limits(operator: Operator) -> None:
    row = await operator.one("user.limit", name="alice", messages_per_day="5", new_recipients_per_day="0")
    assert row == {"name": ALICE, "messages_per_day": 5, "new_recipients_per_day": 0, "receive_only": False}
    row = await operator.one("user.limit", name="alice", messages_per_day="default", receive_only="yes")
    assert row == {"name": ALICE, "messages_per_day": 1000, "new_recipients_per_day": 0, "receive_only": True}
    assert await operator.one("user.limit", name="alice") == row


async def test_app_passwords(operator: Operator) -> None:
    made = await operator.one("user.app_password.add", name="alice", label="phone")
    assert await operator.bench.users.verify("alice", made["password"])
    assert await fails(operator, "user.app_password.add", name="alice", label="phone") == "BadData"
    assert await operator.call("user.app_password.list", name="alice") == [
        {"label": "phone", "created": 1_800_000_000, "used": 1_800_000_000}
    ]
    await operator.one("user.app_password.remove", name="alice", label="phone")
    assert await fails(operator, "user.app_password.remove", name="alice", label="phone") == "NotFound"
    assert await operator.bench.users.verify("alice", made["password"]) is None
    assert made["password"] not in "".join(operator.bench.lines)


async def test_certificates(operator: Operator) -> None:
    colons = ":".join(PRINT[at : at + 2].upper() for at in range(0, 64, 2))
    assert (await operator.one("user.certificate.add", name="alice", fingerprint=colons))["certificates"] == [PRINT]
    await operator.one("user.add", name="bob", password="long enough")
    assert await fails(operator, "user.certificate.add", name="bob", fingerprint=PRINT) == "CannotCreate"
    assert (await operator.one("user.certificate.remove", name="alice", fingerprint=PRINT))["certificates"] == []
    assert await fails(operator, "user.certificate.remove", name="alice", fingerprint=PRINT) == "NotFound"


LINES = [
    "1 bob:{SHA256}Xd/C008MH4nAjKOAu5URtczuJ3GFdtoycHLduFX03Hw=:1000:1000",
    "3 Alice:{PLAIN}whatever",
    "4 carol:{PLAIN}carolpass",
    "7 carol:{PLAIN}again",
    "8 dave:{CRAM-MD5}x",
    "9 a b:{PLAIN}x",
    "10 nothing",
]


async def test_import(operator: Operator) -> None:
    rows = await operator.call("user.import", lines=LINES, dry_run=True)
    assert rows[-1] == {"changed": 0, "would_change": 2, "problems": 3}
    assert len(operator.bench.users.list()) == 1
    *rows, counts = await operator.call("user.import", lines=LINES)
    assert [(row["line"], row["name"], row["result"], bool(row["problem"])) for row in rows] == [
        (1, "bob@example.test", "added", False),
        (3, "Alice@example.test", "exists", False),
        (4, "carol@example.test", "added", False),
        (7, "carol@example.test", "exists", False),
        (8, "dave", "refused", True),
        (9, "a b", "refused", True),
        (10, "", "refused", True),
    ]
    assert counts == {"changed": 2, "problems": 3}
    assert await operator.bench.users.verify("bob", "schemepass")
    assert await operator.bench.users.verify("carol", "carolpass")
    assert await operator.bench.users.verify("alice", "long enough")
    assert "carolpass" not in "".join([*operator.bench.lines, str(rows)])
    assert any("operation=user.import" in line and "changed=2" in line for line in operator.bench.lines)


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("user.show", {}),
        ("user.verify", {"password": "x"}),
        ("user.disable", {}),
        ("user.enable", {}),
        ("user.grant", {"sender": "@x.test"}),
        ("user.revoke", {"sender": "@x.test"}),
        ("user.limit", {}),
        ("user.app_password.add", {"label": "x"}),
        ("user.app_password.list", {}),
        ("user.app_password.remove", {"label": "x"}),
        ("user.certificate.add", {"fingerprint": PRINT}),
        ("user.certificate.remove", {"fingerprint": PRINT}),
    ],
)
async def test_there_is_no_such_user(operator: Operator, name: str, more: dict[str, str]) -> None:
    assert await fails(operator, name, name="nobody", **more) == "NotFound"
