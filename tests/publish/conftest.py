"""The DNS server and the certification authority of other rooms' tests."""

import sys
from pathlib import Path

for room in ("dns", "tls"):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / room))
