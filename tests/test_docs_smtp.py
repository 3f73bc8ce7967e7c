"""docs/smtp.md says what the tables in the code say."""

import re
from pathlib import Path

import pytest

from mtad.config.keys import KEYS
from mtad.control.operations import BY_NAME
from mtad.inbound.auth import EXTERNAL, MECHANISMS, PLUS
from mtad.mail.extensions import EXTENSIONS, Extension

TEXT = (Path(__file__).resolve().parents[1] / "docs" / "smtp.md").read_text()
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in TEXT.splitlines() if line.startswith("|")]
BY_PATH = {key.path: key for key in KEYS}
SECTIONS = {key.section for key in KEYS if key.section}
NAMED = {
    name
    for name in re.findall(r"`([a-z]+\.[a-z_.]+)`", TEXT)
    if name.rpartition(".")[0] in SECTIONS or name.partition(".")[0] in SECTIONS
}


def test_every_key_that_is_named_exists() -> None:
    assert NAMED - BY_PATH.keys() == set()


@pytest.mark.parametrize("section", ["limits", "smtp", "tls", "tls.certificate"])
def test_every_key_of_the_front_door_is_named(section: str) -> None:
    assert {key.path for key in KEYS if key.section == section} - NAMED == set()


def test_defaults_are_the_defaults() -> None:
    found = 0
    for row in ROWS:
        keys = [cell.strip("`") for cell in row if cell.strip("`") in BY_PATH]
        defaults = [cell.strip("`") for cell in row[1:] if re.fullmatch(r"`[0-9][0-9a-zA-Z/]*`", cell)]
        for key, default in zip(keys, defaults, strict=False):
            assert BY_PATH[key].default.strip('"') == default, key
            found += 1
    assert found > 30


@pytest.mark.parametrize("extension", EXTENSIONS, ids=lambda extension: extension.keyword)
def test_every_extension_has_its_row(extension: Extension) -> None:
    [row] = [row for row in ROWS if row[0] == extension.keyword]
    assert re.fullmatch(r"\d{3,4}(, \d{3,4})*", row[-1]), "its RFC"


def test_no_extension_is_promised_that_is_not_offered() -> None:
    table = TEXT.partition("## Extensions")[2].partition("##")[0]
    promised = re.findall(r"^\| ([A-Z0-9-]+) \|", table, re.MULTILINE)
    assert promised == [extension.keyword for extension in EXTENSIONS]
    [row] = [row for row in ROWS if row[0] == "AUTH"]
    assert set(row[2].split(", ")) == {PLUS, EXTERNAL, *MECHANISMS}


def test_every_command_exists() -> None:
    for words in re.findall(r"mtactl ([a-z]+(?: [a-z]+)?)", TEXT):
        assert words.replace(" ", ".") in BY_NAME or words.split(" ")[0] in BY_NAME, words
