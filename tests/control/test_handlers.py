"""The operations on a real store: what they do, what they tell, and that they leave a trace."""

import json
import os
from base64 import b64decode
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from control_daemon import Bench, make_config

from mtad.config import Access as AccessSettings
from mtad.config import Address, RouteRule, Target
from mtad.control import wire
from mtad.control.admin import Caller, Failed, Lines
from mtad.control.handlers.daemon import settings, toml
from mtad.control.operation import Access, check
from mtad.control.operations import BY_NAME
from mtad.control.run import perform
from mtad.control.said import words
from mtad.mail.envelope import State
from mtad.mail.reply import Reply
from mtad.queue.lines import COMMANDS

LATER = Reply(451, "4.7.1", "try later", host="mx.b.test", stage="rcpt")


class Operator:
    """Calls operations as an admin does, on a clock that stands still."""

    def __init__(self, root: Path) -> None:
        self.now = 1_800_000_000.0
        self.bench = Bench(make_config(root), lambda: self.now)
        self.admin = replace(self.bench.admin, caller=Caller(0, Access.ADMIN))

    async def call(self, name: str, /, **given: Any) -> list[dict[str, Any]]:
        given = {"from" if key == "from_" else "in" if key == "in_" else key: value for key, value in given.items()}
        rows: list[dict[str, Any]] = []
        async for found in perform(self.admin, BY_NAME[name], given):
            rows += map(json.loads, wire.lines(found.text).split(b"\n")) if isinstance(found, Lines) else [found]
        return [row for row in rows if "of" not in row]  # how far it is, is no part of the answer

    async def one(self, name: str, /, **given: Any) -> dict[str, Any]:
        (row,) = await self.call(name, **given)
        return row

    async def count(self, name: str, /, **given: Any) -> int:
        return (await self.one(name, **given))["changed"]

    async def listed(self, **given: Any) -> list[str]:
        try:
            return [one["address"] for row in await self.call("queue.list", **given) for one in row["recipients"]]
        except Failed as failed:
            if failed.name != "NothingMatched":
                raise
            return []


@pytest.fixture
async def operator(tmp_path: Path) -> AsyncIterator[Operator]:
    made = Operator(tmp_path)
    yield made
    await made.bench.close()


async def test_list_row(operator: Operator) -> None:
    message_id = await operator.bench.accept("b@b.test", "c@c.test", user="alice", uid=1000, size=2000, reply=LATER)
    (row,) = await operator.call("queue.list")
    recipients = row.pop("recipients")
    now = int(operator.now)
    assert row == {
        "queue_name": "deferred",
        "queue_id": message_id,
        "arrival_time": now,
        "message_size": 2000,
        "forced_expire": False,
        "sender": "alice@example.test",
        "state": "deferred",
        "next_attempt": now + 3600,
        "expires": now + 5 * 86400,
        "tries": 1,
        "domains": ["b.test", "c.test"],
        "source": "local",
        "user": "alice",
        "uid": 1000,
        "client_ip": "192.0.2.7",
        "message_id": "<1@example.test>",
        "subject": "Hi",
    }
    assert recipients[0] == {
        "address": "b@b.test",
        "orig_address": "b@b.test",
        "delay_reason": "host mx.b.test said: 451 4.7.1 try later (in reply to RCPT TO)",
        "not_before": int(operator.now + 3600),
        "id": f"{message_id}.1",
        "state": "deferred",
        "tries": 1,
        "next_attempt": now + 3600,
        "code": 451,
        "status": "4.7.1",
        "error": "remote",
    }
    assert [one["id"] for one in recipients] == [f"{message_id}.1", f"{message_id}.2"]


async def test_rows_are_what_the_table_says(operator: Operator) -> None:
    message_id = await operator.bench.accept("b@b.test", reply=LATER)
    for name, given in (
        ("status", {}), ("queue.list", {}), ("queue.show", {"ids": [message_id]}), ("queue.stats", {}),
        ("queue.mailq", {}), ("queue.hold", {"all": True, "dry_run": True}), ("reload", {}), ("config.show", {}),
        ("dkim.generate", {"domain": "example.test", "algorithm": "ed25519"}), ("dkim.list", {}),
        ("maildrop.drain", {}),
        ("user.add", {"name": "alice", "password": "long enough"}), ("user.list", {}), ("alias.check", {}),
        ("user.remove", {"name": "alice", "dry_run": True}), ("user.remove", {"name": "alice"}),
    ):  # fmt: skip
        rows = await operator.call(name, **given)
        assert rows
        assert {key for row in rows for key in row} <= {column for column, _ in BY_NAME[name].row}, name


