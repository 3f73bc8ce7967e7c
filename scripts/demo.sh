#!/bin/bash
# One mail from `sendmail -t` to another server's Maildir: signed, queued, found by MX, delivered, verified.
# Everything runs on loopback under a temporary directory, and is gone afterwards. Needs Python only.
set -euo pipefail
. "$(dirname "$0")/_setup.sh"
setup

for name in "${!MTA_@}"; do unset "$name"; done
bin=$root/.venv/bin
demo=$(mktemp -d /tmp/mtad-demo.XXXXXX)
started=()

finish() {
    local status=$?
    trap - EXIT INT TERM
    for pid in "${started[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${started[@]}"; do wait "$pid" 2>/dev/null || true; done
    if [ "$status" != 0 ]; then
        printf '\nThe demo FAILED (%s). The logs:\n' "$status"
        tail -n 30 "$demo"/*.log 2>/dev/null || true
    fi
    rm -rf "$demo"
    exit "$status"
}
trap finish EXIT INT TERM

number=0
title() {
    number=$((number + 1))
    printf '\n%s. %s\n' "$number" "$*"
}
# Show a command, then run it.
run() {
    printf '$ %s\n' "$(sed "s|$demo/||g; s|$bin/||g" <<<"$*")"
    "$@"
}
check() {
    if ! "${@:2}"; then
        echo "NOT SO: $1" >&2
        exit 1
    fi
    echo "ok: $1"
}
until_true() {
    for _ in $(seq 150); do
        "$@" >/dev/null 2>&1 && return 0
        sleep 0.1
    done
    return 1
}
mtactl() { run "$bin/mtactl" --root "$@"; }
start() {
    "$bin/mtad" run --root "$demo/$1" >"$demo/$1.log" 2>&1 &
    started+=($!)
    until_true "$bin/mtactl" --root "$demo/$1" status || { echo "mtad does not start under $1" >&2; exit 1; }
}
setting() { # FILE TABLE KEY VALUE: change a default that `mtactl init` wrote as a comment
    sed -i "/^\[$2\]/,/^\[/ s|^# $3 = .*|$3 = $4|" "$1"
    grep -q "^$3 = " "$1"
}
empty() { [ -z "$("$bin/mtactl" --root "$1" queue list --json)" ]; }
read -r dns_port mx_port < <("$python" -c '
import socket
both = [socket.socket() for _ in range(2)]
for one in both: one.bind(("127.0.0.1", 0))
print(*[one.getsockname()[1] for one in both])')
here=$demo/sender there=$demo/remote
mkdir "$here" "$there"

title "Two mail servers, each under its own directory"
mtactl "$here" init --hostname mail.sender.test --domain sender.test
mtactl "$there" init --hostname mx.remote.test --domain remote.test
setting "$here/mtad.toml" listen smtp '[]'
setting "$here/mtad.toml" dns servers "[\"127.0.0.1:$dns_port\"]"
setting "$here/mtad.toml" delivery port "$mx_port"
setting "$here/mtad.toml" delivery allow_private_addresses true
setting "$there/mtad.toml" listen smtp "[\"127.0.0.1:$mx_port\"]"
setting "$there/mtad.toml" dns servers "[\"127.0.0.1:$dns_port\"]"
setting "$there/mtad.toml" local deliver "\"maildir://$there/mail/%u\""
run "$bin/mtad" check --root "$here"
run "$bin/mtad" check --root "$there"
echo "a password" | mtactl "$there" user add bob@remote.test
echo "another one" | mtactl "$there" user add carol@remote.test

title "A DKIM key for sender.test, and what DNS says about both"
mtactl "$here" dkim generate sender.test --selector demo
"$bin/mtactl" --root "$here" dkim list --json >"$demo/key.json"
"$python" - "$demo/key.json" >"$demo/zone" <<'EOF'
import json, sys

for key in map(json.loads, open(sys.argv[1])):
    record = key["record"]
    parts = " ".join(f'"{record[at:at + 255]}"' for at in range(0, len(record), 255))
    print(f'{key["name"].rstrip(".")}. 60 IN TXT {parts}')
print("remote.test. 60 IN MX 10 mx.remote.test.")
print("mx.remote.test. 60 IN A 127.0.0.1")
EOF
cut -c1-110 "$demo/zone"
"$python" "$root/scripts/demo_dns.py" "$dns_port" "$demo/zone" >"$demo/dns.log" 2>&1 &
started+=($!)

title "The sending server starts; the receiving one is still down"
start sender
mtactl "$here" status

title "A program sends a mail, as programs do"
cat >"$demo/mail" <<'EOF'
From: Alice <alice@sender.test>
To: Bob <bob@remote.test>
Bcc: carol@remote.test
Subject: Hello from sendmail -t

This is the text.
.
The line above is a lone dot.
EOF
cat "$demo/mail"
printf '$ MTA_ROOT=sender mtad-sendmail -t -i -f alice@sender.test <mail\n'
check "exit 0: the mail is on stable storage" \
    env MTA_ROOT="$here" "$bin/mtad-sendmail" -t -i -f alice@sender.test <"$demo/mail"

title "It is in the queue, for its MX does not answer"
deferred() { "$bin/mtactl" --root "$here" queue list --state deferred --json | grep -q refused; }
check "the queue has it, deferred" until_true deferred
mtactl "$here" queue list
printf '$ MTA_ROOT=sender mtad-mailq\n'
MTA_ROOT=$here "$bin/mtad-mailq"

title "The receiving server starts, and the operator lets the mail be tried now"
start remote
mtactl "$here" queue flush --all
check "the queue is empty" until_true empty "$here"
mtactl "$here" queue list
printf '$ MTA_ROOT=sender mtad-mailq\n'
MTA_ROOT=$here "$bin/mtad-mailq"

title "What lies in Bob's Maildir"
arrived() { [ "$(find "$there/mail" -path '*/new/*' -type f | wc -l)" = 2 ]; }
check "both recipients have it" until_true arrived
mail=$(grep -rl 'Subject: Hello from' "$there/mail" | sort | head -1)
cat "$mail"

title "Is the signature good? dkimpy asks the same DNS"
check "DKIM verifies" "$python" - "$mail" "$dns_port" <<'EOF'
import sys

import dkim
import dns.resolver

resolver = dns.resolver.Resolver(configure=False)
resolver.nameservers, resolver.port = ["127.0.0.1"], int(sys.argv[2])


def txt(name, timeout=5):
    asked = name.decode().rstrip(".")
    print(f"   {asked} TXT?")
    return b"".join(resolver.resolve(asked, "TXT")[0].strings)


mail = open(sys.argv[1], "rb").read().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
good, changed = dkim.verify(mail, dnsfunc=txt), dkim.verify(mail.replace(b"text", b"test"), dnsfunc=txt)
print(f"   as delivered: {'verified' if good else 'BAD'}; with one letter changed: {'VERIFIED' if changed else 'refused'}")
sys.exit(not good or changed)
EOF
check "no Bcc was sent" bash -c "! grep -qi '^bcc' '$mail'"
check "the lone dot is there" bash -c "tr -d '\r' <'$mail' | grep -qx '[.]'"

title "The log of the sending server"
cat "$demo/sender.log"

printf '\nDone: a mail went from sendmail to a Maildir on another server, and everything is cleaned up.\n'
