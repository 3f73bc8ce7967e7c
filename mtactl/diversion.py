"""Making the names of sendmail ours, and giving them back: each step is shown before it is done.

What belongs to update-alternatives stays there (`mtactl.alternatives`). With dpkg each other path is diverted, so that
packages that own it write beside our link. Elsewhere what is there is renamed.
"""

import os
import shutil
import subprocess
import sys

from mtactl import alternatives
from mtactl.steps import PATHS, Step, Trouble

SUFFIX = ".before-mtad"


def own_program() -> str:
    """`mtad-sendmail` beside the running mtactl. Trouble when there is none."""
    for directory in (os.path.dirname(os.path.abspath(sys.argv[0])), os.path.dirname(sys.executable)):
        path = os.path.join(directory, "mtad-sendmail")
        if os.access(path, os.X_OK):
            return path
    raise Trouble("there is no mtad-sendmail beside mtactl: name it with --target")


def plan(system_root: str, target: str, *, undo: bool) -> list[Step]:
    """The steps that are missing. Trouble when the program cannot be run by everybody."""
    root = system_root.rstrip("/")
    if not undo:
        _check_target(root, target)
    directory = os.path.dirname(target)
    steps = alternatives.give_back(root) if undo else alternatives.take(root, directory)
    for path, name in PATHS.items():
        if alternatives.name_of(root, path):
            continue
        wanted = f"{directory}/{name}"
        steps += _give_back(root, path) if undo else _take(root, path, wanted)
    return steps


def _check_target(root: str, target: str) -> None:
    """All users of the host run it, so all must be able to reach it."""
    if not os.access(root + target, os.X_OK):
        raise Trouble(f"{target} is no program that can be run")
    for name in set(PATHS.values()):
        if not os.path.exists(f"{root}{os.path.dirname(target)}/{name}"):
            raise Trouble(f"{os.path.dirname(target)} has no {name}")
    path = os.path.realpath(root + target)
    while len(path) > max(len(os.path.realpath(root or "/")), 1):
        if not os.stat(path).st_mode & 0o001:
            raise Trouble(f"other users cannot reach {target}: {path} is closed to them; install mtad elsewhere")
        path = os.path.dirname(path)


def _ours(path: str) -> bool:
    return os.path.islink(path) and os.path.basename(os.readlink(path)) in PATHS.values()


def _take(root: str, path: str, wanted: str) -> list[Step]:
    here, steps = root + path, list[Step]()
    if _ours(here) and os.readlink(here) == wanted:
        return []
    if _ours(here):
        steps.append(Step(f"remove {path} -> {os.readlink(here)}", lambda: _remove(here)))
    elif _dpkg(root):
        steps.append(Step(f"divert {path} to {path}{SUFFIX}", lambda: _divert(root, path, "--add")))
    elif os.path.lexists(here):
        steps.append(Step(f"rename {path} to {path}{SUFFIX}", lambda: _rename(here, here + SUFFIX)))
    steps.append(Step(f"link {path} -> {wanted}", lambda: _link(here, wanted)))
    return steps


def _give_back(root: str, path: str) -> list[Step]:
    here, steps = root + path, list[Step]()
    if _ours(here):
        steps.append(Step(f"remove {path} -> {os.readlink(here)}", lambda: _remove(here)))
    if _dpkg(root) and _diverted(root, path):
        steps.append(Step(f"end the diversion of {path}", lambda: _divert(root, path, "--remove")))
    elif os.path.lexists(here + SUFFIX):
        steps.append(Step(f"rename {path}{SUFFIX} to {path}", lambda: _rename(here + SUFFIX, here)))
    return steps


def _dpkg(root: str) -> bool:
    return os.path.isdir(f"{root}/var/lib/dpkg") and shutil.which("dpkg-divert") is not None


def _diverted(root: str, path: str) -> bool:
    try:
        with open(f"{root}/var/lib/dpkg/diversions", encoding="utf-8") as file:
            return f"{path}{SUFFIX}\n" in file.readlines()
    except FileNotFoundError:
        return False


def _divert(root: str, path: str, action: str) -> None:
    command = ["dpkg-divert", "--root", root or "/", "--local", "--rename"]
    command += [action] if action == "--remove" else ["--divert", path + SUFFIX, action]
    done = subprocess.run([*command, path], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Trouble((done.stderr.strip() or f"dpkg-divert ended with {done.returncode}").splitlines()[-1])


def _remove(path: str) -> None:
    with _told():
        os.unlink(path)


def _rename(old: str, new: str) -> None:
    with _told():
        os.rename(old, new)


def _link(path: str, target: str) -> None:
    with _told():
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.symlink(target, path)


class _told:  # noqa: N801  (a context manager)
    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise Trouble(f"{error.filename}: {error.strerror}") from None