@pytest.mark.parametrize(
    ("given", "addresses"),
    [
        ({}, ["b@b.test", "c@c.test", "d%_@b.test"]),
        ({"all": True}, ["b@b.test", "c@c.test", "d%_@b.test"]),
        ({"to": "@b.test"}, ["b@b.test", "d%_@b.test"]),
        ({"to": "d%_@b.test"}, ["d%_@b.test"]),
        ({"to": "?%_@*"}, ["d%_@b.test"]),
        ({"to": "_@b.test"}, []),
        ({"domain": "C.test"}, ["c@c.test"]),
        ({"from_": "<>"}, ["d%_@b.test"]),
        ({"from_": "alice@*"}, ["b@b.test", "c@c.test"]),
        ({"user": "bob"}, ["d%_@b.test"]),
        ({"older": "1h"}, ["b@b.test"]),
        ({"newer": "1h"}, ["c@c.test", "d%_@b.test"]),
        ({"size": ">4k"}, ["c@c.test"]),
        ({"size": "<=1000"}, ["b@b.test", "d%_@b.test"]),
        ({"attempts": ">=1"}, ["b@b.test"]),
        ({"error": "451"}, ["b@b.test"]),
        ({"error": "TRY later"}, ["b@b.test"]),
        ({"state": ["deferred"]}, ["b@b.test"]),
        ({"state": ["deferred", "ready"], "limit": 2}, ["b@b.test", "c@c.test"]),
        ({"state": ["held"]}, []),
    ],
)
async def test_selectors(operator: Operator, given: dict[str, Any], addresses: list[str]) -> None:
    await operator.bench.accept("b@b.test", ago_s=7200, reply=LATER)
    await operator.bench.accept("c@c.test", size=5000)
    await operator.bench.accept("d%_@b.test", sender="", user="bob@example.test")
    assert await operator.listed(**given) == addresses


