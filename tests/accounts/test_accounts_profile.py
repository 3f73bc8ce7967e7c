"""Profiles: there and back, and nothing of them in a message."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.accounts.profile import AppPassword, Profile, dump, parse
from mtad.accounts.scram import Keys

keys = st.builds(Keys, st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
limits = st.none() | st.integers(0, 10**6)


@given(
    st.builds(
        Profile,
        salt=st.binary(min_size=1, max_size=16),
        iterations=st.integers(4096, 10**6),
        keys=st.none() | keys,
        app_passwords=st.lists(
            st.builds(AppPassword, st.text(), keys, st.floats(0, 1e10), st.floats(0, 1e10)), max_size=3
        ).map(tuple),
        senders=st.lists(st.text(), max_size=3).map(tuple),
        certificates=st.lists(st.text(), max_size=3).map(tuple),
        messages_per_day=limits,
        new_recipients_per_day=limits,
        receive_only=st.booleans(),
    )
)
def test_there_and_back(form: Profile) -> None:
    assert parse(dump(form)) == form


def test_an_empty_profile_is_no_text() -> None:
    assert dump(Profile()) == ""
    assert parse("") == parse("{}") == parse('{"unknown": 1}') == Profile()


@pytest.mark.parametrize(
    "data", ["[]", "x", '"secret"', '{"scram": {"salt": "!!"}}', '{"app_passwords": [{"name": "x"}]}', '{"limits": 7}']
)
def test_damage_is_told_without_the_data(data: str) -> None:
    with pytest.raises(ValueError, match="damaged") as caught:
        parse(data)
    assert data not in str(caught.value)
    assert caught.value.__cause__ is None


def test_nothing_prints() -> None:
    one = AppPassword("phone", Keys(b"stored", b"server"), 1.0)
    text = repr(Profile(salt=b"salty", keys=Keys(b"stored", b"server"), app_passwords=(one,))) + repr(one)
    assert "stored" not in text
    assert "salty" not in text
