"""What a database holds, in numbers: the same when a backup is made and when it is looked at."""

import sqlite3

_COUNTS = {
    "messages": "SELECT count(*) FROM message",
    "open_messages": "SELECT count(*) FROM message WHERE finished_at IS NULL",
    "recipients": "SELECT count(*) FROM recipient",
    "open_recipients": "SELECT count(*) FROM recipient WHERE state IN (0, 2)",
    "large_bodies": "SELECT count(*) FROM body WHERE data IS NULL",
    "users": "SELECT count(*) FROM user",
}


def counted(connection: sqlite3.Connection) -> dict[str, int]:
    return {name: int(connection.execute(query).fetchone()[0]) for name, query in _COUNTS.items()}
