"""`python -m mtactl.gen [--check]`: write all generated files below the working directory, or say which are stale."""

import os
import sys
from collections.abc import Mapping, Sequence

from mtactl.gen import man, reference, source

EX_OK, EX_STALE = 0, 1
SHELLS = {"bash": "completions/mtactl.bash", "zsh": "completions/_mtactl", "fish": "completions/mtactl.fish"}


def files() -> Mapping[str, str]:
    """Path -> content of everything that is generated."""
    from click.shell_completion import get_completion_class

    from mtactl.cli import tree

    groups, sections, common = tuple(source.groups()), tuple(source.sections()), source.common()
    made = {f"man/man{name[-1]}/{name}": page for name, page in man.pages(groups, sections, common).items()}
    made["docs/reference.md"] = reference.text(groups, sections, common)
    for shell, path in SHELLS.items():
        kind = get_completion_class(shell)
        assert kind is not None
        made[path] = kind(tree(), {}, "mtactl", "_MTACTL_COMPLETE").source()
    return made


def stale(made: Mapping[str, str], root: str = ".") -> list[str]:
    """Which files differ from what they should be, are missing, or are not ours any more."""
    found = [path for path, text in made.items() if _read(f"{root}/{path}") != text]
    for folder in ("man", "completions"):
        for path, _, names in os.walk(f"{root}/{folder}"):
            there = (os.path.relpath(f"{path}/{name}", root) for name in sorted(names))
            found += [one for one in there if one not in made]
    return found


def main(argv: Sequence[str]) -> int:
    made = files()
    found = stale(made)
    if "--check" in argv:
        for path in found:
            print(f"{path} is stale: run scripts/gen.sh", file=sys.stderr)
        return EX_STALE if found else EX_OK
    for path in found:
        if path in made:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as file:
                file.write(made[path])
        else:
            os.unlink(path)
        print(path)
    return EX_OK


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
