"""mtactl: the command tree, made from the table of operations when it is asked for, plus the few local commands.

A command imports click and what it needs; the rest stays on the disk.
"""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import click

from mtactl.base import METAVARS, Options, say
from mtactl.errors import (
    EX_INTERRUPTED,
    EX_OK,
    EX_SOFTWARE,
    EX_TEMPFAIL,
    EX_USAGE,
    CallError,
)
from mtad import __version__
from mtad.control.operation import Operation, Param, UsageError
from mtad.control.tables import INDEX, load

_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


Words = dict[str, tuple[str | Callable[[], str], Callable[[], click.Command]]]
"""Name of a command -> (one line about it or who knows it, how to build it)."""


class Tree(click.Group):
    """Commands that are built when they are named."""

    def __init__(self, name: str, words: Words, **more: Any) -> None:
        super().__init__(name, context_settings=_SETTINGS, **more)
        self.words = words

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.words)

    def about(self, name: str) -> str:
        """The one line about a command."""
        summary, _ = self.words[name]
        return summary if isinstance(summary, str) else summary()

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return self.words[cmd_name][1]() if cmd_name in self.words else None

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:
            click.echo(ctx.get_help(), err=True)
            ctx.exit(EX_USAGE)
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in self.words and not name.startswith("-") and not ctx.resilient_parsing:
            from difflib import get_close_matches

            close = self._below(ctx, name)[:3] or get_close_matches(name, self.words, 1)
            hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
            ctx.fail(f"There is no command {name!a}.{hint}")
        return super().resolve_command(ctx, args)

    def _below(self, ctx: click.Context, name: str) -> list[str]:
        """Where a command of that name is: "hold" is one of the queue's."""
        groups = ((word, self.get_command(ctx, word)) for word in self.words)
        return [f"{word} {name}" for word, group in groups if isinstance(group, Tree) and name in group.words]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, self.about(name)) for name in self.words])


class Verb(click.Command):
    """A command with explained arguments, and examples below its help."""

    def __init__(self, name: str, arguments: Sequence[tuple[str, str]], examples: Sequence[str], **more: Any) -> None:
        super().__init__(name, context_settings=_SETTINGS, **more)
        self.arguments = arguments
        self.examples = examples

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.arguments:
            with formatter.section("Arguments"):
                formatter.write_dl(self.arguments)
        super().format_options(ctx, formatter)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Examples"):
            for example in self.examples:
                formatter.write(f"{'':>{formatter.current_indent}}{example}\n")


def tree() -> Tree:
    """The whole of mtactl. Only what the first word names is loaded; all of it for the help."""
    words: Words = {word: (partial(_summary, word), partial(_command, word)) for word in INDEX}
    for group, verb, summary, about, build in (
        ("sendmail", "explain", "What sendmail makes of its arguments", "How sendmail is understood", "explain"),
        ("install", "sendmail", "Make sendmail, mailq and newaliases ours", "Take mtad into use", "install"),
    ):
        words[group] = (about, partial(Tree, group, {verb: (summary, _local(build, "programs"))}, help=f"{about}."))
    words["doctor"] = ("Is this host fit to serve mail", _local("doctor", "doctor"))
    words["send-test"] = ("Send a mail and follow it", _local("send_test", "sendtest"))
    words["verify"] = ("Judge a mail in a file by SPF, DKIM, DMARC and ARC", _local("verify", "verify"))
    words["init"] = ("Write a first configuration", _local("init"))
    words["completion"] = ("Print the completion script of a shell", _local("completion"))
    return Tree(
        "mtactl",
        words,
        help="Operate a running mtad. What only looks also works on the data of a stopped one.",
        params=[
            *common_options(),
            click.Option(["--version"], is_flag=True, is_eager=True, callback=_version, help="Version."),
        ],
        callback=remember,
    )


def _summary(word: str) -> str:
    table = load(INDEX[word])
    found: str = table.GROUPS.get(word) or next(one.summary for one in table.OPERATIONS if one.name == word)
    return found


