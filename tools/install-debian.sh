#!/usr/bin/env bash
# Installs the Debian packages that the real parts of the tests need, where this user may; otherwise says what is
# skipped without them, why, and the line that would install them. Never fails: tests without a part say so too.
set -uo pipefail

apt_bound=600 # seconds for all of apt, a slow mirror included

# name | present when | packages | what is skipped without it
parts=(
  "PostgreSQL|ls /usr/lib/postgresql/1[5-9]/bin/postgres|postgresql-15|the hub's tests on PostgreSQL, two hub replicas, benchmarks submit_postgresql, submit_batch, settled"
  "bubblewrap|command -v bwrap|bubblewrap|the process driver's sandbox tests (jobs run in plain process groups then)"
  "Slurm|command -v slurmctld && command -v slurmd && command -v sbatch && command -v munged|slurmctld slurmd slurm-client slurm-wlm-basic-plugins munge|the Slurm driver's tests, the Slurm peer in the benchmarks"
  "Slurm accounting|command -v slurmdbd && command -v sacct && command -v mariadbd && command -v mariadb-install-db|slurmdbd slurm-wlm-mysql-plugin mariadb-server-core mariadb-client-core|the test of Slurm's real accounting"
  "Chromium|command -v chromium|chromium fonts-noto-cjk|the tests of the console's pages and its pictures"
)

missing=()
packages=()
for part in "${parts[@]}"; do
  IFS='|' read -r name present wanted skipped <<<"$part"
  if ! bash -c "$present" >/dev/null 2>&1; then
    missing+=("$part")
    read -ra more <<<"$wanted"
    packages+=("${more[@]}")
  fi
done
[ ${#missing[@]} -gt 0 ] || exit 0

as_root=()
why=""
if ! command -v apt-get >/dev/null; then
  why="this is not a Debian system"
elif [ "$(id -u)" -ne 0 ]; then
  if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    as_root=(sudo -n)
  else
    why="that needs root, and sudo asks for a password or is not there"
  fi
fi

if [ -z "$why" ]; then
  echo "== installing ${packages[*]}"
  log=$(mktemp)
  # RUNLEVEL=1 keeps the packages from starting services: the tests start their own, on folders of their own.
  if timeout "$apt_bound" "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 bash -c \
    'apt-get -q -o DPkg::Lock::Timeout=60 update && apt-get -q -y -o DPkg::Lock::Timeout=60 install --no-install-recommends "$@"' \
    apt "${packages[@]}" >"$log" 2>&1; then
    rm -f "$log"
    exit 0
  fi
  why="apt-get failed: $(grep -E '^(E|W):' "$log" | tail -1)"
  rm -f "$log"
fi

for part in "${missing[@]}"; do
  IFS='|' read -r name present wanted skipped <<<"$part"
  echo "SKIPPED without $name: $skipped"
  echo "  why: not installed, and $why"
  echo "  to install it: sudo apt-get install -y --no-install-recommends $wanted"
done
