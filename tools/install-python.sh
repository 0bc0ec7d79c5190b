#!/usr/bin/env bash
# Usage: install-python.sh base|test
# Puts the pinned requirements and the project itself into .venv. Needs Python 3.11 with venv, no compiler, no root.
# Everything it says goes to stderr: stdout belongs to the command that runs afterwards.
set -euo pipefail
cd "$(dirname "$0")/.."
exec >&2

kind=$1
case $kind in
  base) requirements=requirements.txt ;;
  test) requirements=requirements-test.txt ;;
  *) echo "install-python.sh: base or test, not '$kind'"; exit 2 ;;
esac

python=${PYTHON:-$(command -v python3.11 || command -v python3 || true)}
if [ -z "$python" ] || ! "$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))'; then
  echo "Yunhe needs Python 3.11 (Debian 12 has it: apt-get install python3 python3-venv). Or: make PYTHON=/path/to/python3.11"
  exit 1
fi
if ! [ -x .venv/bin/pip ]; then
  echo "creating .venv"
  if ! "$python" -m venv .venv; then
    rm -rf .venv
    echo "No virtual environment could be made. On Debian: apt-get install python3-venv"
    exit 1
  fi
fi

total=$(grep -c '^[A-Za-z0-9].*==' "$requirements")
echo "installing $total pinned packages from $requirements"

progress() { # one line that is rewritten on a terminal, nothing elsewhere
  awk -v total="$total" -v tty="$([ -t 2 ] && echo 1 || echo 0)" '
    /^(Collecting|Requirement already satisfied:) / {
      if (tty) { n++; sub(/^(Collecting|Requirement already satisfied:) /, ""); sub(/ .*/, "")
                 printf "\r\033[K  %d/%d %s", n, total, $0; fflush() } }
    /^Installing collected/ { if (tty) { printf "\r\033[K  unpacking"; fflush() } }
    END { if (tty) printf "\r\033[K" }'
}

# Wheels only: a package without a wheel for this machine is a clear error instead of a search for a compiler.
# No pip cache: nothing is written outside this folder.
.venv/bin/pip install --disable-pip-version-check --no-cache-dir --no-warn-script-location --progress-bar off \
  --no-input --only-binary :all: --require-hashes -r "$requirements" | progress
.venv/bin/pip install --disable-pip-version-check --no-cache-dir --no-warn-script-location --quiet \
  --no-input --no-index --no-deps --no-build-isolation --editable .
touch ".venv/.stamp-$kind"
echo "installed in $SECONDS s"