def _command(word: str) -> click.Command:
    """What a first word stands for: a verb, or a group of them."""
    table = load(INDEX[word])
    groups: dict[str, Words] = {}
    for operation in table.OPERATIONS:
        *path, verb = operation.name.replace("_", "-").split(".")
        if path and path[0] == word:
            groups.setdefault(" ".join(path), {})[verb] = (operation.summary, partial(_verb, operation))
        elif operation.name == word:
            return _verb(operation)
    if word == "config":
        groups[word]["check"] = ("Check the configuration without using it", _local("config_check"))
    elif word == "dkim":
        groups[word]["sign"] = ("Sign a mail in a file", _local("dkim_sign", "signing"))
        groups[word]["verify"] = ("Verify the signatures of a mail in a file", _local("dkim_verify", "signing"))
        groups[word]["import-opendkim"] = ("Take over OpenDKIM's keys", _local("dkim_import_opendkim", "signing"))
    elif word == "queue":
        groups[word]["export"] = ("Move mail to another host's queue", _local("export", "transfers"))
        groups[word]["import"] = ("Take mail from another host's queue", _local("import_", "transfers"))
    elif word == "backup":
        groups[word] = {
            "create": ("Write a backup, while the daemon works", _local("create", "backups")),
            "verify": ("Read a backup to its end, and say whether it is good", _local("verify", "backups")),
            "list": ("List the backups of a directory", _local("list_", "backupfolder")),
            "prune": ("Remove old backups", _local("prune", "backupfolder")),
            "restore": ("Make a backup the data of a server again", _local("restore", "backups")),
            **groups[word],
        }
    elif word == "dns":
        for verb in ("records", "check"):
            groups[word][verb] = (groups[word][verb][0], _local(f"dns_{verb}", "publish"))
    for name, verbs in groups.items():
        outer, _, inner = name.rpartition(" ")
        if outer:
            groups[outer][inner] = (table.GROUPS[name], partial(Tree, inner, verbs, help=f"{table.GROUPS[name]}."))
    about = getattr(table, "ABOUT", {}).get(word, "")
    return Tree(word, groups[word], help=f"{table.GROUPS[word]}.{about}")


def _local(name: str, module: str = "commands") -> Callable[[], click.Command]:
    def build() -> click.Command:
        from importlib import import_module

        command: click.Command = getattr(import_module(f"mtactl.{module}"), name)()
        return command

    return build


def _version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        click.echo(f"mtactl {__version__} (Python {sys.version.split()[0]})")
        ctx.exit(EX_OK)


def common_options(*, hidden: bool = False) -> list[click.Parameter]:
    """--root, --socket, --json, --no-pager, --debug; behind a command they work too, but only --json is told there."""
    return [
        click.Option(["--root"], metavar="DIR", hidden=hidden, help="Use the daemon that has everything in DIR."),
        click.Option(["--socket"], metavar="PATH", hidden=hidden, help="Use the daemon that listens on PATH."),
        click.Option(["--json"], is_flag=True, help="Print JSON, one object per line."),
        click.Option(["--no-pager"], is_flag=True, hidden=hidden, help="Print long text as it comes."),
        click.Option(["--debug"], is_flag=True, hidden=hidden, help="Show where an internal error comes from."),
    ]


def remember(**given: Any) -> Options:
    """Merge the common options into the one Options of this run, and return it."""
    options = click.get_current_context().find_object(Options) or Options()
    options.root = given.pop("root", None) or options.root
    options.socket = given.pop("socket", None) or options.socket
    options.json = bool(given.pop("json", False)) or options.json
    options.debug = bool(given.pop("debug", False)) or options.debug
    options.no_pager = bool(given.pop("no_pager", False)) or options.no_pager
    return options


