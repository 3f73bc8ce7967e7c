"""Carry out one operation for a command line: check, ask, call the daemon or work on a stopped one's data, show."""

import os
import sys
from collections.abc import Iterator, Mapping
from typing import IO, Any

from mtactl.base import METAVARS, Options, read_password, say
from mtactl.errors import EX_DATAERR, EX_NOTHING, EX_OK, EX_USAGE, CallError, Unreachable
from mtad.control.operation import Effect, Operation, UsageError, check, conditions

KEY_FILE_MAX = 30_000
LINES_AT_ONCE = 200  # of a file in one request: even the longest fit


def run(operation: Operation, options: Options, given: dict[str, Any]) -> int:
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

        preview = {**arguments, "dry_run": True}
        if not ask(operation, given, lambda: _awaited(operation, call(operation, options, preview))):
            return EX_NOTHING
    from mtactl import render

    counted = _Counts()
    rows_of = _in_parts if "lines" in arguments else call
    rows = counted.watch(_but_progress(_awaited(operation, rows_of(operation, options, arguments))))
    dry_run = bool(checked.get("dry_run"))
    if style != "json" and operation.effect is Effect.READ and not operation.live and sys.stdout.isatty():
        from mtactl.pager import paged

        with paged(sys.stdout, os.environ, off=options.no_pager) as out:
            render.show(operation, rows, style, out, given=given)
    else:
        render.show(operation, rows, style, sys.stdout, dry_run=dry_run, given=given)
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
    elif operation.name == "dkim.generate" and not counted.waiting:
        say("mail of the domain is signed with each of its keys: publish these records before it leaves")
    elif operation.name in {"dkim.generate", "dkim.rotate"} and counted.waiting:
        say("publish these records; the daemon looks for them, and switches by itself: `mtactl dkim status`")
    elif operation.stream and not counted.rows and sys.stdout.isatty() and operation.name != "queue.mailq":
        say("the queue is empty" if operation.name == "queue.list" else "there is none")


def _checked(operation: Operation, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What `check` makes of them; a UsageError names an argument as the help does."""
    try:
        return check(operation, arguments)
    except UsageError as error:
        param = next((param for param in operation.params if param.name == error.param), None)
        if param is not None and param.kind == "secret":  # it is no option
            raise CallError(f"the {param.name} {error.text}", EX_USAGE) from None
        if param is None or not param.positional:
            raise
        raise CallError(f"{METAVARS.get(param.kind, param.name.upper())}: {error.text}", EX_USAGE) from None


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
    of = len(lines)
    while lines:
        part, lines = lines[:LINES_AT_ONCE], lines[LINES_AT_ONCE:]
        for row in call(operation, options, {**arguments, "lines": part}):
            if "changed" not in row:
                yield row
                continue
            for name, number in row.items():
                counts[name] = counts.get(name, 0) + number
        if lines:
            yield {"changed": of - len(lines), "of": of, "what": "lines read"}
    yield counts


def _awaited(operation: Operation, rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """A change may be one long transaction: who waits for it at a terminal is told that it goes on."""
    if operation.effect is Effect.READ or operation.live or sys.stderr is None or not sys.stderr.isatty():
        return rows
    from mtactl.progress import working

    return working(rows)


def _but_progress(rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The rows of the answer; those with `of` say how far it is, which a terminal is shown."""
    progress = None
    try:
        for row in rows:
            if "of" not in row:
                if progress is not None:
                    progress.end()
                yield row
                continue
            if progress is None:
                from mtactl.progress import Progress

                progress = Progress(row.get("what", "recipients done"), row["of"])
            progress.set(row["changed"], row["of"])
    finally:
        if progress is not None:
            progress.end()


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
            if operation.name == "status" and not named and (left := _dropped(options.root)):
                raise CallError(f"{error.text}\n{left}", error.code) from None
            raise
        down = error
    from mtactl import local

    rows = local.run(operation, arguments, options.root, down)
    try:
        first = next(rows, None)
    except CallError as error:
        if error.name in {"NothingMatched", "NotFound"} and not quiet:
            say(local.NOTE)
        raise
    if not quiet:
        say(local.NOTE)
    if first is not None:
        yield first
        yield from rows


def _dropped(root: str) -> str:
    """What waits for a daemon that is down, in words."""
    from mtad.config.places import locate
    from mtad.inbound import dropped

    folder = locate(root).paths.maildrop
    count = len(dropped.names(folder) or ())
    return f"{count} mail{'s wait' if count > 1 else ' waits'} in {folder} until then" if count else ""


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
