# Sourced by app, test and check: a virtual environment in .venv that holds what they need.
# Knows nothing of what is run in it. $PYTHON names the Python to make it with.
# shellcheck shell=bash

repo="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$repo"
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1
# What is imported is compiled once, then kept: to compile all of .venv takes two minutes, and most
# of it is never imported.
unset PYTHONDONTWRITEBYTECODE

say() { printf 'headviz: %s\n' "$*" >&2; }

# Prints the first Python that is new enough and can make environments.
find_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11 python}; do
        if "$candidate" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' \
            </dev/null >/dev/null 2>&1; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    if [ -n "${PYTHON:-}" ]; then
        say "PYTHON=$PYTHON is no Python 3.11 or newer with its venv module; name another."
    else
        say "needs Python 3.11 or newer with its venv module (Debian: python3-venv);" \
            "install one, or name it: PYTHON=/path/to/python3."
    fi
    return 1
}

# Makes .venv where there is none, or where the one there does not run.
make_venv() {
    if .venv/bin/python -m pip --version </dev/null >/dev/null 2>&1; then return; fi
    local python
    python="$(find_python)"
    say "making .venv with $("$python" --version)"
    "$python" -m venv --clear .venv </dev/null
}

# ensure_env app|test|dev: installs where the lists changed since that was last done, or the folder
# was moved. A stamp is a checksum of both; each level holds the ones before it.
ensure_env() {
    local level="$1" target="." stamp covered
    make_venv
    stamp="$({ cat requirements.txt pyproject.toml setup.py; pwd; } | cksum)"
    if [ "$(cat ".venv/.headviz-$level" 2>/dev/null)" = "$stamp" ]; then return; fi
    [ "$level" = app ] || target=".[$level]"
    say "installing what headviz needs ($level); the first time takes minutes and some 6 GB"
    if ! .venv/bin/python -m pip install --quiet --no-compile --editable "$target" </dev/null; then
        say "could not install; the reason is above. Nothing is lost: run the same command again."
        return 1
    fi
    for covered in app test dev; do
        printf '%s\n' "$stamp" >".venv/.headviz-$covered"
        [ "$covered" != "$level" ] || break
    done
}
