#!/bin/sh
# Print the newest Python that really works: it runs, is 3.11 or later, and can make a virtual environment with pip.
# Arguments: the versions to look for, best first; without any, all that are supported.
#
# A name on PATH proves nothing: pyenv puts a shim there for every version it knows, and Debian leaves venv out.

works() {
    "$1" -c 'import ensurepip, sqlite3, ssl, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

candidates() {
    for version in ${*:-3.14 3.13 3.12 3.11}; do
        command -v "python$version"
        ls "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version".*/bin/"python$version" 2>/dev/null
    done
    [ $# -gt 0 ] || command -v python3
}

for python in $(candidates "$@"); do
    works "$python" && echo "$python" && exit
done
echo "No working Python ${*:-3.11 or later} was found; name one with PYTHON=/path/to/python." >&2
exit 1
