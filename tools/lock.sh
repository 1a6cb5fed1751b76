#!/bin/sh
# Write requirements/: the newest versions of all that CI installs, for every Python that is supported, with hashes.
# Argument: uv, which can resolve for several versions of Python at once.
#
# No file names an index: pip takes the one it is configured for, and the hashes say whether that serves the same files.
set -eu

uv=$1

resolve() { # file, Python, arguments of uv
    file=requirements/$1 python=$2
    shift 2
    "$uv" pip compile --quiet --universal --upgrade --python-version "$python" --generate-hashes --no-annotate \
        --custom-compile-command "make lock" --output-file "$file" "$@"
}

django() { # series, Python
    printf '%s\n' "Django~=$1.0" | resolve "django-$1.txt" "$2" --no-emit-package asgiref \
        --no-emit-package sqlparse --no-emit-package tzdata -
}

# Django apart: which one is a choice of the matrix. The package itself is built by hatchling and editables.
printf 'hatchling\neditables\n' |
    resolve ci.txt 3.11 --extra test --extra dev --extra demo --extra docs --no-emit-package django pyproject.toml -
django 5.2 3.11
django 6.0 3.12
django 6.1 3.12
