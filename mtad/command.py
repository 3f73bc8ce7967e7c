"""`mtad run` and `mtad check`: from the words of the command line to an exit code of sysexits(3)."""

import argparse
import asyncio
import errno
import os
import socket
import sys
import time
from collections.abc import Callable, Sequence

from mtad import __version__, service
from mtad.accounts.aliases import load_aliases
from mtad.app import App, Options
from mtad.config import Config, ConfigErrors, load
from mtad.dkim.keys import Keys
from mtad.events import Events
from mtad.inbound.server import bind
from mtad.queue.store import StoreError, StoreLocked
from mtad.tls.contexts import TlsError

EX_OK, EX_USAGE, EX_SOFTWARE, EX_CANTCREAT, EX_TEMPFAIL, EX_CONFIG = 0, 64, 70, 73, 75, 78

# Why a start fails that may succeed in a moment: an address that is not there yet (at boot), no room, no memory.
_PASSING = frozenset(
    {errno.EADDRNOTAVAIL, errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.ENOBUFS, errno.EMFILE, errno.ENFILE}
)


def main(argv: Sequence[str]) -> int:
    """`mtad run` and `mtad check`; an exit code of sysexits(3)."""
    parser = argparse.ArgumentParser(prog="mtad", description="The mail server. See mtactl for operating it.")
    parser.add_argument("--version", action="version", version=f"mtad {__version__}")
    _places(parser, "")
    verbs = parser.add_subparsers(dest="verb", metavar="COMMAND", required=True)
    for name, text in (
        ("run", "run the daemon in the foreground"),
        ("check", "validate the configuration: exit 0 or 78"),
    ):
        verb = verbs.add_parser(name, help=text, description=text)
        _places(verb, argparse.SUPPRESS)  # before or after the verb
    try:
        given = parser.parse_args(argv)
    except SystemExit as done:
        return EX_USAGE if done.code else EX_OK
    options = Options(given.root, given.config)
    try:
        config = load(options.root, options.config)
    except ConfigErrors as errors:
        print(errors, file=sys.stderr)
        return EX_CONFIG
    if given.verb == "check":
        _, problems = load_aliases(config.local.aliases)
        for note in [*config.warnings, *problems, *Keys(config.paths.dkim).load()]:
            print(f"warning: {note}", file=sys.stderr)
        print(f"{config.paths.config}: good")
        return EX_OK
    return run(options, config)


def _places(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument("--root", default=default, metavar="DIR", help="keep everything under this directory")
    parser.add_argument("--config", default=default, metavar="FILE", help="read this file instead of the default one")


def run(options: Options, config: Config) -> int:
    """Run until SIGTERM or SIGINT. Returns the exit code."""
    log = service.LogWriter(sys.stderr.fileno(), time.time)
    try:
        service.raise_limits()
        sockets = service.take_sockets()
        service.make_directories(config.paths)
        if service.drops_privileges(config.paths):
            # Only root binds ports below 1024.
            for name in ("smtp", "submission", "submissions"):
                if name not in sockets:
                    sockets[name] = bind(getattr(config.listen, name))
            service.drop_privileges(config.paths)
        app = App(options, config, log)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(app.run(sockets))
        return EX_OK
    except (StoreError, TlsError, OSError) as error:
        log.flush()
        print(f"mtad: {(isinstance(error, OSError) and error.strerror) or error}", file=sys.stderr)
        return refusal(error)
    except Exception as error:  # noqa: BLE001  (a bug: told as all of them are)
        Events(time.time, log).internal_error("run", error)
        log.flush()
        return EX_SOFTWARE


def refusal(error: StoreError | TlsError | OSError) -> int:
    """The exit code of a start that failed: 75 what passes by itself, so that the unit tries again; 73 and 78 what only
    somebody can put right, so that it does not."""
    match error:
        case TlsError():
            return EX_CONFIG
        case StoreError():
            return EX_TEMPFAIL if error.full or isinstance(error, StoreLocked) else EX_CANTCREAT
        case socket.gaierror():  # its numbers are others
            return EX_TEMPFAIL if error.errno == socket.EAI_AGAIN else EX_CANTCREAT
        case OSError():
            return EX_TEMPFAIL if error.errno in _PASSING else EX_CANTCREAT


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it is installed (the extra `fast`); MTA_LOOP=asyncio keeps the standard one."""
    if os.environ.get("MTA_LOOP") == "asyncio":
        return None
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
