"""The past and what goes on: trace, log, incident report, top, watch, metrics and alerts, on a real store."""

import asyncio
import shlex
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_handlers import LATER, Operator

from mtad.control import alerts, values
from mtad.control.admin import Caller, Failed
from mtad.control.alerts import Facts, judge
from mtad.control.chronicle import Chronicle
from mtad.control.operation import Access
from mtad.control.operations import BY_NAME
from mtad.control.run import perform
from mtad.mail.envelope import Peer
from mtad.mail.event import KINDS, Event, Reader, Wanted
from mtad.mail.reply import Reply
from mtad.queue.history import STEP_S, Tally

GONE = Reply(550, "5.1.1", "no such user", host="mx.b.test", stage="rcpt")
OK = Reply(250, "2.0.0", "queued", host="mx.b.test", stage="final")
CLIENT = Peer("smtp", ip="192.0.2.66", port=4000, helo="bad.test")


@pytest.fixture
async def operator(tmp_path: Path) -> AsyncIterator[Operator]:
    made = Operator(tmp_path)
    made.admin = replace(made.admin, caller=Caller(0, Access.ADMIN, "root"))
    yield made
    await made.bench.close()


def story(rows: list[dict[str, Any]]) -> list[str]:
    return [row["event"] for row in rows]


async def test_a_life_is_told_in_order(operator: Operator) -> None:
    message_id = await operator.bench.accept("a@b.test", "c@b.test", user="alice@example.test", reply=LATER, ago_s=60)
    operator.now += 60
    await operator.one("queue.hold", ids=[f"{message_id}.1"], reason="look at it")
    rows = await operator.call("trace", word=message_id[:9])
    assert story(rows) == ["session", "accepted", "try", "try", "operator", "now", "now", "ends"]
    assert {row["queue_id"] for row in rows} == {message_id}
    session, accepted, attempt, _, action, held, deferred, _ = rows
    assert "from 192.0.2.7" in session["text"]
    assert "signed in as alice@example.test" in session["text"]
    assert accepted["details"]["recipients"] == 2
    assert attempt["details"] == {
        "relay": "mx.test[192.0.2.1]:25", "host": "mx.b.test", "tls": "", "code": 451, "status": "4.7.1",
        "reply": "try later", "stage": "rcpt", "error": "deferred", "took_s": 0.25,
    } | {"error": attempt["details"]["error"]}  # fmt: skip
    assert action["text"] == "queue hold by root (a@b.test): look at it"
    assert (held["details"]["state"], deferred["details"]["state"]) == ("held", "deferred")
    said = "host mx.b.test said: 451 4.7.1 try later (in reply to RCPT TO)"
    assert held["text"] == f"a@b.test: held by root: look at it, {said}"
    assert deferred["text"] == f"c@b.test: deferred, {said}"
    assert deferred["details"]["next"] > operator.now


@pytest.mark.parametrize(
    "given",
    [
        {"word": "A@B.test"},
        {"word": "<1@example.test>"},
        {"word": "1@example.test"},
        {"word": "192.0.2.7"},
        {"from": "alice@*"},
        {"to": "@b.test"},
        {"subject": "HI", "since": "5m"},
    ],
    ids=str,
)
async def test_a_mail_is_found(operator: Operator, given: dict[str, str]) -> None:
    message_id = await operator.bench.accept("a@b.test")
    assert {row["queue_id"] for row in await operator.call("trace", **given)} == {message_id}


@pytest.mark.parametrize(
    "given", [{"word": "x@b.test"}, {"word": "3kf9"}, {"subject": "other"}, {"to": "@c.test"}], ids=str
)
async def test_what_is_not_there_is_said(operator: Operator, given: dict[str, str]) -> None:
    await operator.bench.accept("a@b.test")
    with pytest.raises(Failed, match="no mail is known"):
        await operator.call("trace", **given)
    with pytest.raises(Failed, match="say which mail"):
        await operator.call("trace")


async def test_the_newest_come_last_and_so_many(operator: Operator) -> None:
    ids = []
    for _ in range(4):
        operator.now += 1
        ids.append(await operator.bench.accept("a@b.test"))
    rows = await operator.call("trace", word="a@b.test", limit=2)
    assert list(dict.fromkeys(row["queue_id"] for row in rows)) == ids[2:]


