"""varlink frames: the same for any cut, and garbage gives the one declared error."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.control import wire

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
FRAMES = st.lists(st.dictionaries(st.text(), JSON, max_size=4), max_size=5)


def feed_all(octets: bytes, cuts: list[int], limit: int = wire.FRAME_MAX_BYTES) -> list[dict[str, object]]:
    decoder, frames, start = wire.Decoder(limit), [], 0
    for cut in sorted({min(cut, len(octets)) for cut in cuts} | {len(octets)}):
        frames += decoder.feed(octets[start:cut])
        start = cut
    return frames


@given(FRAMES, st.lists(st.integers(0, 400), max_size=10))
def test_any_cut_gives_the_same_frames(frames: list[dict[str, object]], cuts: list[int]) -> None:
    octets = b"".join(map(wire.encode, frames))
    assert feed_all(octets, cuts) == frames


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=5))
def test_garbage_is_a_wire_error_or_frames(octets: bytes, cuts: list[int]) -> None:
    try:
        for frame in feed_all(octets + b"\0", cuts):
            wire.request(frame)
    except wire.WireError:
        pass


@pytest.mark.parametrize(
    "octets",
    [b"", b"{", b"[]", b"1", b"null", b'"x"', b"\xff", b'{"a":NaN}', b'{"a":Infinity}', b"[" * 100_000,
     b'{"a":' * 100_000,
     b'{"a":' + b"9" * 5000 + b"}", b"{}x"],
    ids=lambda octets: repr(octets[:12]),
)  # fmt: skip
def test_refuses(octets: bytes) -> None:
    with pytest.raises(wire.WireError):
        list(wire.Decoder().feed(octets + b"\0"))


def test_what_came_before_garbage_is_kept() -> None:
    frames = wire.Decoder().feed(b'{"a":1}\0}\0')
    assert next(frames) == {"a": 1}
    with pytest.raises(wire.WireError):
        next(frames)


@pytest.mark.parametrize("chunk", [1, 7, 100])
def test_a_frame_has_a_limit(chunk: int) -> None:
    octets = b'{"a":"' + b"x" * 100
    with pytest.raises(wire.WireError):
        feed_all(octets, list(range(0, 200, chunk)), limit=50)
    with pytest.raises(wire.WireError):
        feed_all(octets + b'"}\0', list(range(0, 200, chunk)), limit=50)
    exact = b'{"a":"' + b"x" * 42 + b'"}'
    assert feed_all(exact[:-1] + b"}\0", list(range(0, 60, chunk)), limit=51) == [{"a": "x" * 42}]
    with pytest.raises(wire.WireError):
        feed_all(exact + b"\0", list(range(0, 60, chunk)), limit=50)


@pytest.mark.parametrize(
    "frame",
    [{}, {"method": ""}, {"method": 1}, {"method": "x" * 201}, {"method": "a.B", "parameters": []},
     {"method": "a.B", "parameters": "x"}, {"method": "a.B", "more": 1}, {"method": "a.B", "oneway": "yes"},
     {"method": "a.B", "upgrade": True}],
    ids=repr,
)  # fmt: skip
def test_refuses_what_is_no_request(frame: dict[str, object]) -> None:
    with pytest.raises(wire.WireError):
        wire.request(frame)


def test_a_request() -> None:
    frame = next(wire.Decoder().feed(wire.call("queue.list", {"all": True}, more=True)))
    assert wire.request(frame) == wire.Request("io.mtad.QueueList", {"all": True}, more=True)
    assert wire.request({"method": "a.B", "parameters": None, "other": 1}) == wire.Request("a.B", {})


def test_what_cannot_be_json() -> None:
    for bad in (float("nan"), b"octets", object()):
        with pytest.raises(wire.WireError):
            wire.encode({"a": bad})


def test_frames_are_ascii() -> None:
    assert wire.encode({"a": "\u202e\ud800é"}) == b'{"a":"\\u202e\\ud800\\u00e9"}\0'


@given(st.lists(st.dictionaries(st.text(), st.text()), min_size=1))
def test_lines_that_others_wrote_become_frames(rows: list[dict[str, str]]) -> None:
    foreign = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    octets = wire.replies(wire.lines(foreign), continues=True)
    assert octets.isascii()
    assert list(wire.Decoder().feed(octets)) == [{"parameters": row, "continues": True} for row in rows]


def test_errors_carry_their_exit_code() -> None:
    frame = next(wire.Decoder().feed(wire.error("Denied", "no", parameter="x")))
    assert frame == {"error": "io.mtad.Denied", "parameters": {"text": "no", "code": 77, "parameter": "x"}}