async def test_pages_put_a_message_together_again(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mtad.queue.listing.PAGE", 4)
    for start in range(0, 12, 3):
        await operator.bench.accept(*(f"u{n}@b.test" for n in range(start, start + 3)))
    rows = await operator.call("queue.list")
    assert [len(row["recipients"]) for row in rows] == [3, 3, 3, 3]
    assert len(await operator.listed(limit=7)) == 7


async def test_the_database_writes_the_same_rows(operator: Operator) -> None:
    """Each kind of state and of reply is held against what Python makes of it, which sorts."""
    replies = [
        LATER,
        Reply(451, "", 'no "status", no host'),
        Reply(421, "4.4.2", "two\nlines \x1b[31m \u202e \\ \t é 🙂", "mx.b.test", "final"),
        Reply(450, "4.2.0", "é" * 2000, "mx.b.test", "connect"),
        *(Reply(450, "4.2.0", "no", "mx.b.test", stage) for stage in (*COMMANDS, "other", "")),
    ]
    for n, reply in enumerate(replies):
        await operator.bench.accept(f"ü{n}@b.test", f"{n}@c.test", sender="" if n % 2 else "ä@a.test", reply=reply)
    await operator.bench.accept("held@b.test", state=State.HELD)
    mixed = await operator.bench.accept("deferred@b.test", "held@c.test", reply=LATER)
    await operator.call("queue.hold", ids=[f"{mixed}.2"])
    await operator.bench.accept("done@b.test", reply=Reply(250, "2.0.0", "ok"))
    await operator.bench.accept("active@b.test")
    await operator.bench.lease()
    await operator.bench.accept("ready@b.test")
    shown = await operator.call("queue.mailq")
    assert {row["queue_name"] for row in shown} == {"active", "incoming", "deferred", "hold"}
    for every in ((), ("active", "ready", "deferred", "held", "trashed", "done", "failed")):
        listed = await operator.call("queue.list", state=every)
        assert listed == await operator.call("queue.list", state=every, sort="age", reverse=True)
    listed = await operator.call("queue.list")
    for row in listed:
        row["recipients"] = [
            {name: one[name] for name in ("address", "orig_address", "delay_reason")} for one in row["recipients"]
        ]
    assert shown == [{name: row[name] for name in shown[0]} for row in listed]


async def test_what_lies_in_the_maildrop_is_listed_too(operator: Operator) -> None:
    await operator.bench.accept("b@b.test", uid=os.getuid() + 1)
    folder = Path(operator.admin.config.paths.maildrop)
    folder.mkdir()
    (folder / "100.1.a.mail").write_bytes(
        b"MAIL FROM:<>\r\nRCPT TO:<a@x.test>\r\nRCPT TO:<b@y.test>\r\nDATA\r\n\r\nx\r\n.\r\n"
    )
    _, row = await operator.call("queue.list")
    assert (row["queue_name"], row["state"], row["sender"], row["domains"]) == (
        "maildrop", "maildrop", "", ["x.test", "y.test"],
    )  # fmt: skip
    assert row.keys() == {name for name, _ in BY_NAME["queue.list"].row} - {
        "by",
        "group",
        "count",
        "messages",
        "size_bytes",
        "oldest",
    }
    _, shown = await operator.call("queue.mailq")
    assert shown == {
        name: row[name] if name != "recipients" else
        [{part: one[part] for part in ("address", "orig_address", "delay_reason")} for one in row[name]]
        for name in shown
    }  # fmt: skip
    for given, meant in (
        ({"domain": "y.test"}, ["b@y.test"]), ({"from_": "<>"}, ["a@x.test", "b@y.test"]),
        ({"to": "A@*"}, ["a@x.test"]),
        ({"from_": "@x.test"}, []), ({"ids": [row["queue_id"][:9]]}, ["a@x.test", "b@y.test"]), ({"ids": ["0000"]}, []),
        ({"newer": "1h"}, []), ({"state": ["held"]}, []), ({"user": "a"}, []), ({"from_": "<>", "limit": 3}, []),
    ):  # fmt: skip
        assert [one for one in await operator.listed(**given) if one != "b@b.test"] == meant, given
    assert (await operator.one("status"))["maildrop"] == 1
    with pytest.raises(Failed, match="waits in the maildrop still"):
        await operator.call("queue.show", ids=[row["queue_id"]])
    operator.admin = replace(operator.admin, caller=Caller(os.getuid(), Access.ANYONE))
    assert await operator.call("queue.mailq") == [shown]
    operator.admin = replace(operator.admin, caller=Caller(os.getuid() + 2, Access.ANYONE))
    assert await operator.call("queue.mailq") == []


async def test_the_life_of_held_mail(operator: Operator) -> None:
    message_id = await operator.bench.accept("b@b.test", "c@c.test")
    assert await operator.count("queue.hold", to="b@b.test", reason="why not") == 1
    assert (await operator.one("queue.list", state=["held"]))["queue_name"] == "hold"
    assert (await operator.one("queue.list"))["queue_name"] == "incoming"
    assert await operator.count("queue.hold", ids=[f"{message_id}.1"]) == 0
    assert operator.bench.app.wakes == 1
    assert await operator.count("queue.release", all=True) == 1
    assert operator.bench.app.wakes == 2
    assert operator.bench.lines[0] == (
        'operator: caller=uid=0, operation=queue.hold, selector="--to b@b.test", reason="why not", changed=1'
    )


async def test_flush_and_retry(operator: Operator) -> None:
    await operator.bench.accept("b@b.test", reply=LATER)
    assert await operator.count("queue.retry", all=True, in_="2h") == 1
    assert (await operator.one("queue.list"))["next_attempt"] == int(operator.now) + 7200
    assert await operator.count("queue.flush", domain="b.test") == 1
    assert (await operator.one("queue.list"))["next_attempt"] == int(operator.now)


async def test_purge_and_restore(operator: Operator) -> None:
    first = await operator.bench.accept("b@b.test")
    second = await operator.bench.accept("c@c.test", "d@d.test")
    assert await operator.count("queue.purge", ids=[first]) == 1
    operator.now += 60
    assert await operator.count("queue.purge", ids=[second]) == 2
    assert await operator.listed() == []
    assert await operator.listed(state=["trashed"]) == ["b@b.test", "c@c.test", "d@d.test"]
    *preview, count = await operator.call("queue.restore", last=True, dry_run=True)
    assert [row["queue_id"] for row in preview] == [second]
    assert count == {"changed": 0, "would_change": 2}
    assert await operator.count("queue.restore", last=True) == 2
    assert await operator.listed() == ["c@c.test", "d@d.test"]
    assert "selector=--last" in operator.bench.lines[-1]
    assert await operator.count("queue.restore", ids=[first]) == 1
    assert await operator.count("queue.restore", last=True) == 0


@pytest.mark.parametrize("verb", ["flush", "hold", "release", "retry", "purge", "restore"])
@pytest.mark.parametrize("limit", [None, 1, 2])
async def test_a_dry_run_tells_what_would_happen(operator: Operator, verb: str, limit: int | None) -> None:
    await operator.bench.accept("a@b.test", "b@b.test", "c@b.test", reply=LATER)
    await operator.bench.accept("d@b.test", "e@b.test", "f@b.test", state=State.HELD)
    await operator.bench.accept("g@b.test", "h@b.test", "i@b.test", state=State.TRASHED)
    await operator.bench.accept("j@b.test")
    await operator.bench.lease()
    before = await operator.listed(state=["active", "ready", "deferred", "held", "trashed"])
    *preview, count = await operator.call(f"queue.{verb}", all=True, limit=limit, dry_run=True)
    assert await operator.listed(state=["active", "ready", "deferred", "held", "trashed"]) == before
    assert not operator.bench.lines
    assert sum(len(row["recipients"]) for row in preview) == count["would_change"] > 0
    assert count["changed"] == 0
    assert await operator.count(f"queue.{verb}", all=True, limit=limit) == count["would_change"]


async def test_show(operator: Operator) -> None:
    message_id = await operator.bench.accept("b@b.test", "c@c.test", reply=LATER)
    row = await operator.one("queue.show", ids=[message_id])
    assert (row["subject"], row["helo"], len(row["recipients"])) == ("Hi", "client.test", 2)
    assert row["attempts"][0] == {
        "id": f"{message_id}.1", "started": operator.now, "took_s": 0.25, "relay": "mx.test[192.0.2.1]:25", "tls": "",
        "code": 451, "status": "4.7.1", "text": "try later",
        "error": "remote",
    }  # fmt: skip
    row = await operator.one("queue.show", ids=[f"{message_id}.2"])
    assert [attempt["id"] for attempt in row["attempts"]] == [f"{message_id}.2"]
    assert (await operator.one("queue.show", ids=[message_id[:11]]))["queue_id"] == message_id


async def test_show_finished_mail(operator: Operator) -> None:
    message_id = await operator.bench.accept("b@b.test", reply=Reply(250, "2.0.0", "ok"))
    assert await operator.listed() == []
    assert (await operator.one("queue.show", ids=[message_id]))["state"] == "done"


@pytest.mark.parametrize(
    ("name", "given", "error"),
    [
        ("queue.show", {"ids": ["3kf9x2m7q0w1"]}, "NotFound"),
        ("queue.list", {"to": "nobody@x.test"}, "NothingMatched"),
        ("user.remove", {"name": "nobody"}, "NotFound"),
        ("user.passwd", {"name": "nobody", "password": "long enough"}, "NotFound"),
        ("user.add", {"name": "a b@", "password": "long enough"}, "Usage"),
        ("user.add", {"name": "a@b@c..", "password": "long enough"}, "BadData"),
        ("user.add", {"name": "alice", "password": "short"}, "BadData"),
        ("dkim.show", {"domain": "x.test"}, "NotFound"),
        ("dkim.generate", {"domain": "x.test", "selector": "_bad_"}, "CannotCreate"),
    ],
)
async def test_refusals(operator: Operator, name: str, given: dict[str, Any], error: str) -> None:
    from mtad.control.operation import UsageError

    with pytest.raises((Failed, UsageError)) as caught:
        await operator.call(name, **given)
    assert getattr(caught.value, "name", "Usage") == error
    assert not operator.bench.lines


async def test_a_prefix_of_several_ids_is_usage(operator: Operator) -> None:
    first, second = await operator.bench.accept("b@b.test"), await operator.bench.accept("c@b.test")
    common = first[: next(n for n in range(12) if first[n] != second[n])]
    for name in ("queue.show", "queue.hold"):
        with pytest.raises(Failed) as caught:
            await operator.call(name, ids=[common])
        assert caught.value.name == "Usage"


async def test_users(operator: Operator) -> None:
    added = await operator.one("user.add", name="alice", password="long enough")
    assert added == {"name": "alice@example.test", "created": int(operator.now), "disabled": ""}
    with pytest.raises(Failed) as caught:
        await operator.one("user.add", name="Alice@example.test", password="long enough")
    assert caught.value.name == "CannotCreate"
    assert await operator.call("user.list") == [added]
    await operator.one("user.passwd", name="alice", password="another one")
    assert await operator.bench.users.verify("alice", "another one") is not None
    assert await operator.one("user.remove", name="alice", dry_run=True) == {
        "name": "alice@example.test", "changed": 0, "would_change": 1,
    }  # fmt: skip
    assert await operator.call("user.list") == [added]
    assert await operator.one("user.remove", name="alice", reason="left") == {
        "name": "alice@example.test",
        "changed": 1,
    }
    assert await operator.call("user.list") == []
    assert len(operator.bench.lines) == 3
    assert not any("long enough" in line or "another one" in line for line in operator.bench.lines)


async def test_dkim(operator: Operator) -> None:
    rows = await operator.call("dkim.generate", domain="example.test", selector="s1", algorithm="both")
    assert [(row["selector"], row["algorithm"]) for row in rows] == [("s1", "rsa"), ("s1-ed", "ed25519")]
    assert rows[0]["name"] == "s1._domainkey.example.test"
    assert rows[0]["record"].startswith("v=DKIM1; k=rsa; p=")
    assert len(operator.bench.keys.keys("example.test")) == 2  # signs from now on
    assert {row["note"] for row in rows} == {"signs from now on: publish this at once"}
    rows = [{**row, "note": ""} for row in rows]
    assert await operator.call("dkim.list") == rows
    assert await operator.call("dkim.show", domain="Example.test", selector="S1-ED") == rows[1:]
    with pytest.raises(Failed) as caught:
        await operator.call("dkim.generate", domain="example.test", selector="s1")
    assert caught.value.name == "CannotCreate"


async def test_reload_says_what_is_wrong(operator: Operator) -> None:
    assert await operator.one("reload") == {"reloaded": True, "notes": ["nothing changed"]}
    operator.bench.app.problem = "is missing"
    with pytest.raises(Failed, match="hostname: is missing") as caught:
        await operator.one("reload")
    assert caught.value.name == "BadConfig"
    assert caught.value.text.splitlines()[-1] == "nothing was changed: the settings of before stay in use"


async def test_aliases(operator: Operator, tmp_path: Path) -> None:
    assert (await operator.one("alias.check"))["reloaded"] is True  # none at all is fine
    (tmp_path / "aliases").write_text("root: alice@example.test\n")
    await operator.one("alias.check")
    assert operator.bench.app.reloads == 2
    (tmp_path / "aliases").write_text("broken line\nroot alice\n")
    with pytest.raises(Failed) as caught:
        await operator.one("alias.check")
    assert caught.value.name == "BadData"
    assert caught.value.text.count("\n") == 1
    assert operator.bench.app.reloads == 2


async def test_status_and_stats(operator: Operator) -> None:
    await operator.bench.accept("b@b.test", "c@c.test", size=3000)
    await operator.one("queue.hold", to="c@c.test")
    status = await operator.one("status")
    assert (status["hostname"], status["ready"], status["held"], status["messages"]) == ("mail.example.test", 1, 1, 1)
    stats = await operator.one("queue.stats")
    assert stats["domains"] == [
        {"domain": "b.test", "recipients": 1, "oldest": int(operator.now)},
        {"domain": "c.test", "recipients": 1, "oldest": int(operator.now)},
    ]


async def test_backup(operator: Operator, tmp_path: Path) -> None:
    from mtad.queue.sqlite import open_store
    from mtad.queue.store import Selector

    await operator.bench.accept("b@b.test")
    await operator.call("dkim.generate", domain="example.test", selector="s1", algorithm="ed25519")
    members: dict[str, bytes] = {}
    for row in await operator.call("backup.stream"):
        if "member" in row:
            name = row["member"]
            members[name] = b""
        else:
            members[name] += b64decode(row["octets"])
    assert list(members) == [
        "backup.json", "mta.db", "mtad.toml", "dkim/example.test/state.json", "dkim/example.test/s1.pem",
    ]  # fmt: skip
    (tmp_path / "restored" / "data").mkdir(parents=True)
    (tmp_path / "restored" / "data" / "mta.db").write_bytes(members["mta.db"])
    restored = open_store(make_config(tmp_path / "restored").paths, operator.bench.clock)
    assert len(await restored.select(Selector(all=True), operator.now)) == 1
    await restored.close()
    assert list((tmp_path / "data" / "queue").iterdir()) == []


async def test_settings_as_they_are_written(operator: Operator) -> None:
    route = RouteRule("*.lan", Target("smtp", "192.0.2.1", 25, user="u"), "/etc/secret", "verify")
    config = replace(
        operator.bench.config,
        access=AccessSettings(admin_token="correct horse battery"),
        delivery=replace(operator.bench.config.delivery, routes=(route,)),
    )
    shown = dict(settings(config))
    assert shown["hostname"] == '"mail.example.test"'
    assert shown["delivery.retry"] == '["5m", "15m", "30m", "1h", "2h", "4h"]'
    assert shown["limits.message_size"] == '"50M"'
    assert shown["delivery.port"] == "25"
    assert shown["delivery.allow_private_addresses"] == "false"
    assert shown["delivery.route[1].to"] == '"smtp://u@192.0.2.1:25"'
    assert shown["access.admin_token"] == '"(set)"'
    assert "correct horse" not in str(shown)
    assert toml((Address("::1", 25), Address("127.0.0.1", 25)), "list of addresses") == '["[::1]:25", "127.0.0.1:25"]'
    assert toml('a"b\\', "text") == '"a\\"b\\\\"'


@pytest.mark.parametrize(
    ("to", "written"),
    [
        (Target("reject", text="no"), "reject:no"),
        (Target("discard"), "discard:"),
        (Target("maildir", path="/var/mail/%u"), "maildir:///var/mail/%u"),
        (Target("lmtp", path="/run/l.sock"), "lmtp:///run/l.sock"),
        (Target("smtps", "::1", 465), "smtps://[::1]:465"),
    ],
)
def test_targets_as_they_are_written(to: Target, written: str) -> None:
    from mtad.config.routing import target as parse

    assert to.written() == written
    assert parse(written) == to


def test_the_selector_in_the_log() -> None:
    given = {
        "ids": ["3kf9", "3kfa.2"], "from": "<>", "state": ["held", "trashed"], "older": "2h", "size": ">4k", "limit": 5,
        "all": True,
    }  # fmt: skip
    said = words(BY_NAME["queue.list"], check(BY_NAME["queue.list"], given))
    assert said == "3kf9 3kfa.2 --from '<>' --state held --state trashed --older 2h --size '>4096' --limit 5 --all"


async def test_below_its_access_nothing_happens(operator: Operator) -> None:
    operator.admin = replace(operator.admin, caller=Caller(1000, Access.ANYONE))
    for operation in BY_NAME.values():
        if operation.access > Access.ANYONE:
            with pytest.raises(Failed) as caught:
                await operator.call(operation.name)
            assert caught.value.name == "Denied"
            assert caught.value.text.endswith(" is for root and members of the group mtad-admin")
    operator.admin = replace(operator.admin, caller=Caller(1000, Access.OPERATOR))
    with pytest.raises(Failed) as caught:
        await operator.call("queue.purge", all=True)
    assert caught.value.name == "Denied"
