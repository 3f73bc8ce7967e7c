"""What README.md and docs/ tell people to type parses: each command with its options and values, each script, each
setting, each page and heading that another page leads to."""

import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from mtactl.base import Options
from mtactl.cli import tree
from mtad.config.keys import KEYS, SECTIONS
from mtad.control.operation import UsageError, check
from mtad.control.operations import BY_NAME
from mtad.doctor.finding import CHECKS
from mtad.publish.finding import CATALOGUE

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
WRITTEN = [page for page in PAGES if page.name != "reference.md"]  # that one is made from the tables themselves
_SPAN = re.compile(r"`([^`\n]+)`")
_BLOCK = re.compile(r"^```\w*\n(.*?)^```$|((?:^(?:    .*)?\n)+)", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"`((?:docs|scripts|tests|deploy|mtad|mtactl|completions|man)/[\w./-]+)`")
EACH = pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.name)


def commands(line: str) -> Iterator[list[str]]:
    """The commands of a line of the shell."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>()")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in lexer:
        if word in ("|", "||", "&&", ";", "<", ">", ">>"):
            yield words
            words = []
        else:
            words.append(word)
    yield words


def typed(text: str) -> Iterator[list[str]]:
    """What stands in blocks of code behind `$ `, or at the beginning of a line."""
    for fenced, indented in _BLOCK.findall(text):
        for line in re.sub(r"\\\n *", "", fenced or indented).splitlines():
            bare = line.strip().removeprefix("$ ")
            if re.match(r"(mtactl|mtad|mailq|scripts/\w+\.sh|sendmail) |\$ ", bare) and "  from " not in bare:
                try:
                    yield from commands(bare)
                except ValueError:  # words with an apostrophe that a program printed
                    assert not line.strip().startswith("$ "), line


def parsed(words: list[str]) -> tuple[list[str], dict[str, object]]:
    """The path and the values of a command line of mtactl. UsageError when it is wrong."""
    command: click.Command = tree()
    context = command.make_context("mtactl", list(words), obj=Options())
    path = []
    while isinstance(command, click.Group):
        left = [*context._protected_args, *context.args]
        name, found, left = command.resolve_command(context, left)
        assert name is not None
        assert found is not None
        path.append(name)
        command, context = found, found.make_context(name, left, parent=context)
    return path, context.params


@EACH
def test_what_is_typed_is_right(page: Path) -> None:
    for program, *words in filter(None, typed(page.read_text())):
        if program == "mtactl" and "..." not in words:
            try:
                path, given = parsed(words)
            except click.exceptions.Exit:  # --help
                continue
            except click.UsageError as error:
                pytest.fail(f"{words}: {error.format_message()}")
            operation = BY_NAME.get(".".join(path).replace("-", "_"))
            if operation is not None and not any(word.isupper() for word in words):
                known = {param.name for param in operation.params}
                values = {
                    name: list(value) if isinstance(value, tuple) else value
                    for name, value in given.items()
                    if name in known and value not in (None, False, ())
                }
                if values.get("ids") == ["-"]:  # from standard input
                    values["ids"] = ["3kf9x2m7q0w1"]
                secret = {param.name: "-" for param in operation.params if param.kind == "secret"}
                try:
                    check(operation, {**values, **secret})
                except UsageError as error:
                    pytest.fail(f"{words}: {error.param}: {error.text}")
        elif program.startswith("scripts/"):
            script(program, words)


def test_wrong_lines_are_found_out() -> None:
    """That the tests above can fail, and that the blocks are seen."""
    for words in (["queue", "lst"], ["queue", "list", "--form", "x"], ["user", "add"]):
        with pytest.raises(click.UsageError):
            parsed(words)
    assert list(typed("text\n\n    $ mtactl a b | c\n    says\n\n```sh\nmtactl d  # e\n```\n")) == [
        ["mtactl", "a", "b"], ["c"], ["mtactl", "d"],
    ]  # fmt: skip
    seen = [words for page in WRITTEN for words in typed(page.read_text()) if words[:1] == ["mtactl"]]
    assert len(seen) > 60


def test_help_is_quoted_as_it_is() -> None:
    """What docs/operating.md shows of it."""
    page = (ROOT / "docs" / "operating.md").read_text()
    quoted = re.findall(r"^    \$ (mtactl .*--help \| .*)\n((?:    (?!\$ ).*\n)+)", page, re.MULTILINE)
    assert len(quoted) == 3
    for command, shown in quoted:
        line = command.replace("mtactl", f"{shlex.quote(sys.executable)} -m mtactl", 1)
        done = subprocess.run(["bash", "-c", line], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        assert textwrap.dedent(done.stdout) == textwrap.dedent(shown), command


def script(path: str, words: list[str]) -> None:
    text = "".join(file.read_text() for file in [ROOT / path, *(ROOT / "tests" / "faults").glob("*.py")])
    assert all(word in text for word in words if word.startswith("--")), words


@EACH
def test_what_is_mentioned_exists(page: Path) -> None:
    for span in _SPAN.findall(page.read_text().replace("\\|", "|")):
        words = span.split()
        if words[0] != "mtactl" or words[1:2] in ([], ["--version"]):
            continue
        command: click.Command = tree()
        rest = words[1:]
        while isinstance(command, click.Group) and rest and re.fullmatch(r"[a-z0-9-]+", rest[0]):
            found = command.get_command(click.Context(command), rest.pop(0))
            assert found is not None, span
            command = found
        options = {option for param in command.params for option in param.opts}
        assert {word.strip("[]") for word in rest if word.lstrip("[").startswith("--")} <= {*options, "--help"}, span


@EACH
def test_files_and_settings_exist(page: Path) -> None:
    text = page.read_text()
    for name in _FILE.findall(text):
        assert (ROOT / name).exists(), name
    known = {
        *(key.path for key in KEYS),
        *SECTIONS,
        *CATALOGUE,
        *CHECKS,
        *(f"dns.{one}" for one in CATALOGUE),
    }  # a finding is called alike
    for span in _SPAN.findall(text):
        if re.fullmatch(r"[a-z_]+\.[a-z_0-9]+(\.[a-z_]+)?", span) and span.partition(".")[0] in SECTIONS:
            assert span in known or page.name in ("flow.md", "architecture.md"), span  # there: modules


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        name, _, anchor = target.partition("#")
        if name.startswith("http"):
            continue
        other = page.parent / name if name else page
        assert other.is_file(), target
        headings = {
            re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
            for heading in re.findall(r"^#+ (.*)$", other.read_text(), re.MULTILINE)
        }
        assert not anchor or anchor in headings, target
