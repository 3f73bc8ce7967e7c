"""Man pages, completions and the reference: as the tables are now, without a fault, and of use in a shell."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from control_daemon import Daemon

from mtactl.cli import Tree, tree
from mtactl.gen import source
from mtactl.gen.__main__ import files, stale
from mtactl.gen.source import EXIT_CODES
from mtad.config.keys import KEYS
from mtad.control.operations import OPERATIONS

MADE = files()


def test_the_files_are_as_the_tables_are(repository: Path) -> None:
    assert stale(MADE, str(repository)) == []


def test_a_stale_file_is_noticed(tmp_path: Path) -> None:
    for path, text in MADE.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    assert stale(MADE, str(tmp_path)) == []
    (tmp_path / "man/man8/mtactl.8").write_text("old")
    (tmp_path / "man/man8/gone.8").write_text("of a command that is no more")
    assert stale(MADE, str(tmp_path)) == ["man/man8/mtactl.8", "man/man8/gone.8"]


def test_everything_is_in_the_reference() -> None:
    text = MADE["docs/reference.md"]
    for operation in OPERATIONS:
        assert f"\n### mtactl {operation.name.replace('_', '-').replace('.', ' ')}\n" in text
    for key in KEYS:
        assert f"| `{key.name}` |" in text
    for code, words in EXIT_CODES:
        assert f"| {code} | {words} |" in text


def test_each_group_has_its_page() -> None:
    for group in source.groups():
        page = MADE[f"man/man8/mtactl-{group.word}.8"]
        for command in group.commands:
            assert command.examples
            assert command.help.strip()
            assert f".SS mtactl {command.path}".replace("-", "\\-") in page


@pytest.mark.peer
@pytest.mark.skipif(shutil.which("mandoc") is None, reason="mandoc is not installed")
def test_mandoc_finds_no_fault(repository: Path) -> None:
    pages = sorted(str(path) for path in (repository / "man").glob("man*/*"))
    done = subprocess.run(["mandoc", "-Tlint", *pages], capture_output=True, text=True, timeout=60)
    assert done.stdout + done.stderr == ""


def completed(repository: Path, tmp_path: Path, line: str, root: Path) -> set[str]:
    """What bash offers at the end of a line."""
    command = tmp_path / "bin" / "mtactl"
    if not command.exists():
        command.parent.mkdir()
        command.write_text(f'#!/bin/sh\nPYTHONPATH={repository} exec {sys.executable} -m mtactl "$@"\n')
        command.chmod(0o755)
    words = line.split(" ")
    script = f"""
        source {repository}/completions/mtactl.bash
        COMP_WORDS=({" ".join(f"'{word}'" for word in words)})
        COMP_CWORD={len(words) - 1}
        _mtactl_completion mtactl '{words[-1]}' '{words[-2]}'
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    env = {"PATH": f"{command.parent}:{os.environ['PATH']}", "HOME": str(tmp_path), "MTA_ROOT": str(root)}
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60, env=env)
    assert done.stderr == ""
    return set(done.stdout.split())


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes_commands_options_and_live_values(
    repository: Path, tmp_path: Path, daemon: Daemon, short_dir: Path
) -> None:
    assert {"list", "purge"} <= completed(repository, tmp_path, "mtactl queue ", short_dir)
    assert completed(repository, tmp_path, "mtactl queue list --ol", short_dir) == {"--older"}
    assert "example.test" in completed(repository, tmp_path, "mtactl queue list --domain ", short_dir)


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_does_not_wait_for_a_daemon_that_is_down(repository: Path, tmp_path: Path) -> None:
    assert completed(repository, tmp_path, "mtactl queue show ", tmp_path) == set()


def test_every_printed_example_parses() -> None:
    """Those of the commands that no operation is behind, too; a file that is named need not be there."""
    tried = 0
    for group in source.groups():
        for command in group.commands:
            paths = [path for example in command.examples for words in _calls(example) if (path := _parsed(words))]
            tried += len(paths)
    assert tried > len(OPERATIONS)


def _calls(example: str) -> list[list[str]]:
    """The calls of mtactl in a line for the shell, also those that another host is sent."""
    words = shlex.shlex(re.sub(r"\$\(.*?\)|'<>'", "VALUE", example), posix=True, punctuation_chars="|<>;&")
    words.whitespace_split = True
    calls: list[list[str]] = []
    inside = False
    for word in words:
        if word == "mtactl":
            calls.append([])
            inside = True
        elif set(word) <= set("|<>;&"):
            inside = False
        elif inside:
            calls[-1].append(word)
    return calls


def _parsed(words: list[str]) -> str:
    """The path of the command whose arguments these are; "" when only a file is wanting. ClickException."""
    command: click.Command = tree()
    context, path = click.Context(command, info_name="mtactl"), []
    while isinstance(command, Tree):
        name, inner, words = command.resolve_command(context, words)
        assert inner is not None
        command, path = inner, [*path, str(name)]
    try:
        command.make_context(path[-1], words, parent=context)
    except click.BadParameter as error:
        if "No such file" in error.format_message():
            return ""
        raise
    return " ".join(path)
