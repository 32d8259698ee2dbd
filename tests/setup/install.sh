#!/usr/bin/env bash
# Installs what the tests talk to weir with, and only what is missing: Debian packages, the Node
# package `ws` and the Python package `websockets` (both under tests/.tools). Needs root or sudo
# only when a Debian package is missing.
set -euo pipefail
cd "$(dirname "$0")/../.."

# A command that must be there, and the Debian package that brings it.
commands='
nginx       nginx-light
nc          netcat-openbsd
logger      bsdutils
promtool    prometheus
chromium    chromium
openssl     openssl
curl        curl
make        make
cc          gcc
c++         g++
node        nodejs
npm         npm
python3     python3
'
ws_version=8.23.0
websockets_version=17.4
tools=tests/.tools

# Debian keeps servers in sbin, which is not on everybody's path.
PATH="$PATH:/usr/sbin:/sbin"

missing_packages() {
    while read -r name package; do
        [ -z "$name" ] || command -v "$name" >/dev/null || echo "$package"
    done <<<"$commands"
    # Debian's python3 comes without the part of `venv` that installs pip.
    python3 -c 'import ensurepip' 2>/dev/null || echo python3-venv
}

install_packages() {
    local sudo=()
    [ "$(id -u)" = 0 ] || sudo=(sudo)
    echo "install: apt-get install $*"
    "${sudo[@]}" apt-get update -qq
    # Servers that a package brings are not to be started: tests start their own.
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
        apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

install_node_package() {
    local installed="$tools/node_modules/ws/package.json"
    if ! grep -qs "\"version\": \"$ws_version\"" "$installed"; then
        echo "install: npm install ws@$ws_version"
        npm install --prefix "$tools" --no-save --no-audit --no-fund --loglevel=error \
            "ws@$ws_version" >/dev/null
    fi
}

install_python_package() {
    local python="$tools/venv/bin/python"
    if ! "$python" -c "import websockets as w; assert w.__version__ == '$websockets_version'" \
        2>/dev/null; then
        echo "install: pip install websockets==$websockets_version"
        python3 -m venv --clear "$tools/venv"
        "$python" -m pip install --quiet "websockets==$websockets_version"
    fi
}

missing="$(missing_packages)"
# Package names hold no spaces: each is one word.
# shellcheck disable=SC2086
[ -z "$missing" ] || install_packages $missing
mkdir -p "$tools"
install_node_package
install_python_package
