# Sourced by the other scripts: brings .venv beside the project to what requirements.lock says, and says what it does.
# Offers: root (the checkout), python (of .venv), step, packages, find_python, locked, build_tools.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=$root/.venv/bin/python

step() { printf '%s\n' "-- $*"; }

as_root() { [ "$(id -u)" = 0 ]; }

# Debian packages, without starting a service of theirs and without questions.
install_packages() {
    as_root && command -v apt-get >/dev/null || return 1
    step "installing Debian packages: $*"
    local policy=/usr/sbin/policy-rc.d ours='' log
    log=$(mktemp)
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy" && ours=1
    fi
    echo 'postfix postfix/main_mailer_type select No configuration' | debconf-set-selections 2>/dev/null || true
    local status=0
    {
        apt-get -qq update &&
            DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends "$@"
    } </dev/null >"$log" 2>&1 || status=$?
    [ -z "$ours" ] || rm -f "$policy"
    [ "$status" = 0 ] || tail -n 5 "$log" >&2
    rm -f "$log"
    return "$status"
}

# The packages whose programs the tests use, where they are missing: installed as root, else named, and their tests skip.
packages() {
    local missing=() package program
    while read -r package program; do
        PATH=$PATH:/usr/sbin:/sbin command -v "$program" >/dev/null || missing+=("$package")
    done <<'EOF'
postfix postfix
knot knotd
knot-dnsutils kdig
dovecot-core dovecot
swaks swaks
opendkim opendkim
opendkim-tools opendkim-testmsg
mandoc mandoc
msmtp msmtp
openssl openssl
fail2ban fail2ban-regex
unbound unbound
nginx nginx
caddy caddy
strace strace
gcc gcc
e2fsprogs mkfs.ext4
iproute2 ip
util-linux unshare
systemd systemd-analyze
hyperfine hyperfine
mutt mutt
s-nail s-nail
bsd-mailx bsd-mailx
php-cli php
cron cron
pflogsumm pflogsumm
jq jq
EOF
    [ -e /usr/lib/dovecot/lmtp ] || missing+=(dovecot-lmtpd)
    compgen -G '/usr/lib/*/sasl2/libscram.so' >/dev/null || missing+=(libsasl2-modules) # Postfix signs in with it
    [ -e /usr/lib/git-core/git-send-email ] || missing+=(git-email)
    if command -v perl >/dev/null; then
        perl -MMail::Address -e1 2>/dev/null || missing+=(libmailtools-perl) # git send-email
        perl -MNet::SSLeay -e1 2>/dev/null || missing+=(libnet-ssleay-perl)
        perl -MIO::Socket::SSL -e1 2>/dev/null || missing+=(libio-socket-ssl-perl)
    fi
    [ ${#missing[@]} = 0 ] && return 0
    if ! install_packages "${missing[@]}"; then
        step "not installed, so their tests are skipped: ${missing[*]}"
    fi
}

# The system's comes first: its fixes come with those of the system, and Debian builds it with profiles, which a mail
# server feels (a third less time in the interpreter than a plain build beside it).
find_python() {
    local candidate
    for candidate in /usr/bin/python3 python3 python3.14 python3.13 python3.12 python3.11; do
        if command -v "$candidate" >/dev/null && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return 0
        fi
    done
    echo "there is no Python 3.11 or newer here" >&2
    return 1
}

# The lines of requirements.lock, with their hashes, for these packages and no others.
locked() {
    awk -v names=" $* " '/^[a-zA-Z0-9]/ { name = $1; sub(/==.*/, "", name); on = index(names, " " name " ") } on' \
        "$root/requirements.lock"
}
build_tools=(hatchling setuptools wheel packaging pathspec pluggy trove-classifiers tomlkit)

# pip's words go to a file, and are shown when it fails.
pip_install() {
    local log=$root/.venv/pip.log
    "$python" -m pip --disable-pip-version-check --no-input install "$@" </dev/null >"$log" 2>&1 || {
        tail -n 30 "$log" >&2
        return 1
    }
}

setup() {
    local wanted base stamp=$root/.venv/.mtad-setup
    wanted=$(cd "$root" && cat requirements.lock pyproject.toml scripts/_setup.sh | sha256sum)
    if [ -x "$python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
        return 0
    fi
    if [ ! -x "$python" ] || ! "$python" -m pip --version >/dev/null 2>&1; then
        base=$(find_python)
        step "making .venv with $("$base" --version)"
        if ! "$base" -c 'import ensurepip, venv' 2>/dev/null; then
            install_packages python3-venv || {
                echo "python3-venv is missing: apt-get install python3-venv" >&2
                return 1
            }
        fi
        rm -rf "$root/.venv"
        "$base" -m venv "$root/.venv"
    fi
    step "installing what requirements.lock names"
    # The tools that build packages come first: with --no-build-isolation nothing else may bring them.
    locked "${build_tools[@]}" >"$root/.venv/build-tools.txt"
    pip_install --require-hashes -r "$root/.venv/build-tools.txt" || return 1
    pip_install --no-build-isolation --require-hashes -r "$root/requirements.lock" || return 1
    step "installing mtad itself, editable"
    pip_install --no-deps --no-build-isolation -e "$root" || return 1
    printf '%s\n' "$wanted" >"$stamp"
}
