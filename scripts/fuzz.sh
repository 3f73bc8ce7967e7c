#!/bin/bash
# The properties of tests/fuzz with many more examples, until the time is over or one fails. Arguments after -- go to pytest:
#   scripts/fuzz.sh [--minutes N] [-- -k replies]
# What fails is printed as the least input that does. Put that into tests/fuzz/corpus/PARSER/, and every run tries it.
set -euo pipefail
. "$(dirname "$0")/_setup.sh"
cd "$root"
minutes=10
while [ $# -gt 0 ]; do
    case $1 in
        --minutes) minutes=${2:?"--minutes needs a number"}; shift 2 ;;
        --) shift; break ;;
        *) echo "usage: scripts/fuzz.sh [--minutes N] [-- PYTEST-ARGUMENTS]" >&2; exit 64 ;;
    esac
done
case $minutes in '' | *[!0-9]*) echo "scripts/fuzz.sh: --minutes takes a whole number" >&2; exit 64 ;; esac
setup
end=$(($(date +%s) + 60 * minutes))
round=0
while [ "$(date +%s)" -lt "$end" ]; do
    round=$((round + 1))
    step "round $round, $(((end - $(date +%s)) / 60)) minutes left"
    # Each round begins elsewhere; the growth of work is the same each time, so it is measured in the first alone.
    FUZZ_EXAMPLES=$((200 * round)) FUZZ_DOUBLINGS=6 "$root/.venv/bin/pytest" tests/fuzz tests/cli/test_cli_fuzz.py -n 2 -x -o timeout=3600 -p no:cacheprovider \
        $([ $round -eq 1 ] || echo "--ignore=tests/fuzz/test_fuzz_growth.py") "$@" </dev/null
done
