"""A host of ours that sends all its mail through another one, where it signs in; and what it says beforehand."""

from pathlib import Path

from peer_mtad import Make
from peer_process import wait_for
from test_e2e_clients import PASSWORD, UNTRUSTED, certificate

MAIL = b"From: alice@example.test\nTo: alice@example.test\nSubject: through\n\ntext\n"


def test_scram_bound_to_the_channel_to_a_smarthost(mtad: Make, short_dir: Path) -> None:
    smarthost = mtad(listeners=("submission",), extra=certificate(short_dir / "m") + UNTRUSTED)
    smarthost.mtactl("user", "add", "alice@example.test", text=f"{PASSWORD}\n")
    smarthost.start()
    (short_dir / "s").mkdir()
    secret = short_dir / "s" / "secret"
    secret.touch(0o600)
    secret.write_text("another one\n")
    to = f"smtp://alice@example.test@127.0.0.1:{smarthost.ports['submission']}"
    route = f'[[delivery.route]]\nmatch = "*"\nto = "{to}"\npassword_file = "secret"\ntls = "encrypt"\n'
    sender = mtad("s", hostname="mail.sender.test", domain="sender.test", delivery=route)
    sender.start()
    [row] = sender.rows("explain", "alice@example.test", "--from", "alice@example.test")
    [way] = row["ways"]
    assert way["result"].startswith("would be delivered now to 127.0.0.1[127.0.0.1]:")
    assert way["servers"][0]["tls"] == "encrypt"
    assert way["pace"]
    # A wrong password is ours to mend: the mail waits. The host's log names the mechanism.
    sender.sendmail("-f", "alice@example.test", "alice@example.test", mail=MAIL)
    wait_for("the sign-in fails", lambda: "4.7.8" in sender.log)
    assert "SASL SCRAM-SHA-256-PLUS authentication failed" in smarthost.log
    secret.write_text(f"{PASSWORD}\n")
    sender.mtactl("queue", "flush", "--all")
    [mail] = smarthost.mails("alice")
    assert b"with ESMTPSA" in mail
    sender.empty()
    sender.stop()
    [offline] = sender.rows("explain", "alice@example.test", "--from", "alice@example.test")
    assert offline["ways"][0]["result"] == way["result"]
    assert offline["ways"][0]["pace"] == []
