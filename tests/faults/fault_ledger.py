"""The ledger: what was promised, what arrived, and the verdict between the two."""

import hashlib
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

WINDOW_S = 2.0
"""A second copy is excused by a kill so soon after the receiver's 250 for the first: it may not be recorded yet."""


@dataclass
class Mail:
    """One mail of ours. `word`: "" nothing was said and the end not sent; "unsure" the end was sent, no answer read;
    "yes" 250 or exit 0; "no" a 4yz or 5yz for the whole mail."""

    token: str
    recipients: tuple[str, ...]
    digest: str
    word: str = ""
    at: float = 0.0


@dataclass
class Copy:
    """One arrival."""

    at: float
    good: bool


@dataclass
class Verdict:
    """What `Ledger.verdict` found. `strays`: second copies that no kill excuses."""

    accepted: int = 0
    refused: int = 0
    unsure: int = 0
    lost: list[str] = field(default_factory=list)
    phantom: list[str] = field(default_factory=list)
    corrupt: list[str] = field(default_factory=list)
    wrong_bounces: list[str] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)
    duplicates: int = 0
    bound: int = 0

    def add(self, other: "Verdict") -> None:
        for name in self.__dataclass_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    @property
    def clean(self) -> bool:
        faults = self.lost, self.phantom, self.corrupt, self.wrong_bounces, self.strays
        return not any(faults) and self.duplicates <= self.bound

    def __str__(self) -> str:
        named = {
            name: listed[:5]
            for name in ("lost", "phantom", "corrupt", "wrong_bounces", "strays")
            if (listed := getattr(self, name))
        }
        return (
            f"{self.accepted} accepted, {self.refused} refused, {self.unsure} unsure, {len(self.lost)} lost,"
            f" {len(self.phantom)} phantom, {len(self.corrupt)} corrupt, {len(self.wrong_bounces)} wrong bounces,"
            f" {self.duplicates} duplicates of at most {self.bound}, {len(self.strays)} strays"
            + (f": {named}" if named else "")
        )


def digest_of(body: bytes) -> str:
    """Of the text, whatever the line ends: a mailbox of this host has LF."""
    return hashlib.sha256(body.replace(b"\r\n", b"\n")).hexdigest()


class Ledger:
    def __init__(self) -> None:
        self.mails: dict[str, Mail] = {}
        self.copies: dict[tuple[str, str], list[Copy]] = {}
        self.bounces: Counter[tuple[str, str]] = Counter()
        self.unknown: list[str] = []  # what arrived and is nobody's
        self.deaths: list[float] = []  # when lives were ended by force
        self.stood_s = 0.0  # how long the daemon was stopped, and could record nothing
        self.bound = 0  # for how many recipients a second copy is excused
        self._serial = 0

    def now(self) -> float:
        """The time, without that for which the daemon stood still."""
        return time.time() - self.stood_s

    def new(self, recipients: Iterable[str], size: int) -> tuple[Mail, bytes]:
        """A mail that nobody else wrote, with LF at the line ends."""
        self._serial += 1
        token = f"t{self._serial:07d}"
        line = f"{token} " + "the quick brown fox jumps over the lazy dog "
        lines = [f".{line}" if n % 7 == 0 else f"{line}{n}" for n in range(max(1, size // len(line)))]
        body = ("\n".join(lines) + "\n").encode()
        to = tuple(one.replace("bad@", f"bad{self._serial}@") for one in recipients)  # or they would be suppressed
        mail = self.mails[token] = Mail(token, to, digest_of(body))
        head = f"From: s@sink.test\nTo: {', '.join(to)}\nSubject: {token}\nX-Token: {token}\n\n"
        return mail, head.encode() + body

    def word(self, mail: Mail, word: str, at: float) -> None:
        mail.word, mail.at = word, at

    def arrived(self, recipient: str, octets: bytes, at: float) -> None:
        """A whole mail, for one recipient of it."""
        head, _, body = octets.replace(b"\r\n", b"\n").partition(b"\n\n")
        token = _field(head, b"x-token:")
        if token:
            mail = self.mails.get(token)
            good = mail is not None and mail.digest == digest_of(body) and recipient in mail.recipients
            self.copies.setdefault((token, recipient), []).append(Copy(at, good))
            return
        report = octets.replace(b"\r\n", b"\n").lower()
        about = _field(report, b"\nx-token:")
        failed = {
            line.partition(b";")[2].strip().decode()
            for line in report.split(b"\n")
            if line.startswith(b"final-recipient:") and b"\naction: failed" in report  # a delay is no end
        }
        if not about:
            self.unknown.append(octets[:300].decode(errors="replace"))
        for to in failed:
            self.bounces[about, to] += 1

    def mailbox(self, path: Path, domain: str) -> None:
        """What lies in Maildirs below `path`."""
        for box in sorted(path.glob("*/new")):
            for file in sorted(box.iterdir()):
                octets = file.read_bytes()
                to = f"{box.parent.name}@{domain}"
                self.arrived(to, b"".join(octets.split(b"\n", 2)[2:]), file.stat().st_mtime)

    def died(self, at: float, in_flight: int) -> None:
        """The daemon was killed; `in_flight`: for how many recipients the receiver may know more than our record."""
        self.deaths.append(at)
        self.bound += in_flight

    def recent(self, now: float) -> int:
        """Copies that came within the window before now."""
        return sum(1 for copies in self.copies.values() for copy in copies[-1:] if copy.at > now - WINDOW_S)

    def waiting(self) -> int:
        """Promised, and not there yet. Mail for mailboxes is not seen before `mailbox`."""
        return sum(
            1
            for mail in self.mails.values()
            if mail.word == "yes"
            for to in mail.recipients
            if not to.endswith("@box.test")
            and (mail.token, to) not in self.copies
            and (mail.token, to) not in self.bounces
        )

    def verdict(self, only: Iterable[Mail] | None = None) -> Verdict:
        mails = self.mails.values() if only is None else list(only)
        found = Verdict(bound=self.bound)
        found.wrong_bounces += self.unknown
        for mail in mails:
            found.accepted += mail.word == "yes"
            found.refused += mail.word == "no"
            found.unsure += mail.word == "unsure"
            for to in mail.recipients:
                key = mail.token, to
                copies, bounces = self.copies.get(key, []), self.bounces[key]
                meant = to.startswith("bad")  # the receiver refuses it for good
                if mail.word == "yes" and not (bounces if meant else copies):
                    found.lost.append(f"{mail.token} {to}")
                if mail.word in ("", "no") and (copies or bounces):
                    found.phantom.append(f"{mail.token} {to}")
                if (bounces and not meant) or (meant and copies):
                    found.wrong_bounces.append(f"{mail.token} {to}")
                found.corrupt += [f"{mail.token} {to}"] * sum(not copy.good for copy in copies)
                found.duplicates += max(0, len(copies) - 1) + max(0, bounces - 1)
                for earlier, later in pairwise(copies):
                    if not any(-1.0 <= died - earlier.at <= WINDOW_S and died <= later.at for died in self.deaths):
                        next_death = min((died for died in self.deaths if died >= earlier.at), default=later.at)
                        found.strays.append(f"{mail.token} {to} {next_death - earlier.at:.1f} s before")
        return found


def _field(octets: bytes, name: bytes) -> str:
    at = (b"\n" + octets).lower().find(b"\n" + name.lstrip(b"\n"))
    if at < 0:
        return ""
    return octets[at + len(name.lstrip(b"\n")) :].split(b"\n", 1)[0].strip().decode(errors="replace")
