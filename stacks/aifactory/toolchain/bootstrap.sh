#!/bin/sh
# `make setup`: Debian packages, virtual environment, Python packages, engine; whatever of it is missing.
# Safe to interrupt at any point and to run again; about a second when nothing is missing.
set -eu

root=$(cd "$(dirname "$0")/../../.." && pwd)
cd "$root"
venv=.venv
unfinished=$venv/.unfinished # exists while packages are being installed: what is found then is not trusted
logs=$(mktemp -d)
child=

say() { printf '%s\n' "$*" >&2; }

stop() {
    [ -z "$child" ] || kill "$child" 2>/dev/null || true
    rm -rf "$logs"
}
trap stop EXIT
trap 'say; say "Stopped. Run make setup again; it goes on from here."; exit 130' INT
trap 'exit 143' TERM HUP

# with_progress LABEL COMMAND…: its output goes to a log; a line every ten seconds; the log's end when it fails.
with_progress() {
    label=$1
    shift
    say "setup: $label"
    "$@" >"$logs/out" 2>&1 </dev/null &
    child=$!
    tenths=0
    while kill -0 "$child" 2>/dev/null; do
        sleep 0.2
        tenths=$((tenths + 2))
        [ $((tenths % 100)) -ne 0 ] || say "setup: $label, $((tenths / 10)) s"
    done
    code=0
    wait "$child" || code=$?
    child=
    [ "$code" -eq 0 ] || tail -n 15 "$logs/out" >&2
    return "$code"
}

family() {
    id=
    if [ -r /etc/os-release ]; then
        id=$(. /etc/os-release && printf '%s %s' "${ID:-}" "${ID_LIKE:-}")
    fi
    case " $id " in
    *" debian "* | *" ubuntu "*) echo debian ;;
    *" fedora "* | *" rhel "*) echo fedora ;;
    *) echo other ;;
    esac
}

fits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null; }

find_python() {
    for name in python3.13 python3.12 python3.11 python3; do
        if fits "$name"; then
            command -v "$name"
            return
        fi
    done
}

has_venv() { "$1" -c 'import ensurepip, venv' 2>/dev/null; }

# -- packages of the system ------------------------------------------------------------------------------------

missing_debian() {
    containers="podman runc netavark aardvark-dns iptables uidmap"
    wanted="mmdebstrap openssh-client zstd ca-certificates $containers"
    if ! fits "$venv/bin/python"; then
        python=$(find_python)
        if [ -z "$python" ]; then
            wanted="$wanted python3 python3-venv"
        elif ! has_venv "$python"; then
            wanted="$wanted $(basename "$python")-venv"
        fi
    fi
    # shellcheck disable=SC2086 # words on purpose, here and below
    have=" $(dpkg-query -W -f='${Package}=${db:Status-Status} ' $wanted 2>/dev/null || true)"
    missing=
    for package in $wanted; do
        case "$have" in *" $package=installed "*) ;; *) missing="$missing $package" ;; esac
    done
    case "$missing" in
    *podman*)
        if docker info >/dev/null 2>&1; then
            for package in $containers; do missing=$(printf '%s' "$missing" | sed "s/ $package\\>//"); done
        fi
        ;;
    esac
    printf '%s' "${missing# }"
}

# Replaces the background shell that with_progress made, so that a stop reaches it. Without the setup lock:
# a service that a package starts would hold it for ever.
apt() { exec env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0 "$@" 9>&-; }

install_debian() {
    if [ "$(id -u)" -ne 0 ]; then
        say "setup: a local region needs packages that only root can install. Run:"
        say "    sudo apt-get install --no-install-recommends $*"
        return 0
    fi
    if [ -n "$(dpkg --audit 2>/dev/null)" ]; then # an earlier run was killed in the middle of it
        with_progress "dpkg --configure -a" env DEBIAN_FRONTEND=noninteractive dpkg --configure -a || true
    fi
    if [ -z "$(find /var/lib/apt/lists -maxdepth 1 -name '*_Packages*' -mtime -7 2>/dev/null | head -n 1)" ]; then
        with_progress "apt-get update" apt update || apt_unreachable "$@"
    fi
    known=
    for package in "$@"; do # older releases have no netavark; the engine then uses what it has
        if apt-cache show "$package" >/dev/null 2>&1; then known="$known $package"; fi
    done
    [ -n "$known" ] || return 0
    # shellcheck disable=SC2086 # words on purpose
    with_progress "apt-get install$known" apt install --no-install-recommends $known && return 0
    with_progress "apt-get update" apt update || apt_unreachable "$@"
    # shellcheck disable=SC2086
    with_progress "apt-get install$known" apt install --no-install-recommends $known || apt_unreachable "$@"
}

