#!/usr/bin/env bash
# Builds what `make test-kubernetes` runs: kube-apiserver, kube-controller-manager and kube-scheduler 1.20.2, from the
# source package of Debian 12, and takes etcd from Debian. About ten minutes on two cores and 3 GB of disk while it
# works, 250 MB afterwards. Once: a cache that is full is left as it is.
#
#   YUNHE_KUBERNETES_BIN     where the programs end up (default ~/.cache/yunhe/kubernetes/bin)
#   YUNHE_KUBERNETES_BUILD   where it works (default beside it); removed after success
#
# Debian's newer Go breaks one of the vendored libraries (reflect2 before 1.0.2 reads maps as they were until Go 1.17): it
# is replaced by Debian's own package of it. Nothing is fetched but from the Debian mirrors of this system.
set -euo pipefail

cache=${XDG_CACHE_HOME:-$HOME/.cache}/yunhe/kubernetes
bin=${YUNHE_KUBERNETES_BIN:-$cache/bin}
work=${YUNHE_KUBERNETES_BUILD:-$cache/build}
programs=(kube-apiserver kube-controller-manager kube-scheduler)
packages=(golang-go golang-github-modern-go-reflect2-dev etcd-server bubblewrap dpkg-dev jq rsync make gcc)
need_kib=$((3500 * 1024))

say() { echo "build-kubernetes: $*" >&2; }

built() {
  local program
  for program in "${programs[@]}"; do [ -x "$bin/$program" ] || return 1; done
}

packaged() { command -v etcd && command -v bwrap; }

if built && packaged >/dev/null; then
  say "$bin has all of it"
  exit 0
fi

as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n "$@"; fi
}

install_packages() {
  local wanted=(etcd-server bubblewrap)
  built || wanted=("${packages[@]}")
  say "installing ${wanted[*]}"
  # RUNLEVEL=1 keeps etcd's package from starting a service: the tests start their own, on folders of their own.
  as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 bash -c \
    'apt-get -q update && apt-get -q -y install --no-install-recommends "$@"' apt "${wanted[@]}" >"$log" 2>&1 || {
    say "apt-get failed (root is needed): sudo apt-get install -y --no-install-recommends ${wanted[*]}"
    tail -3 "$log" >&2
    exit 1
  }
}

# Lists of source packages in a folder of its own: this system's apt is left as it is.
fetch_source() {
  mkdir -p lists/partial sources
  if [ -e /etc/apt/sources.list.d/debian.sources ]; then
    sed 's/^Types:.*/Types: deb-src/' /etc/apt/sources.list.d/debian.sources >sources/source.sources
  else
    sed -n 's/^deb \(.*\)/deb-src \1/p' /etc/apt/sources.list >sources/source.list
  fi
  local options=(-o Dir::Etc::sourcelist=/dev/null -o "Dir::Etc::sourceparts=$PWD/sources" -o "Dir::State::lists=$PWD/lists")
  apt-get -q "${options[@]}" update >"$log" 2>&1
  apt-get -q "${options[@]}" source --download-only kubernetes=1.20.5* >>"$log" 2>&1 ||
    apt-get -q "${options[@]}" source --download-only kubernetes >>"$log" 2>&1
}

unpack() {
  rm -rf source
  mkdir source
  tar xzf kubernetes_*.orig.tar.gz -C source --strip-components=1
  local vendored=source/vendor/github.com/modern-go/reflect2
  rm -rf "${vendored:?}"/*
  cp -L /usr/share/gocode/src/github.com/modern-go/reflect2/*.{go,s} "$vendored/"
  mkdir -p source/.go/src/k8s.io
  ln -s ../../.. source/.go/src/k8s.io/kubernetes
  printf '%s\n' KUBE_GIT_COMMIT=debian KUBE_GIT_TREE_STATE=archive KUBE_GIT_VERSION=v1.20.2 \
    KUBE_GIT_MAJOR=1 KUBE_GIT_MINOR=20 >version
}

compile() {
  local targets=("${programs[@]/#/cmd/}")
  env -u GOFLAGS HOME="$work" GOPATH="$work/source/.go" GOCACHE="$work/gocache" GOPROXY=off CGO_ENABLED=0 \
    KUBE_GIT_VERSION_FILE="$work/version" nice make -C source WHAT="${targets[*]}" >"$log" 2>&1
}

mkdir -p "$work" "$bin"
cd "$work"
exec 9>"$work/lock"
flock -n 9 || { say "another build works in $work"; exit 1; }
log=$work/log
trap 'status=$?; [ $status -eq 0 ] || say "failed; the last words are in $log"' EXIT

install_packages
if ! built; then
  if [ "$(df --output=avail "$work" | tail -1)" -lt "$need_kib" ]; then
    say "less than 3.5 GB are free in $work; set YUNHE_KUBERNETES_BUILD"
    exit 1
  fi
  [ -s kubernetes_*.orig.tar.gz ] 2>/dev/null || { say "fetching the source"; fetch_source; }
  unpack
  say "compiling, for about ten minutes"
  compile
  for program in "${programs[@]}"; do
    install -m 0755 source/_output/bin/"$program" "$bin/$program.new"
    mv "$bin/$program.new" "$bin/$program"
  done
fi
cd /
rm -rf "$work"
say "$bin has all of it"
