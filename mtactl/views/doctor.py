"""What the doctor found, as a report: problems, the questions, and how much is fine."""

import sys
import textwrap
from collections.abc import Iterator, Sequence

from mtactl.table import width_of
from mtad.doctor.finding import GRADES, GROUPS, Finding, Grade
from mtad.mail.text import clean

LABEL = 9
_COLOURS: dict[Grade, str] = {"error": "31", "warning": "33", "note": "36", "question": "35", "ok": "32"}


def report(findings: Sequence[Finding], *, everything: bool) -> Iterator[str]:
    """The lines. Without `everything`, what is fine is counted, and questions are a line each."""
    width, colour = max(min(width_of(sys.stdout), 120), 60), sys.stdout.isatty()
    column = max((len(finding.id) for finding in findings), default=0)
    shown_before = False
    for group, title in GROUPS.items():
        mine = [finding for finding in findings if finding.id.partition(".")[0] == group]
        told = [finding for finding in mine if everything or finding.grade != "ok"]
        told.sort(key=lambda finding: GRADES.index(finding.grade))
        if not told:
            continue
        if shown_before:
            yield ""
        shown_before = True
        yield title
        for finding in told:
            yield from _lines(finding, column, width, colour=colour, short=not everything and group == "ask")
        if group == "ask" and not everything:
            yield "  (how to find out: mtactl doctor --only ask)"
    if shown_before:
        yield ""
    yield _sum(findings)


def _lines(finding: Finding, column: int, width: int, *, colour: bool, short: bool) -> Iterator[str]:
    grade = f"{finding.grade:<{LABEL}}"
    if colour:
        grade = f"\x1b[{_COLOURS[finding.grade]}m{grade}\x1b[0m"
    begin, indent = f"  {grade}{finding.id:<{column}}  ", " " * (2 + LABEL + column + 2)
    room = max(width - len(indent), 30)
    if width - len(indent) < 30:
        indent = " " * (2 + LABEL)
        room = max(width - len(indent), 30)
    for line in _wrapped(finding.what, room):
        yield f"{begin}{line}".rstrip()
        begin = indent
    if short or finding.grade == "ok":
        return
    for line in _wrapped(finding.why, room):
        yield f"{indent}{line}"
    # A command is for copying: never cut.
    for number, line in enumerate(finding.fix.splitlines()):
        yield f"{indent}{'  ' if number else '->'} {clean(line, 2000)}"


def _wrapped(text: str, room: int) -> list[str]:
    return textwrap.wrap(clean(text, 1000), room, break_on_hyphens=False) if text else []


def _sum(findings: Sequence[Finding]) -> str:
    counts = {grade: sum(finding.grade == grade for finding in findings) for grade in GRADES}
    words: dict[Grade, str] = {"error": "error", "warning": "warning", "note": "note", "question": "question"}
    said = [f"{counts[grade]} {word}{'' if counts[grade] == 1 else 's'}" for grade, word in words.items()]
    return f"{', '.join(said)}; {counts['ok']} fine"
