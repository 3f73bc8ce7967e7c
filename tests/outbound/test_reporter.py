"""Reports with the real store: one for a message, whatever its domains; none to a stranger who may be anybody."""

import asyncio
import email
import email.policy
from dataclasses import replace

import pytest
from dns_server import serving as dns_serving
from smtp_peer import Peer, serving
from test_scheduler import House, house, running, to

from mtad.config import RouteRule, Target
from mtad.mail.envelope import Peer as From
from mtad.mail.envelope import State
from mtad.outbound import reporter


def failing(*ports):
    """Each domain has a server of its own, and so has the sender's."""
    names = ("one.test", "two.test", "three.test", "x.test")
    rules = tuple(RouteRule(name, Target("smtp", "127.0.0.1", port)) for name, port in zip(names, ports, strict=True))
    return {"routes": rules, "allow_private_addresses": True}


async def until(what):
    async with asyncio.timeout(15):
        while not what():
            await asyncio.sleep(0.005)


def finals(octets: bytes) -> list[str]:
    message = email.message_from_bytes(octets, policy=email.policy.default)
    status = list(message.iter_parts())[1]
    return [part["Final-Recipient"] for part in status.get_payload()[1:]]


async def test_a_mail_that_fails_in_many_jobs_makes_one_report(tmp_path):
    """Row 27: one report for a message. The last of three servers answers only when the others have."""
    no = {"RCPT": "550 5.1.1 who?"}
    gate = asyncio.Event()
    async with (
        serving(Peer(says=no)) as one,
        serving(Peer(says=no)) as two,
        serving(Peer(says={".": "554 5.1.1 who?"}, gate=gate)) as three,
        serving(Peer()) as sender,
        house(tmp_path, **failing(one.port, two.port, three.port, sender.port)) as made,
        running(made),
    ):
        name = await made.put("b@one.test", "c@two.test", "d@three.test")
        made.scheduler.wake()
        await until(lambda: sum("report=" in line for line in made.lines) >= 2)
        assert not sender.mails  # it waits for the third
        gate.set()
        rows = await made.settled(name)
        await until(lambda: sender.mails)
        await until(lambda: sum("status=sent" in line for line in made.lines) >= 1)
        every = await made.rows()
    assert [row.state for row in rows] == [State.FAILED] * 3
    [report] = sender.mails
    assert sorted(finals(report.octets)) == ["rfc822; b@one.test", "rfc822; c@two.test", "rfc822; d@three.test"]
    assert len(every) == 4
    assert len({line.partition("report=")[2] for line in made.lines if "report=" in line}) == 1  # it kept its id


async def test_a_report_goes_when_the_last_one_is_delivered(tmp_path):
    gate = asyncio.Event()
    async with (
        serving(Peer(says={"RCPT": "550 5.1.1 who?"})) as one,
        serving(Peer(gate=gate)) as two,
        serving(Peer()) as sender,
        house(tmp_path, **failing(one.port, two.port, two.port, sender.port)) as made,
        running(made),
    ):
        await made.put("b@one.test", "c@two.test")
        made.scheduler.wake()
        await until(lambda: any("report=" in line for line in made.lines))
        assert not sender.mails
        gate.set()
        await until(lambda: sender.mails)
    assert finals(sender.mails[0].octets) == ["rfc822; b@one.test"]


async def test_what_has_left_is_not_changed(tmp_path):
    """The store decides: a report that is leased, tried or held by an operator stays, and the rest comes alone."""
    from mtad.queue.audit import Entry
    from mtad.queue.store import Hold, Merge, Redirect, Selector

    async with house(tmp_path) as made:
        for touch in ("lease", "hold", "nothing", "redirect"):
            report = await made.put("s@x.test", sender="")
            [row] = await made.store.select(Selector(ids=(report,)), made.clock())
            if touch == "lease":
                await made.store.lease(made.clock(), made.clock() + 60, 10)
            elif touch == "hold":
                await made.store.change(Selector(ids=(report,)), Hold(), made.clock())
            elif touch == "redirect":
                to = Redirect("o@x.test", "x.test")
                entry = Entry(0, "root", "queue.redirect", report, "")
                await made.store.change(Selector(ids=(report,)), to, made.clock(), entry=entry)
            await _settle_with(made, row.message, Merge)
            found = {one.address for one in await made.rows(report)}
            kept = {"nothing": "whole@x.test", "redirect": "o@x.test"}.get(touch, "s@x.test")
            assert found == {kept}
            alone = [one for one in await made.rows() if one.address == "alone@x.test"]
            assert len(alone) == {"lease": 1, "hold": 2, "nothing": 2, "redirect": 3}[touch]


