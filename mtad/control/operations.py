"""THE table of operator verbs: protocol check, access, commands, man pages, completions, docs and tests derive from it.

Pure, and light to import: it is on the start-up path of mtactl.
"""

from collections.abc import Mapping

from mtad.control.operation import Operation
from mtad.control.tables import backup, daemon, dkim, explain, guard, queue, suppress, tls, user

_TABLES = (daemon, queue, explain, suppress, user, guard, dkim, tls, backup)

OPERATIONS: tuple[Operation, ...] = tuple(operation for table in _TABLES for operation in table.OPERATIONS)

GROUPS: Mapping[str, str] = {name: summary for table in _TABLES for name, summary in table.GROUPS.items()}
"""What the words in front of a verb are about."""

BY_NAME: Mapping[str, Operation] = {operation.name: operation for operation in OPERATIONS}
