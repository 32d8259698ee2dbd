#!/usr/bin/env bash
# Installs what the tests talk to weir with and hold deploy/ and dashboards/ against, and only what is
# missing: Debian packages, and packages of Node and Python (both under tests/.tools). Needs root or
# sudo only when a Debian package is missing.
set -euo pipefail
cd "$(dirname "$0")/../.."

# A command that must be there, and the Debian package that brings it.
commands='
nginx       nginx-light
nc          netcat-openbsd
logger      bsdutils
promtool    prometheus
haproxy     haproxy
sslscan     sslscan
kubectl     kubernetes-client
systemd-analyze systemd
chromium    chromium
certutil    libnss3-tools
openssl     openssl
curl        curl
make        make
cc          gcc
c++         g++
node        nodejs
npm         npm
python3     python3
'
# What each is for: WebSocket clients, Grafana's types of dashboards and a compiler that holds our
# dashboards against them, the schemas of what the Prometheus operator reads, the client protocol's SDK; WebSocket clients,
# Kubernetes' schemas, YAML, the client protocol's SDK, tokens, the server API's SDK.
node_packages='ws@8.23.0 @grafana/schema@13.2.3 typescript@5.9.3
    @kubernetes-models/prometheus-operator@6.0.0 centrifuge@5.8.0 eventsource@4.1.1'
python_packages='websockets==17.4 kubernetes-validate==1.37.0 PyYAML==6.0.3 centrifuge-python==0.7.0
    PyJWT==2.15.1 cent==5.2.0'
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

# Runs an install when what is wanted is not what was installed last.
when_changed() {
    local note="$tools/$1.installed" wanted="$2"
    shift 2
    [ "$(cat "$note" 2>/dev/null)" != "$wanted" ] || return 0
    echo "install: $wanted"
    "$@"
    echo "$wanted" >"$note"
}

install_node_packages() {
    # Package names hold no spaces: each is one word.
    # shellcheck disable=SC2086
    npm install --prefix "$tools" --no-save --no-audit --no-fund --loglevel=error $node_packages \
        >/dev/null
}

install_python_packages() {
    python3 -m venv --clear "$tools/venv"
    # shellcheck disable=SC2086
    "$tools/venv/bin/python" -m pip install --quiet $python_packages
}

missing="$(missing_packages)"
# Package names hold no spaces: each is one word.
# shellcheck disable=SC2086
[ -z "$missing" ] || install_packages $missing
mkdir -p "$tools"
when_changed node "$node_packages" install_node_packages
when_changed python "$python_packages" install_python_packages
