#!/bin/bash
# Installs mtad as a service of this host, brings it up to date in place, or takes it away: see docs/installing.md.
# A release is built whole beside the one in use, and one rename makes it the current one; the one before stays, for the
# daemon that still runs from it. PREFIX/.installed names every path that was put outside of PREFIX, with its digest:
# what is there already, or was changed since, is never overwritten and never removed.
# Exit: 0 done; 64 usage; 73 it cannot be installed or removed, and is as it was; 77 not root.
set -euo pipefail
umask 022
unset PYTHONPATH PYTHONHOME PIP_USER PIP_TARGET PIP_PREFIX PIP_REQUIRE_VIRTUALENV
. "$(dirname "$(readlink -f "$0")")/_setup.sh"

usage() {
    cat <<'END'
usage: scripts/install.sh [OPTIONS]          install, or upgrade in place
       scripts/install.sh --remove           take away what was put there; never mail, keys or settings

  --prefix DIR         where the program goes (/opt/mtad)
  --sockets            also the socket units, with which systemd holds the ports; an upgrade keeps them
  --with argon2|bcrypt also these password hashes; an upgrade keeps them
  --python PATH        the Python to use; by default the system's, 3.11 or newer
  --system-root DIR    install into the system below DIR
  --dry-run            show every step, and change nothing
END
}
fail() {
    echo "install.sh: $2" >&2
    exit "$1"
}
say() { printf '%-12s %s\n' "$1" "$2"; }
would() { printf 'would %s\n' "$*"; }

# What mtad needs to run, with the extra `fast`, down to the last package (a test holds it to pyproject.toml).
runtime=(aiosmtpd atpublic attrs cffi click cryptography dkimpy dnspython markdown-it-py mdurl pycparser pygments rich
    tabulate typing-extensions uvloop)
declare -A extras=([argon2]="argon2-cffi argon2-cffi-bindings" [bcrypt]=bcrypt)
commands=(mtactl mtad mtad-mailq mtad-newaliases mtad-sendmail)

prefix=/opt/mtad sys='' base='' dry='' remove='' sockets='' with=()
while [ $# -gt 0 ]; do
    case $1 in
        --prefix | --python | --system-root | --with)
            [ -n "${2:-}" ] || fail 64 "$1 needs a value"
            case $1 in
                --prefix) prefix=${2%/} ;;
                --python) base=$2 ;;
                --system-root) sys=${2%/} ;;
                --with) with+=("$2") ;;
            esac
            shift
            ;;
        --sockets) sockets=1 ;;
        --dry-run) dry=1 ;;
        --remove) remove=1 ;;
        -h | --help)
            usage
            exit 0
            ;;
        *) fail 64 "$1 is not known; see scripts/install.sh --help" ;;
    esac
    shift
done
# It stands in units and in first lines of programs, where nothing can be quoted.
[[ $prefix =~ ^(/[A-Za-z0-9._+-]+)+$ && ! $prefix =~ /\.\.?(/|$) ]] ||
    fail 64 "--prefix $prefix: give an absolute path of letters, digits and . _ + -"
