#!/bin/bash
# Everything a change must pass: formatting, lint, types, tests. Arguments go to pytest.
set -euo pipefail
. "$(dirname "$0")/_setup.sh"
cd "$root"
setup
packages
bin=$root/.venv/bin
step "ruff"
"$bin/ruff" check --quiet
"$bin/ruff" format --check --quiet
step "mypy"
"$bin/mypy" --no-error-summary
step "pytest"
exec "$bin/pytest" -n 2 --dist loadgroup "$@" </dev/null
