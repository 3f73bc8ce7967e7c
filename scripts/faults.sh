#!/bin/bash
# Faults against the promise: kills, crash points, power cuts, full disks ... and the table of what came of it, in
# Markdown. --short (minutes) is the default, --long (hours) what docs/reliability.md shows; names choose scenarios.
set -euo pipefail
. "$(dirname "$0")/_setup.sh"
setup
packages
for name in "${!MTA_@}"; do unset "$name"; done
exec "$python" "$root/tests/faults/fault_main.py" "$@"
