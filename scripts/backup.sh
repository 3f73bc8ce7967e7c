#!/bin/bash
# One backup, for cron: backup.sh [DIR]. Queue, users, keys and settings, while mtad works or while it is stopped, made
# and verified, in DIR/mtad-<time>.tar.gz (DIR: default $BACKUP_DIR, else /var/backups/mtad). Own files older than
# $KEEP_DAYS days (30) go, but never the newest. Says nothing when all is well. MTA_ROOT as everywhere; MTACTL names
# another mtactl. $BACKUP_KEY_FILE: encrypt with it. $BACKUP_CERTIFICATES=1: with the TLS certificates.
# Exit: 0 done; 64 usage; 65 what was written does not verify, and was not kept; 69 no mtactl; 73 cannot be written;
# 75 another one runs; or what mtactl said. A backup that could not be looked at (no room in $TMPDIR, DIR where unset) is
# kept.
set -euo pipefail
umask 077

fail() {
    echo "backup.sh: $2" >&2
    exit "$1"
}

[ $# -le 1 ] || fail 64 "usage: backup.sh [DIR]"
case ${1:-} in -*) fail 64 "usage: backup.sh [DIR]" ;; esac
target=${1:-${BACKUP_DIR:-/var/backups/mtad}}
keep=${KEEP_DAYS:-30}
case $keep in '' | *[!0-9]*) fail 64 "KEEP_DAYS is no number: $keep" ;; esac

here=$(cd "$(dirname "$(readlink -f "$0")")" && pwd)
mtactl=${MTACTL:-}
for candidate in "$here/../.venv/bin/mtactl" "$here/../bin/mtactl" "$here/mtactl" /opt/mtad/bin/mtactl "$(command -v mtactl || true)"; do
    [ -z "$mtactl" ] && [ -x "$candidate" ] && mtactl=$candidate
done
[ -n "$mtactl" ] && [ -x "$mtactl" ] || fail 69 "there is no mtactl"

mkdir -p "$target" 2>/dev/null || fail 73 "$target cannot be made"
[ -w "$target" ] || fail 73 "$target cannot be written"
exec 9>"$target/.lock" || fail 73 "$target cannot be written"
flock -n 9 || fail 75 "another backup to $target runs"
# What a run that was killed left: with the lock, nobody writes it any more.
find "$target" -maxdepth 1 -type f -name '.mtad-*.part' -delete
export TMPDIR=${TMPDIR:-$target} # verify needs room for the database, and here is some
find "$target" -maxdepth 1 -type d -name 'mtad-verify-*' -exec rm -rf {} +

end=.tar.gz
create=() key=()
[ -z "${BACKUP_KEY_FILE:-}" ] || { key=(--key-file "$BACKUP_KEY_FILE") end=.tar.gz.sealed; }
[ "${BACKUP_CERTIFICATES:-}" != 1 ] || create=(--certificates)
name=mtad-$(date -u +%Y%m%dT%H%M%SZ)
number=1
while [ -e "$target/$name$end" ]; do
    number=$((number + 1))
    name=${name%%Z*}Z-$number
done
file=$target/$name$end

said=$("$mtactl" backup create "$file" "${create[@]}" "${key[@]}" 2>&1) || {
    status=$?
    fail "$status" "$said"
}
# What will be kept is verified, not what it was made from.
said=$("$mtactl" backup verify "$file" "${key[@]}" 2>&1) || {
    status=$?
    if [ "$status" = 1 ]; then # whole, and something in it was wrong before: it is the best there is
        "$mtactl" backup prune "$target" --days "$keep" >/dev/null
        fail 1 "$said"
    fi
    [ "$status" = 65 ] || fail "$status" "$file was not verified, and is kept: $said"
    rm -f "$file"
    fail 65 "the backup does not verify and was not kept: $said"
}
said=$("$mtactl" backup prune "$target" --days "$keep" 2>&1) || {
    status=$?
    fail "$status" "$said"
}
