"""Helpers of the rooms that the properties are about."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "queue"))
