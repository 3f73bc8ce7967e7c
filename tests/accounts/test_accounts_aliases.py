import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.accounts.aliases import Aliases, load_aliases, parse_targets

Load = Callable[[str], tuple[Aliases, list[str]]]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def call(text: str) -> tuple[Aliases, list[str]]:
        path = tmp_path / "aliases"
        path.write_text(text)
        aliases, problems = load_aliases([str(path)])
        return aliases, [problem.replace(f"{tmp_path}/", "") for problem in problems]

    return call


def test_the_format(load: Load) -> None:
    aliases, problems = load(
        "# a comment\n"
        "\n"
        "Postmaster:\troot\n"
        "root: alice, \"bob smith\"@example.test,\n"
        "   carol@example.net   \n"
        "  # a comment between\n"
        "\t, dave\n"
        "info@other.test: eve\n"
        'alice: \\alice, alice@phone.test\n'
        '"quoted name" : frank\n'
        "UPPER: Gina@Example.TEST\r\n"
    )  # fmt: skip
    assert problems == []
    assert aliases.expand("POSTMASTER") == ("root",)
    assert aliases.expand("root") == ("alice", '"bob smith"@example.test', "carol@example.net", "dave")
    assert aliases.expand("info@OTHER.test") == ("eve",)
    assert aliases.expand("alice") == ("\\alice", "alice@phone.test")
    assert aliases.expand('"quoted name"') == ("frank",)
    assert aliases.expand("upper") == ("Gina@example.test",)
    assert aliases.expand("nobody") is None
    assert aliases.expand("a@[") is None
    assert len(aliases) == 6
    assert next(name for name, _ in aliases.entries()) == '"quoted name"'


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: b\nx\n", 'aliases:2: no "name: target" but '),
        ("a: b\nA: c\n", "aliases:2: a is defined already at aliases:1"),
        ("a: |/bin/sh -c x\n", "aliases:1: |/bin/sh -c x: programs are not run from aliases"),
        ('a: "|/bin/sh a, b"\n', "aliases:1: |/bin/sh a, b: programs are not run"),
        ("a: /var/mail/a\n", "aliases:1: /var/mail/a: files are not written from aliases"),
        ("a:\n", "aliases:1: a leads nowhere"),
        ("a b: c\nx y z@: d\n", "aliases:2: x y z@: "),
        ("a: b c\n@: d\n", "aliases:2: @: "),
        ("a: x@\n", "aliases:1: x@: malformed address"),
        ('a: "b, c\n', "aliases:1: a: a quote is not closed"),
        ("a: :include:relative\n", "aliases:1: :include: needs an absolute path"),
        ("a: :include:/does/not/exist\n", "aliases:1: /does/not/exist does not exist"),
        ("a: :include:/dev/zero\n", "aliases:1: /dev/zero is no plain file"),
        ("a: \x1b[31m@b\n", "aliases:1: \\x1b[31m@b: "),
    ],
)
def test_problems_have_their_place(load: Load, text: str, problem: str) -> None:
    aliases, problems = load(text)
    assert any(found.startswith(problem) for found in problems), problems
    assert not any(target.startswith(("|", "/")) for _, targets in aliases.entries() for target in targets)


def test_a_bad_target_leaves_the_good_ones(load: Load) -> None:
    aliases, problems = load("a: |x, b, /y, c@d.test\nonly: |x\n")
    assert len(problems) == 3
    assert aliases.expand("a") == ("b", "c@d.test")
    assert aliases.expand("only") is None
    assert [aliases.broken(name) for name in ("Only", "a", "other", "a@[")] == [True, False, False, False]


def test_the_first_file_wins_and_a_missing_one_is_empty(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("a: first\n")
    (tmp_path / "two").write_text("a: second\nb: third\n")
    aliases, problems = load_aliases([str(tmp_path / "none"), str(tmp_path / "one"), str(tmp_path / "two")])
    assert aliases.expand("a") == ("first",)
    assert aliases.expand("b") == ("third",)
    assert problems == [f"{tmp_path}/two:1: a is defined already at {tmp_path}/one:1"]


def test_octets_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a: b\nc: \xff\nd: e\n")
    aliases, problems = load_aliases([str(tmp_path / "a")])
    assert aliases.expand("d") == ("e",)
    assert problems[0] == f"{tmp_path}/a:2: not UTF-8"


def test_include(load: Load, tmp_path: Path) -> None:
    members = tmp_path / "members"
    members.write_text("# all\nalice, bob@example.net\n\ncarol\n|evil\n:include:/etc/passwd\n")
    aliases, problems = load(f"list: dave, :include:{members}\n")
    assert aliases.expand("list") == ("dave", "alice", "bob@example.net", "carol")
    assert [problem.split(": ")[0] for problem in problems] == ["members:5", "members:6"]


def test_include_of_a_file_that_everybody_can_write(load: Load, tmp_path: Path) -> None:
    members = tmp_path / "members"
    members.write_text("mallory\n")
    members.chmod(0o666)
    aliases, problems = load(f"list: :include:{members}\n")
    assert aliases.expand("list") is None
    assert "can be written by everybody" in problems[0]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_include_of_a_strangers_file(load: Load, tmp_path: Path) -> None:
    members = tmp_path / "members"
    members.write_text("mallory\n")
    os.chown(members, 12345, 12345)
    aliases, problems = load(f"list: :include:{members}\n")
    assert aliases.expand("list") is None
    assert "is owned by uid 12345" in problems[0]


@given(text=st.text(alphabet='ab@.:,"\\|/# \t\n', max_size=80))
def test_no_text_breaks_it(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "garbage"
    path.write_text(text)
    aliases, _ = load_aliases([str(path)])
    for name, targets in aliases.entries():
        assert aliases.expand(name) == targets
        assert targets


@given(st.lists(st.from_regex(r"[a-z]{1,5}@[a-z]{1,5}\.test", fullmatch=True), max_size=8))
def test_targets_come_back(targets: list[str]) -> None:
    assert parse_targets(" , ".join(targets)) == targets
