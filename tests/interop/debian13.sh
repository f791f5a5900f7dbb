#!/usr/bin/env bash
# make interop-more in the Debian 13 tree of tests/debian13.sh, which has mounted and built what is needed. The packages
# come from the tree's own mirror, once.
set -euo pipefail
tree=$1
inside() { chroot "$tree" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 "$@"; }

packages=(python3-aioquic openssl ngtcp2-client ngtcp2-server)
if ! inside dpkg -s "${packages[@]}" > /dev/null 2>&1; then
	cp -L /etc/resolv.conf "$tree/etc/resolv.conf"
	{ inside apt-get -qq update &&
		inside env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "${packages[@]}"; } \
		> "$tree.log" 2>&1 || { tail -n 5 "$tree.log" >&2; exit 1; }
fi
inside timeout 300 make -s -C /root/qsock interop-more
