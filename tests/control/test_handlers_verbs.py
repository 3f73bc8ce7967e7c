"""The verbs that change the queue: counts, previews, undo, what is refused, and who did it."""

from base64 import b64decode
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_handlers import LATER, Operator

from mtad.control.admin import Caller, Failed
from mtad.control.handlers import verbs
from mtad.control.operation import Access, UsageError
from mtad.control.operations import BY_NAME
from mtad.control.run import perform
from mtad.mail.envelope import Content, State
from mtad.mail.reply import Reply


@pytest.fixture
async def operator(tmp_path: Path) -> AsyncIterator[Operator]:
    made = Operator(tmp_path)
    made.admin = replace(made.admin, caller=Caller(0, Access.ADMIN, "root (alice)"))
    yield made
    await made.bench.close()


async def test_undo_is_told_and_works(operator: Operator) -> None:
    await operator.bench.accept("a@b.test", "c@c.test", reply=LATER)
    for verb, undo in (("hold", "release"), ("purge", "restore"), ("release", "hold")):
        if verb == "release":
            await operator.one("queue.hold", all=True)
        row = await operator.one(f"queue.{verb}", domain="b.test")
        assert row == {
            "changed": 1, "audit": row["audit"], "undo": f"mtactl queue {undo} --audit {row['audit']}",
        }  # fmt: skip
        assert await operator.count(f"queue.{undo}", audit=row["audit"]) == 1


async def test_who_waits_for_many_recipients_looks_at_one_at_a_time(operator: Operator) -> None:
    """Anyone may wait for a mail of theirs, as often as they like."""
    message_id = await operator.bench.accept(*(f"u{n}@b.test" for n in range(40)), uid=1000)
    select, looks = operator.admin.store.select, []

    async def counted(*args: Any) -> Any:
        found = await select(*args)
        looks.append(len(found))
        return found

    operator.admin.store.select = counted  # type: ignore[method-assign]
    operator.admin = replace(operator.admin, caller=Caller(1001, Access.ANYONE))
    with pytest.raises(Failed, match="there is no message"):
        await operator.call("queue.wait", id=message_id, timeout="1s")
    operator.admin = replace(operator.admin, caller=Caller(1000, Access.ANYONE))
    with pytest.raises(Failed, match=r"it still waits for u0@b\.test and 39 more"):
        await operator.call("queue.wait", id=message_id, timeout="1s")
    assert len(looks) > 4
    assert set(looks[:-1]) == {1}
    assert looks[-1] == 40
    ended = await operator.bench.accept("a@b.test", "c@b.test", uid=1000, state=State.DONE)
    assert (await operator.one("queue.wait", id=ended, timeout="1h"))["outcome"] == "delivered"


async def test_the_trail_says_who_did_what(operator: Operator) -> None:
    await operator.bench.accept("a@b.test")
    await operator.one("queue.hold", to="@b.test", older="0s", reason="look at it")
    await operator.one("user.add", name="bob", password="long enough")
    await operator.one("queue.hold", all=True)  # changes nothing
    await operator.call("queue.purge", all=True, dry_run=True)
    with pytest.raises(Failed):
        await operator.one("user.remove", name="nobody")
    first, second = await operator.call("audit")
    assert first == {
        "number": 1, "at": operator.now, "who": "root (alice)", "uid": 0, "operation": "queue.hold",
        "selector": "--to @b.test --older 0s", "reason": "look at it", "changed": 1,
    }  # fmt: skip
    assert (second["operation"], second["selector"]) == ("user.add", "bob")
    assert "long enough" not in str(await operator.call("audit"))
    assert [row["number"] for row in await operator.call("audit", operation="queue hold")] == [1]
    assert await operator.call("audit", since="1s", user="nobody") == []
    shown = await operator.one("queue.show", ids=[(await operator.one("queue.list"))["queue_id"]])
    assert [(one["operation"], one["reason"], one["before"]) for one in shown["actions"]] == [
        ("queue.hold", "look at it", "waiting")
    ]


