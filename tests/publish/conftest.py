"""The DNS server, the certification authority and the SMTP server of other rooms' tests."""

import sys
from pathlib import Path

for room in ("dns", "tls", "outbound"):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / room))
