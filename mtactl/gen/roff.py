"""Text as man(7) has it. Pure."""

import textwrap
from collections.abc import Iterable, Iterator, Sequence

WIDTH = 78  # mandoc minds longer lines of input


def text(words: str) -> str:
    """Words that are shown as they are, for one line."""
    return _guarded(_escaped(words))


def literal(words: str) -> str:
    """What is typed: its hyphens are those of the keyboard."""
    return text(words).replace("-", "\\-").replace("'", "\\(aq")


def quoted(words: str) -> str:
    """An argument of a macro."""
    return '"' + words.replace('"', "\\(dq") + '"'


def paragraph(words: str) -> Iterator[str]:
    """Filled text."""
    for line in textwrap.wrap(_escaped(words), WIDTH, break_long_words=False, break_on_hyphens=False):
        yield _guarded(line)


def tagged(pairs: Iterable[tuple[str, str]]) -> Iterator[str]:
    """A list of terms and what they mean."""
    for term, words in pairs:
        yield ".TP"
        yield f".B {literal(term)}"
        yield from paragraph(words) if words else ("\\&",)


def display(lines: Sequence[str]) -> Iterator[str]:
    """Lines as they are typed, long ones continued."""
    yield ".nf"
    for line in lines:
        parts = textwrap.wrap(line, WIDTH - 4, break_long_words=False, break_on_hyphens=False) or [""]
        for n, part in enumerate(parts):
            yield literal(part + (" \\" if n < len(parts) - 1 else ""))
    yield ".fi"


def page(name: str, section: int, about: str, date: str, body: Iterable[str]) -> str:
    lines = [
        '.\\" Made by scripts/gen.sh: change the tables it is made from.',
        f".TH {name.upper()} {section} {date} mtad",
        ".SH NAME",
        f"{literal(name)} \\- {text(about)}",
        *body,
    ]
    return "\n".join(lines) + "\n"


def heading(words: str) -> str:
    return f".SH {words.upper()}"


def _escaped(words: str) -> str:
    return words.replace("\\", "\\e").replace("~", "\\(ti").replace("^", "\\(ha").replace("`", "\\(ga")


def _guarded(line: str) -> str:
    """A line of text must not look like a macro."""
    return f"\\&{line}" if line[:1] in (".", "'") else line