async def test_who_reads_a_mail_is_in_the_trail(operator: Operator) -> None:
    message_id = await operator.bench.accept("a@b.test", size=200_000)
    rows = await operator.call("queue.body", id=message_id)
    octets = b"".join(b64decode(row["octets"]) for row in rows)
    assert (octets[:11], len(octets), len(rows)) == (b"Subject: Hi", 200_000, 6)
    assert b64decode((await operator.one("queue.body", id=message_id, part="head"))["octets"]) == b"Subject: Hi\r\n\r\n"
    assert [row["operation"] for row in await operator.call("audit")] == ["queue.body"] * 2


async def test_show_with_the_mail(operator: Operator) -> None:
    message_id = await operator.bench.accept("a@b.test", size=200_000)
    row = await operator.one("queue.show", ids=[message_id], content=True)
    octets = b64decode(row["content"])
    assert (octets[:11], len(octets), row["content_left"]) == (b"Subject: Hi", 65536, 200_000 - 65536)
    assert set(row) <= {name for name, _ in BY_NAME["queue.show"].row}
    assert [(one["operation"], one["selector"]) for one in await operator.call("audit")] == [
        ("queue.show", f"{message_id} --content")
    ]
    for job in await operator.bench.lease():
        await operator.bench._settle(job, Reply(250, "2.0.0", "ok"))
    row = await operator.one("queue.show", ids=[message_id], content=True)
    assert (row["content"], row["content_left"]) == ("", 0)
    assert "content" not in await operator.one("queue.show", ids=[message_id])
    operator.admin = replace(operator.admin, caller=Caller(1, Access.OPERATOR, "bob"))
    with pytest.raises(Failed, match="for admins"):
        await operator.one("queue.show", ids=[message_id], content=True)


async def test_an_operation_that_nobody_listens_to_is_in_the_trail(operator: Operator) -> None:
    asked = perform(operator.admin, BY_NAME["block.add"], {"value": "192.0.2.66"})
    await anext(asked)
    await asked.aclose()  # the client went away
    assert [row["operation"] for row in await operator.call("audit")] == ["block.add"]


async def test_bounce_reports_now(operator: Operator) -> None:
    message_id = await operator.bench.accept("a@b.test", "c@c.test", sender="alice@example.test")
    await operator.bench.accept("nobody@x.test", sender="")
    *preview, count = await operator.call("queue.bounce", all=True, dry_run=True)
    assert (len(preview), count) == (2, {"changed": 0, "would_change": 3})
    row = await operator.one("queue.bounce", all=True, reason="Typo in the domain")
    assert row == {"changed": 3, "audit": 1}
    shown = await operator.one("queue.show", ids=[message_id])
    assert {one["state"] for one in shown["recipients"]} == {"failed"}
    assert shown["attempts"][0]["text"] == "Typo in the domain"
    assert {one["error"] for one in shown["recipients"]} == {"operator"}
    reports = await operator.call("queue.list")
    (report,) = [row for row in reports if row["recipients"][0]["address"] == "alice@example.test"]
    assert report["sender"] == ""
    octets = b"".join(b64decode(row["octets"]) for row in await operator.call("queue.body", id=report["queue_id"]))
    assert b"Typo in the domain" in octets
    assert b"Final-Recipient: rfc822; a@b.test" in octets
    assert b"Final-Recipient: rfc822; c@c.test" in octets
    assert operator.bench.app.wakes == 1


async def test_bounce_leaves_alone_what_is_on_the_wire(operator: Operator) -> None:
    await operator.bench.accept("a@b.test")
    await operator.bench.lease()
    await operator.bench.accept("c@c.test", "d@d.test", state=State.HELD)
    assert await operator.count("queue.bounce", all=True, limit=1) == 1
    row = await operator.one("queue.bounce", state=["active", "held"])
    assert (row["changed"], row["active"]) == (1, 1)
    assert await operator.listed(state=["active"]) == ["a@b.test"]


