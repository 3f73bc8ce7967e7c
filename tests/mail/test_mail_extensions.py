from dataclasses import replace

import pytest

from mtad.mail.extensions import EXTENSIONS, MAIL_PARAMETERS, RCPT_PARAMETERS, Offers, ehlo_lines
from mtad.mail.params import _MAIL

NOW = 1_800_000_000.0  # 2027-01-15T08:00:00Z
EVERYTHING = Offers(1000, 100, 3600.0, True, ("PLAIN", "LOGIN"), True, True)


def keywords(offers: Offers) -> dict[str, str]:
    """What EHLO offers: keyword -> value."""
    lines = ehlo_lines("mx.example", offers, NOW).decode().split("\r\n")
    assert lines.pop() == ""
    assert lines[0] == "250-mx.example"
    assert all(line.startswith("250-") for line in lines[:-1])
    assert lines[-1].startswith("250 ")
    return {word: value for word, _, value in (line[4:].partition(" ") for line in lines[1:])}


def test_everything_is_offered_in_one_shape() -> None:
    assert keywords(EVERYTHING) == {
        "PIPELINING": "", "SIZE": "1000", "8BITMIME": "", "ENHANCEDSTATUSCODES": "", "SMTPUTF8": "", "DSN": "",
        "CHUNKING": "", "BINARYMIME": "", "MT-PRIORITY": "", "LIMITS": "RCPTMAX=100",
        "FUTURERELEASE": "3600 2027-01-15T09:00:00Z", "DELIVERBY": "10", "STARTTLS": "", "REQUIRETLS": "",
        "AUTH": "PLAIN LOGIN",
    }  # fmt: skip
    assert len(keywords(replace(EVERYTHING, here=True))) == len(EXTENSIONS)


@pytest.mark.parametrize(
    ("offers", "there", "absent"),
    [
        (Offers(), {"SIZE", "CHUNKING", "DSN"}, {"LIMITS", "FUTURERELEASE", "DELIVERBY", "REQUIRETLS", "AUTH"}),
        (Offers(), set(), {"STARTTLS"}),
        (Offers(secure=True), {"REQUIRETLS"}, {"STARTTLS", "AUTH", "DELIVERBY"}),
        (Offers(submission=True), {"DELIVERBY"}, {"FUTURERELEASE", "REQUIRETLS"}),
        (Offers(submission=True, hold_max_s=1.0), {"FUTURERELEASE"}, set()),
        (Offers(hold_max_s=1.0), set(), {"FUTURERELEASE"}),
        (Offers(recipients_max=7), {"LIMITS"}, set()),
    ],
)  # fmt: skip
def test_who_is_offered_what(offers: Offers, there: set[str], absent: set[str]) -> None:
    found = keywords(offers).keys()
    assert there <= found
    assert absent.isdisjoint(found)


def test_each_parameter_is_understood_exactly_where_its_extension_is_offered() -> None:
    assert MAIL_PARAMETERS.keys() == _MAIL.keys()
    assert RCPT_PARAMETERS.keys() == {"NOTIFY", "ORCPT"}
    assert {keyword for keyword, offered in MAIL_PARAMETERS.items() if not offered(Offers())} == {
        "REQUIRETLS", "HOLDFOR", "HOLDUNTIL", "BY", "XKEY"
    }  # fmt: skip
    everything = replace(EVERYTHING, here=True)
    assert all(offered(everything) for offered in [*MAIL_PARAMETERS.values(), *RCPT_PARAMETERS.values()])
