"""THE table of operator verbs: protocol check, access, commands, pages, completions, docs and tests derive from it."""

from collections.abc import Mapping

from mtad.control.operation import Operation
from mtad.control.tables import INDEX, load

_MODULES = tuple(load(module) for module in dict.fromkeys(INDEX.values()))

OPERATIONS: tuple[Operation, ...] = tuple(operation for module in _MODULES for operation in module.OPERATIONS)

GROUPS: Mapping[str, str] = {name: summary for module in _MODULES for name, summary in module.GROUPS.items()}
"""What the words in front of a verb are about."""

BY_NAME: Mapping[str, Operation] = {operation.name: operation for operation in OPERATIONS}