async def test_bounce_takes_as_long_as_it_needs(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each mail takes 20 seconds to read, and the queue is looked at all the time: each is bounced once, with its
    report, and one that was lost is neither counted nor told of."""
    bench, store = operator.bench, operator.bench.store
    for n in range(12):
        await bench.accept(f"a@{n}.test", f"b@{n}.test", state=State.HELD if n % 2 else State.READY)
    read, reads = store.content, list[str]()

    async def slowly(message_id: str) -> Content:
        reads.append(message_id)
        operator.now += 20
        assert await bench.lease() == []
        if len(reads) == 7:
            operator.now += 3600  # the host was asleep: what waits goes on its way
            assert sum(len(job.recipients) for job in await bench.lease()) == 12
        return await read(message_id)

    monkeypatch.setattr(store, "content", slowly)
    rows = [row async for row in perform(operator.admin, BY_NAME["queue.bounce"], {"all": True})]
    assert rows == [
        {"changed": 12, "audit": 1, "active": 12, "of": 24}, {"changed": 12, "audit": 1, "active": 12},
    ]  # fmt: skip
    assert len(await operator.listed(state=["failed"])) == 12
    assert [row["changed"] for row in await operator.call("audit")] == [12]
    reports = [row for row in await operator.call("queue.list") if row["sender"] == ""]
    assert len(reports) == 6
    assert sum("kind=failed" in line or "status=bounced" in line for line in bench.lines) == 12


async def test_bounce_does_not_bounce_the_reports_it_makes(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The senders are at the domain that is selected."""
    monkeypatch.setattr(verbs, "BOUNCED_AT_ONCE", 1)
    monkeypatch.setattr(operator.bench.app, "_ids", operator.bench.ids)
    for n in range(3):
        await operator.bench.accept(f"a{n}@b.test", sender="shop@b.test")
    assert await operator.count("queue.bounce", domain="b.test") == 3
    assert await operator.listed(from_="<>") == ["shop@b.test"] * 3
    assert await operator.listed(state=["active"]) == []


async def test_bounce_in_parts_that_somebody_stops(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verbs, "BOUNCED_AT_ONCE", 2)
    for n in range(5):
        await operator.bench.accept(f"a@{n}.test")
    rows = perform(operator.admin, BY_NAME["queue.bounce"], {"all": True, "reason": "typo"})
    assert await anext(rows) == {"changed": 2, "audit": 1, "of": 5}
    await rows.aclose()
    assert [(row["changed"], row["reason"]) for row in await operator.call("audit")] == [(2, "typo")]
    assert operator.bench.app.wakes == 1
    assert await operator.count("queue.bounce", to="a@*", limit=9) == 3


async def test_redirect(operator: Operator) -> None:
    await operator.bench.accept("a@b.test", reply=LATER)
    row = await operator.one("queue.redirect", all=True, to_address="z@new.test")
    assert row["undo"] == "mtactl queue redirect --back --audit 1"
    assert await operator.count("queue.redirect", domain="new.test", route="smtp://192.0.2.9") == 1
    (listed,) = await operator.call("queue.list")
    assert listed["domains"] == ["smtp://192.0.2.9:25"]
    assert (listed["recipients"][0]["address"], listed["recipients"][0]["orig_address"]) == ("z@new.test", "a@b.test")
    assert listed["state"] == "ready"
    assert await operator.count("queue.redirect", all=True, back=True) == 1
    assert (await operator.one("queue.list"))["domains"] == ["b.test"]


@pytest.mark.parametrize(
    ("name", "given", "error"),
    [
        ("queue.redirect", {}, "Usage"),
        ("queue.redirect", {"to_address": "a@b.test", "back": True}, "Usage"),
        ("queue.redirect", {"to_address": "a b"}, "Usage"),
        ("queue.redirect", {"to_address": "nobody@example.test"}, "BadData"),
        ("queue.redirect", {"to_address": "all@example.test"}, "BadData"),
        ("queue.redirect", {"route": "discard:"}, "Usage"),
        ("queue.redirect", {"route": "ftp://x"}, "Usage"),
        ("queue.retry", {"in": "2h", "at": 1_900_000_000}, "Usage"),
        ("queue.retry", {"at": 5}, "Usage"),
        ("queue.list", {"count": True, "sort": "age"}, "Usage"),
    ],
)
async def test_refused(operator: Operator, name: str, given: dict[str, Any], error: str) -> None:
    await operator.bench.accept("a@b.test")
    with pytest.raises((Failed, UsageError)) as caught:
        await operator.call(name, all=True, **{"in_" if key == "in" else key: value for key, value in given.items()})
    assert getattr(caught.value, "name", "Usage") == error
    assert await operator.call("audit") == []


async def test_retry_at(operator: Operator) -> None:
    await operator.bench.accept("a@b.test", reply=LATER)
    await operator.one("queue.retry", all=True, at=1_900_000_000)
    assert (await operator.one("queue.list"))["next_attempt"] == 1_900_000_000


async def test_groups_order_and_counts(operator: Operator) -> None:
    for number, domain in enumerate(("b.test", "b.test", "c.test")):
        await operator.bench.accept(f"u{number}@{domain}", size=1000 * (3 - number), user="alice", reply=LATER)
    first, second = await operator.call("queue.list", group_by="domain")
    assert first == {
        "by": "domain", "group": "b.test", "count": 2, "messages": 2, "size_bytes": 5000, "oldest": int(operator.now),
    }  # fmt: skip
    assert second["group"] == "c.test"
    for by in ("sender", "user", "ip", "error"):
        assert (await operator.one("queue.list", group_by=by, domain="b.test"))["count"] == 2
    assert len(await operator.call("queue.list", group_by="domain", limit=1)) == 1
    assert [row["count"] for row in await operator.call("queue.list", group_by="site")] == [2, 1]
    assert (await operator.one("queue.list", count=True))["count"] == 3
    with pytest.raises(Failed):
        await operator.call("queue.list", count=True, domain="x.test")
    assert await operator.listed(sort="size") == ["u2@c.test", "u1@b.test", "u0@b.test"]
    assert await operator.listed(sort="size", reverse=True, limit=1) == ["u0@b.test"]


async def test_by_message_id_and_subject(operator: Operator) -> None:
    await operator.bench.accept("a@b.test")
    for given in ({"message_id": "1@example.test"}, {"message_id": "<1@example.test>"}, {"subject": "hI"}):
        assert await operator.listed(**given) == ["a@b.test"]
    for given in ({"message_id": "1@example"}, {"subject": "ho"}):
        assert await operator.listed(**given) == []


async def test_all_but_these_subjects(operator: Operator) -> None:
    for address, subject in (("a@b.test", "Cheap watches"), ("c@c.test", "You have WON"), ("d@d.test", "Your order 7")):
        await operator.bench.accept(address, subject=subject)
    assert await operator.listed(subject=["watches", "you have won"]) == ["a@b.test", "c@c.test"]
    assert await operator.listed(not_subject=["your ORDER"]) == ["a@b.test", "c@c.test"]
    assert await operator.listed(subject=["you"], not_subject=["won", "pills"]) == ["d@d.test"]
    with pytest.raises(Failed, match="subjects at once"):
        await operator.call("queue.list", not_subject=["x"] * 101)
    with pytest.raises(UsageError, match="select something"):
        await operator.call("queue.purge", not_subject=["order"])
    assert await operator.count("queue.purge", not_subject=["order"], all=True) == 2
    assert await operator.listed() == ["d@d.test"]


async def test_groups_of_subjects(operator: Operator) -> None:
    for subject in ("Pills", "Pills", "Your order 7", ""):
        await operator.bench.accept("a@b.test", subject=subject)
    found = await operator.call("queue.list", group_by="subject")
    assert [(one["group"], one["count"]) for one in found] == [("Pills", 2), ("", 1), ("Your order 7", 1)]
    assert {one["size_bytes"] for one in found} == {2000, 1000}


async def test_thousands_of_ids(operator: Operator) -> None:
    ids = [await operator.bench.accept("a@b.test") for _ in range(3)]
    many = ids * 4000
    assert await operator.count("queue.hold", ids=many) == 3


async def test_hold_rules(operator: Operator) -> None:
    with pytest.raises(Failed):
        await operator.one("queue.hold_rule.add", reason="all of it")
    rule = await operator.one("queue.hold_rule.add", from_="@example.test", reason="review", **{"for": "1h"})
    assert (rule["from"], rule["reason"], rule["made_by"]) == ("@example.test", "review", "root (alice)")
    assert rule["expires"] == int(operator.now) + 3600
    await operator.bench.accept("a@b.test")
    assert await operator.listed(state=["held"], audit=rule["number"]) == ["a@b.test"]
    assert [row["number"] for row in await operator.call("queue.hold_rule.list")] == [rule["number"]]
    await operator.one("queue.hold_rule.remove", number=rule["number"])
    assert await operator.call("queue.hold_rule.list") == []
    with pytest.raises(Failed):
        await operator.one("queue.hold_rule.remove", number=rule["number"])


async def test_freeze_and_the_way_back(operator: Operator) -> None:
    name = "alice@example.test"
    await operator.one("user.add", name=name, password="long enough")
    await operator.bench.accept("a@b.test", user=name)
    row = await operator.one("user.freeze", name="alice", reason="stolen")
    assert (row["name"], row["disabled"], row["held"], row["sessions"]) == (name, "stolen", 1, 0)
    await operator.bench.accept("c@c.test", user=name)
    assert await operator.listed(state=["held"]) == ["a@b.test", "c@c.test"]
    assert operator.bench.users.get(name).disabled == "stolen"  # type: ignore[union-attr]
    row = await operator.one("user.enable", name=name)
    assert (row["disabled"], row["held"], row["released"], row["password_changed"]) == ("", 2, 0, False)
    assert row["undo"] == f"mtactl user freeze {name}"
    await operator.bench.accept("d@d.test", user=name)
    assert await operator.listed(state=["ready"]) == ["d@d.test"]
    assert (await operator.one("user.freeze", name=name))["undo"] == f"mtactl user thaw {name}"
    await operator.one("user.passwd", name="alice", password="even longer")
    row = await operator.one("user.thaw", name=name, release=True)
    assert (row["released"], row["held"], row["password_changed"]) == (1, 2, True)
    assert (row["messages"], row["new_recipients"], row["new_recipients_per_day"]) == (3, 3, 200)
    assert [one["operation"] for one in await operator.call("audit", operation="user")] == [
        "user.add", "user.freeze", "user.enable", "user.freeze", "user.passwd", "user.thaw",
    ]  # fmt: skip


async def test_explain_says_what_a_hold_rule_would_hold(operator: Operator) -> None:
    operator.bench.app.security = object  # the address is no name: nobody is asked
    operator.bench.app.outlook = lambda: lambda *_: ()
    await operator.one("queue.hold_rule.add", to="@far.test", reason="look at it")
    row = await operator.one("explain", address="b@[192.0.2.1]", **{"from": "<>"})
    assert "hold rule" not in str(row)
    await operator.one("queue.hold_rule.add", to="b@*", reason="look at it")
    row = await operator.one("explain", address="b@[192.0.2.1]", **{"from": "<>"})
    assert row["ways"][0]["pace"][0]["what"] == "an operator holds such mail (hold rule 2: look at it)"
