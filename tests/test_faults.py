import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = "from mtad import faults\nfor n in range(3):\n    faults.point('a.b'); faults.point('c'); print(n, flush=True)"


@pytest.mark.parametrize(
    ("fault", "printed", "status"),
    [("", 3, 0), ("other", 3, 0), ("a.b", 0, -signal.SIGKILL), ("c:2", 1, -signal.SIGKILL), ("a.b:9", 3, 0)],
)
def test_the_named_point_kills(fault: str, printed: int, status: int) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=Path(__file__).resolve().parents[1],
        env={**os.environ, "MTA_FAULT": fault},
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == status
    assert len(ended.stdout.splitlines()) == printed
