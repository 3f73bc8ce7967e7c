"""Whose keys sign."""

import pytest

from mtad.config.tree import SignRule
from mtad.dkim.policy import signer

OURS = {"example.test", "news.example.test", "shop.example.test", "deep.news.example.test", "other.test", "bare.test"}
KEYS = {"example.test", "shop.example.test", "other.test", "test"}


@pytest.mark.parametrize(
    ("author", "by"),
    [
        ("example.test", "example.test"),
        ("shop.example.test", "shop.example.test"),
        ("news.example.test", "example.test"),  # has no keys of its own
        ("deep.news.example.test", "example.test"),
        ("bare.test", ""),  # "test" has keys, but is not ours
        ("foreign.example.test", ""),  # not ours, whoever is above it
        ("elsewhere.invalid", ""),
    ],
)
def test_without_rules(author: str, by: str) -> None:
    assert signer(author, (), OURS.__contains__, KEYS.__contains__) == by


@pytest.mark.parametrize(
    ("author", "by"),
    [
        ("shop.example.test", ""),  # switched off
        ("web1.example.test", "example.test"),  # a rule is the operator's word, ours or not
        ("other.test", "example.test"),
        ("example.test", "example.test"),
        ("lost.test", ""),  # a domain without keys
    ],
)
def test_the_first_rule_decides(author: str, by: str) -> None:
    rules = (
        SignRule("shop.*", ""),
        SignRule("*.example.test", "example.test"),
        SignRule("other.test", "example.test"),
        SignRule("lost.test", "nokeys.test"),
    )
    assert signer(author, rules, OURS.__contains__, KEYS.__contains__) == by
