"""The DNS server and the private authority of other rooms serve here too."""

import sys
from pathlib import Path

for room in ("dns", "tls"):
    sys.path.append(str(Path(__file__).resolve().parents[1] / room))
