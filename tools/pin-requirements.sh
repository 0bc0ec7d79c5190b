#!/usr/bin/env bash
# Writes requirements.txt (to run) and requirements-test.txt (to test) from pyproject.toml: every version pinned,
# every file hashed, no address of any index.  Versions that are pinned already stay; `--upgrade` takes newer ones.
# The resolver lives in a temporary environment and never becomes a dependency.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check uv

# setuptools builds the project itself, without an isolated (and unpinned) build environment.
echo "setuptools>=80" > "$work/build.in"

pin() { # OUTPUT [OPTION...]
  local output=$1
  shift
  UV_PYTHON_DOWNLOADS=never "$work/venv/bin/uv" pip compile --quiet --generate-hashes --no-emit-index-url --no-header \
    --annotation-style line --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
    --output-file "$output" "$@" pyproject.toml
}

pin requirements.txt "$@" "$work/build.in"
pin requirements-test.txt "$@" --extra test --constraint requirements.txt "$work/build.in"
sed -i "s#$work/##g" requirements.txt requirements-test.txt
