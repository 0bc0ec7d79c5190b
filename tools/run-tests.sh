#!/usr/bin/env bash
# Usage: run-tests.sh [sqlite|postgresql] [PYTEST_OPTION...]
# Without a database: the Debian packages, the checks, all tests on SQLite, then the hub's tests on PostgreSQL.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"

database=${1:-both}
[ $# -eq 0 ] || shift

# The tests whose ground is the hub's database; those that are there run again on PostgreSQL.
on_postgresql=()
for folder in tests/hub tests/e2e tests/faults; do
  [ -d "$folder" ] && on_postgresql+=("$folder")
done

on_sqlite() {
  echo "== tests on SQLite"
  env -u YUNHE_TEST_DATABASE_URL pytest -ra "$@" tests
}

on_postgresql() {
  echo "== tests on PostgreSQL"
  if ! tools/with-postgresql.sh --find >/dev/null; then
    if [ "$database" = postgresql ]; then
      tools/with-postgresql.sh --find
    fi
    echo "SKIPPED: tests on PostgreSQL (${on_postgresql[*]}): it is not installed, see above"
    return 0
  fi
  tools/with-postgresql.sh pytest -ra "$@" "${on_postgresql[@]}"
}

case $database in
  both)
    tools/install-debian.sh
    tools/check.sh
    on_sqlite "$@"
    on_postgresql "$@"
    ;;
  sqlite) on_sqlite "$@" ;;
  postgresql) on_postgresql "$@" ;;
  *) echo "run-tests.sh: sqlite or postgresql, not '$database'" >&2; exit 2 ;;
esac
echo "== done in $SECONDS s"
