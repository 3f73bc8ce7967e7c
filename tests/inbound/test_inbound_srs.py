"""Reports to the senders that we gave to forwarded mail: taken from anybody when we made them, else refused."""

from inbound_house import House, say


async def test_a_report_finds_back_and_a_forged_one_is_refused(house: House) -> None:
    made = house.directory.sender_for("a@far.test", "team@example.test", "dave@third.test")
    assert made.startswith("SRS0=")
    talk = house.talk()
    forged = made.replace("far.test", "victim.test")
    said = await say(talk, "EHLO far.test", "MAIL FROM:<>", f"RCPT TO:<{forged}>", f"RCPT TO:<{made.lower()}>")
    assert said == ["250", "250 2.1.0", "550 5.1.1", "250 2.1.5"]
    assert await say(talk, "DATA", "Subject: returned\r\n\r\nx", ".") == ["354", "250 2.0.0"]
    row, _ = await house.only()
    assert (row.message.sender, row.recipient.address, row.recipient.original) == ("", "a@far.test", made.lower())


async def test_a_stranger_sends_no_mail_of_his_own_that_way(house: House) -> None:
    """Who gets forwarded mail knows such an address, and could have forged the sender in it."""
    made = house.directory.sender_for("victim@far.test", "team@example.test", "dave@third.test")
    talk = house.talk()
    assert await say(talk, "EHLO far.test", "MAIL FROM:<spam@far.test>", f"RCPT TO:<{made}>") == [
        "250", "250 2.1.0", "550 5.7.1",
    ]  # fmt: skip
