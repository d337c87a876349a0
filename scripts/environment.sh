# Sourced by the other scripts: puts the project's Python environment in $PYTHON, making it where it is missing.
# Usage: . scripts/environment.sh REQUIREMENTS_FILE...
# An activated environment of your own is used as it is, if ROBUST_DATA_PYTHON names its python.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV="$ROOT/.venv"

find_python() {
    local candidate
    for candidate in python3 python3.14 python3.13 python3.12 python3.11 python; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "error: Python 3.11 or newer is needed and was not found; install it and try again" >&2
    return 1
}

prepare_environment() {
    local base stamp wanted
    wanted=$(cat "$@")
    stamp="$VENV/.installed"
    if [ ! -x "$VENV/bin/python" ] || ! "$VENV/bin/python" -c '' 2>/dev/null; then
        base=$(find_python) || return 1
        echo "making $VENV" >&2
        "$base" -m venv --clear "$VENV" || return 1
    fi
    # The stamp holds what was installed last, so that a second run starts at once.
    if [ ! -f "$stamp" ] || ! grep -qxF -e "$(echo "$wanted" | cksum)" "$stamp"; then
        echo "installing $* (a few minutes the first time)" >&2
        "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check $(printf -- '-r %s ' "$@") || return 1
        echo "$wanted" | cksum >> "$stamp"
    fi
}

if [ -n "${ROBUST_DATA_PYTHON:-}" ]; then
    PYTHON=$ROBUST_DATA_PYTHON
else
    (cd "$ROOT" && prepare_environment "$@") || exit 1
    PYTHON="$VENV/bin/python"
fi
