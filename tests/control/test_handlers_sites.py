"""Sites and suspensions, as operators see and change them."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from test_handlers import Operator

from mtad.config import RouteRule, Target
from mtad.config.tree import Rate, SiteRule
from mtad.control.admin import Failed
from mtad.mail.envelope import State
from mtad.mail.reply import Reply
from mtad.queue.store import Selector, Settlement


@pytest.fixture
async def operator(tmp_path: Path) -> AsyncIterator[Operator]:
    made = Operator(tmp_path)
    yield made
    await made.bench.close()


async def test_a_site_is_listed_shown_and_reset(operator: Operator) -> None:
    sites, now = operator.bench.sites, operator.bench.clock()
    site = sites.learn("y.test", "mx.y.test", ("mx.y.test",))
    sites.learn("z.test", "mx.y.test", ("mx.y.test",))
    sites.begin(site, now)
    sites.end(site, [Reply(421, "4.7.0", "rate limited", "mx.y.test", "mail")], now)
    [row] = await operator.call("site.list")
    assert (row["site"], row["state"], row["concurrency"]) == ("mx.y.test", "broken", 0)
    assert str(row["breaker"]).startswith("open since ")
    assert ", 421 x 1, probe at " in str(row["breaker"])
    for name in ("mx.y.test", "y.test", "Z.test."):
        [shown] = await operator.call("site.show", site=name)
        assert (shown["site"], shown["asked"]) == ("mx.y.test", name)
        assert shown["domains"] == ["y.test", "z.test"]
        assert shown["cause"] == "421 4.7.0 rate limited"
        assert shown["probe_plan"] == ["5m", "10m", "20m", "40m", "80m", "2h"]
    [reset] = await operator.call("site.reset", site="y.test", reason="they unblocked us")
    assert reset == {"site": "mx.y.test", "asked": "y.test", "state": "untried"}
    assert await operator.bench.store.load_sites() == []
    with pytest.raises(Failed, match="nothing is known of a site nowhere"):
        await operator.call("site.show", site="nowhere")


async def test_a_domain_is_shown_as_the_site_that_its_mail_goes_to(operator: Operator) -> None:
    sites = operator.bench.sites
    sites.of("y.test")  # until its first plan was made, it was a site by itself
    sites.learn("y.test", "mx.y.test", ("mx.y.test",))
    assert [row["site"] for row in await operator.call("site.show", site="y.test")] == ["mx.y.test"]
    route = RouteRule("*.lan.test", Target("smtp", host="10.0.0.9", port=2600))
    config = operator.admin.config
    operator.admin = replace(operator.admin, config=replace(config, delivery=replace(config.delivery, routes=(route,))))
    sites.of("a.lan.test")
    sites.learn("b.lan.test", "10.0.0.9:2600", ("10.0.0.9",))
    [shown] = await operator.call("site.show", site="a.lan.test")  # nothing went there, but it would go the same way
    assert (shown["site"], shown["asked"]) == ("10.0.0.9:2600", "a.lan.test")


async def test_what_a_broken_site_said_comes_first_and_only_what_was_said_has_a_code(operator: Operator) -> None:
    sites, now = operator.bench.sites, operator.bench.clock()
    for name, reply in (
        ("y", Reply(451, "4.7.1", "listed at bl.y.test, your reputation", "mx.y.test", "rcpt")),
        ("z", Reply(451, "4.4.1", "Connection refused", stage="connect")),
    ):
        site = sites.learn(f"{name}.test", f"mx.{name}.test", (f"mx.{name}.test",))
        for _ in range(3):
            sites.begin(site, now)
            sites.end(site, [reply], now)
        await operator.bench.accept(f"b@{name}.test", reply=replace(reply, host=""))
    for operation in ("queue.list", "queue.mailq"):
        listed, refused = [row["recipients"][0] for row in await operator.call(operation)]
        assert listed["delay_reason"].startswith("451 4.7.1 listed at bl.y.test, your reputation (no mail goes")
        assert refused["delay_reason"].startswith("Connection refused (no mail goes")
    sites.reset(site)
    [row] = await operator.call("queue.list", domain="z.test")
    assert row["recipients"][0]["delay_reason"] == "Connection refused"
    assert (row["recipients"][0]["code"], row["recipients"][0]["status"]) == (451, "4.4.1")


@pytest.mark.parametrize(
    ("kind", "value", "kept"),
    [
        ("domain", "Bücher.Example", "xn--bcher-kva.example"),
        ("site", "MX.y.test.", "mx.y.test"),
        ("user", "Al", "al@example.test"),
    ],
)
async def test_a_suspension_is_made_shown_replaced_and_removed(
    operator: Operator, kind: str, value: str, kept: str
) -> None:
    [made] = await operator.call("suspend.add", **{kind: value, "for": "2h", "reason": "why"})
    assert (made["kind"], made["value"], made["reason"]) == (kind, kept, "why")
    [again] = await operator.call("suspend.add", **{kind: value})
    assert again["expires"] is None
    assert [row["value"] for row in await operator.call("suspend.list")] == [kept]
    assert any(line.startswith(f"suspended {kind}={kept}, until=") for line in operator.bench.lines)
    assert await operator.call("suspend.remove", **{kind: value}) == [again]
    assert await operator.call("suspend.list") == []
    with pytest.raises(Failed, match="is not suspended; `mtactl suspend list` shows what is"):
        await operator.call("suspend.remove", **{kind: value})


@pytest.mark.parametrize("given", [{}, {"domain": "x.test", "user": "al"}, {"for": "2h"}])
async def test_one_thing_is_suspended_at_a_time(operator: Operator, given: dict[str, str]) -> None:
    with pytest.raises(Failed, match="one of --domain, --site and --user"):
        await operator.call("suspend.add", **given)


async def test_the_mail_of_a_suspended_user_is_put_off_and_comes_back(operator: Operator) -> None:
    name = await operator.bench.accept("b@remote.test", user="al@example.test")
    await operator.call("suspend.add", user="al")
    now = operator.bench.clock()
    [row] = await operator.bench.store.select(Selector(ids=(name,)), now)
    assert row.recipient.next_at > now + 3600
    await operator.call("suspend.remove", user="al")
    [row] = await operator.bench.store.select(Selector(ids=(name,)), now)
    assert row.recipient.next_at <= operator.bench.clock()


async def test_what_was_put_off_for_a_suspended_site_is_due_when_it_is_not_any_more(operator: Operator) -> None:
    """Also mail to a domain of which it is not known where it goes."""
    bench = operator.bench
    sites, now = bench.sites, bench.clock()
    name = await bench.accept("b@y.test")
    await operator.call("suspend.add", site="mx.y.test")
    closed = sites.closed(sites.learn("y.test", "mx.y.test", ()), "y.test", "", now)
    assert closed is not None
    [job] = await bench.store.lease(now, now + 60, 10)
    put_off = [replace(one, last=closed.reply, next_at=now + 3600) for one in job.recipients]
    assert await bench.store.settle(Settlement(job, (), put_off))
    await operator.call("suspend.remove", site="mx.y.test")
    [row] = await bench.store.select(Selector(ids=(name,)), now)
    assert row.recipient.next_at <= bench.clock()


async def test_the_queue_shows_why_mail_waits_that_was_not_even_tried(operator: Operator) -> None:
    operator.bench.sites.of("y.test")  # it is its own site until more is known
    await operator.bench.accept("b@y.test", "c@z.test")
    operator.bench.sites.learn("y.test", "mx.y.test", ())
    await operator.call("suspend.add", site="mx.y.test", reason="they move")
    [row] = await operator.call("queue.list")
    assert [one["delay_reason"] for one in row["recipients"]] == [
        "Mail to this site is suspended: they move", "",
    ]  # fmt: skip
    [row] = await operator.call("queue.show", ids=[row["queue_id"]])
    assert [(one["waiting"], one["next_step"].split(" ")[1]) for one in row["recipients"]] == [
        ("Mail to this site is suspended: they move (by uid=0)", "suspend"),
        ("due: it is tried in a moment", "trace"),
    ]  # fmt: skip
    [row] = await operator.call("queue.mailq")
    assert [one["delay_reason"] for one in row["recipients"]] == [
        "Mail to this site is suspended: they move", "",
    ]  # fmt: skip
    await operator.bench.accept("d@z.test", user="eve@example.test")
    await operator.bench.accept("e@z.test", user="bob")
    await operator.call("suspend.add", user="eve")
    shown = await operator.call("queue.list")
    assert [one["delay_reason"] for row in shown[1:] for one in row["recipients"]] == [
        "Mail of this user is suspended", "",
    ]  # fmt: skip
    assert shown == await operator.call("queue.list", sort="age", reverse=True)


async def test_every_listing_has_the_words_of_show_for_what_waits_without_a_try(operator: Operator) -> None:
    bench = operator.bench
    full = bench.sites.learn("full.test", "mx.full.test", ("mx.full.test",))
    bench.sites.begin(full, bench.clock())
    await bench.accept("a@full.test", "b@free.test", "c@new.test")
    await bench.accept("d@full.test", state=State.HELD)
    room = "mx.full.test has no room: 1 at work, as many as may be at the same time"
    held = "held by the daemon, since it was restored from a backup or came so"
    assert await _reasons(operator) == [room, "", "", held]
    full.running = bench.config.delivery.workers
    busy = f"all {full.running} workers are busy (delivery.workers)"
    assert await _reasons(operator) == [room.replace("1 at", f"{full.running} at"), busy, busy, held]
    rate = SiteRule("full.test", rate=Rate(1, 3600.0))
    full.rule, full.running, full.next_slot_at = rate, 0, bench.clock() + 1800
    assert await _reasons(operator) == ["the rate of mx.full.test lets no more go now", "", "", held]
    preview = await operator.call("queue.hold", all=True, dry_run=True)
    assert preview[0]["recipients"][0]["delay_reason"] == "the rate of mx.full.test lets no more go now"


async def _reasons(operator: Operator) -> list[str]:
    """What `queue list` says, and all others with it."""
    shown = await operator.call("queue.list")
    assert shown == await operator.call("queue.list", sort="age", reverse=True)
    found = {one["id"]: one["delay_reason"] for row in shown for one in row["recipients"]}
    assert list(found.values()) == [
        one["delay_reason"] for row in await operator.call("queue.mailq") for one in row["recipients"]
    ]
    for row in await operator.call("queue.show", ids=[row["queue_id"] for row in shown]):
        for one in row["recipients"]:
            assert one["waiting"] == (found[one["id"]] or "due: it is tried in a moment")
    return list(found.values())


async def test_what_waits_for_a_broken_site_is_promised_no_time_before_it_opens(operator: Operator) -> None:
    sites, now = operator.bench.sites, operator.bench.clock()
    said = Reply(451, "4.7.1", "listed at bl.y.test, see https://bl.y.test/", "mx.y.test", "rcpt")
    await operator.bench.accept("b@y.test", reply=said)  # its own time is in an hour
    fresh = await operator.bench.accept("c@y.test")
    held = await operator.bench.accept("d@y.test", "e@z.test", state=State.HELD)
    site = sites.learn("y.test", "mx.y.test", ("mx.y.test",))
    sites.begin(site, now)
    sites.end(site, [said], now)
    opens = int(site.pace.probe_at)
    assert now < opens < now + 3600
    shown = await operator.call("queue.list")
    assert [one["not_before"] for row in shown for one in row["recipients"]] == [int(now) + 3600, opens, None, None]
    assert shown == await operator.call("queue.list", sort="age", reverse=True)
    [row] = await operator.call("queue.show", ids=[fresh])
    one = row["recipients"][0]
    assert one["next_attempt"] <= now
    assert one["not_before"] == opens
    assert one["then"] == "when the site is tried with one mail first"
    *_, standing, ends = await operator.call("trace", word=fresh)
    assert (standing["details"]["not_before"], standing["details"]["next_step"]) == (
        opens,
        "mtactl site reset mx.y.test",
    )
    assert (ends["event"], ends["details"]["notice"]) == ("ends", int(now) + 4 * 3600)
    [status] = await operator.call("status")
    assert status["problems"] == [
        "the site of y.test lists or mistrusts this server: 451 4.7.1 listed at bl.y.test, see https://bl.y.test/;"
        " next: mtactl site show mx.y.test"
    ]
    [released] = await operator.call("queue.release", ids=[held])
    assert released["waiting"] == [{"site": "y.test", "recipients": 1, "until": opens}]
    [flushed] = await operator.call("queue.flush", all=True)
    assert "waiting" not in flushed  # who asks for a try now does not mean the next probe
