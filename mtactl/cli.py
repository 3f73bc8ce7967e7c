"""mtactl: the command tree, made from the table of operations when it is asked for, plus the few local commands.

A command imports click and what it needs; the rest stays on the disk.
"""

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import IO, Any

import click

from mtactl.errors import (
    EX_DATAERR,
    EX_INTERRUPTED,
    EX_NOTHING,
    EX_OK,
    EX_SOFTWARE,
    EX_TEMPFAIL,
    EX_USAGE,
    CallError,
    Unreachable,
)
from mtad import __version__
from mtad.control.operation import Effect, Kind, Operation, Param, UsageError, check, conditions
from mtad.control.tables import INDEX, load

PASSWORD_LINE_MAX = 4096
KEY_FILE_MAX = 30_000
LINES_AT_ONCE = 200  # of a file in one request: even the longest fit

_METAVARS: Mapping[Kind, str] = {
    "count": "N",
    "duration": "AGE",
    "path": "FILE",
    "domain": "DOMAIN",
    "user": "USER",
    "id": "ID",
    "address": "ADDRESS",
    "compare": "COMPARISON",
    "quota": "N",
    "fingerprint": "FINGERPRINT",
    "lines": "FILE",
    "key": "FILE",
    "moment": "TIME",
}
_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


@dataclass(slots=True)
class Options:
    """What every command takes, in front of it or behind it."""

    root: str = ""
    socket: str = ""
    json: bool = False
    debug: bool = False
    no_pager: bool = False


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

            close = get_close_matches(name, self.words, 1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            ctx.fail(f"There is no command {name!a}.{hint}")
        return super().resolve_command(ctx, args)

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
            "list": ("List the backups of a directory", _local("list_", "backups")),
            "prune": ("Remove old backups", _local("prune", "backups")),
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
    return Tree(word, groups[word], help=f"{table.GROUPS[word]}.")


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
            name = _METAVARS.get(param.kind, param.name.upper())
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
        return _run(operation, remember(**given), {k: v for k, v in given.items() if k not in Options.__slots__})

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
    metavar = None if param.choices else _METAVARS.get(param.kind, "TEXT")
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


def _run(operation: Operation, options: Options, given: dict[str, Any]) -> int:
    """Check, ask, call, show. The exit code."""
    style = _style(options, given.pop("format", None))
    password_fd = given.pop("password_fd", None)
    # By identity: 0 is a value, if a wrong one.
    given = {name: value for name, value in given.items() if value is not None and value is not False and value != ()}
    arguments = {name: _argument(operation, name, value) for name, value in given.items()}
    if "lines" in arguments and not arguments["lines"]:
        raise CallError("there are no users in that file", EX_NOTHING)
    secret = next((param.name for param in operation.params if param.kind == "secret"), "")
    checked = _checked(operation, {**arguments, secret: "-"} if secret else arguments)
    if secret:
        arguments[secret] = read_password(password_fd, again=operation.effect is not Effect.READ)
        _checked(operation, arguments)
    sure = arguments.pop("yes", False) or checked.get("dry_run", False)
    if not sure and _asks(operation, checked, piped="-" in given.get("ids", ())):
        from mtactl.ask import sure as ask

        if not ask(operation, lambda: call(operation, options, {**arguments, "dry_run": True})):
            return EX_NOTHING
    from mtactl import render

    counted = _Counts()
    rows_of = _in_parts if "lines" in arguments else call
    rows = counted.watch(rows_of(operation, options, arguments))
    dry_run = bool(checked.get("dry_run"))
    if style != "json" and operation.effect is Effect.READ and not operation.live and sys.stdout.isatty():
        from mtactl.pager import paged

        with paged(sys.stdout, os.environ, off=options.no_pager) as out:
            render.show(operation, rows, style, out)
    else:
        render.show(operation, rows, style, sys.stdout, dry_run=dry_run)
    nothing = counted.changed == 0 and conditions(checked) != ["all"]
    if style == "text":
        sys.stdout.flush()
        _hint(operation, counted, nothing=nothing, dry_run=dry_run)
    if counted.problems:
        say(f"{counted.problems} {'line' if counted.problems == 1 else 'lines'} could not be used")
        return EX_DATAERR
    return EX_NOTHING if nothing else EX_OK


def _hint(operation: Operation, counted: "_Counts", *, nothing: bool, dry_run: bool) -> None:
    """What a person would wonder about next."""
    if counted.active and not nothing:
        many = f"{counted.active} are" if counted.active > 1 else "1 is"
        say(f"{many} being delivered just now: what the other side answers wins")
    if nothing and operation.name in {"queue.flush", "queue.retry"}:
        say("nothing that was selected waits for its next try; held mail needs `mtactl queue release`")
    elif counted.undo and not dry_run:
        say(f"to undo it: {counted.undo}")
    elif operation.name == "user.app_password.add":
        say("it is shown this once, and kept nowhere")
    elif operation.name == "dkim.generate":
        say("mail of the domain is signed with each of its keys: publish these records before it leaves")
    elif operation.name == "dkim.rotate" and counted.waiting:
        say("publish these records; the daemon looks for them, and switches by itself: `mtactl dkim status`")
    elif operation.stream and not counted.rows and sys.stdout.isatty() and operation.name != "queue.mailq":
        say("the queue is empty" if operation.name == "queue.list" else "there is none")


def _checked(operation: Operation, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What `check` makes of them; a UsageError names an argument as the help does."""
    try:
        return check(operation, arguments)
    except UsageError as error:
        param = next((param for param in operation.params if param.name == error.param), None)
        if param is None or not param.positional:
            raise
        raise CallError(f"{_METAVARS.get(param.kind, param.name.upper())}: {error.text}", EX_USAGE) from None


class _Counts:
    """Remembers how many rows came, and how many were changed, or would be; None when no row told."""

    rows = 0
    problems = 0
    waiting = 0  # keys that do not sign yet
    active = 0
    undo = ""
    changed: int | None = None

    def watch(self, rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for row in rows:
            self.rows += 1
            found = row.get("problems")  # of `status` it is a list
            self.problems += found if isinstance(found, int) else 0
            self.waiting += row.get("stage") == "pending"
            if "changed" in row:
                self.changed = row.get("would_change", row["changed"])
            if "undo" in row or "changed" in row:
                self.active, self.undo = row.get("active", 0), row.get("undo", "")
            yield row


def _style(options: Options, name: str | None) -> str:
    if name is None:
        return "json" if options.json else "text"
    from mtactl.render import FORMATS

    if options.json:
        raise UsageError("format", "does not go with --json")
    if name not in FORMATS:
        raise UsageError("format", f"{name!a} is none of {', '.join(FORMATS)}")
    return name


def _argument(operation: Operation, name: str, value: Any) -> Any:
    """Paths are the caller's, not the daemon's; "-" among ids means more of them on standard input."""
    kind = next(param.kind for param in operation.params if param.name == name)
    if kind == "lines":
        return _numbered(value)
    if kind == "path" and value:
        return os.path.abspath(value)
    if kind == "key":
        return _key_file(value)
    if kind == "moment":
        from mtactl.when import moment

        return moment(name, value)
    if kind == "id" and "-" in value:
        from mtactl.piped import ids

        piped = ids(sys.stdin)
        if not piped:
            raise CallError("no ids on standard input", EX_NOTHING)
        return [one for one in value if one != "-"] + piped
    return list(value) if isinstance(value, tuple) else value


def _numbered(file: IO[str]) -> list[str]:
    """The lines of a file that say something, each after its number."""
    try:
        lines = [f"{number} {line.strip()}" for number, line in enumerate(file, 1) if line.strip(" \t\r\n")]
    except UnicodeDecodeError:
        raise CallError(f"{file.name} is not UTF-8", EX_DATAERR) from None
    return [line for line in lines if not line.partition(" ")[2].startswith("#")]


def _key_file(path: str) -> str:
    """The name of a file and what is in it; "-" is standard input."""
    try:
        if path == "-":
            return f"stdin {sys.stdin.read(KEY_FILE_MAX)}"
        with open(path, encoding="ascii") as file:
            return f"{os.path.basename(path).replace(' ', '_')} {file.read(KEY_FILE_MAX)}"
    except UnicodeDecodeError:
        raise CallError(f"{path} holds no private key in PEM form", EX_DATAERR) from None
    except OSError as error:
        raise CallError(f"{path}: {error.strerror}", EX_DATAERR) from None


def _in_parts(operation: Operation, options: Options, arguments: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The rows of a call with any number of lines: as many calls as are needed, their counts as one."""
    lines, counts = list(arguments["lines"]), dict[str, Any]()
    while lines:
        part, lines = lines[:LINES_AT_ONCE], lines[LINES_AT_ONCE:]
        for row in call(operation, options, {**arguments, "lines": part}):
            if "changed" not in row:
                yield row
                continue
            for name, number in row.items():
                counts[name] = counts.get(name, 0) + number
    yield counts


def call(
    operation: Operation, options: Options, arguments: Mapping[str, Any], *, quiet: bool = False
) -> Iterator[dict[str, Any]]:
    """The rows: from the daemon, or when it is down and the operation allows it from its data, which is said unless
    `quiet`."""
    from mtactl.client import Client, socket_path

    named = options.socket or (os.environ.get("MTA_SOCKET") and not options.root)
    root = "" if named else options.root or os.environ.get("MTA_ROOT", "")
    client = Client(socket_path(options.socket, options.root, os.environ, os.geteuid()), root=root)
    try:
        yield from client.call(operation, arguments)
        return
    except Unreachable as error:
        if operation.offline == "no" or (named and not options.root):
            raise
        down = error
    from mtactl import local

    rows = local.run(operation, arguments, options.root, down)
    first = next(rows, None)
    if not quiet:
        say(local.NOTE)
    if first is not None:
        yield first
        yield from rows


def _asks(operation: Operation, checked: Mapping[str, Any], *, piped: bool) -> bool:
    """Whether it asks before it acts. What can be undone asks on a terminal, unless each id was typed out; what
    destroys always asks, and where nobody can be asked that is a UsageError."""
    if operation.effect is Effect.DESTROY:
        if not sys.stdin.isatty():
            words = operation.name.replace(".", " ")
            raise UsageError("", f"{words} asks before it acts; here is nobody to ask: say --yes")
        return True
    typed = conditions(checked) == ["ids"] and not piped
    return operation.selects and operation.effect is Effect.CHANGE and sys.stdin.isatty() and not typed


def read_password(fd: int | None, *, again: bool = True) -> str:
    """A password from a descriptor, the terminal, or one line of standard input. Never from argv."""
    if fd is None and sys.stdin.isatty():
        given: str = click.prompt(
            "Password", hide_input=True, confirmation_prompt="Again" if again else False, err=True
        )
        return given
    try:
        stream: IO[bytes] = sys.stdin.buffer if fd is None else open(fd, "rb", closefd=False)  # noqa: SIM115
        line = stream.readline(PASSWORD_LINE_MAX)
        password = line.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except OSError as error:
        raise CallError(f"cannot read the password: {error.strerror}", EX_DATAERR) from None
    except UnicodeDecodeError:
        raise CallError("the password is not UTF-8", EX_DATAERR) from None
    if not password:
        raise CallError("there is no password on standard input", EX_DATAERR)
    return password


def say(text: str) -> None:
    from mtad.mail.text import clean

    for line in text.split("\n"):
        print(f"mtactl: {clean(line, 2000)}", file=sys.stderr)


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
