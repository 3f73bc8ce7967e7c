"""Our side of sign-in, against the server's side of the same house and against hosts that lie."""

import base64

import pytest

from mtad.accounts import scram
from mtad.mail.dialogue import Dialogue
from mtad.mail.opening import Want
from mtad.mail.sasl import ITERATIONS_MAX, Credentials, Distrusted, Scram, choose

PASSWORD = "p\u00e4ss word"
SALT = b"0123456789abcdef"
CHANNEL = {"tls-server-end-point": b"certificate"}


def credentials(password: str = PASSWORD, user: str = "u,ser=1") -> Credentials:
    return Credentials(user, password, prepared=scram.prepared(password), nonce="fyko+d2lbbFgONRv9qkxdawL")


def server(*, plus: bool = True, bindings=CHANNEL, offered: bool = True) -> scram.Server:
    keys = scram.derive(PASSWORD, SALT, 4096)
    return scram.Server(
        lambda name: scram.Challenge(SALT, 4096, [("", keys)] if name == "u,ser=1" else []),
        "server",
        plus=plus,
        plus_offered=offered,
        bindings=bindings,
    )


@pytest.mark.parametrize(
    ("offered", "bindings", "name"),
    [
        (["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"], CHANNEL, "SCRAM-SHA-256-PLUS"),
        (["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"], {}, "SCRAM-SHA-256"),
        (["LOGIN", "PLAIN", "SCRAM-SHA-256"], CHANNEL, "SCRAM-SHA-256"),
        (["LOGIN", "PLAIN", "SCRAM-SHA-1"], CHANNEL, "PLAIN"),
        (["LOGIN"], CHANNEL, "LOGIN"),
    ],
)
def test_the_best_that_is_offered(offered, bindings, name):
    assert choose(offered, credentials(), bindings).name == name
    assert choose(["CRAM-MD5"], credentials(), bindings) is None


@pytest.mark.parametrize(
    ("header", "binding", "plus"), [("n,,", b"", False), ("p=tls-server-end-point,,", b"certificate", True)]
)
def test_both_prove_themselves(header, binding, plus):
    ours, theirs = Scram(credentials(), header, binding, plus=plus), server(plus=plus)
    challenge = theirs.first(ours.first().decode())
    final = theirs.final(ours.step(challenge.encode()).decode())
    assert not ours.complete
    assert ours.step(final.encode()) == b""
    assert ours.complete
    assert theirs.name == "u,ser=1"


def test_a_channel_that_is_another_one_is_found_out():
    ours, theirs = Scram(credentials(), "p=tls-server-end-point,,", b"an impostor's", plus=True), server()
    challenge = theirs.first(ours.first().decode())
    with pytest.raises(scram.ScramWrong):
        theirs.final(ours.step(challenge.encode()).decode())


def test_an_offer_that_somebody_took_away_is_found_out():
    ours = choose(["SCRAM-SHA-256"], credentials(), CHANNEL)
    with pytest.raises(scram.ScramWrong):
        server(plus=False).first(ours.first().decode())


FIRST = "r=fyko+d2lbbFgONRv9qkxdawLserver,s=MDEyMzQ1Njc4OWFiY2RlZg==,i=4096"


@pytest.mark.parametrize(
    "challenge",
    [
        "",
        "r=other,s=MDEy,i=4096",
        "r=fyko+d2lbbFgONRv9qkxdawL,s=MDEy,i=4096",
        FIRST.replace("4096", "1"),
        FIRST.replace("4096", str(ITERATIONS_MAX + 1)),
        FIRST.replace("4096", "99999999"),
        FIRST.replace("MDEy", "M!!!"),
        FIRST.replace("s=MDEy", "s=A"),
        "e=other-error",
        "\xff\x00",
    ],
)
def test_hosts_that_lie_at_first(challenge):
    with pytest.raises(Distrusted):
        Scram(credentials(), "n,,", b"", plus=False).step(challenge.encode("latin-1"))


@pytest.mark.parametrize("final", ["", "v=", "v=AAAA", "e=invalid-proof", "x=1", "v=!!"])
def test_hosts_that_do_not_know_the_password(final):
    ours = Scram(credentials(), "n,,", b"", plus=False)
    ours.step(FIRST.encode())
    with pytest.raises(Distrusted):
        ours.step(final.encode())
    assert not ours.complete


# --- in the dialogue


def b64(text: str) -> bytes:
    return base64.b64encode(text.encode())


def talk(offers: bytes, theirs: scram.Server, *, cheat: bool = False, refuse_plus: bool = False):
    """The dialogue with a host of these mechanisms; what was said in AUTH."""
    dialogue = Dialogue("me.test", "peer.test", tls="on", credentials=credentials())
    dialogue.bindings = CHANNEL
    dialogue.feed(b"220 x\r\n")
    dialogue.take()
    dialogue.feed(b"250-x\r\n250 AUTH " + offers + b"\r\n")
    said = []
    while (octets := dialogue.take()) and dialogue.want is Want.READ:
        said.append(octets)
        words = octets.rstrip().split(b" ")
        if words[0] == b"AUTH":
            if refuse_plus and words[1].endswith(b"-PLUS"):
                dialogue.feed(b"504 5.5.4 no\r\n")
                continue
            dialogue.feed(b"334 " + b64(theirs.first(base64.b64decode(words[2]).decode())) + b"\r\n")
        elif words[0]:
            answer = theirs.final(base64.b64decode(words[0]).decode())
            dialogue.feed(b"235 ok\r\n" if cheat else b"334 " + b64(answer) + b"\r\n")
        else:
            dialogue.feed(b"235 2.7.0 ok\r\n")
    return dialogue, said


def test_scram_plus_in_the_dialogue():
    dialogue, said = talk(b"PLAIN SCRAM-SHA-256 SCRAM-SHA-256-PLUS", server())
    assert dialogue.want is Want.IDLE
    assert said[0].startswith(b"AUTH SCRAM-SHA-256-PLUS ")
    assert said[-1] == b"\r\n"


def test_success_without_a_proof_is_none():
    dialogue, _ = talk(b"SCRAM-SHA-256-PLUS", server(), cheat=True)
    assert dialogue.closed
    assert (dialogue.failure.code, dialogue.failure.status) == (454, "4.7.0")


def test_a_kind_of_binding_that_the_host_does_not_know():
    dialogue, said = talk(b"SCRAM-SHA-256 SCRAM-SHA-256-PLUS", server(plus=False, offered=True), refuse_plus=True)
    assert dialogue.want is Want.IDLE
    assert [one.split(b" ")[1] for one in said[:2]] == [b"SCRAM-SHA-256-PLUS", b"SCRAM-SHA-256"]


def test_nothing_secret_is_shown():
    assert "p\u00e4ss" not in repr(credentials())
    assert "fyko" not in repr(credentials())