async def _settle_with(made, old, merge):
    from test_scheduler import BODY, HEAD

    from mtad.mail.envelope import Attempt, NewMessage, Recipient
    from mtad.mail.reply import Reply
    from mtad.queue.store import Settlement

    failed = await made.put(f"b{old.id}@one.test")
    [job] = await made.store.lease(made.clock(), made.clock() + 60, 10, frozenset({"x.test"}))
    assert job.message.id == failed

    def mail(message, address):
        return NewMessage(message, (Recipient(message.id, 1, address, address, "x.test"),), HEAD, BODY)

    no = Reply(550, "5.1.1", "who?", "mx")
    after = [replace(one, state=State.FAILED, last=no) for one in job.recipients]
    new = merge(mail(old, "whole@x.test"), mail(replace(old, id=made.ids.new()), "alone@x.test"))
    assert await made.store.settle(Settlement(job, [Attempt(1, 0.0, 0.0, no)], after, (), (new,)))


async def test_double_bounces_have_an_end(tmp_path, monkeypatch):
    monkeypatch.setattr(reporter, "DOUBLE_MAX", 2)
    async with serving(Peer(says={"RCPT TO:<b@": "550 5.1.1 who?"})) as peer:
        async with house(tmp_path, routes=to(peer.port)) as made, running(made):
            for n in range(4):
                await made.put(f"b@y{n}.test", sender="nobody@own.test", source="local")
            made.scheduler.wake()
            await until(lambda: sum("status=bounced" in line for line in made.lines) == 4)
            await until(lambda: len(peer.mails) == 2)
            assert sum("postmaster was told of many" in line for line in made.lines) == 2
    assert {address for mail in peer.mails for address in mail.recipients} == {"postmaster@own.test"}


# Row 26: no backscatter.

SPF = """
$ORIGIN test.
$TTL 60
@ SOA ns.test. root.test. 1 60 60 60 60
@ NS ns.test.
x TXT "v=spf1 ip4:198.51.100.7 -all"
"""


@pytest.mark.parametrize(
    ("ip", "setting", "told"),
    [
        ("198.51.100.7", "spf", True), ("198.51.100.8", "spf", False), ("198.51.100.8", "always", True),
        ("198.51.100.7", "never", False), ("127.0.0.1", "never", True),
    ],
)  # fmt: skip
async def test_row_26_strangers_are_told_when_they_are_who_they_say(tmp_path, ip, setting, told):
    async with dns_serving(SPF) as dns, serving(Peer(says={"RCPT TO:<b@": "550 5.1.1 who?"})) as peer:
        async with house(tmp_path, routes=to(peer.port), dns=dns.port, report_strangers=setting) as made:
            async with running(made):
                await stranger(made, ip)
                made.scheduler.wake()
                await until(lambda: any("status=bounced" in line for line in made.lines))
                if told:
                    await until(lambda: peer.mails)
                else:
                    await until(lambda: any("sender is not verified" in line for line in made.lines))
                    assert len(await made.rows()) == 1


async def stranger(made: House, ip: str) -> None:
    from test_scheduler import BODY, HEAD

    from mtad.mail.envelope import Message, NewMessage, Recipient

    now, name = made.clock(), made.ids.new()
    message = Message(name, "a@x.test", len(HEAD) + len(BODY), now, now + 1000, From("smtp", ip, 1, "mx.x.test"))
    await made.store.accept(NewMessage(message, (Recipient(name, 1, "b@y.test", "b@y.test", "y.test"),), HEAD, BODY))


# Row 20: what was said in parameters and replies is text in the report, and nothing else.

