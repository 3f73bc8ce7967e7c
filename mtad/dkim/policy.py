"""Whose keys sign a mail: a rule of the operator, or the author's domain, or the next domain of ours above it. Pure."""

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

from mtad.config.tree import SignRule


def signer(author: str, rules: Sequence[SignRule], ours: Callable[[str], bool], has_keys: Callable[[str], bool]) -> str:
    """The domain for d= of a mail whose author is at `author` (lower case); "" when nobody signs it.

    Without a rule, only for domains of ours. One above the author's is aligned too (RFC 7489 3.1.1, relaxed).
    """
    for rule in rules:
        if fnmatchcase(author, rule.match):
            return rule.by if has_keys(rule.by) else ""
    if not ours(author):
        return ""
    domain = author
    while domain:
        if has_keys(domain) and ours(domain):
            return domain
        domain = domain.partition(".")[2]
    return ""