[[ -z $sys || ( $sys = /* && -d $sys ) ]] || fail 64 "--system-root $sys: there is no such directory (an absolute path)"
for extra in "${with[@]}"; do [ -n "${extras[$extra]:-}" ] || fail 64 "--with $extra: argon2 or bcrypt"; done
[ -n "$sys" ] || [ -n "$dry" ] || as_root || fail 77 "it writes to $prefix, /etc and /usr/local: only root can do that"

home=$sys$prefix
manifest=$home/.installed
systemd() { [ -z "$sys" ] && [ -d /run/systemd/system ]; }

. "$root/scripts/_installed.sh"

# Processes that have a library of this release open.
users_of() { grep -ls -- "$1/" /proc/[0-9]*/maps 2>/dev/null | cut -d/ -f3 | paste -sd' ' || true; }

# --- away with it

if [ -n "$remove" ]; then
    if [ ! -f "$manifest" ]; then
        say "nothing" "to do: $prefix has no installation that install.sh made"
        exit 0
    fi
    for path in /usr/sbin/sendmail /usr/lib/sendmail /usr/bin/mailq /usr/bin/newaliases; do
        case $(readlink "$sys$path" || true):$(readlink -f "$sys$path" || true) in
            /usr/local/bin/mtad-* | *":$home/"*) fail 73 "$path is mtad's: first mtactl install sendmail --undo" ;;
        esac
    done
    if systemd; then
        for path in "${!was[@]}"; do
            case $path in */systemd/system/*) ;; *) continue ;; esac
            if [ -n "$dry" ]; then would "run systemctl disable --now ${path##*/}"; else
                systemctl --quiet disable --now "${path##*/}" 2>/dev/null || true
            fi
        done
    fi
    running=$(users_of "$home/releases")
    [ -z "$running" ] || [ -n "$dry" ] || fail 73 "it still runs as process $running: stop it first"
    while read -r path; do take_away "$path"; done < <(printf '%s\n' "${!was[@]}" | LC_ALL=C sort -r)
    if [ -n "$dry" ]; then
        would "remove $prefix/releases and its links in $prefix"
    else
        rm -rf "$home/releases"
        rm -f "$home"/{bin,share,scripts,current} "$manifest" "$home/.lock"
        rmdir --ignore-fail-on-non-empty "$home"
        if systemd; then systemctl daemon-reload; fi
        say removed "$prefix, and its units, commands, manual pages and completions"
    fi
    tell_changed "left"
    kept=''
    for path in /etc/mtad /var/lib/mtad /var/backups/mtad; do [ ! -e "$sys$path" ] || kept+=" $path"; done
    say kept "user mtad, groups mtad and mtad-admin${kept:+,$kept}"
    exit 0
fi

# --- a release

[ -f "$manifest" ] || [ ! -e "$home" ] || [ -z "$(ls -A "$home")" ] || [ "$(ls -A "$home")" = .lock ] ||
    fail 73 "$prefix is there, and install.sh did not make it: move it away, or give another --prefix"

