#!/usr/bin/env bash
# Installs the servers that `weir-load bench fanout` compares with, and only what is missing: Debian
# packages, and a package of Node into the folder given. Needs root or sudo only for a Debian package.
# Usage: install.sh NODE_FOLDER
set -euo pipefail
folder="${1:?usage: install.sh NODE_FOLDER}"
PATH="$PATH:/usr/sbin:/sbin"
ws='ws@8.23.0'

missing=()
command -v nginx >/dev/null || missing+=(nginx-light)
[ -e /usr/lib/nginx/modules/ngx_nchan_module.so ] || missing+=(libnginx-mod-nchan)
command -v nats-server >/dev/null || missing+=(nats-server)
# What the package of uWebSockets leaves to the machine.
ldconfig -p | grep -q libuv.so.1 || missing+=(libuv1)
command -v node >/dev/null || missing+=(nodejs)
command -v npm >/dev/null || missing+=(npm)
if [ "${#missing[@]}" -gt 0 ]; then
    sudo=()
    [ "$(id -u)" = 0 ] || sudo=(sudo)
    echo "install: apt-get install ${missing[*]}" >&2
    "${sudo[@]}" apt-get update -qq
    # Servers that a package brings are not to be started: the benchmark starts its own.
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
        apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
if [ "$(cat "$folder/installed" 2>/dev/null)" != "$ws" ]; then
    echo "install: $ws" >&2
    mkdir -p "$folder"
    npm install --prefix "$folder" --no-save --no-audit --no-fund --loglevel=error "$ws" >/dev/null
    echo "$ws" >"$folder/installed"
fi
