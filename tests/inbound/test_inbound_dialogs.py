"""Dialogues as files: our own, and those of a suite that others wrote."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from dialog_runner import Dialog
from inbound_house import PASSWORD, House

from mtad.config import Limits
from mtad.config.tree import Smtp
from mtad.inbound.server import Inbound

OWN = Path(__file__).parent / "dialogs"
SUITE = Path(__file__).resolve().parents[3] / "shared" / "suites" / "smtp-dialogs-chasquid"


@pytest.fixture
async def inbound(house: House) -> AsyncIterator[Inbound]:
    limits = replace(Limits(), message_size_bytes=1 << 20, recipients=3)
    made = house.inbound(replace(house.config, limits=limits, smtp=Smtp()))
    await made.start()
    yield made
    await made.drain(0.0)


@pytest.mark.parametrize("path", sorted(OWN.glob("*.dialog")), ids=lambda path: path.stem)
async def test_our_dialogues(house: House, inbound: Inbound, path: Path) -> None:
    await Dialog(house, inbound).run(path)
    assert not [line for line in house.log if "internal error" in line]


def test_there_are_dialogues() -> None:
    assert len(list(OWN.glob("*.dialog"))) >= 20


# The suite. Its texts are its author's: the codes count. Where we answer with another one, it is with reason.
OTHERWISE: dict[str, dict[int, str]] = {
    "auth_multi_dialog": {9: "504"},  # an unknown mechanism (RFC 4954 4)
    "auth_not_tls": {8: "502"},  # on port 25 we know no AUTH at all
    "auth_too_many_failures": {13: "501"},  # what is no base64 is an error like others: 20 of them end a session
    "bad_data": {35: "250"},  # a header that does not parse is its reader's matter: from there on it is text
    "bad_mail_from": {8: "501", 11: "501", 24: "553"},  # MAIL is known, its argument is not; what no domain can be
    "bad_rcpt_to": {11: "501", 14: "501", 29: "553", 41: "553"},  # the same; an address that needs SMTPUTF8
}
APPLIES = {
    "t-05-null_address/sendmail", "t-12-minor_dialogs/auth_multi_dialog", "t-12-minor_dialogs/auth_not_tls",
    "t-12-minor_dialogs/auth_too_many_failures", "t-12-minor_dialogs/bad_data", "t-12-minor_dialogs/bad_mail_from",
    "t-12-minor_dialogs/bad_rcpt_to", "t-12-minor_dialogs/data_dot_stuffing", "t-12-minor_dialogs/empty_helo",
    "t-12-minor_dialogs/helo", "t-12-minor_dialogs/message_too_big", "t-12-minor_dialogs/sendmail",
    "t-12-minor_dialogs/unknown_command", "t-12-minor_dialogs/wrong_proto",
}  # fmt: skip
DOES_NOT = {"t-04-aliases/test_chasquid_util": "it runs a program of chasquid"}


def adapted(line: str) -> str:
    """The suite's user is alice, and a path has its brackets (RFC 5321 4.1.2)."""
    line = line.replace("RCPT TO: user@testserver", "RCPT TO:<alice@example.test>").replace(
        "testserver", "example.test"
    )
    return {
        "dXNlckB0ZXN0c2VydmVyAHVzZXJAdGVzdHNlcnZlcgB3cm9uZ3Bhc3N3b3Jk": _plain("wrong"),
        "dXNlckB0ZXN0c2VydmVyAHVzZXJAdGVzdHNlcnZlcgBzZWNyZXRwYXNzd29yZA==": _plain(PASSWORD),
    }.get(line, line)


def _plain(password: str) -> str:
    from base64 import b64encode

    return b64encode(f"\0alice@example.test\0{password}".encode()).decode()


@pytest.mark.skipif(not SUITE.exists(), reason="the shared suites are not here")
@pytest.mark.parametrize("name", sorted(APPLIES))
async def test_the_suite_of_chasquid(house: House, inbound: Inbound, name: str) -> None:
    path = SUITE / f"{name}.cmy"
    dialog = Dialog(house, inbound, expected=OTHERWISE.get(path.stem), say=adapted, codes_only=True)
    await dialog.run(path)
    assert not [line for line in house.log if "internal error" in line]


@pytest.mark.skipif(not SUITE.exists(), reason="the shared suites are not here")
def test_the_suite_is_known() -> None:
    found = {str(path.relative_to(SUITE).with_suffix("")) for path in SUITE.glob("t-*/*.cmy")}
    assert found == APPLIES | DOES_NOT.keys()