async def test_a_refusal_is_found_before_and_after_it_is_stored(operator: Operator) -> None:
    events = operator.bench.admin.events
    events.refused(CLIENT, "rcpt", Reply(550, "5.1.1", "No such user"), "nobody@example.test")
    chronicle = Chronicle(operator.bench.store, events, operator.bench.clock)
    for _ in range(2):
        for word in ("nobody@example.test", "192.0.2.66"):
            (row,) = await operator.call("trace", word=word)
            assert (row["event"], row["to"], row["details"]["ip"]) == ("refused", "nobody@example.test", "192.0.2.66")
        await chronicle.flush()
        assert events.unkept() == []


async def test_following_ends_with_the_mail(operator: Operator) -> None:
    message_id = await operator.bench.accept("a@b.test")
    asked = perform(operator.admin, BY_NAME["trace"], {"word": message_id, "follow": True})
    async with aclosing(asked) as rows:
        seen = [(await anext(rows))["event"], (await anext(rows))["event"]]
        coming = asyncio.ensure_future(anext(rows))
        (job,) = await operator.bench.lease()
        await operator.bench._settle(job, OK)
        (row,) = await operator.bench.store.select(replace_ids(message_id), operator.now)
        (attempt,) = await operator.bench.store.attempts(message_id)
        operator.admin.events.attempt(row.message, row.recipient, attempt, row.recipient.state)
        seen.append((await coming)["event"])
        seen += [row["event"] async for row in rows if row]
    assert seen == ["session", "accepted", "try", "now"]


def replace_ids(message_id: str) -> Any:
    from mtad.queue.store import Selector

    return Selector(ids=(message_id,), states=values.STATES)


async def test_the_log_has_the_past_by_every_condition(operator: Operator) -> None:
    await operator.bench.accept("a@b.test", user="alice@example.test", reply=LATER)
    await operator.bench.accept("z@z.test", sender="", reply=GONE)
    await operator.one("queue.hold", domain="b.test")
    events = operator.bench.admin.events
    events.auth_failed(CLIENT, "alice@example.test", "PLAIN")
    await Chronicle(operator.bench.store, events, operator.bench.clock).flush()

    async def kinds(**given: Any) -> list[str]:
        return [row["kind"] for row in await operator.call("log", **given)]

    assert sorted(await kinds()) == [
        "accepted", "accepted", "deferred", "failed", "operator", "sign-in-failed",
    ]  # fmt: skip
    assert sorted(await kinds(user="alice@example.test")) == ["accepted", "deferred", "sign-in-failed"]
    assert sorted(await kinds(to="@z.test")) == ["accepted", "failed"]
    assert await kinds(kind=["failed"], ip="192.0.2.*") == ["failed"]
    assert sorted(await kinds(from_="<>")) == ["accepted", "failed"]
    assert len(await kinds(limit=2)) == 2
    operator.now += 100
    assert await kinds(since="10s") == []


async def test_the_log_goes_on_and_tells_what_was_lost(operator: Operator) -> None:
    events = operator.admin.events
    events.warned("of the past")
    async with aclosing(perform(operator.admin, BY_NAME["log"], {"follow": True, "kind": ["warning"]})) as rows:
        seen = [await anext(rows)]
        for number in range(3000):
            events.warned(f"number {number}")
        seen += [await anext(rows) for _ in range(2001)]
    assert [row["text"] for row in seen[:2]] == ["warning: of the past", "warning: number 0"]
    assert (seen[-2]["text"], seen[-1]["lost"]) == ("warning: number 1999", 1000)
    assert events._readers == []


def test_a_reader_never_makes_anybody_wait() -> None:
    reader = Reader(2)
    for at in range(5):
        reader.tell(Event(at, "warning", "text"))
    taken, lost = reader.take()
    assert ([event.at for event in taken], lost) == ([0, 1], 3)
    assert reader.take() == ([], 0)


def test_the_kinds_are_the_same_on_both_sides() -> None:
    assert values.EVENTS == KINDS


@pytest.mark.parametrize(
    ("wanted", "meets"),
    [
        (Wanted(), True),
        (Wanted(frozenset({"failed"})), False),
        (Wanted(sender="@A.test"), True),
        (Wanted(sender="<>"), False),
        (Wanted(to="*@c.test"), True),
        (Wanted(to="b@?.test"), True),
        (Wanted(to="b[@c.test"), False),
        (Wanted(user="u", ip="192.0.2.*"), True),
        (Wanted(since_at=11), False),
    ],
)
def test_what_is_wanted(wanted: Wanted, meets: bool) -> None:
    event = Event(10, "accepted", "text", "3kf9", "a@a.test", ("x@x.test", "b@c.test"), "192.0.2.1", "u")
    assert wanted.meets(event) is meets


