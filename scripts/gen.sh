#!/bin/bash
# Man pages, completions and docs/reference.md, made from the tables; --check says which are stale, and exits 1.
set -euo pipefail
. "$(dirname "$0")/_setup.sh"
cd "$root"
setup
exec "$python" -m mtactl.gen "$@"