FIELDS = [
    b"Original-Recipient", b"Final-Recipient", b"Action", b"Status", b"Remote-MTA", b"Diagnostic-Code",
    b"Last-Attempt-Date", b"Final-Log-ID",
]  # fmt: skip


async def test_row_20_line_ends_in_parameters_and_replies_make_no_fields(tmp_path):
    from test_scheduler import BODY, HEAD

    from mtad.mail.envelope import Message, NewMessage, Recipient

    evil = "x+0D+0ABcc:+20victim@z.test+0D+0A+0D+0A--+3D_boundary"
    says = {"RCPT TO:<b@": "550-5.1.1 a\r\n550-5.1.1 type: mda\r\n550 5.1.1 mda: touch /tmp/pwned"}
    async with serving(Peer(says=says)) as peer, house(tmp_path, routes=to(peer.port)) as made, running(made):
        now, name = made.clock(), made.ids.new()
        size = len(HEAD) + len(BODY)
        message = Message(name, "a@x.test", size, now, now + 1000, From("local"), envid=evil, ret="HDRS")
        one = Recipient(name, 1, "b@y.test", "b@y.test", "y.test", orcpt=f"rfc822;{evil}")
        await made.store.accept(NewMessage(message, (one,), HEAD, BODY))
        made.scheduler.wake()
        await until(lambda: peer.mails)
    octets = peer.mails[0].octets
    status = list(email.message_from_bytes(octets, policy=email.policy.default).iter_parts())[1]
    about, recipient = status.get_payload()
    assert sorted(about.keys()) == ["Arrival-Date", "Original-Envelope-Id", "Reporting-MTA"]
    assert sorted(recipient.keys()) == sorted(name.decode() for name in FIELDS)
    assert "\\x0d\\x0aBcc: victim@z.test" in recipient["Original-Recipient"]
    starts = {line.split(b":")[0].lower() for line in octets.split(b"\r\n") if b":" in line}
    assert not starts & {b"bcc", b"type", b"mda"}


# Row 27: a report cannot start a storm, and any reader can read it.


async def test_row_27_reports_about_reports_end_with_the_postmaster(tmp_path):
    """Nobody takes anything: the mail, its report, and the one to the postmaster fail, and then it is quiet."""
    async with serving(Peer(says={"RCPT": "550 5.1.1 who?"})) as peer:
        async with house(tmp_path, routes=to(peer.port)) as made, running(made):
            await made.put(*(f"b{n}@y.test" for n in range(20)))
            made.scheduler.wake()
            await until(lambda: any("it was for the postmaster" in line for line in made.lines))
            rows = await made.rows()
    assert sorted({row.address for row in rows if not row.address.endswith("@y.test")}) == [
        "a@x.test", "postmaster@own.test",
    ]  # fmt: skip
    assert len(rows) == 22
    assert {row.state for row in rows} == {State.FAILED}
    senders = [line for line in peer.commands if line.startswith("MAIL")]
    assert sum("FROM:<>" in line for line in senders) == 2


@pytest.mark.parametrize("body", ["größe\r\n".encode() * 10, b"x" * 5000 + b"\r\n", b"line\r\n" * 40_000])
async def test_row_27_a_report_is_valid_bounded_and_from_nobody(tmp_path, body):
    async with serving(Peer(says={"RCPT TO:<b@": "550 5.1.1 caf\u00e9"})) as peer:
        async with house(tmp_path, routes=to(peer.port)) as made, running(made):
            await made.put("b@y.test", body=body)
            made.scheduler.wake()
            await until(lambda: peer.mails)
    [mail] = peer.mails
    assert mail.sender.startswith("MAIL FROM:<>")
    assert len(mail.octets) < 100_000
    message = email.message_from_bytes(mail.octets, policy=email.policy.default)
    assert not message.defects
    assert message["Auto-Submitted"] == "auto-replied"
    assert message.get_content_type() == "multipart/report"
    words, status, returned = message.iter_parts()
    assert "There is no such mailbox at y.test" in words.get_content()
    assert status.get_content_type() == "message/delivery-status"
    whole = returned.get_content_type() == "message/rfc822"
    assert whole == (len(body) < 1000)
    assert b"Subject: hi" in mail.octets
    assert (body in mail.octets) == whole
