#!/usr/bin/env bash
# Style, types and the import law. Each command stands on its own; the first that fails ends the check.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"

step() {
  local from=$SECONDS
  echo "== $*"
  "$@" || { echo "check failed: $*" >&2; exit 1; }
  [ $((SECONDS - from)) -lt 5 ] || echo "   ($((SECONDS - from)) s)"
}

# Named, so that a newcomer's own files in this folder are not judged.
step ruff check src tests tools benchmarks examples
step ruff format --check src tests tools benchmarks examples
step mypy
step lint-imports
