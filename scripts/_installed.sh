# Sourced by install.sh: what it puts outside of the prefix, and takes away again. PREFIX/.installed names each path with
# what was put there; what is not that any more, or was there before, is left as it is, and told of.
# Wants: sys, prefix, manifest, root, commands, sockets, dry, work, say, would. Offers: was, wanted, paths, make_plan,
# put, take_away, tell_changed.
# shellcheck shell=bash disable=SC2154

declare -A was=() # path -> what was put there: "-> target", a digest, or "dir"
if [ -f "$manifest" ]; then
    while IFS=$'\t' read -r path what; do was[$path]=$what; done <"$manifest"
fi

found() { # PATH: what is there now, in the words of the manifest
    if [ -L "$1" ]; then
        printf -- '-> %s' "$(readlink "$1")"
    elif [ -f "$1" ]; then
        sha256sum <"$1" | cut -c1-64
    elif [ -d "$1" ]; then
        printf dir
    elif [ -e "$1" ]; then
        printf other
    fi
}

paths=() # in the order in which they are put
declare -A wanted=() source=()
plan_link() { paths+=("$1") wanted[$1]="-> $2"; }
plan_file() { # PATH FILE, in which the prefix is written as it is here
    local copy=$work/${#paths[@]}
    sed "s|/opt/mtad/|$prefix/|g" "$2" >"$copy"
    paths+=("$1") source[$1]=$copy wanted[$1]=$(found "$copy")
}

make_plan() {
    local name unit units=(mtad.service mtad-backup.service mtad-backup.timer)
    local etc=/etc share=/usr/local/share
    for name in "${commands[@]}"; do plan_link "/usr/local/bin/$name" "$prefix/bin/$name"; done
    [ -z "$sockets" ] && [ -z "${was[$etc/systemd/system/mtad.socket]:-}" ] ||
        units+=(mtad.socket mtad-submission.socket mtad-submissions.socket mtad-submit.socket)
    for unit in "${units[@]}"; do plan_file "$etc/systemd/system/$unit" "$root/deploy/$unit"; done
    for name in sysusers.d tmpfiles.d; do plan_file "$etc/$name/mtad.conf" "$root/deploy/$name/mtad.conf"; done
    if [ -d "$sys$etc/fail2ban" ]; then
        for name in filter.d jail.d; do
            plan_file "$etc/fail2ban/$name/mtad.conf" "$root/deploy/fail2ban/$name/mtad.conf"
        done
    fi
    while read -r name; do plan_link "$share/man/$name" "$prefix/share/man/$name"; done \
        < <(cd "$root/man" && find . -type f -name '*.[1-9]' -printf '%P\n' | LC_ALL=C sort)
    for name in bash-completion/completions/mtactl zsh/site-functions/_mtactl fish/vendor_completions.d/mtactl.fish; do
        plan_link "$share/$name" "$prefix/share/$name"
    done
}

changed=() # what is not ours to replace
mine() { # PATH: nothing is there, or what was put there
    local now
    now=$(found "$sys$1")
    [ -z "$now" ] || [ "$now" = "${was[$1]:-}" ]
}

record() { # PATH WHAT: at once, so that --remove knows it after an interrupted run too
    was[$1]=$2
    printf '%s\t%s\n' "$1" "$2" >>"$manifest"
}

put() { # PATH
    local path=$1 here=$sys$1 folder made=() now
    now=$(found "$here")
    if [ "$now" = "${wanted[$path]}" ]; then
        [ -n "$dry" ] || [ "${was[$path]:-}" = "$now" ] || record "$path" "$now"
        return 0
    fi
    if ! mine "$path"; then
        changed+=("$path")
        return 0
    fi
    if [ -n "$dry" ]; then
        case ${wanted[$path]} in
            '->'*) would "link $path ${wanted[$path]}" ;;
            *) would "write $path" ;;
        esac
        return 0
    fi
    folder=$(dirname "$path")
    while [ ! -d "$sys$folder" ]; do
        made=("$folder" "${made[@]}")
        folder=$(dirname "$folder")
    done
    for folder in "${made[@]}"; do
        mkdir "$sys$folder"
        record "$folder" dir
    done
    case ${wanted[$path]} in
        '->'*) ln -sfn "${wanted[$path]#-> }" "$here.mtad-new" ;;
        *) install -m 0644 "${source[$path]}" "$here.mtad-new" ;;
    esac
    mv -T "$here.mtad-new" "$here"
    record "$path" "${wanted[$path]}"
}

take_away() { # PATH
    local here=$sys$1
    if [ "${was[$1]}" = dir ]; then
        [ -n "$dry" ] || rmdir --ignore-fail-on-non-empty "$here" 2>/dev/null || true
    elif mine "$1"; then
        if [ -n "$dry" ]; then would "remove $1"; else rm -f "$here"; fi
    else
        changed+=("$1")
    fi
}

tell_changed() { # WHAT becomes of them
    local path
    for path in "${changed[@]}"; do say "$1" "$path: it is not what install.sh put there"; done
}
