#!/usr/bin/env bash
# Usage: with-postgresql.sh [--durable] COMMAND [ARGUMENT...]
#        with-postgresql.sh --find          prints the folder of PostgreSQL's programs, or fails with the way out
# Runs COMMAND beside a private PostgreSQL server: a folder of its own, a free port on 127.0.0.1, a password of its
# own. YUNHE_TEST_DATABASE_URL tells COMMAND where it is. The server and its folder are gone afterwards, also when
# this script is killed. With --durable commits reach the disk, as they must when speed is measured.
set -euo pipefail

programs=$(ls -d /usr/lib/postgresql/1[5-9]/bin 2>/dev/null | tail -1 || true)
[ -n "$programs" ] || programs=$(dirname "$(command -v postgres || echo .)")
if ! [ -x "$programs/postgres" ]; then
  echo "PostgreSQL is not installed: sudo apt-get install -y --no-install-recommends postgresql-15" >&2
  exit 3
fi
if [ "${1:-}" = --find ]; then
  echo "$programs"
  exit 0
fi

durable=off
if [ "${1:-}" = --durable ]; then
  durable=on
  shift
fi
[ $# -gt 0 ] || { echo "with-postgresql.sh: which command?" >&2; exit 2; }

# PostgreSQL refuses to run as root; then it runs as the user that its package made.
as_owner=()
if [ "$(id -u)" -eq 0 ]; then
  as_owner=(setpriv --reuid=postgres --regid=postgres --clear-groups)
fi

folder=$(mktemp -d "${TMPDIR:-/tmp}/yunhe-postgresql.XXXXXX")
server=
stop() {
  local status=$?
  trap - EXIT INT TERM HUP
  if [ -n "$server" ]; then
    kill -INT "$server" 2>/dev/null || true # a fast, clean shutdown
    for _ in $(seq 100); do
      kill -0 "$server" 2>/dev/null || break
      sleep 0.1
    done
    kill -KILL "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
  fi
  rm -rf "$folder"
  exit "$status"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

password=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
mkdir "$folder/socket"
printf '%s' "$password" >"$folder/password"
chmod 700 "$folder"
chmod 600 "$folder/password"
if [ "$(id -u)" -eq 0 ]; then
  chown -R postgres:postgres "$folder"
fi
"${as_owner[@]}" "$programs/initdb" --pgdata "$folder/data" --username yunhe --pwfile "$folder/password" \
  --auth scram-sha-256 --encoding UTF8 --locale C --no-sync >"$folder/initdb.log" 2>&1 ||
  { cat "$folder/initdb.log" >&2; exit 1; }

start() { # PORT
  # `setpriv --pdeathsig` ends the server even when this script is killed without a chance to clean up.
  (cd "$folder" && exec "${as_owner[@]}" setpriv --pdeathsig INT "$programs/postgres" -D "$folder/data" -p "$1" \
    -c listen_addresses=127.0.0.1 -c unix_socket_directories="$folder/socket" -c max_connections=200 \
    -c shared_buffers=128MB -c fsync=$durable -c synchronous_commit=$durable -c full_page_writes=$durable \
    -c log_min_messages=warning) >"$folder/server.log" 2>&1 &
  server=$!
  for _ in $(seq 300); do
    if "$programs/pg_isready" -q -h 127.0.0.1 -p "$1" -U yunhe; then return 0; fi
    kill -0 "$server" 2>/dev/null || return 1
    sleep 0.1
  done
  return 1
}

for attempt in 1 2 3 4 5; do
  # A port can be taken between the look and the start; then another one is tried.
  port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  if start "$port"; then break; fi
  kill -KILL "$server" 2>/dev/null || true
  server=
  [ "$attempt" -lt 5 ] || { cat "$folder/server.log" >&2; exit 1; }
done

export YUNHE_TEST_DATABASE_URL="postgresql+psycopg://yunhe:$password@127.0.0.1:$port/postgres"
"$@"
