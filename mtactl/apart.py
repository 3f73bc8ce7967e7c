"""An operation on a stopped daemon's data in a process of its own, which becomes the owner of that data: the one who
asked may have to write files, or start programs, that the owner must not."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from mtactl.base import Options, say
from mtactl.errors import CallError, Unreachable
from mtactl.perform import call
from mtad.control.operation import Operation
from mtad.control.tables import find


def rows(options: Options, name: str, given: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The rows of an operation, from the daemon or from its data. CallError."""
    operation = find(name)
    assert operation is not None
    try:
        yield from call(replace(operation, offline="no"), options, given)
        return
    except Unreachable:
        if options.socket or operation.offline == "no":
            raise
    root = ["--root", options.root] if options.root else []
    command = [sys.executable, "-m", "mtactl", *root, *name.split("."), "--json", *_words(operation, given)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as reader:
        assert reader.stdout is not None
        assert reader.stderr is not None
        for line in reader.stdout:
            yield json.loads(line)
        said = reader.stderr.read().decode("utf-8", "replace").strip()
        code = reader.wait()
    text = "\n".join(line.removeprefix("mtactl: ") for line in said.splitlines())
    if code:
        raise CallError(text, code)
    if text:
        say(text)


def _words(operation: Operation, given: Mapping[str, Any]) -> Iterator[str]:
    last: list[str] = []
    for param in operation.params:
        value = given.get(param.name)
        flag = f"--{param.name.replace('_', '-')}"
        if value in (None, False, (), []):
            continue
        values = [str(one) for one in value] if param.many else [str(value)]
        if param.positional:
            last += values
        elif param.kind == "flag":
            yield flag
        else:
            yield from (f"{flag}={one}" for one in values)
    yield from ("--", *last)
