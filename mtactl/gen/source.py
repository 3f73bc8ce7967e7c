"""What there is to document, as data: commands from the click tree, settings, sendmail's flags, exit codes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import click

from mtactl.cli import Tree, Verb, tree
from mtad.config.keys import KEYS, SECTIONS, Key
from mtad.control.operations import BY_NAME

EXIT_CODES: Sequence[tuple[int, str]] = (
    (0, "done"),
    (1, "a check found a problem, or nothing matched"),
    (64, "usage: the command line is wrong, or a changing verb was told nothing to act on"),
    (65, "bad data"),
    (69, "the daemon cannot be reached"),
    (70, "a bug"),
    (73, "cannot create a file"),
    (75, "try again"),
    (77, "not permitted"),
    (78, "the configuration is wrong"),
)


@dataclass(frozen=True, slots=True)
class Command:
    path: str  # "queue list"
    usage: str  # "[OPTIONS] [ID...]"
    summary: str
    help: str
    arguments: tuple[tuple[str, str], ...]
    options: tuple[tuple[str, str], ...]  # without those that every command has
    examples: tuple[str, ...]
    row: tuple[tuple[str, str], ...]  # members of the JSON it prints


@dataclass(frozen=True, slots=True)
class Group:
    word: str  # the first word
    summary: str
    commands: tuple[Command, ...]


@dataclass(frozen=True, slots=True)
class Section:
    name: str  # "" is the top of the file
    help: str
    keys: tuple[Key, ...]


def groups() -> Iterator[Group]:
    """Each first word of mtactl with all its commands, in the order of the help."""
    root = tree()
    for word in root.list_commands(click.Context(root)):
        command = root.get_command(click.Context(root), word)
        assert command is not None
        yield Group(word, root.about(word), tuple(_commands(command, word)))


def common() -> tuple[tuple[str, str], ...]:
    """The options that every command takes."""
    root = tree()
    return _options(root, click.Context(root, info_name="mtactl"))


def sections() -> Iterator[Section]:
    for name, about in SECTIONS.items():
        yield Section(name, about, tuple(key for key in KEYS if key.section == name))


def _commands(command: click.Command, path: str) -> Iterator[Command]:
    if isinstance(command, Tree):
        for name in command.list_commands(click.Context(command)):
            inner = command.get_command(click.Context(command), name)
            assert inner is not None
            yield from _commands(inner, f"{path} {name}")
        return
    assert isinstance(command, Verb)
    operation = BY_NAME.get(path.replace("-", "_").replace(" ", "."))
    context = click.Context(command, info_name=f"mtactl {path}")
    yield Command(
        path,
        " ".join(command.collect_usage_pieces(context)),
        operation.summary if operation else _first_sentence(command.help or ""),
        command.help or "",
        tuple(command.arguments),
        tuple(option for option in _options(command, context) if option[0] != "-h, --help"),
        tuple(command.examples),
        operation.row if operation else (),
    )


def _options(command: click.Command, context: click.Context) -> tuple[tuple[str, str], ...]:
    options = (param for param in command.get_params(context) if isinstance(param, click.Option))
    return tuple(record for option in options if (record := option.get_help_record(context)) is not None)


def _first_sentence(text: str) -> str:
    return text.partition(". ")[0].removesuffix(".")
