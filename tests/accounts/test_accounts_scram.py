"""SCRAM-SHA-256 by the example of RFC 7677, and by what clients get wrong or try."""

import base64
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scram_client import ScramClient

from mtad.accounts import scram
from mtad.accounts.scram import Challenge, ScramSyntax, ScramWrong, Server

SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
NONCE = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
PENCIL = scram.derive("pencil", SALT, 4096)
APP = scram.derive("xr3c-zysy", SALT, 4096)
CHANNEL = {"tls-server-end-point": b"digest of the certificate"}


def lookup(name: str) -> Challenge:
    if name == "user":
        return Challenge(SALT, 4096, [("", PENCIL), ("phone", APP)])
    return Challenge(scram.salt_of(name, b"install"), 4096)


def server(*, plus: bool = False, offered: bool = False, bindings: Mapping[str, bytes] | None = None) -> Server:
    return Server(lookup, NONCE, plus=plus, plus_offered=offered, bindings=bindings or {})


def test_the_example_of_rfc_7677() -> None:
    talk = server()
    assert talk.first("n,,n=user,r=rOprNGfwEbeRWgbNEkqO") == (
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    )
    assert talk.final(
        "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    ) == ("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
    assert (talk.name, talk.label) == ("user", "")


def talked(client: ScramClient, talk: Server) -> Server:
    assert talk.final(client.final(talk.first(client.first))) == client.expected
    return talk


def test_each_password_of_an_account_is_right() -> None:
    assert talked(ScramClient("user", "pencil"), server()).label == ""
    assert talked(ScramClient("user", "xr3c-zysy"), server()).label == "phone"


@pytest.mark.parametrize("name", ["user", "nobody", "a@@b", "x,y=z"])
def test_a_wrong_password_and_an_unknown_name_look_the_same(name: str) -> None:
    for _ in range(2):
        talk, client = server(), ScramClient(name, "wrong")
        last = client.final(talk.first(client.first))
        assert len(client.salt) == scram.SALT_BYTES
        assert client.iterations == 4096
        with pytest.raises(ScramWrong, match="the proof is wrong"):
            talk.final(last)


def test_a_name_that_nobody_has_keeps_its_salt() -> None:
    assert scram.salt_of("nobody", b"install") == scram.salt_of("nobody", b"install")
    assert scram.salt_of("nobody", b"install") != scram.salt_of("nobody", b"other")
    assert scram.salt_of("nobody", b"install") != scram.salt_of("somebody", b"install")


def test_the_channel_is_bound() -> None:
    header = "p=tls-server-end-point,,"
    talked(ScramClient("user", "pencil", header=header, binding=CHANNEL["tls-server-end-point"]),
           server(plus=True, offered=True, bindings=CHANNEL))  # fmt: skip
    talk, client = (
        server(plus=True, offered=True, bindings=CHANNEL),
        ScramClient("user", "pencil", header=header, binding=b"x"),
    )
    last = client.final(talk.first(client.first))
    with pytest.raises(ScramWrong):
        talk.final(last)


def test_what_the_client_said_first_is_bound_too() -> None:
    """Somebody in between who takes the binding out of the first message is found out by the last."""
    talk, client = server(), ScramClient("user", "pencil", header="y,,")
    last = client.final(talk.first("n,," + client.bare))
    with pytest.raises(ScramWrong):
        talk.final(last)


@pytest.mark.parametrize(
    ("first", "plus", "offered", "error"),
    [
        ("y,,n=user,r=abc", False, True, ScramWrong),  # PLUS was offered: who took it away?
        ("p=tls-unique,,n=user,r=abc", True, True, ScramWrong),
        ("p=tls-server-end-point,,n=user,r=abc", False, True, ScramSyntax),
        ("n,,n=user,r=abc", True, True, ScramSyntax),
        ("y,,n=user,r=abc", True, True, ScramSyntax),
        ("n,a=other,n=user,r=abc", False, False, ScramWrong),
        ("n,user,n=user,r=abc", False, False, ScramWrong),
        ("", False, False, ScramSyntax),
        ("n", False, False, ScramSyntax),
        ("n,", False, False, ScramSyntax),
        ("n,,", False, False, ScramSyntax),
        ("x,,n=user,r=abc", False, False, ScramSyntax),
        ("n,,n=user", False, False, ScramSyntax),
        ("n,,n=,r=abc", False, False, ScramSyntax),
        ("n,,r=abc,n=user", False, False, ScramSyntax),
        ("n,,m=ext,n=user,r=abc", False, False, ScramSyntax),
        ("n,,n=us=er,r=abc", False, False, ScramSyntax),
        ("n,,n=user,r=", False, False, ScramSyntax),
        ("n,,n=user,r=a b", False, False, ScramSyntax),
        ("n,,n=user,r=" + "a" * 257, False, False, ScramSyntax),
    ],
)
def test_first_messages(first: str, plus: bool, offered: bool, error: type[Exception]) -> None:
    with pytest.raises(error):
        server(plus=plus, offered=offered, bindings=CHANNEL).first(first)


def test_yes_i_could_bind_is_fine_where_nothing_was_offered() -> None:
    talked(ScramClient("user", "pencil", header="y,,"), server())


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda last: last.replace(",p=", ",q="), ScramSyntax),
        (lambda last: last.replace("c=", "x="), ScramSyntax),
        (lambda last: last.replace("r=", "r=x"), ScramWrong),
        (lambda last: last.rpartition(",p=")[0], ScramSyntax),
        (lambda last: last + "A", ScramSyntax),
        (lambda last: last.rpartition(",p=")[0] + ",p=AAAA", ScramWrong),
        (lambda last: last.rpartition(",p=")[0] + ",p=", ScramWrong),
        (lambda last: "", ScramSyntax),
    ],
)
def test_final_messages(change, error: type[Exception]) -> None:  # type: ignore[no-untyped-def]
    talk, client = server(), ScramClient("user", "pencil")
    last = client.final(talk.first(client.first))
    with pytest.raises(error):
        talk.final(change(last))


def test_names_with_commas_and_equals_signs() -> None:
    talk = server()
    talk.first(ScramClient("a,b=c", "x").first)
    assert talk.name == "a,b=c"


@given(st.text(), st.text())
def test_garbage_is_refused(first: str, final: str) -> None:
    talk = server()
    try:
        talk.first(first)
    except (ScramSyntax, ScramWrong):
        talk = server()
        talk.first("n,,n=user,r=abc")
    with pytest.raises((ScramSyntax, ScramWrong)):
        talk.final(final)


@pytest.mark.parametrize(
    ("given_text", "prepared"),
    [  # RFC 4013 3, and what is forbidden there
        ("I\u00adX", "IX"),
        ("user", "user"),
        ("USER", "USER"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        ("a\u00a0b", "a b"),
        ("\u00e4", "\u00e4"),
        ("a\u0308", "\u00e4"),
        ("\u0627\u0031", "\u0627\u0031"),
        ("\u00e4\x07", "\u00e4\x07"),
    ],
)
def test_saslprep(given_text: str, prepared: str) -> None:
    assert scram.prepared(given_text) == prepared.encode()


def test_keys_do_not_print() -> None:
    assert "stored" not in repr(PENCIL)
    assert "Challenge" in repr(lookup("user"))
    assert SALT.hex() not in repr(lookup("user"))
