"""What carries the operations out: one async generator of rows for each, in a module for each group."""

from collections.abc import Mapping

from mtad.control.admin import Handler
from mtad.control.handlers import (
    audit,
    backup,
    blocks,
    check,
    daemon,
    dkim,
    dns,
    explain,
    freeze,
    history,
    holdrules,
    incident,
    queue,
    sessions,
    sites,
    submit,
    suppress,
    tls,
    transfers,
    users,
    verbs,
    watch,
)

_MODULES = (
    audit,
    backup,
    blocks,
    check,
    daemon,
    dkim,
    dns,
    explain,
    freeze,
    history,
    holdrules,
    incident,
    queue,
    sessions,
    sites,
    submit,
    suppress,
    tls,
    transfers,
    users,
    verbs,
    watch,
)

HANDLERS: Mapping[str, Handler] = {name: handler for module in _MODULES for name, handler in module.HANDLERS.items()}
"""Name of the operation -> its handler."""
