"""What every part of a check works with, and what it says."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mtad.config import Config
from mtad.publish.finding import Finding, Severity, found
from mtad.publish.host import Host, Key
from mtad.publish.records import Rec, wanted
from mtad.publish.view import Seen, View

if TYPE_CHECKING:
    from mtad.publish.shown import Listening


@dataclass(frozen=True, slots=True)
class Checked:
    """One check. `want` is what `dns records` would print; `listening` what our listeners show, looked at once."""

    view: View
    config: Config
    host: Host
    domain: str
    keys: Sequence[Key]
    signing: str  # d= of mail of the domain, "" when nobody signs it
    now: float
    listening: "Callable[[], Awaitable[Listening]]"
    offline: bool = False  # ask DNS about the domain, and nothing else
    https_port: int = 443

    def want(self, kind: str, name: str = "") -> tuple[Rec, ...]:
        """Ours of a type, and a name unless that is ""."""
        records = wanted(self.domain, self.host, self.keys, signed=True)
        return tuple(one for one in records if one.kind == kind and name in ("", one.name))

    def line(self, kind: str, name: str) -> str:
        """The lines to publish."""
        return "\n".join(one.line for one in self.want(kind, name))


@dataclass(slots=True)
class Area:
    """What one part says: what it saw, in a few words, and what is wrong."""

    name: str
    said: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def say(self, text: str) -> None:
        self.said.append(text)

    def find(self, id_: str, what: str, fix: str, severity: Severity | None = None) -> None:
        self.findings.append(found(id_, what, fix, severity))

    def untold(self, seen: Seen) -> bool:
        """Whether nobody could tell. Then that is the finding."""
        if seen.problem:
            self.find(
                "check.incomplete",
                f"{seen.kind} {seen.name}: {seen.problem}",
                "see to the name servers, and check again",
            )
        return bool(seen.problem)

    def row(self) -> dict[str, Any]:
        from mtad.mail.text import clean

        return {
            "area": self.name,
            "said": [clean(one, 300) for one in self.said],
            "findings": [finding.row() for finding in self.findings],
        }


def txt(name: str, value: str) -> str:
    """A TXT record as a line of a zone."""
    return Rec(name, "TXT", value).line
