"""Alias files in the format of aliases(5): "name: target, target", continued on indented lines, # begins a comment.

A target is a local name, an address, "\\name" (the mailbox, no further aliases) or ":include:/file". Programs ("|cmd")
and files ("/path") are refused with a problem: what a mail may start or write is a delivery route's business.
"""

import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from mtad.mail import address as addresses
from mtad.mail.text import clean

FILE_MAX_BYTES = 16 * 1024 * 1024
INCLUDE_MAX_BYTES = 1024 * 1024
INCLUDE = ":include:"


class Aliases:
    """What each name leads to. Names are local parts, or whole addresses for one domain alone. `broken` are those of
    which no target can be used."""

    def __init__(self, entries: Mapping[str, tuple[str, ...]], broken: Iterable[str] = ()) -> None:
        self._entries = dict(entries)
        self._broken = frozenset(broken)

    def __len__(self) -> int:
        return len(self._entries)

    def expand(self, name: str) -> tuple[str, ...] | None:
        """The targets of a local part or address, one step; None when it is no alias. Case-insensitive."""
        try:
            return self._entries.get(addresses.fold(name))
        except addresses.AddressError:
            return None

    def broken(self, name: str) -> bool:
        """Whether it is an alias that leads nowhere until the files are mended. Case-insensitive."""
        try:
            return addresses.fold(name) in self._broken
        except addresses.AddressError:
            return False

    def entries(self) -> Sequence[tuple[str, tuple[str, ...]]]:
        """All (name, targets), by name."""
        return sorted(self._entries.items())


@dataclass(frozen=True, slots=True)
class _Line:
    """One logical line: where it began, and its text with the continuations."""

    where: str
    text: str


def load_aliases(paths: Sequence[str]) -> tuple[Aliases, list[str]]:
    """All aliases of the files, and every problem as "file:line: what". A file that does not exist is an empty one.

    What is wrong is left out; the rest works. The first definition of a name wins. Never raises for what a file holds.
    """
    entries: dict[str, tuple[str, ...]] = {}
    first: dict[str, str] = {}
    problems: list[str] = []
    for path in paths:
        octets = _read(path, FILE_MAX_BYTES, path, problems, trusted_only=False)
        if octets is None:
            continue
        for line in _logical_lines(_text(octets, path, problems), path):
            name, targets = _entry(line, problems)
            if not name:
                continue
            if name in first:
                problems.append(f"{line.where}: {clean(name)} is defined already at {first[name]}")
                continue
            first[name] = line.where
            if targets:
                entries[name] = targets
    return Aliases(entries, first.keys() - entries.keys()), problems


def parse_targets(text: str) -> list[str]:
    """Cut a target list at commas outside quotes; a wholly quoted target loses them. ValueError: an open quote."""
    targets, start, quoted = [], 0, False
    index = 0
    while index < len(text):
        character = text[index]
        if character == "\\" and quoted:
            index += 1
        elif character == '"':
            quoted = not quoted
        elif character == "," and not quoted:
            targets.append(text[start:index])
            start = index + 1
        index += 1
    if quoted:
        raise ValueError("a quote is not closed")
    targets.append(text[start:])
    return [_unquote(target.strip()) for target in targets if target.strip()]


def _entry(line: _Line, problems: list[str]) -> tuple[str, tuple[str, ...]]:
    """(folded name, targets) of a line; ("", ()) when it holds no alias."""
    given_name, colon, rest = _split_name(line.text)
    if not colon or not given_name:
        problems.append(f'{line.where}: no "name: target" but {clean(line.text, 60)!r}')
        return "", ()
    try:
        name = addresses.fold(_canonical(given_name))
    except addresses.AddressError as error:
        problems.append(f"{line.where}: {clean(given_name, 80)}: {error}")
        return "", ()
    try:
        given = parse_targets(rest)
    except ValueError as error:
        problems.append(f"{line.where}: {clean(name)}: {error}")
        return name, ()
    if not given:
        problems.append(f"{line.where}: {clean(name)} leads nowhere")
    targets: list[str] = []
    for target in given:
        if target.lower().startswith(INCLUDE):
            targets += _included(target[len(INCLUDE) :].strip(), line.where, problems)
        else:
            targets += _target(target, line.where, problems)
    return name, tuple(dict.fromkeys(targets))


