"""docs/reference.md."""

from collections.abc import Iterator, Sequence

from mtactl.gen.source import EXIT_CODES, Command, Group, Section


def text(groups: Sequence[Group], sections: Sequence[Section], common: Sequence[tuple[str, str]]) -> str:
    return "\n".join(_lines(groups, sections, common)) + "\n"


def _lines(groups: Sequence[Group], sections: Sequence[Section], common: Sequence[tuple[str, str]]) -> Iterator[str]:
    yield "# Reference"
    yield ""
    yield "Made by `scripts/gen.sh` from the tables that the programs go by. Every command, setting and exit code."
    yield ""
    yield "## Options of every command"
    yield ""
    yield from _table(("option", "meaning"), [(f"`{name}`", words) for name, words in common])
    yield ""
    yield "## Exit codes"
    yield ""
    yield from _table(("code", "meaning"), [(str(code), words) for code, words in EXIT_CODES])
    for group in groups:
        yield ""
        yield f"## mtactl {group.word}"
        yield ""
        yield f"{group.summary}."
        for command in group.commands:
            yield from _command(command)
    yield ""
    yield "## mtad.toml"
    for section in sections:
        yield ""
        yield f"### {f'[{section.name}]' if section.name else 'Top of the file'}"
        yield ""
        if section.help:
            yield section.help
            yield ""
        rows = [
            (f"`{key.name}`", key.type, f"`{key.default}`", key.help + (f" `{key.variable}`" if key.variable else ""))
            for key in section.keys
        ]
        if rows:
            yield from _table(("key", "type", "default", "meaning"), rows)


def _command(command: Command) -> Iterator[str]:
    yield ""
    yield f"### mtactl {command.path}"
    yield ""
    yield f"    mtactl {command.path} {command.usage}".rstrip()
    yield ""
    yield command.help
    yield ""
    options = [(f"`{name}`", words) for name, words in (*command.arguments, *command.options)]
    yield from _table(("argument or option", "meaning"), options)
    if command.row:
        yield ""
        yield f"JSON: {', '.join(f'`{name}` ({kind})' for name, kind in command.row)}"
    yield ""
    yield from (f"    {example}" for example in command.examples)


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(titles)} |"
    yield f"|{'---|' * len(titles)}"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"
