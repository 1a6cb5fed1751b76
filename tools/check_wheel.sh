#!/bin/sh
# Build the package, install it in an empty virtual environment, and use it there: import, system checks, migrations.
# Argument: a Python that has `build`.
set -eu

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

"$1" -m build --outdir "$folder/dist" . >"$folder/log" 2>&1 || { cat "$folder/log"; exit 1; }
"$1" -m venv "$folder/venv"
python=$folder/venv/bin/python
wheel=$(echo "$folder"/dist/*.whl)
"$python" -m pip install --quiet "$wheel"
"$python" -c 'import django.tasks' 2>/dev/null || "$python" -m pip install --quiet "${wheel}[backport]"

cp tools/check_wheel.py "$folder"  # run from there, where no source lies beside it
cd "$folder" && "$python" -W error check_wheel.py
