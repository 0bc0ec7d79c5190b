#!/usr/bin/env bash
# Usage: run-tests.sh [sqlite|postgresql] [PYTEST_OPTION...]
# Without a database: the Debian packages, the checks, then every test; those of the hub run on SQLite and, where it is
# installed, on a private PostgreSQL. With a database: every test on SQLite alone, or the hub's on PostgreSQL alone.
#
# Everything runs in two streams side by side: one mostly waits for engines and clocks, one mostly computes. What failed
# there is run once more alone, when the machine is quiet, and both outcomes are printed: a test that passes only alone
# is too strict about time, and to be mended.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"

database=${1:-both}
[ $# -eq 0 ] || shift

# Tests that start engines, agents and faults, and wait for them.
waiting=()
computing=()
for folder in tests/*/; do
  folder=${folder%/}
  case $folder in
    tests/drivers | tests/faults | tests/kubernetes | tests/site) waiting+=("$folder") ;;
    tests/console) ;; # at the end: its network lives as long as the run
    *) if compgen -G "$folder/test_*.py" >/dev/null; then computing+=("$folder"); fi ;;
  esac
done
waiting+=(tests/console)

# Folders whose tests stand on the hub's database.
on_the_hub=()
for folder in tests/hub tests/e2e tests/faults; do
  if [ -d "$folder" ]; then on_the_hub+=("$folder"); fi
done

beside_a_database() {
  if tools/with-postgresql.sh --find >/dev/null 2>&1; then
    tools/with-postgresql.sh "$@"
  else
    env -u YUNHE_TEST_DATABASE_URL "$@"
  fi
}

logs=""
streams=()
stop() {
  for stream in "${streams[@]}"; do kill -INT -- "-$stream" 2>/dev/null || true; done
  [ -z "$logs" ] || rm -rf "$logs"
}

stream() { # NAME PYTEST_ARGUMENT...
  local name=$1
  shift
  beside_a_database pytest -ra -o cache_dir=".pytest_cache/$name" "$@"
}

both_streams() {
  logs=$(mktemp -d)
  trap stop EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  set -m # a process group each, to be stopped as one
  stream computing "$@" "${computing[@]}" >"$logs/computing" 2>&1 &
  streams+=($!)
  stream waiting "$@" "${waiting[@]}" &
  streams+=($!)
  set +m
  local computed=0 waited=0
  wait "${streams[1]}" || waited=$?
  wait "${streams[0]}" || computed=$?
  streams=()
  echo "== the other stream: ${computing[*]}"
  cat "$logs/computing"
  local failed=0
  again waiting "$waited" "$@" "${waiting[@]}" || failed=$?
  again computing "$computed" "$@" "${computing[@]}" || failed=$?
  return "$failed"
}

again() { # NAME STATUS PYTEST_ARGUMENT...
  local name=$1 status=$2
  shift 2
  [ "$status" -eq 1 ] || return "$status" # 1: tests failed; anything else is no matter of time
  echo "== failed beside the other stream, now alone: $name"
  stream "$name" --last-failed --last-failed-no-failures none "$@"
}

case $database in
  both)
    tools/install-debian.sh
    tools/check.sh
    echo "== tests"
    both_streams "$@"
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
