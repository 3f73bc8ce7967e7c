"""Mail that an alias sends on to another house, on the wire, and the reports that come back."""

import asyncio
from dataclasses import replace

from smtp_peer import Peer, serving
from test_scheduler import HEAD, house, running, to

from mtad.mail.envelope import Message, NewMessage, Recipient, State
from mtad.mail.envelope import Peer as From


async def put(made, *recipients: tuple[str, str], sender="a@x.test", notify="") -> str:
    """(original, address) of each."""
    name, now = made.ids.new(), made.clock()
    message = Message(name, sender, len(HEAD) + 3, now, now + 86400, From("smtp"))
    rows = tuple(
        Recipient(name, n, address, original, address.rpartition("@")[2], next_at=now, notify=notify)
        for n, (original, address) in enumerate(recipients, 1)
    )
    await made.store.accept(NewMessage(message, rows, HEAD, b"x\r\n"))
    return name


async def test_forwarded_mail_has_a_sender_of_ours_and_the_rest_of_the_job_its_own(tmp_path):
    async with serving(Peer()) as peer, house(tmp_path, routes=to(peer.port)) as made, running(made):
        name = await put(made, ("fwd@own.test", "bob@far.test"), ("carol@far.test", "carol@far.test"))
        made.scheduler.wake()
        rows = await made.settled(name)
    assert [row.state for row in rows] == [State.DONE, State.DONE]
    assert [mail.recipients for mail in peer.mails] == [["bob@far.test"], ["carol@far.test"]]
    forwarded, relayed = (mail.sender[11:].partition(">")[0] for mail in peer.mails)
    assert relayed == "a@x.test"
    assert forwarded.startswith("SRS0=")
    assert forwarded.endswith("=x.test=a@own.test")
    assert made.directory.expand(forwarded) == ("a@x.test",)
    assert peer.connections == 1


async def test_our_own_report_goes_to_the_first_sender(tmp_path):
    peer = Peer(says={"RCPT TO:<bob@": "550 5.1.1 who?"})
    async with serving(peer), house(tmp_path, routes=to(peer.port)) as made, running(made):
        await put(made, ("fwd@own.test", "bob@far.test"))
        made.scheduler.wake()
        async with asyncio.timeout(10):
            while not peer.mails:
                await asyncio.sleep(0.005)
    [report] = peer.mails
    assert (report.sender.startswith("MAIL FROM:<>"), report.recipients) == (True, ["a@x.test"])
    assert b"fwd@own.test" in report.octets


async def test_switched_off(tmp_path):
    async with serving(Peer()) as peer, house(tmp_path, routes=to(peer.port), srs=False) as made, running(made):
        name = await put(made, ("fwd@own.test", "bob@far.test"))
        made.scheduler.wake()
        await made.settled(name)
    assert peer.mails[0].sender.startswith("MAIL FROM:<a@x.test>")


async def test_reports_about_forwarded_mail_are_asked_for_as_always(tmp_path):
    peer = Peer()
    async with serving(peer), house(tmp_path, routes=to(peer.port)) as made, running(made):
        name = await put(made, ("fwd@own.test", "bob@far.test"), notify="SUCCESS,FAILURE")
        made.scheduler.wake()
        await made.settled(name)
    assert "RCPT TO:<bob@far.test> NOTIFY=SUCCESS,FAILURE" in peer.commands
    assert replace(peer.mails[0], octets=b"").recipients == ["bob@far.test"]
