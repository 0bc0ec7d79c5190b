#!/usr/bin/env bash
# Usage: run-tests.sh [sqlite|postgresql] [PYTEST_OPTION...]
# Without a database: the Debian packages, the checks, then every test; those of the hub run on SQLite and, where it is
# installed, on a private PostgreSQL. With a database: every test on SQLite alone, or the hub's on PostgreSQL alone.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"

database=${1:-both}
[ $# -eq 0 ] || shift

# Folders whose tests stand on the hub's database.
on_the_hub=()
for folder in tests/hub tests/e2e tests/faults; do
  if [ -d "$folder" ]; then on_the_hub+=("$folder"); fi
done

case $database in
  both)
    tools/install-debian.sh
    tools/check.sh
    echo "== tests"
    if tools/with-postgresql.sh --find >/dev/null 2>&1; then
      tools/with-postgresql.sh pytest -ra "$@" tests
    else
      env -u YUNHE_TEST_DATABASE_URL pytest -ra "$@" tests
    fi
    ;;
  sqlite)
    echo "== tests on SQLite"
    env -u YUNHE_TEST_DATABASE_URL pytest -ra -k "not postgresql" "$@" tests
    ;;
  postgresql)
    echo "== tests on PostgreSQL"
    tools/with-postgresql.sh pytest -ra -k "not sqlite" "$@" "${on_the_hub[@]}"
    ;;
  *)
    echo "run-tests.sh: sqlite or postgresql, not '$database'" >&2
    exit 2
    ;;
esac
echo "== done in $SECONDS s"
