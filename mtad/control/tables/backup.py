"""Backups."""

from mtad.control.operation import Effect, Operation, Param

GROUPS = {
    "backup": "Backups",
}


OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "backup.stream",
        "Send what belongs into a backup, while the daemon works",
        (Param("certificates", "flag", "With the certificates that the settings name, and their keys."),),
        (
            ("member", "string"),
            ("size_bytes", "int"),
            ("mode", "int"),
            ("mtime", "int"),
            ("total_bytes", "int"),
            ("octets", "string"),
        ),
        effect=Effect.CHANGE,
        offline="write",
        help="What `mtactl backup create` asks for: for each file a row with its name and size, then its octets in"
        " base64. All of it is of one moment.",
        examples=("mtactl backup create /var/backups/mtad/today.tar.gz",),
        stream=True,
    ),
)