async def test_events_are_bounded_by_kind(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mtad.queue.historyrows.EVENTS_MAX", 3)
    many = [Event(at, "refused", f"line {at}") for at in range(10)]
    await operator.bench.store.keep_events([Event(0, "warning", "rare"), *many], Tally(0))
    kept = await operator.bench.store.other_events(Wanted(), 100)
    assert [event.text for event in kept if event.kind == "refused"] == ["line 9", "line 8", "line 7"]
    assert [event.text for event in kept if event.kind == "warning"] == ["rare"]


async def test_an_incident_in_numbers(operator: Operator) -> None:
    await operator.one("user.add", name="alice", password="long enough")
    await operator.bench.accept("a@b.test", "c@c.test", user="alice@example.test", reply=OK)
    await operator.bench.accept("d@c.test", user="alice@example.test", size=5000)
    await operator.bench.accept("x@x.test", user="bob@example.test")
    await operator.one("queue.hold", domain="c.test")
    row = await operator.one("incident.report", user="alice")
    told = ("messages", "size_bytes", "recipients", "domains", "delivered", "waiting", "held")
    assert [row[name] for name in told] == [2, 6000, 3, 2, 2, 0, 1]
    assert row["clients"] == [{"ip": "192.0.2.7", "messages": 2}]
    assert row["next"][0].startswith("mtactl user freeze alice@example.test")
    assert "mtactl queue purge --user alice@example.test --subject Hi   # 1" in row["next"]
    assert "mtactl queue list --user alice@example.test --state done   # 2 that got it" in row["next"]
    told = {"messages": 2, "delivered": 2, "failed": 0, "waiting": 0, "held": 1, "trashed": 0}
    assert row["subjects"] == [{"subject": "Hi"} | told]
    of_client = await operator.one("incident.report", ip="192.0.2.7", since="1h")
    assert {one["user"] for one in of_client["users"]} == {"alice@example.test", "bob@example.test"}
    assert "mtactl block add 192.0.2.7 --reason 'spam'" in of_client["next"]
    with pytest.raises(Failed, match="--user or --ip"):
        await operator.call("incident.report")


async def test_an_incident_offers_the_spam_and_not_the_mail_beside_it(operator: Operator) -> None:
    user = "alice@example.test"
    hostile = "-x'; rm -rf ~ #$(id)`id`\\u202e"
    await operator.one("user.add", name="alice", password="long enough")
    many = ["Pills"] * 3 + ["More pills"] * 2 + [hostile] * 2 + ["Your order 7", "Your order 8", "", ""]
    for subject in many:
        await operator.bench.accept("a@b.test", user=user, subject=subject)
    told = (await operator.one("incident.report", user="alice"))["next"]
    purges = [line for line in told if line.startswith("mtactl queue purge")]
    assert not any("order" in line or "--subject ''" in line for line in purges)
    assert f"mtactl queue purge --user {user} --subject Pills   # 5, 2 of them with more in the subject" in purges
    assert f"mtactl queue purge --user {user} --subject 'More pills'   # 2" in purges
    assert len(purges) == 3
    for line in purges:
        words = shlex.split(line, comments=True)
        assert words[:5] == ["mtactl", "queue", "purge", "--user", user]
        subject = words[6] if len(words) == 7 else words[5].removeprefix("--subject=")
        assert subject in {"Pills", "More pills", hostile}
        count = int(line.rpartition("   # ")[2].partition(",")[0])
        given = {"user": user, "subject": [subject], "dry_run": True}
        assert (await operator.call("queue.purge", **given))[-1]["would_change"] == count
    assert not any(line.startswith("mtactl queue release") for line in told)


async def test_watching_tells_what_changes(operator: Operator) -> None:
    message_id = await operator.bench.accept("a@b.test")
    given = {"domain": "b.test", "state": ["ready", "deferred"], "interval": "1s"}
    async with aclosing(perform(operator.admin, BY_NAME["queue.watch"], given)) as rows:
        seen = [await anext(rows)]
        await operator.one("queue.retry", ids=[message_id], in_="1h")
        seen.append(await anext(rows))
        await operator.one("queue.hold", ids=[message_id])
        seen.append(await anext(rows))
    assert [(row["change"], row["before"], row["state"]) for row in seen] == [
        ("here", "", "ready"), ("changed", "ready", "deferred"), ("gone", "deferred", "held"),
    ]  # fmt: skip


async def test_top_and_the_last_day(operator: Operator) -> None:
    events = operator.bench.admin.events
    chronicle = Chronicle(operator.bench.store, events, operator.bench.clock)
    message_id = await operator.bench.accept("a@b.test", reply=LATER)
    (found,) = await operator.bench.store.select(replace_ids(message_id), operator.now)
    (attempt,) = await operator.bench.store.attempts(message_id)
    async with aclosing(perform(operator.admin, BY_NAME["top"], {"interval": "1s"})) as rows:
        coming = asyncio.ensure_future(anext(rows))
        while not events._readers:
            await asyncio.sleep(0)
        events.accepted(found.message, [found.recipient])
        events.attempt(found.message, found.recipient, attempt, found.recipient.state)
        row = await coming
    assert row["sites"] == [{"site": "b.test", "delivered": 0, "deferred": 1, "failed": 0}]
    assert row["senders"] == [{"sender": "alice@example.test", "messages": 1}]
    assert row["queue"]["deferred"] == 1
    await chronicle.flush()
    day = {one["name"]: one for one in (await operator.one("queue.stats"))["last_day"]}
    assert {name: one["total"] for name, one in day.items()} == {
        "accepted": 1, "delivered": 0, "deferred": 1, "failed": 0,
    }  # fmt: skip
    assert day["accepted"]["half_hours"][-1] == 1


NOW = 1_800_000_000
QUIET = Facts(3, (), 0.1, NOW + 90 * 86400)


@pytest.mark.parametrize(
    ("facts", "fires"),
    [
        (QUIET, []),
        (replace(QUIET, messages=1000), []),
        (replace(QUIET, messages=1001), ["MtadQueueLong"]),
        (replace(QUIET, tallies=(Tally(NOW, delivered=90, deferred=10),)), []),
        (replace(QUIET, tallies=(Tally(NOW, delivered=89, deferred=11),)), ["MtadDeliveryFailing"]),
        (replace(QUIET, tallies=(Tally(NOW, deferred=10),)), []),  # too few
        (replace(QUIET, tallies=(Tally(NOW - 2 * 3600, deferred=100),)), []),
        (replace(QUIET, tallies=(Tally(NOW - 2 * 3600, delivered=90, failed=10),)), ["MtadBouncing"]),
        (replace(QUIET, tallies=(Tally(NOW, sign_in_failed=20),)), ["MtadSignInFailures"]),
        (replace(QUIET, tallies=(Tally(NOW, sign_in_failed=19),)), []),
        (replace(QUIET, tallies=(Tally(NOW, sign_in_failed=30), Tally(NOW - 9000, sign_in_failed=999))), []),
        (replace(QUIET, disk_used=0.81), ["MtadDiskFull"]),
        (replace(QUIET, disk_used=None, certificate_ends_at=None), []),
        (replace(QUIET, certificate_ends_at=NOW + 6 * 86400), ["MtadCertificateEnds"]),
    ],
)
def test_what_fires(facts: Facts, fires: list[str]) -> None:
    assert [one.alert.name for one in judge(facts, NOW // STEP_S * STEP_S + 1)] == [one.name for one in alerts.ALERTS]
    assert [one.alert.name for one in judge(facts, NOW + 1) if one.firing] == fires


async def test_an_alert_is_an_exit_code_and_rules_know_our_metrics(operator: Operator) -> None:
    measured = {row["name"].partition("{")[0] for row in await operator.call("metrics")}
    measured |= {"mtad_delivery_attempts_total", "mtad_auth_total", "mtad_tls_cert_expiry_timestamp_seconds"}
    text = (await operator.one("alerts", rules=True))["rules"]
    named = {
        word
        for alert in alerts.ALERTS
        for word in alert.expression.replace("(", " ").replace("{", " ").split()
        if word.startswith("mtad_")
    }
    assert {name.split("[")[0] for name in named} <= measured
    assert text.count("- alert: ") == 6
    assert not any(row["firing"] for row in await operator.call("alerts"))
    await operator.bench.store.keep_events((), Tally(int(operator.now), deferred=50))
    with pytest.raises(Failed, match="1 of 6 alerts fire"):
        await operator.call("alerts")