work='' release=''
finish() {
    local status=$?
    trap - EXIT INT TERM
    [ -z "$work" ] || rm -rf "$work"
    [ -z "$release" ] || [ ! -d "$release" ] || {
        rm -rf "$release"
        echo "install.sh: nothing was changed$([ ! -e "$home/current" ] || echo ': the release in use is the one before')" >&2
        [ -e "$home/current" ] || { rmdir "$home/releases" && rm -f "$home/.lock" && rmdir "$home"; } 2>/dev/null || true
    }
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
work=$(mktemp -d)

# A command whose words are of interest only when it fails.
quietly() { # WHAT COMMAND...
    "${@:2}" </dev/null >"$work/log" 2>&1 || {
        grep -v '^WARNING: Retrying' "$work/log" | tail -n 5 >&2 || true
        fail 73 "$1"
    }
}

whole_python() { [ -n "$1" ] && "$1" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

choose_python() {
    local given=$base
    [ -n "$given" ] || base=$(find_python 2>/dev/null) || base=''
    if ! whole_python "$base" && [ -z "$given$sys" ] && command -v apt-get >/dev/null; then
        if [ -n "$dry" ]; then
            would "install the Debian package python3-venv"
            return 0
        fi
        say packages "python3-venv, by apt-get"
        quietly "the list of Debian packages cannot be read" apt-get -qq update
        quietly "python3-venv cannot be installed" \
            env DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends python3-venv
        base=$(find_python 2>/dev/null) || base=''
    fi
    whole_python "$base" ||
        fail 73 "${given:-this system} has no Python 3.11 or newer with venv (Debian and Ubuntu: apt-get install python3-venv)"
}

pip() { quietly "$1" "$release/bin/python" -m pip --disable-pip-version-check --no-input "${@:2}"; }

# Everything is fetched, checked against its hash and built first; then it is installed from what is there.
build() {
    local tools=$work/tools wheels=$work/wheels names=("${runtime[@]}") extra
    for extra in "${with[@]}"; do
        # shellcheck disable=SC2206  # several names
        names+=(${extras[$extra]})
    done
    quietly "no virtual environment at $prefix" "$base" -m venv "$release"
    locked "${build_tools[@]}" >"$work/tools.txt"
    locked "${names[@]}" >"$work/runtime.txt"
    pip "the tools that build packages cannot be had" install --require-hashes --target "$tools" -r "$work/tools.txt"
    export PYTHONPATH=$tools
    pip "what mtad needs cannot be had" \
        wheel --no-deps --no-build-isolation --require-hashes -w "$wheels" -r "$work/runtime.txt"
    pip "mtad cannot be built" wheel --no-deps --no-build-isolation -w "$wheels" "$root"
    unset PYTHONPATH
    pip "the packages cannot be installed" install --no-index --no-deps "$wheels"/*.whl
    pip "a package is missing" check
    mkdir "$release/scripts"
    install -m 0755 "$root"/scripts/{backup,certbot}.sh "$release/scripts/"
    quietly "mtactl does not start" "$release/bin/mtactl" --version
    quietly "mtad does not start" "$release/bin/mtad" --version
    if [ -n "$sys" ]; then # what was made below another root is at home there
        grep -rIlF -- "$home" "$release/bin" "$release/pyvenv.cfg" | xargs -r sed -i "s|$home|$prefix|g" || true
    fi
}

# A release that refuses the settings of this host is not taken into use, unless the one before refuses them too.
accepts_settings() {
    [ -z "$sys" ] && [ -f /etc/mtad/mtad.toml ] && [ -x "$home/current/bin/mtad" ] || return 0
    "$release/bin/mtad" check >"$work/check" 2>&1 || ! "$home/current/bin/mtad" check >/dev/null 2>&1 || {
        cat "$work/check" >&2
        fail 73 "the new release refuses the settings of this host"
    }
}

point() { # LINK TARGET, in one rename
    ln -sfn "$2" "$home/$1.new"
    mv -T "$home/$1.new" "$home/$1"
}

# The one in use and the one before stay, and whatever a process still runs from.
prune() {
    local old
    for old in "$home"/releases/*; do
        [ "$old" -ef "$built" ] || [ "${old##*/}" = "$before" ] || [ -n "$(users_of "$old")" ] || rm -rf "$old"
    done
}

user_and_directories() {
    local below=()
    [ -z "$sys" ] || below=(--root="$sys")
    if ! as_root; then
        say user "not made, for that needs root"
    elif command -v systemd-sysusers >/dev/null && command -v systemd-tmpfiles >/dev/null; then
        quietly "the user mtad cannot be made" systemd-sysusers "${below[@]}" mtad.conf
        quietly "the directories cannot be made" systemd-tmpfiles "${below[@]}" --create mtad.conf
        say user "mtad, for admins the group mtad-admin; /etc/mtad, /var/lib/mtad, /run/mtad"
    elif [ -z "$sys" ]; then
        getent group mtad-admin >/dev/null || groupadd --system mtad-admin
        id mtad >/dev/null 2>&1 ||
            useradd --system --user-group --home-dir /var/lib/mtad --no-create-home --shell /usr/sbin/nologin mtad
        install -d -m 0750 -g mtad /etc/mtad
        install -d -m 0755 -o mtad -g mtad /run/mtad
        install -d -m 0711 -o mtad -g mtad /var/lib/mtad
        install -d -m 3733 -o mtad -g mtad /var/lib/mtad/maildrop
        install -d -m 0700 /var/backups/mtad
        say user "mtad, group mtad-admin; /etc/mtad, /var/lib/mtad, /run/mtad (without systemd: /run/mtad at each boot is yours)"
    else
        say user "not made: there is no systemd-sysusers here"
    fi
}

version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' "$root/mtad/__init__.py")
number=$version-$(date -u +%Y%m%dT%H%M%SZ)
before=$(readlink "$home/current" 2>/dev/null || true)
before=${before##*/}
for extra in "${!extras[@]}"; do # whose passwords are kept with these can sign in after an upgrade too
    ! compgen -G "$home/current/lib/python3*/site-packages/$extra" >/dev/null || with+=("$extra")
done
choose_python
if [ -z "$dry" ]; then
    mkdir -p "$home"
    exec 9>"$home/.lock"
    flock -n 9 || fail 73 "another install.sh is at work on $prefix"
fi
make_plan
if [ -n "$dry" ]; then
    would "make $prefix/releases/$number with ${base:-python3}: mtad $version, ${runtime[*]} ${with[*]}"
    would "link $prefix/current -> releases/$number${before:+ (now $before)}"
    for name in bin share scripts; do [ -L "$home/$name" ] || would "link $prefix/$name -> current/$name"; done
    for path in "${paths[@]}"; do put "$path"; done
    for path in "${!was[@]}"; do [ -n "${wanted[$path]:-}" ] || [ "${was[$path]}" = dir ] || take_away "$path"; done
    would "make the user mtad, the group mtad-admin, /etc/mtad, /var/lib/mtad and /run/mtad where they are missing"
    tell_changed "would leave"
    exit 0
fi

release=$home/releases/$number
mkdir -p "$home/releases"
say python "$("$base" -c 'import platform, sys; print(platform.python_version(), sys.executable)')"
build
accepts_settings
touch "$manifest"
point current "releases/$number"
built=$release release='' # it is in use: it stays, whatever comes
for name in bin share scripts; do point "$name" "current/$name"; done
say program "mtad $version in $prefix/releases/$number, now $prefix/current"

for path in "${paths[@]}"; do put "$path"; done
for path in "${!was[@]}"; do # what a release before had, and this one has not
    [ -n "${wanted[$path]:-}" ] || [ "${was[$path]}" = dir ] || {
        take_away "$path"
        unset "was[$path]"
    }
done
for path in "${!was[@]}"; do printf '%s\t%s\n' "$path" "${was[$path]}"; done | LC_ALL=C sort >"$manifest.new"
mv "$manifest.new" "$manifest"
prune

count() { printf '%s\n' "${!wanted[@]}" | grep -c -- "$1"; }
say commands "/usr/local/bin: ${commands[*]}"
say units "/etc/systemd/system: $(printf '%s\n' "${!wanted[@]}" | sed -n 's|.*/systemd/system/||p' | sort | paste -sd' ')"
say manual "/usr/local/share/man: $(count /share/man/) pages"
say completions "/usr/local/share: bash, zsh, fish"
if [ -d "$sys/etc/fail2ban" ]; then
    say fail2ban "/etc/fail2ban: filter.d/mtad.conf, jail.d/mtad.conf; then: fail2ban-client reload"
else
    say fail2ban "is not installed: nothing was put there; once it is, run this again"
fi
user_and_directories
tell_changed "left"

if systemd; then
    systemctl daemon-reload
    if systemctl --quiet is-active mtad.service; then
        say next "systemctl restart mtad    (the daemon still runs the release before)"
    elif [ -f /etc/mtad/mtad.toml ]; then
        say next "systemctl enable --now mtad mtad-backup.timer"
    else
        say next "mtactl init --hostname mail.example.org --domain example.org    (docs/installing.md)"
    fi
elif [ -z "$sys" ]; then
    say systemd "does not run here: nothing starts mtad at boot; mtad run starts it now"
    running=''
    for path in "$home"/releases/*; do [ "$path" -ef "$built" ] || running+=" $(users_of "$path")"; done
    [ -z "${running// /}" ] || say next "restart mtad: process ${running//[[:space:]]/ } still runs the release before"
    [ -f /etc/mtad/mtad.toml ] ||
        say next "mtactl init --hostname mail.example.org --domain example.org    (docs/installing.md)"
fi