def _verb(operation: Operation) -> click.Command:
    """The command of an operation."""
    params: list[click.Parameter] = []
    arguments = []
    for param in operation.params:
        if param.kind == "lines":
            params.append(click.Argument([param.name], type=click.File("r", encoding="utf-8"), metavar="FILE"))
            arguments.append(("FILE", 'The file; "-" is standard input.'))
        elif param.positional:
            name = METAVARS.get(param.kind, param.name.upper())
            shown = f"{name}..." if param.many else name
            params.append(
                click.Argument(
                    [param.name],
                    type=click.INT if param.kind == "count" else click.STRING,
                    nargs=-1 if param.many else 1,
                    required=param.required,
                    metavar=shown if param.required else f"[{shown}]",
                    shell_complete=_live(param),
                )
            )
            more = ' "-" reads them from standard input, the first word of each line.' if param.many else ""
            arguments.append((name, param.help + more))
        elif param.kind == "secret":
            params.append(
                click.Option(["--password-fd"], type=click.INT, metavar="FD", help="Read the password from there.")
            )
        else:
            params.append(option(param))
    if operation.stream:
        params.append(
            click.Option(["--format"], metavar="NAME", help="Print a table as plain, grid, github, tsv, html ...")
        )
    params += common_options(hidden=True)

    def callback(**given: Any) -> int:
        from mtactl.perform import run

        return run(operation, remember(**given), {k: v for k, v in given.items() if k not in Options.__slots__})

    return Verb(
        operation.name.rpartition(".")[2].replace("_", "-"),
        arguments,
        operation.examples,
        params=params,
        help=operation.help,
        short_help=operation.summary,
        callback=callback,
    )


def option(param: Param) -> click.Option:
    """What a parameter is on the command line."""
    flag = f"--{param.name.replace('_', '-')}"
    if param.kind == "flag":
        return click.Option([flag], is_flag=True, help=param.help)
    kind: Any = click.STRING
    if param.choices:
        kind = click.Choice(param.choices)
    elif param.kind == "count":
        kind = click.INT
    default = f"  [{param.default}]" if param.default is not None else ""
    metavar = None if param.choices else METAVARS.get(param.kind, "TEXT")
    return click.Option(
        [flag], type=kind, multiple=param.many, metavar=metavar, help=param.help + default, shell_complete=_live(param)
    )


def _live(param: Param) -> Callable[[click.Context, click.Parameter, str], list[Any]] | None:
    """Who completes a value in a shell: the running daemon knows ids, users and domains."""
    if param.kind not in ("id", "user", "domain"):
        return None

    def complete(ctx: click.Context, option: click.Parameter, begun: str) -> list[Any]:
        from mtactl import live

        return list(live.complete(param.kind, ctx, option, begun))

    return complete


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line. The exit code; never raises, never shows a traceback (but with --debug)."""
    import signal

    # `mtactl queue list | head` ends as any filter does.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    options = Options()
    try:
        code = tree().main(
            args=list(argv) if argv is not None else None, prog_name="mtactl", standalone_mode=False, obj=options
        )
        sys.stdout.flush()
        return code if isinstance(code, int) else EX_OK
    except click.UsageError as error:
        return _usage(error.format_message(), error.ctx)
    except UsageError as error:
        name = f"--{error.param.replace('_', '-')}: " if error.param else ""
        return _usage(f"{name}{error.text}", None)
    except click.Abort:
        return EX_INTERRUPTED
    except KeyboardInterrupt:
        return EX_INTERRUPTED
    except CallError as error:
        say(error.text)
        return error.code
    except OSError as error:
        if options.debug:
            raise
        say(f"{error.filename or 'standard output'}: {error.strerror or error}")
        return EX_TEMPFAIL
    except Exception as error:
        if options.debug:
            raise
        say(f"internal error: {type(error).__name__}: {error} (--debug shows where)")
        return EX_SOFTWARE


def _usage(text: str, ctx: click.Context | None) -> int:
    say(text)
    if ctx is not None:
        say(f"try `{ctx.command_path} --help`")
    return EX_USAGE
