#!/bin/sh
# make deps: deps.sh [TOOL...]. What building and testing needs, and those tools, installed where that is possible
# without asking; otherwise one line says what is missing.
missing=
have() { command -v "$1" > /dev/null 2>&1; }
have cc || missing="$missing gcc libc6-dev"
have make || missing="$missing make"
have pkg-config || missing="$missing pkg-config"
lib() { have pkg-config && pkg-config --exists "$1" || missing="$missing $2"; }
lib libssl libssl-dev
lib libbsd libbsd-dev
lib cmocka libcmocka-dev
for tool; do
	have "$tool" || missing="$missing $tool"
done
[ -n "$missing" ] || exit 0

as_root=
[ "$(id -u)" = 0 ] || as_root="sudo -n"
if have apt-get && $as_root true 2> /dev/null; then
	export DEBIAN_FRONTEND=noninteractive
	$as_root apt-get update -qq && $as_root apt-get install -y -qq --no-install-recommends $missing && exit 0
fi
echo "missing, please install (names as in Debian):$missing" >&2
exit 1
