# What the scripts share. Sourced, not run.

set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# Where Debian keeps mariadbd, which is not on the path of an ordinary user.
export PATH=$PATH:/usr/sbin:/sbin

# So many tests at a time: without it Swift Testing begins all of them at once, and each waits for its turn behind hundreds of others at every step.
export SWT_EXPERIMENTAL_MAXIMUM_PARALLELIZATION_WIDTH=${SWT_EXPERIMENTAL_MAXIMUM_PARALLELIZATION_WIDTH:-$((2 * $(nproc)))}

say() { printf '%s\n' "$*" >&2; }

# Installs Debian packages that are missing. As root, or with sudo.
need_packages() {
    local missing=() package
    for package in "$@"; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return 0
    say "installing ${missing[*]}"
    local as_root=()
    [ "$(id -u)" -eq 0 ] || as_root=(sudo)
    "${as_root[@]}" apt-get update -qq
    DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq "${missing[@]}" >/dev/null
}

need_swift() {
    command -v swift >/dev/null || { say "no Swift toolchain found: install Swift 6.2 or later from https://swift.org/install"; exit 69; }
}

# What every build needs.
need_build_packages() { need_packages libmariadb-dev libsqlite3-dev zlib1g-dev pkg-config; }

# need_python CHECK MODULES PACKAGE …: a Python of the script's own with packages from PyPI, kept in .build; nothing is done where it imports MODULES
# already. Sets venv; where it cannot be had, says that CHECK is skipped and ends the script.
need_python() {
    local check=$1 modules=$2 variable; shift 2
    variable=DATASYNC_$(tr a-z- A-Z_ <<<"$check")_VENV
    venv=${!variable:-$root/.build/$check-venv}
    ! "$venv/bin/python" -c "import $modules" 2>/dev/null || return 0
    command -v python3 >/dev/null || { say "$check: SKIPPED: no python3"; exit 0; }
    python3 -m venv "$venv" >/dev/null 2>&1 || { say "$check: SKIPPED: no venv for Python (package python3-venv)"; exit 0; }
    "$venv/bin/pip" install --quiet --disable-pip-version-check "$@" || { say "$check: SKIPPED: $* cannot be installed from PyPI"; exit 0; }
}

# build [OPTION …]: swift build, which says nothing unless it fails.
build() {
    local output
    output=$(swift build "$@" 2>&1) || { printf '%s\n' "$output" | grep -E 'error|warning' >&2 || printf '%s\n' "$output" >&2; return 1; }
}

# start_mariadb NAME [OPTION …]: a private server on a socket and in a directory of its own, and nothing else.
# Sets mariadb_socket and mariadb_dir; stop_mariadb NAME ends it.
start_mariadb() {
    local name=$1; shift
    mariadb_dir=$work/$name
    mariadb_socket=$mariadb_dir/s
    if [ ! -d "$mariadb_dir/data" ]; then
        mkdir -p "$mariadb_dir/data"
        mariadb-install-db --no-defaults --datadir="$mariadb_dir/data" --auth-root-authentication-method=normal \
            --skip-test-db ${mariadb_user:+--user=$mariadb_user} >"$mariadb_dir/install.log" 2>&1 \
            || { say "mariadb-install-db failed:"; tail "$mariadb_dir/install.log" >&2; return 1; }
    fi
    # Nothing listens on a port: the socket's folder is this user's alone.
    mariadbd --no-defaults --datadir="$mariadb_dir/data" --socket="$mariadb_socket" --skip-networking \
        --pid-file="$mariadb_dir/pid" --log-error="$mariadb_dir/error.log" --skip-log-bin \
        --innodb-buffer-pool-size=256M --innodb-log-file-size=256M --max-allowed-packet=64M \
        ${mariadb_user:+--user=$mariadb_user} "$@" >"$mariadb_dir/stderr.log" 2>&1 &
    echo $! >"$mariadb_dir/started"
    local i
    for i in $(seq 1 3000); do
        mariadb-admin --no-defaults --socket="$mariadb_socket" -u root ping >/dev/null 2>&1 && return 0
        kill -0 $! 2>/dev/null || break
        sleep 0.1
    done
    say "the private MariaDB did not start:"; tail "$mariadb_dir/stderr.log" "$mariadb_dir/error.log" >&2 || true
    return 1
}

stop_mariadb() {
    local pid
    pid=$(cat "$work/$1/started" 2>/dev/null) || return 0
    kill "$pid" 2>/dev/null || return 0
    wait "$pid" 2>/dev/null || true
}

# mariadbd refuses to run as root unless it is told to.
if [ "$(id -u)" -eq 0 ]; then mariadb_user=root; else mariadb_user=; fi
