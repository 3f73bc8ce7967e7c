"""Backups."""

from mtad.control.operation import Effect, Operation, Param

GROUPS = {
    "backup": "Backups",
}


OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "backup.create",
        "Write a backup, while the daemon works",
        (Param("path", "path", "The file to write; it must not exist.", required=True, positional=True),),
        (("path", "string"), ("size_bytes", "int"), ("files", "int")),
        effect=Effect.CHANGE,
        offline="write",
        help="Writes one tar file with the queue, its messages, the users, the DKIM keys and the configuration. The"
        " daemon's user writes it: the directory must let it.",
        examples=("mtactl backup create /var/backups/mtad/today.tar",),
    ),
)
