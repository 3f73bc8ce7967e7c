"""Records that are written to keep us busy, or to make us say what was not decided. All of it runs in the event loop of
the daemon, so what takes the square of the time here runs into the time limit of the tests."""

import pytest
from auth_zone import Zone

from mtad.auth import spf, spf_record


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("a.test", "a.test"),
        ("a" * 248 + ".test", "a" * 248 + ".test"),  # 253 octets
        ("a" * 249 + ".test", "test"),
        ("x." + "a" * 248 + ".test", "a" * 248 + ".test"),
        ("x.y." + "a" * 248 + ".test", "a" * 248 + ".test"),
        ("ab." * 100 + "test", "ab." * 83 + "test"),
        ("a" * 300, "a" * 253),
    ],
)
def test_a_name_that_is_too_long_loses_labels_from_the_left(name: str, wanted: str) -> None:
    """RFC 7208 7.3."""
    assert spf_record.expand_domain("%{o}", {"o": name}) == wanted


def test_macros_cannot_make_a_name_that_takes_hours() -> None:
    spec = "%{o}" * 1900 + ".test"
    spf_record.parse(f"v=spf1 exists:{spec}")
    assert spf_record.expand_domain(spec, {"o": "a." * 5000}).endswith("a.a..test")


@pytest.mark.parametrize(
    ("label", "right"),
    [("a", True), ("a1", True), ("1a", True), ("1-2", True), ("1--2", True), ("xn--p1ai", True), ("12", False),
     ("-a", False), ("a-", False), ("1-", False), ("", False), ("a_b", False)],
)  # fmt: skip
def test_a_domain_ends_in_a_top_label(label: str, right: bool) -> None:
    """RFC 7208 7.1."""
    text = f"v=spf1 a:x.{label} -all"
    if right:
        assert spf_record.parse(text).mechanisms[0].domain == f"x.{label}"
    else:
        with pytest.raises(spf_record.BadRecord):
            spf_record.parse(text)


def test_labels_of_any_length_are_read_at_once() -> None:
    text = "v=spf1 a:x." + "a" * 8000 + "!"
    for _ in range(200):
        with pytest.raises(spf_record.BadRecord):
            spf_record.parse(text)


async def test_an_explanation_does_not_change_the_verdict() -> None:
    """RFC 7208 6.2, 4.6.4: the third question without an answer is the explanation's own, for the client's name."""
    zone = Zone({"a.test": b"v=spf1 a mx -all exp=why.a.test", "why.a.test": b"%{p} may not send"})
    result = await spf.check(zone, "192.0.2.1", "x@a.test", "h.test", 0.0)
    assert (result.verdict, result.reason, result.explanation) == ("fail", "-all of a.test", "")


async def test_an_explanation_is_not_expanded_without_end() -> None:
    zone = Zone({"a.test": b"v=spf1 -all exp=why.a.test", "why.a.test": b"%{s}" * 16_000})
    result = await spf.check(zone, "192.0.2.1", "x@a.test", "h.test", 0.0)
    assert (result.verdict, result.explanation) == ("fail", "")
