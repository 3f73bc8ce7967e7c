"""Names of sendmail that belong to update-alternatives: our program becomes one of those to choose from, and chosen.

One group has a master link and slaves (on Red Hat `mta` with mailq and newaliases): they are given together.
"""

import os
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from mtactl.steps import PATHS, Step, Trouble

TOOL = "update-alternatives"
PRIORITY = "100"
_LINKS = "/etc/alternatives/"
_RECORDS = ("/var/lib/dpkg/alternatives", "/var/lib/alternatives")  # of Debian, of Red Hat


@dataclass(frozen=True, slots=True)
class Group:
    """What the tool wrote down of a group. `slaves` are (name, link); `choices` the paths it may choose from."""

    name: str
    link: str
    slaves: tuple[tuple[str, str], ...]
    choices: tuple[str, ...]


def name_of(root: str, path: str) -> str:
    """The name that a path has there; "" when it belongs to nobody."""
    here = root + path
    target = os.readlink(here) if os.path.islink(here) else ""
    return target.removeprefix(_LINKS) if target.startswith(_LINKS) else ""


def take(root: str, directory: str) -> list[Step]:
    """The steps that are missing for all groups that have one of the paths. Trouble when one cannot be ours."""
    steps: list[Step] = []
    groups = _groups(root)
    for path in PATHS:
        name = name_of(root, path)
        if name and not any(path == group.link or (name, path) in group.slaves for group in groups):
            raise Trouble(f"{path} belongs to alternatives, which has no record of {name}: remove the link first")
    for group in groups:
        if group.link not in PATHS:
            raise Trouble(f"{group.link} of the alternative {group.name} is no name of sendmail's")
        ours = f"{directory}/{PATHS[group.link]}"
        slaves = [(link, name, f"{directory}/{PATHS[link]}") for name, link in group.slaves if link in PATHS]
        if ours not in group.choices:
            more = [word for slave in slaves for word in ("--slave", *slave)]
            steps.append(_step(root, "--install", group.link, group.name, ours, PRIORITY, *more))
        if ours not in group.choices or os.readlink(f"{root}{_LINKS}{group.name}") != ours:
            steps.append(_step(root, "--set", group.name, ours))
    return steps


def give_back(root: str) -> list[Step]:
    """What is ours is taken out; the tool chooses the best of the others where ours was chosen."""
    return [
        _step(root, "--remove", group.name, choice)
        for group in _groups(root)
        for choice in group.choices
        if os.path.basename(choice) == PATHS.get(group.link)
    ]


def _groups(root: str) -> list[Group]:
    """Those that have one of our paths, each once."""
    names = {name for path in PATHS if (name := name_of(root, path))}
    if not names:
        return []
    found: list[Group] = []
    for directory in (f"{root}{one}" for one in _RECORDS):
        for name in sorted(os.listdir(directory)) if os.path.isdir(directory) else ():
            group = _read(f"{directory}/{name}", name)
            if group is not None and not names.isdisjoint({name, *(slave for slave, _ in group.slaves)}):
                found.append(group)
    return found


def _read(path: str, name: str) -> Group | None:
    """A record: how it was chosen, the link, pairs of lines for the slaves, an empty line, and the choices, each with
    a priority and a path for each slave. None for what is none."""
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().split("\n")
    except (OSError, UnicodeDecodeError):
        return None
    if len(lines) < 3 or "" not in lines[2:]:
        return None
    end = lines.index("", 2)
    slaves = tuple(zip(lines[2:end:2], lines[3:end:2], strict=False))
    size = 2 + len(slaves)
    choices = [lines[start] for start in range(end + 1, len(lines), size)]
    return Group(name, lines[1], slaves, tuple(choice for choice in choices if choice.startswith("/")))


def _step(root: str, *words: str) -> Step:
    return Step(shlex.join([TOOL, *words]), partial(_run, root, words))


def _run(root: str, words: Sequence[str]) -> None:
    where = ["--root", root] if root else []
    try:
        done = subprocess.run([TOOL, *where, *words], capture_output=True, text=True, check=False)
    except OSError as error:
        raise Trouble(f"{TOOL}: {error.strerror}") from None
    if done.returncode:
        raise Trouble((done.stderr.strip() or f"{TOOL} ended with {done.returncode}").splitlines()[-1])
