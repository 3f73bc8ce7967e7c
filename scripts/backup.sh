#!/bin/bash
# One backup, for cron: backup.sh [DIR]. Queue, users, keys and configuration, while mtad works or while it is stopped,
# verified, in DIR/mtad-<time>.tar.gz (DIR: default $BACKUP_DIR, else /var/backups/mtad). Own files older than
# $KEEP_DAYS days (30) go, but never the newest. Says nothing when all is well. MTA_ROOT as everywhere; MTACTL names
# another mtactl.
# Exit: 0 done; 64 usage; 69 no mtactl; 73 cannot be written; 70 what was written does not verify; or what mtactl said.
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
for candidate in "$here/../.venv/bin/mtactl" "$here/mtactl" /opt/mtad/bin/mtactl "$(command -v mtactl || true)"; do
    [ -z "$mtactl" ] && [ -x "$candidate" ] && mtactl=$candidate
done
[ -n "$mtactl" ] && [ -x "$mtactl" ] || fail 69 "there is no mtactl"
python=$(sed -n '1s/^#! *//p' "$mtactl")

if [ -n "${MTA_ROOT:-}" ]; then
    data=$MTA_ROOT/data
elif [ "$(id -u)" = 0 ] || [ "$(id -un)" = mtad ]; then
    data=/var/lib/mtad
else
    data=${XDG_STATE_HOME:-$HOME/.local/state}/mtad
fi
[ -d "$data" ] || fail 73 "there is no $data"

# The daemon writes the file itself, and may write nowhere else but below its data.
work=$(mktemp -d "$data/.backup-script.XXXXXX") || fail 73 "$data cannot be written"
part=
trap 'rm -rf "$work"; [ -z "$part" ] || rm -f "$part"' EXIT
[ "$(id -u)" != 0 ] || chown --reference="$data" "$work"

mkdir -p "$target" 2>/dev/null || fail 73 "$target cannot be made"
name=mtad-$(date -u +%Y%m%dT%H%M%SZ)
while [ -e "$target/$name.tar.gz" ]; do
    sleep 0.2
    name=mtad-$(date -u +%Y%m%dT%H%M%SZ)
done
part=$(mktemp "$target/.$name.XXXXXX" 2>/dev/null) || fail 73 "$target cannot be written"

said=$("$mtactl" backup create "$work/backup.tar" 2>&1) || {
    status=$?
    fail "$status" "$said"
}
gzip -c "$work/backup.tar" >"$part" || fail 73 "$target cannot be written"
rm -f "$work/backup.tar"

# Verify what will be kept, not what it was made from; then make it durable under its name.
"$python" - "$part" "$work" "$target/$name.tar.gz" <<'EOF' || fail 70 "the backup does not verify; it was not kept"
import os, sqlite3, sys, tarfile

part, work, path = sys.argv[1:]
with tarfile.open(part, "r:gz") as tar:
    names = set()
    for member in tar:
        names.add(member.name)
        source = tar.extractfile(member)
        if source is None:
            sys.exit(f"{member.name} is no file")
        with open(f"{work}/mta.db" if member.name == "mta.db" else os.devnull, "wb") as sink:
            while octets := source.read(1 << 20):
                sink.write(octets)
if missing := {"mta.db", "mtad.toml"} - names:
    sys.exit(f"missing: {', '.join(sorted(missing))}")
database = sqlite3.connect(f"{work}/mta.db")
verdict = database.execute("PRAGMA integrity_check").fetchall()
database.close()
if verdict != [("ok",)]:
    sys.exit(f"the database is damaged: {verdict[:3]}")
file = os.open(part, os.O_RDONLY)
os.fsync(file)
os.close(file)
os.link(part, path)
os.unlink(part)
directory = os.open(os.path.dirname(path), os.O_RDONLY)
os.fsync(directory)
EOF
part=

find "$target" -maxdepth 1 -type f -name 'mtad-*Z.tar.gz' ! -name "$name.tar.gz" -mtime "+$keep" -delete
# Remains of a run that was killed.
find "$target" -maxdepth 1 -type f -name '.mtad-*' -mtime +1 -delete
