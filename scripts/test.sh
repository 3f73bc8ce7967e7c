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
step "generated files"
"$bin/python" -m mtactl.gen --check
step "mypy"
"$bin/mypy" --no-error-summary
step "pytest"
if "$bin/pytest" -n 2 --dist loadgroup "$@" </dev/null; then
    exit 0
fi
# Real peers and many processes on few processors: what failed in company is judged alone, once, and both runs are shown.
step "pytest, what failed once more and alone"
exec "$bin/pytest" --last-failed --last-failed-no-failures none -v "$@" </dev/null
