"""What a scenario found, and the table of all of them."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from fault_ledger import Verdict


class Skipped(Exception):  # noqa: N818  (what it is)
    """The scenario cannot run here; the text says why."""


@dataclass
class Result:
    """`runs` of one scenario. `must_lose`: it is a control, in which the promise was taken away on purpose."""

    what: str
    runs: int
    verdict: Verdict
    notes: dict[str, float] = field(default_factory=dict)  # what, and the worst of it
    took_s: float = 0.0
    must_lose: bool = False

    @property
    def good(self) -> bool:
        return bool(self.verdict.lost) if self.must_lose else self.verdict.clean

    def add(self, other: "Result") -> None:
        """A piece of the same."""
        self.runs += other.runs
        self.took_s += other.took_s
        for name, value in other.notes.items():
            self.notes[name] = max(value, self.notes.get(name, 0.0))
        self.verdict.add(other.verdict)

    @classmethod
    def of(cls, kept: dict[str, Any]) -> "Result":
        return cls(**{**kept, "verdict": Verdict(**kept["verdict"])})


def merged(results: Iterable[Result]) -> list[Result]:
    """The pieces of each scenario as one."""
    found: dict[str, Result] = {}
    for result in results:
        have = found.setdefault(result.what, Result(result.what, 0, Verdict(), must_lose=result.must_lose))
        have.add(result)
    return list(found.values())


def table(results: Iterable[Result]) -> str:
    """Markdown."""
    lines = [
        "| fault | runs | accepted | lost | phantom | corrupt | wrong bounces | second copies (bound) | s | notes |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|---|",
    ]
    for one in merged(results):
        found = one.verdict
        notes = "; ".join(f"{name} {value:.2f}".removesuffix(".00") for name, value in one.notes.items())
        if found.strays:
            notes += f"; {len(found.strays)} UNEXCUSED second copies"
        if one.must_lose:
            notes = "control: must lose" + (f"; {notes}" if notes else "")
        lines.append(
            f"| {one.what} | {one.runs:,} | {found.accepted:,} | {len(found.lost)} | {len(found.phantom)} |"
            f" {len(found.corrupt)} | {len(found.wrong_bounces)} | {found.duplicates} ({found.bound}) |"
            f" {one.took_s:.0f} | {notes} |"
        )
    return "\n".join(lines)
