"""Any settings: `mtad check` says that they are good, or ends with 78 and one line for each problem, with its key."""

import os
import tempfile

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mtad.command import EX_CONFIG, EX_OK, main
from mtad.config.keys import KEYED, KEYS, REPEATED, Key

REQUIRED = {"hostname": '"mx.a.test"', "domains": '["a.test"]'}
TEXTS = st.sampled_from(
    [
        "", "*", "a.test", "mx.a.test", "127.0.0.1:0", "[::1]:25", "10.0.0.0/8", "::/0", "5m", "0s", "10M", "1/h",
        "0", "-1", "yes",
        "smtp://u%40a@r.test:587", "maildir:/var/%d/%u", "lmtp:/run/x", "/etc/passwd", "../x", "%", "\x1b[2J",
        "\u202e", "é", "a" * 300,
        "reject", "none", "file:///x", "discard", "pipe:", "sha256:" + "0" * 64, "postmaster@a.test", "+", "+-",
        "60/1m", "hmac-sha256",
    ]
) | st.text(st.characters(exclude_categories=["Cs"]), max_size=10)  # fmt: skip
SCALARS = st.one_of(TEXTS, st.integers(-5, 1 << 70), st.booleans(), st.floats(allow_nan=True))
VALUES = SCALARS | st.lists(TEXTS, max_size=3) | st.lists(SCALARS, max_size=2)


def toml(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str():
            return (
                '"'
                + "".join(char if char.isalnum() and char.isascii() else f"\\U{ord(char):08x}" for char in value)
                + '"'
            )
        case list():
            return "[" + ", ".join(toml(one) for one in value) + "]"
        case _:
            return str(value)


def document(chosen: list[tuple[Key, object | None]]) -> str:
    """The settings as a file; None stands for a key's own default, as the reference has it."""
    sections: dict[str, dict[str, str]] = {"": dict(REQUIRED)}
    for key, value in chosen:
        if value is None and key.default.startswith("("):
            continue
        sections.setdefault(key.section, {})[key.name] = key.default if value is None else toml(value)
    lines: list[str] = []
    for section, values in sorted(sections.items()):
        name = f'{section}."a.test"' if section in KEYED else section
        if section:
            lines.append(f"[[{section}]]" if section in REPEATED and section not in KEYED else f"[{name}]")
        lines += [f"{key} = {value}" for key, value in values.items()]
    return "\n".join(lines) + "\n"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chosen=st.lists(st.tuples(st.sampled_from(KEYS), VALUES | st.none()), max_size=5))
@example(chosen=[])
@example(chosen=[(key, None) for key in KEYS if key.section not in REPEATED])
def test_any_settings_are_good_or_named(
    capsys: pytest.CaptureFixture[str], chosen: list[tuple[Key, object | None]]
) -> None:
    with tempfile.TemporaryDirectory() as root:
        path = f"{root}/mtad.toml"
        with open(path, "w", encoding="utf-8") as file:
            file.write(document(chosen))
        os.chmod(path, 0o600)
        code = main(["check", "--root", root])
    out, err = capsys.readouterr()
    assert code in (EX_OK, EX_CONFIG), err
    assert (code == EX_OK) == (out == f"{path}: good\n")
    lines = err.splitlines()
    assert lines or code == EX_OK
    names = {key.path for key in KEYS} | {key.section for key in KEYS} | {path}
    for line in lines:
        assert line.isprintable(), line
        if code == EX_CONFIG:
            assert any(name and name in line.split(": ")[0] for name in names), line
