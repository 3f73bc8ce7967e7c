#!/bin/bash
# Every parser of outside octets and the store, with inputs that nobody thought of, until the time is over or one fails:
#   scripts/fuzz.sh [--minutes N] [--parser NAME]... [-- PYTEST-ARGUMENTS]
# Where atheris is installed (.venv/bin/pip install atheris), the first half of the time goes to a search that follows the
# code which an input reaches, for each parser in turn; what it found out stays in .fuzz/, and the next run goes on from
# there. The rest, and all of it without atheris, goes to the properties of tests/fuzz with many more examples.
# What fails is kept or printed as an input that does. Put that into tests/fuzz/corpus/PARSER/, and every run tries it.
set -euo pipefail
. "$(dirname "$0")/_setup.sh"
cd "$root"
usage() { echo "usage: scripts/fuzz.sh [--minutes N] [--parser NAME]... [-- PYTEST-ARGUMENTS]" >&2; exit 64; }
minutes=10
parsers=()
while [ $# -gt 0 ]; do
    case $1 in
        --minutes | --parser)
            [ $# -ge 2 ] || { echo "scripts/fuzz.sh: $1 needs a value" >&2; exit 64; }
            if [ "$1" = --minutes ]; then minutes=$2; else parsers+=("$2"); fi
            shift 2 ;;
        --) shift; break ;;
        *) usage ;;
    esac
done
case $minutes in '' | *[!0-9]* | 0 | ??????*) echo "scripts/fuzz.sh: --minutes takes a whole number from 1 on" >&2; exit 64 ;; esac
setup
guided=$root/tests/fuzz/fuzz_guided.py
begun=$(date +%s)
end=$((begun + 60 * minutes))
mapfile -t known < <("$python" "$guided" --list)
for parser in "${parsers[@]}"; do
    printf '%s\n' "${known[@]}" | grep -qxF -e "$parser" || {
        echo "scripts/fuzz.sh: there is no parser \"$parser\"; there are: ${known[*]}" >&2
        exit 64
    }
done
[ ${#parsers[@]} -gt 0 ] || parsers=("${known[@]}")

# One parser, for so many seconds. Silent unless it fails.
search() {
    local name=$1 seconds=$2 folder=$root/.fuzz/$1
    mkdir -p "$folder"
    "$python" "$guided" --seeds "$name" "$folder"
    if ! "$python" "$guided" "$name" "$folder" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -max_len=4096 \
        -artifact_prefix="$root/.fuzz/$name." >"$folder.log" 2>&1 </dev/null; then
        echo "-- $name failed:"
        grep -avE '^(#[0-9]|INFO|WARNING|NEW_FUNC)' "$folder.log" | tail -n 40
        return 1
    fi
    echo "$name: $(grep -aoE 'Done [0-9]+ runs' "$folder.log" | tail -n 1), reached $(grep -aoE 'cov: [0-9]+' "$folder.log" | tail -n 1)"
}

if "$python" -c 'import atheris' 2>/dev/null; then
    cores=$(nproc)
    seconds=$((30 * minutes * cores / ${#parsers[@]} - 4)) # each start takes about four
    searched=("${parsers[@]}")
    if [ "$seconds" -lt 6 ]; then # too little time for all of them: some, others in each run
        seconds=6
        mapfile -t searched < <(printf '%s\n' "${parsers[@]}" | shuf -n $((3 * minutes * cores)))
    fi
    step "the search that follows the code: ${#searched[@]} of ${#parsers[@]} parsers, $seconds s each, $cores at a time"
    export -f search
    export root python guided
    printf '%s\n' "${searched[@]}" | xargs -P "$cores" -I '{}' bash -c "search '{}' $seconds || exit 255" || exit 1
else
    step "atheris is not installed: the properties alone (.venv/bin/pip install atheris for the search that follows the code)"
fi

wanted=(tests/fuzz tests/cli/test_cli_fuzz.py)
if [ ${#parsers[@]} -lt ${#known[@]} ]; then
    wanted=(tests/fuzz/test_fuzz_parsers.py tests/fuzz/test_fuzz_growth.py -k "$(printf ' or %s' "${parsers[@]}" | cut -c5-)")
fi
round=0
while [ "$(date +%s)" -lt "$end" ]; do
    round=$((round + 1))
    step "round $round of the properties, $((end - $(date +%s))) s left"
    # Each round begins elsewhere; the growth of work is the same each time, so it is measured in the first alone.
    FUZZ_EXAMPLES=$((200 * round)) FUZZ_DOUBLINGS=6 "$root/.venv/bin/pytest" "${wanted[@]}" -n 2 -x -o timeout=3600 \
        -p no:cacheprovider $([ $round -eq 1 ] || echo "--ignore=tests/fuzz/test_fuzz_growth.py") "$@" </dev/null
done
step "nothing failed in $((($(date +%s) - begun) / 60)) minutes"
