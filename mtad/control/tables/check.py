"""Whether everything is what it was written as."""

from collections.abc import Mapping

from mtad.control.operation import Operation, Param

GROUPS: Mapping[str, str] = {}

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "check",
        "Check the queue, the messages, the keys and their permissions",
        (Param("repair", "flag", "Also mend what can be mended without a loss, and say what was done."),),
        (("level", "string"), ("what", "string"), ("fix", "string"), ("done", "string")),
        offline="write",
        help="Reads the whole database (in a copy, while the daemon works), compares the octets of each message with"
        " the digest from when it was accepted, and looks at body files, signing keys, aliases, the maildrop, owners"
        " and modes. What was found is printed; 1 when something is wrong that was not mended. --repair holds damaged"
        " messages, moves files that belong to nothing to data/lost+found, closes private files to others, and of a"
        " stopped daemon makes damaged indexes of the database anew."
        " `mtactl config check` checks the settings.",
        examples=("mtactl check", "mtactl check --repair", "mtactl check --json | jq -r .what"),
        stream=True,
    ),
)
