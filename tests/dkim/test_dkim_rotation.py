"""The stages of a key, as tables; and that no order of events makes a key sign that DNS does not serve."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtad.dkim import rotation
from mtad.dkim.rotation import (
    HISTORY_MAX,
    KeyState,
    Look,
    Ring,
    RotationError,
    Rules,
    Sight,
    Stage,
    Verdict,
    denied,
    gone,
    judge,
    lacking,
    served,
    step,
)

NOW = 1_700_000_000.0
RULES = Rules(keep_s=600.0, settle_s=60.0, check_s=10.0)
RECORD = "v=DKIM1; k=ed25519; p=AAAA"


def key(selector: str, stage: Stage, since: float = NOW, replaces: tuple[str, ...] = (), **more: float) -> KeyState:
    return KeyState(selector, "ed25519", stage, since, since, RECORD, replaces, **more)


def sight(verdict: Verdict, server: str = "ns1", via: str = "udp", ttl_s: float = 0.0, address: str = "") -> Sight:
    return Sight(server, address, via, verdict, ttl_s)


def look(*verdicts: Verdict, negative_s: float = 0.0, at: float = NOW) -> Look:
    """One verdict for each server, the same over both transports."""
    sights = [sight(verdict, f"ns{number}", via) for number, verdict in enumerate(verdicts) for via in ("udp", "tcp")]
    return Look(tuple(sights), at, negative_s)


ROTATING = Ring("a.test", (key("old", Stage.ACTIVE), key("new", Stage.PENDING, replaces=("old",))))


def stages(ring: Ring) -> str:
    return " ".join(f"{one.selector}={one.stage}" for one in ring.keys)


@pytest.mark.parametrize(
    ("texts", "verdict"),
    [
        ([], "absent"),
        ([b"v=DKIM1; k=ed25519; p=AAAA"], "right"),
        ([b"p=AA AA ;k=ed25519"], "right"),
        ([b"v=DKIM1; k=ed25519; s=email; h=sha1:sha256; t=s; n=ours; p=AAAA;"], "right"),
        ([b"v=DKIM1; k=ed25519; p=AAAB"], "other"),
        ([b"v=DKIM1; p=AAAA"], "other"),  # without k= it is RSA
        ([b"v=DKIM1; k=ed25519; s=other; p=AAAA"], "other"),
        ([b"v=DKIM1; k=ed25519; h=sha1; p=AAAA"], "other"),
        ([b"v=DKIM1; k=ed25519; p="], "revoked"),
        ([b"v=spf1 -all"], "other"),  # a wildcard
        ([b"v=DKIM1; k=ed25519; p=AAAA", b"v=DKIM1; k=ed25519; p=AAAA"], "other"),  # RFC 6376 3.6.2.2
        ([b"v=DKIM1; k=ed25519; p=AAAB; p=AAAA"], "other"),  # receivers read no key in it (RFC 6376 3.2)
        ([b"v=DKIM1; k=ed25519; nonsense; p=AAAA"], "other"),
        ([b"k=ed25519; v=DKIM1; p=AAAA"], "other"),  # RFC 6376 3.6.1: v= is the first, where it is
        ([b"\xff\x00"], "other"),
        ([b""], "other"),
    ],
)
def test_judge(texts: list[bytes], verdict: str) -> None:
    found, words = judge(texts, RECORD)
    assert found == verdict
    assert bool(words) == (verdict != "right")
    assert words.isprintable()


@given(st.lists(st.binary(max_size=80), max_size=3))
def test_no_record_makes_it_raise(texts: list[bytes]) -> None:
    assert judge(texts, RECORD)[0] in ("right", "absent", "other", "revoked")


@pytest.mark.parametrize(
    ("sights", "is_served", "is_denied", "is_gone"),
    [
        ([], False, False, False),
        ([sight("right")], True, False, False),
        ([sight("right"), sight("right", "ns2")], True, False, False),
        ([sight("right"), sight("absent", "ns2")], False, True, False),
        ([sight("right"), sight("unknown", "ns2")], False, False, False),
        ([sight("right"), sight("right", via="tcp"), sight("unknown", via="tcp")], True, False, False),  # TCP alone
        ([sight("right"), sight("other", via="tcp")], False, True, False),  # it says this and that
        ([sight("truncated"), sight("right", via="tcp")], True, False, False),
        ([sight("truncated"), sight("unknown", via="tcp")], False, False, False),
        ([sight("right"), sight("unasked", address="::1")], True, False, False),  # the other address answered
        ([sight("right"), sight("unasked", "ns2", address="::1")], False, False, False),
        ([sight("alias"), sight("right", "esp")], True, False, False),
        ([sight("alias")], False, False, False),
        ([sight("absent"), sight("revoked", "ns2"), sight("other", "ns3")], False, True, True),
        ([sight("absent"), sight("unknown", "ns2")], False, True, False),
        ([sight("alias"), sight("absent", "esp")], False, True, True),
    ],
)
def test_what_many_servers_say(sights: list[Sight], is_served: bool, is_denied: bool, is_gone: bool) -> None:
    assert (served(sights), denied(sights), gone(sights)) == (is_served, is_denied, is_gone)
    assert not (is_served and lacking(sights))


def test_a_whole_life() -> None:
    ring, moves = step(ROTATING, {"new": look("right", "absent", negative_s=30.0)}, NOW, RULES, None)
    assert (stages(ring), moves) == ("old=active new=pending", [])
    ring, moves = step(ring, {"new": look("right", "right")}, NOW + 100, RULES, None)
    assert stages(ring) == "old=active new=published"
    # For 30 s somebody may remember that it was not there: counted from now, since nobody knows when it came.
    ring, _ = step(ring, {"new": look("right", "right")}, NOW + 129, RULES, None)
    assert stages(ring) == "old=active new=published"
    ring, _ = step(ring, {"new": look("right", "unknown")}, NOW + 131, RULES, None)
    assert stages(ring) == "old=active new=published"  # not on an old look
    ring, moves = step(ring, {"new": look("right", "right")}, NOW + 140, RULES, None)
    assert stages(ring) == "old=retiring new=active"
    assert [(move.selector, move.to) for move in moves] == [("old", Stage.RETIRING), ("new", Stage.ACTIVE)]
    assert ring.rotated_at == NOW + 140
    absent = {"old": look("absent", "absent")}
    for at, oldest_at in ((NOW + 700, None), (NOW + 800, NOW + 150), (NOW + 800, NOW + 199)):
        assert stages(step(ring, absent, at, RULES, oldest_at)[0]) == "old=retiring new=active"
    assert stages(step(ring, {"old": look("right", "absent")}, NOW + 800, RULES, None)[0]) == "old=retiring new=active"
    ring, moves = step(ring, absent, NOW + 800, RULES, NOW + 201)
    assert stages(ring) == "old=retired new=active"
    assert step(ring, {"new": look("absent", "absent")}, NOW + 900, RULES, None) == (ring, [])


def test_a_record_that_vanishes_begins_again() -> None:
    ring = Ring("a.test", (key("old", Stage.ACTIVE), key("new", Stage.PUBLISHED, replaces=("old",))))
    ring, moves = step(ring, {"new": look("right", "absent")}, NOW + 500, RULES, None)
    assert stages(ring) == "old=active new=pending"
    assert [move.to for move in moves] == [Stage.PENDING]


def test_keys_of_one_rotation_switch_together() -> None:
    coming = (key("r", Stage.PENDING, replaces=("old",)), key("e", Stage.PENDING, replaces=("old",)))
    ring = Ring("a.test", (key("old", Stage.ACTIVE), *coming))
    ring, _ = step(ring, {"r": look("right"), "e": look("absent")}, NOW, RULES, None)
    ring, _ = step(ring, {"r": look("right"), "e": look("absent")}, NOW + 9, RULES, None)
    assert stages(ring) == "old=active r=published e=pending"
    ring, _ = step(ring, {"r": look("right"), "e": look("right")}, NOW + 10, RULES, None)
    assert stages(ring) == "old=retiring r=active e=active"


def test_a_further_key_replaces_nobody() -> None:
    ring = Ring("a.test", (key("one", Stage.ACTIVE), key("two", Stage.PENDING)))
    ring, _ = step(ring, {"two": look("right")}, NOW + 1, RULES, None)
    assert stages(ring) == "one=active two=active"


def test_what_operators_decide() -> None:
    ring, moves = rotation.switched(ROTATING, NOW, RULES)
    assert stages(ring) == "old=retiring new=active"
    assert len(moves) == 2
    with pytest.raises(RotationError, match="no key that waits"):
        rotation.switched(ring, NOW, RULES)
    with pytest.raises(RotationError, match="in no rotation"):
        rotation.aborted(ring, NOW)
    assert stages(rotation.aborted(ROTATING, NOW)[0]) == "old=active new=retired"

    def retire(selector: str, now: float = NOW, *, at_once: bool = False) -> str:
        return stages(rotation.retired(ring, selector, now, RULES, None, at_once=at_once)[0])

    with pytest.raises(RotationError, match="only key that signs"):
        retire("new")
    assert retire("new", at_once=True) == "old=retiring new=retiring"
    with pytest.raises(RotationError, match="may carry"):
        retire("old")
    assert retire("old", at_once=True) == retire("old", NOW + 601) == "old=retired new=active"
    with pytest.raises(RotationError, match="no key at selector"):
        retire("none")


def test_the_schedule() -> None:
    ring = Ring("a.test", (key("old", Stage.ACTIVE, NOW),), schedule_s=1000.0)
    assert not rotation.overdue(ring, NOW + 999)
    assert rotation.overdue(ring, NOW + 1000)
    assert not rotation.overdue(replace(ring, schedule_s=0.0), NOW + 1e9)
    assert not rotation.overdue(replace(ROTATING, schedule_s=1000.0), NOW + 1e9)  # one is under way
    assert not rotation.overdue(Ring("a.test", (), 1000.0), NOW + 1e9)


def test_history_is_bounded() -> None:
    many = tuple(key(f"k{number}", Stage.RETIRED, NOW + number) for number in range(50))
    ring, _ = step(Ring("a.test", many), {}, NOW, RULES, None)
    assert [one.selector for one in ring.keys] == [f"k{number}" for number in range(50 - HISTORY_MAX, 50)]


VERDICTS = st.sampled_from(["right", "absent", "other", "revoked", "unknown", "truncated", "unasked", "alias"])
EVENTS = st.lists(
    st.tuples(
        st.lists(VERDICTS, min_size=2, max_size=2), st.lists(VERDICTS, min_size=2, max_size=2), st.integers(1, 400)
    ),
    max_size=25,
)


@settings(max_examples=300, deadline=None)
@given(EVENTS)
def test_no_order_of_events_breaks_mail(events: list[tuple[list[Verdict], list[Verdict], int]]) -> None:
    """A key signs only after both servers served it, and stayed unseen for the time that somebody may remember it
    absent; somebody signs always; and a key that signed is destroyed only when its time is over."""
    ring, now = ROTATING, NOW
    right_since = 0.0
    signed_until = 0.0
    for new, old, pause_s in events:
        now += pause_s
        seen = {"new": look(*new, negative_s=30.0, at=now), "old": look(*old, at=now)}
        fine = set(new) <= {"right", "alias"} and "right" in new  # an alias leads to the other server
        before = ring
        ring, _ = step(ring, seen, now, RULES, None)
        if any(verdict in ("absent", "other", "revoked") for verdict in new):
            right_since = 0.0
        elif fine and not right_since:
            right_since = now
        states = {one.selector: one.stage for one in ring.keys}
        was = {one.selector: one.stage for one in before.keys}
        assert Stage.ACTIVE in states.values()
        if states["new"] is Stage.ACTIVE and was["new"] is not Stage.ACTIVE:
            assert fine
            assert now - right_since >= 30.0
            assert states["old"] is Stage.RETIRING
            signed_until = now
        if states["old"] is Stage.RETIRED:
            assert now >= signed_until + RULES.keep_s
