"""What a command loads: click, and what it needs itself."""

import subprocess
import sys
from pathlib import Path

import pytest

PROBE = (
    "import sys; from mtactl.cli import main; main({argv!r}); sys.stderr.write('\\n' + ' '.join(sorted(sys.modules)))"
)
HEAVY = {"asyncio", "cryptography", "dns", "rich", "tabulate", "sqlite3", "ssl", "email", "hashlib", "subprocess"}


def loaded(repository: Path, *argv: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROBE.format(argv=list(argv))],
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize(
    ("argv", "table"),
    [(["status"], "daemon"), (["queue", "list"], "queue"), (["user", "list"], "user"), (["tls", "show"], "tls")],
)
def test_a_command_loads_its_own_table_and_nothing_heavy(repository: Path, argv: list[str], table: str) -> None:
    modules = loaded(repository, *argv, "--socket", "/nonexistent/control.sock")
    assert {name.rpartition(".")[2] for name in modules if name.startswith("mtad.control.tables.")} == {table}
    assert not HEAVY & modules
    assert {name for name in modules if name.startswith("mtad.") and name.count(".") == 1} <= {
        "mtad.control",
        "mtad.mail",
    }
