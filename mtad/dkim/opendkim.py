"""OpenDKIM's KeyTable and SigningTable (opendkim.conf(5)) as data. Pure."""

from dataclasses import dataclass

LINES_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of a KeyTable. `domain` is "%" where the SigningTable's domain is meant."""

    name: str
    domain: str
    selector: str
    path: str


class TableError(ValueError):
    """A line that is none. The words are for the operator."""


def key_table(text: str) -> list[Entry]:
    """Lines of "name domain:selector:/path/of/key". Raises TableError."""
    found = []
    for number, words in _lines(text):
        parts = words[1].split(":", 2) if len(words) == 2 else []
        if len(parts) != 3 or not all(parts):
            raise TableError(f"line {number} is not NAME DOMAIN:SELECTOR:FILE")
        if not parts[2].startswith("/"):
            raise TableError(f"line {number}: {parts[2][:60]!r} is no absolute path")
        found.append(Entry(words[0], *parts))
    return found


def signing_table(text: str) -> list[tuple[str, str]]:
    """Lines of "pattern name" as (pattern over domains, name); "" for a pattern that is about single users."""
    found = []
    for number, words in _lines(text):
        if len(words) != 2:
            raise TableError(f"line {number} is not PATTERN NAME")
        local, at, domain = words[0].rpartition("@")
        pattern = domain if not at or local == "*" else ""
        if pattern.startswith("."):  # all below it
            pattern = f"*{pattern}"
        found.append((pattern.lower(), words[1]))
    return found


def wanted(keys: list[Entry], signs: list[tuple[str, str]]) -> tuple[list[Entry], list[tuple[str, str]], list[str]]:
    """(keys to take over, rules as (match, by) that the settings need, what cannot be taken over)."""
    by_name = {entry.name: entry for entry in keys}
    taken: dict[tuple[str, str], Entry] = {}
    rules, problems = [], []
    for entry in keys:
        if entry.domain != "%":
            taken[entry.domain.lower(), entry.selector] = entry
    for pattern, name in signs:
        known = by_name.get(name)
        if known is None:
            problems.append(f"{name}: there is no such key")
        elif not pattern:
            problems.append(f"{name}: a rule for single users; here whole domains are signed")
        elif known.domain == "%" and "*" in pattern:
            problems.append(f"{name}: which domains {pattern} means cannot be told")
        elif known.domain == "%":
            taken[pattern, known.selector] = Entry(name, pattern, known.selector, known.path)
        elif known.domain.lower() != pattern:
            rules.append((pattern, known.domain.lower()))
    return list(taken.values()), list(dict.fromkeys(rules)), problems


def _lines(text: str) -> list[tuple[int, list[str]]]:
    lines = [(number, line.split("#", 1)[0].split()) for number, line in enumerate(text.splitlines(), 1)]
    if len(lines) > LINES_MAX:
        raise TableError(f"has more than {LINES_MAX} lines")
    return [(number, words) for number, words in lines if words]
