"""Many short lives of a daemon without loading the program for each: this process loads it, and forks each life.

A line on stdin (JSON: arguments, log file) begins a life, in a session of its own; "started PID" and "ended STATUS"
are said on stdout. The first argument names what is done to the program before (`UNSAFE`), for the control runs.
"""

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


def unsafe(how: str) -> None:
    """Take the promise away, to see that the scenarios notice. The program itself has no such setting."""
    from mtad.queue import database

    if how == "normal":
        opened = database._open

        def open_unsafely(*args, **kwargs):
            connection = opened(*args, **kwargs)
            connection.execute("PRAGMA synchronous = NORMAL")
            return connection

        database._open = open_unsafely


def main() -> None:
    import mtad.app
    import mtad.command
    import mtad.outbound.pipe
    import mtad.tls.contexts

    unsafe(sys.argv[1] if len(sys.argv) > 1 else "")
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            os.setsid()
            log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            nothing = os.open(os.devnull, os.O_RDONLY)
            os.dup2(nothing, 0)
            os.dup2(log, 1)
            os.dup2(log, 2)
            code = 70
            try:
                code = mtad.command.main(order["argv"])
            finally:
                os._exit(code)
        print("started", child, flush=True)
        _, status = os.waitpid(child, 0)
        print("ended", os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
