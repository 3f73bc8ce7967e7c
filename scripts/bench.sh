#!/bin/bash
# mtad against Postfix on this machine, in one run: accepting, relaying, relaying with DKIM, sendmail, and the operator
# on a long queue. Ratios only.
# BENCH_MESSAGES (2000) and BENCH_ROUNDS (3) make it longer; BENCH_DIR is where both queues lie (/var/tmp).
set -euo pipefail
. "$(dirname "$0")/_setup.sh"
setup
packages
for name in "${!MTA_@}"; do unset "$name"; done
exec "$python" "$root/scripts/bench/bench.py" "$@"
