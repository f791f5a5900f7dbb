#!/usr/bin/env bash
# make check-openssl35: the same proof on OpenSSL >= 3.5, whatever stands on this machine. A Debian 13 tree in
# $QSOCK_TREE is made once, by debootstrap and from the mirror that apt uses here; a copy of this source is built and
# tested in it, and the programs built there talk to those built here. Needs root and debootstrap; without them it says
# so and exits with 77.
#
# All runs in mount and PID namespaces of its own: however this ends, no mount and no process stays behind.
set -euo pipefail
src=$(cd "$(dirname "$0")/.." && pwd)
tree=${QSOCK_TREE:-/var/cache/qsock-debian13}

skip() { echo "openssl35: skipped, $*"; exit 77; }
die() { echo "openssl35: $*" >&2; exit 1; }

if [ "${1:-}" != in-namespace ]; then
	[ "$(id -u)" = 0 ] || skip "needs root"
	command -v debootstrap > /dev/null || skip "needs debootstrap"
	own=(unshare --mount --propagation private --pid --fork --kill-child)
	"${own[@]}" chroot / true 2> /dev/null || skip "no namespaces and chroot here"
	exec "${own[@]}" "$0" in-namespace
fi
trap 'exit 143' INT TERM	# the first process of a namespace is deaf to what it does not catch
mkdir -p "$(dirname "$tree")"
exec 9> "$tree.lock"
flock 9

# ---- the tree ------------------------------------------------------------------
# With nothing of this environment, least of all make's.
in_tree=(chroot "$tree" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8)
inside() { "${in_tree[@]}" "$@"; }

make_tree() {
	local mirror new=$tree.new
	mirror() { apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' |
		sed -n 1p; }
	mirror=$(mirror)
	[ -n "$mirror" ] || { apt-get update -qq; mirror=$(mirror); }
	[ -n "$mirror" ] || skip "apt knows no Debian mirror here"
	echo "openssl35: making a Debian 13 tree in $tree"
	rm -rf --one-file-system "$new"
	mkdir -p "$new"
	debootstrap --variant=buildd --include=pkgconf,libssl-dev,libbsd-dev,libcmocka-dev,gdb-minimal trixie "$new" \
		"$mirror" \
		> "$tree.log" 2>&1 || { tail -n 20 "$tree.log" >&2; die "debootstrap failed"; }
	rm -rf "$new"/var/cache/apt/archives/*.deb
	umount -R "$new/proc" "$new/sys" 2> /dev/null || true
	mv -T "$new" "$tree"
}

[ -x "$tree/usr/bin/env" ] || make_tree
printf '%s localhost\n' 127.0.0.1 ::1 > "$tree/etc/hosts"
mount -t proc proc "$tree/proc"
mount --rbind /dev "$tree/dev"
mount -t tmpfs tmpfs "$tree/tmp"
inside pkg-config --exists 'libssl >= 3.5' libbsd cmocka || die "$tree lacks OpenSSL 3.5, libbsd or cmocka: remove it"

# ---- build and test ------------------------------------------------------------
rm -rf "$tree/root/qsock"
mkdir "$tree/root/qsock"
tar -C "$src" --exclude=./build --exclude=./.git -cf - . | tar -C "$tree/root/qsock" --no-same-owner -xf -
run_make() { inside make -C /root/qsock --no-print-directory "$@"; }
run() { # WHAT GOAL...: built, then run, with the time that took
	local what=$1 start=$SECONDS
	shift
	run_make -s -j1 "$@"
	echo "openssl35: $what: $((SECONDS - start)) s"
}

echo "openssl35: OpenSSL $(inside pkg-config --modversion libssl), gcc $(inside cc -dumpfullversion)," \
	"$(inside ldd --version | sed -n 1p)"
run_make -s -j"$(nproc)" all tests
run "unit and sim" unit sim
run "fd" fd
run_make -s -j"$(nproc)" TLS_BACKEND=compat tests
for t in "$src"/tests/unit/test_tls*.c; do
	t=${t##*/test_}
	run "compat, ${t%.c}" TLS_BACKEND=compat unit T="${t%.c}"
done
run "compat, handshake" TLS_BACKEND=compat sim T=handshake

"$src/tests/interop/debian13.sh" "$tree"

# ---- programs of both worlds ---------------------------------------------------
if [ ! -e "$src/examples/qserve.c" ] || [ ! -e "$src/examples/qget.c" ]; then
	echo "mixed: skipped, there is no qserve and qget yet"
	exit 0
fi
work=/root/mixed
# PROGRAM ARGUMENT..., in place of the shell: to be called in one of their own.
here() { cd "$tree$work" && XDG_CONFIG_HOME=$PWD/config exec timeout 120 "$src/build/bin/$@"; }
there() { exec "${in_tree[@]}" env -C "$work" XDG_CONFIG_HOME="$work/config" timeout 120 "/root/qsock/build/bin/$@"; }

mixed() { # SERVER_SIDE CLIENT_SIDE
	local log=$tree$work/server.log i port pin urls server
	rm -rf "${tree:?}$work"
	mkdir -p "$tree$work/www" "$tree$work/got"
	cp "$src"/libqsock/wire/*.c "$tree$work/www"
	head -c 20000000 /dev/urandom > "$tree$work/www/large.bin"
	"$1" qserve -b 127.0.0.1 -p 0 www 2> "$log" &
	server=$!
	for ((i = 0; i < 100; i++)); do
		if grep -q pin "$log" && grep -q port "$log"; then break; fi
		sleep 0.1
	done
	port=$(sed -n 's/.*port[ :]*\([0-9][0-9]*\).*/\1/p' "$log" | sed -n 1p)
	pin=$(sed -n 's/.*pin[ :]*\([0-9a-f]\{64\}\).*/\1/p' "$log" | sed -n 1p)
	mapfile -t urls < <(cd "$tree$work/www" && printf "https://127.0.0.1:$port/%s\n" *)
	if ("$2" qget --pin "$pin" -o got "${urls[@]}") && diff -r "$tree$work/www" "$tree$work/got"; then
		passed=$((passed + 1))
	else
		echo "mixed: server $1, client $2: FAILED" >&2
		cat "$log" >&2
	fi
	kill "$server" 2> /dev/null || true
	wait "$server" || true
}

passed=0
mixed here there
mixed there here
echo "mixed: $passed passed, $((2 - passed)) failed (our programs on both OpenSSLs, each way)"
[ "$passed" = 2 ]