def _split_name(text: str) -> tuple[str, str, str]:
    """The name before the colon; a quoted one may hold a colon itself."""
    if text.startswith('"'):
        end = text.find('"', 1)
        if end < 0:
            return "", "", text
        rest = text[end + 1 :].lstrip()
        return text[1:end], rest[:1] if rest.startswith(":") else "", rest[1:]
    name, colon, rest = text.partition(":")
    return name.strip(), colon, rest


def _target(target: str, where: str, problems: list[str]) -> list[str]:
    """The target in canonical form, as a list of one; empty, with a problem, when it cannot be."""
    shown = clean(target, 80)
    if target.startswith("|"):
        problems.append(f"{where}: {shown}: programs are not run from aliases; use a delivery route for them")
        return []
    if target.startswith("/"):
        problems.append(f"{where}: {shown}: files are not written from aliases; use a delivery route for them")
        return []
    literal = target.startswith("\\")
    try:
        name = _canonical(target.removeprefix("\\"))
    except addresses.AddressError as error:
        problems.append(f"{where}: {shown}: {error}")
        return []
    return [f"\\{name}" if literal else name]


def _canonical(name: str) -> str:
    """A local name or an address in canonical form. Raises AddressError."""
    if "@" in name:
        return addresses.parse(name, utf8=True)
    # A bare name gets any domain, only to be judged by the one grammar there is.
    local = f'"{name}"' if " " in name and '"' not in name else name
    return addresses.split(addresses.parse(f"{local}@alias.invalid", utf8=True))[0]


def _included(path: str, where: str, problems: list[str]) -> list[str]:
    """The targets in an included file: one or more a line, no further inclusion."""
    if not path.startswith("/"):
        problems.append(f"{where}: {INCLUDE} needs an absolute path")
        return []
    octets = _read(path, INCLUDE_MAX_BYTES, where, problems, trusted_only=True)
    if octets is None:
        return []
    targets: list[str] = []
    for number, text in enumerate(_text(octets, path, problems).splitlines(), 1):
        if text.lstrip().startswith("#"):
            continue
        try:
            for target in parse_targets(text):
                if target.lower().startswith(INCLUDE):
                    problems.append(f"{path}:{number}: an included file includes no other")
                else:
                    targets += _target(target, f"{path}:{number}", problems)
        except ValueError as error:
            problems.append(f"{path}:{number}: {error}")
    return targets


def _logical_lines(text: str, path: str) -> Iterator[_Line]:
    """Lines that begin with blanks continue the one before; comments and empty lines are skipped."""
    where, parts = "", list[str]()
    for number, line in enumerate(text.split("\n"), 1):
        line = line.rstrip("\r\t ")
        if not line or line.lstrip().startswith("#"):
            continue
        if line[0] in " \t" and parts:
            parts.append(line.strip())
            continue
        if parts:
            yield _Line(where, " ".join(parts))
        where, parts = f"{path}:{number}", [line.strip()]
    if parts:
        yield _Line(where, " ".join(parts))


def _unquote(target: str) -> str:
    """A target that is quoted as a whole, as in "|program a b"; a quoted local part keeps its quotes."""
    if len(target) > 1 and target.startswith('"') and target.endswith('"') and target.count('"') == 2:
        return target[1:-1].strip()
    return target


def _text(octets: bytes, path: str, problems: list[str]) -> str:
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError as error:
        problems.append(f"{path}:{octets.count(10, 0, error.start) + 1}: not UTF-8")
        return octets.decode("utf-8", "replace")


def _read(path: str, limit: int, where: str, problems: list[str], *, trusted_only: bool) -> bytes | None:
    """The file's octets. `trusted_only`: a plain file of root or the daemon's user that not everybody can write."""
    shown = clean(path, 200)
    prefix = f"{where}:" if where == path else f"{where}: {shown}"
    try:
        # Not to hang on a FIFO; what was opened is what is judged.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                problems.append(f"{prefix} is no plain file")
                return None
            if trusted_only and found.st_uid not in {0, os.geteuid()}:
                problems.append(f"{prefix} is owned by uid {found.st_uid}; it must be root's or the service's")
                return None
            if trusted_only and found.st_mode & stat.S_IWOTH:
                problems.append(f"{prefix} can be written by everybody")
                return None
            octets = file.read(limit + 1)
    except FileNotFoundError:
        if trusted_only:
            problems.append(f"{prefix} does not exist")
        return None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        problems.append(f"{prefix} cannot be read: {getattr(error, 'strerror', None) or 'no file name'}")
        return None
    if len(octets) > limit:
        problems.append(f"{prefix} is larger than {limit} octets")
        return None
    return octets