apt_unreachable() {
    say "setup: apt could not fetch or install what a local region needs (its own words are above)."
    say "  Look at: network, proxy (/etc/apt/apt.conf.d), /etc/apt/sources.list.d. Then run make setup again, or by hand:"
    say "    apt-get update && apt-get install --no-install-recommends $*"
    exit 3
}

system_packages() {
    case $(family) in
    debian)
        missing=$(missing_debian)
        # shellcheck disable=SC2086
        [ -z "$missing" ] || install_debian $missing
        ;;
    *)
        lacking=
        command -v podman >/dev/null 2>&1 || docker info >/dev/null 2>&1 || lacking="$lacking podman"
        for name in mmdebstrap ssh zstd; do
            command -v "$name" >/dev/null 2>&1 || lacking="$lacking $name"
        done
        [ -n "$lacking" ] || return 0
        lacking=$(printf '%s' "$lacking" | sed 's/ ssh\( \|$\)/ openssh-clients\1/')
        say "setup: a local region also needs:$lacking"
        if [ "$(family)" = fedora ]; then
            say "    sudo dnf install$lacking"
        else
            say "    install them with this system's package manager"
        fi
        ;;
    esac
}

# -- Python ----------------------------------------------------------------------------------------------------

digest() {
    # The path and the interpreter count too: a venv does not survive being moved or a Python that went away.
    { printf '%s\n' "$root" && cat "$@" && "$venv/bin/python" -V; } 2>&1 | cksum
}

make_venv() {
    if [ -e "$unfinished" ] || ! fits "$venv/bin/python"; then
        rm -rf "$venv"
    fi
    if [ ! -x "$venv/bin/pip" ]; then
        python=$(find_python)
        if [ -z "$python" ] || ! has_venv "$python"; then
            say "setup: this needs Python 3.11, 3.12 or 3.13 with its venv module."
            case $(family) in
            debian) say "    apt-get install python3 python3-venv     (Debian 12 or newer)" ;;
            fedora) say "    dnf install python3.13" ;;
            *) say "    install python 3.13 with this system's package manager, or uv python install 3.13" ;;
            esac
            exit 3
        fi
        with_progress "virtual environment with $("$python" -V)" "$python" -m venv "$venv" || exit 4
    fi
}

pip() { exec "$venv/bin/python" -m pip --disable-pip-version-check --no-input install --progress-bar off "$@"; }

python_packages() {
    make_venv
    lock=$(digest requirements.lock)
    if [ "$(cat "$venv/.lock-stamp" 2>/dev/null || true)" != "$lock" ]; then
        touch "$unfinished"
        with_progress "Python packages from requirements.lock, hashes checked" \
            pip --require-hashes --no-deps -r requirements.lock || pip_failed
        printf '%s\n' "$lock" >"$venv/.lock-stamp"
        rm -f "$unfinished"
    fi
    own=$(digest pyproject.toml)
    if [ "$(cat "$venv/.own-stamp" 2>/dev/null || true)" != "$own" ] || [ ! -x "$venv/bin/aifactory" ]; then
        with_progress "aifactory itself, editable" pip --no-deps --no-build-isolation -e . || pip_failed
        printf '%s\n' "$own" >"$venv/.own-stamp"
    fi
}

pip_failed() {
    say "setup: pip failed (its own words are above). Look at: network, proxy, the index in pip's configuration"
    say "  (pip config list), free disk space. Then run make setup again."
    exit 4
}

# -- all of it ---------------------------------------------------------------------------------------------------

mkdir -p -m 700 .aifactory
if command -v flock >/dev/null 2>&1; then
    exec 9>.aifactory/setup.lock
    flock -n 9 || { say "setup: another make setup is running; waiting for it" && flock 9; }
fi
system_packages
python_packages
# The engine's build has a lock of its own; it runs in the foreground so that a Ctrl-C reaches it.
"$venv/bin/python" -m aifactory.toolchain "$@" </dev/null 9>&-
