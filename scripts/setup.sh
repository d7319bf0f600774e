#!/bin/sh
# Bring this folder to where `make run`, `make test` or `make check` can begin. Quick when there is nothing to do.
# Usage: setup.sh run|test|check
set -eu

python=${PYTHON:-python3}
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "Python 3.11 or newer is needed; install it, or name it with PYTHON=." >&2
    exit 1
fi

# Install <stamp> <requirements file>…: once for each content of the files, and again if it was cut short.
install() {
    stamp=.venv/.installed-$1
    shift
    want=$(cat "$@" | cksum)
    [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$want" ] && return
    if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
        "$python" -m venv --clear .venv || {
            echo "A virtual environment cannot be made; install Python's venv module (Debian: python3-venv)." >&2
            exit 1
        }
    fi
    echo "Installing $* into .venv (minutes, the first time) …"
    .venv/bin/python -m pip install -qq --disable-pip-version-check "$(grep '^torch==' requirements.txt)"
    for file in "$@"; do
        .venv/bin/python -m pip install -qq --disable-pip-version-check --requirement "$file"
    done
    # What pip installs it compiles; else the first start would compile the lab, in the server and in the worker at once.
    .venv/bin/python -m compileall -q labcore pages app.py || true # what is wrong with a file is told where it is used
    echo "$want" >"$stamp"
}

if [ "$1" = run ]; then
    install run requirements.txt
    exit
fi
install dev requirements.txt requirements-dev.txt
cksum <requirements.txt >.venv/.installed-run # all that `make run` needs is there too
[ "$1" = test ] || exit 0

# The browser test needs Chromium; the sample of Fashion-MNIST is checked against the whole.
missing=
[ -x /usr/bin/chromium ] || missing="$missing chromium"
[ -d /usr/share/datasets/fashion-mnist ] || missing="$missing dataset-fashion-mnist"
if [ -n "$missing" ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "Installing Debian packages:$missing …"
        { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends $missing; } \
            >/dev/null 2>&1 || echo "They could not be installed; tests that need them are skipped." >&2
    else
        echo "Tests that need them are skipped; to run them too: sudo apt-get install$missing" >&2
    fi
fi
