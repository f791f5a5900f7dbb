#!/usr/bin/env bash
# make check-leaks: conversations of the example programs, both ends, and tests over descriptors under valgrind. Any access
# to memory that is not theirs, any decision by a value that nobody set, and any block that is lost when they end, directly
# or with another or perhaps, is a failure. Blocks that are still reachable go with the process: they are OpenSSL's and
# libc's, and of ours the tests count every one. Descriptors are counted by the tests too: valgrind takes the
# engine's table and the application's for one.
set -u
cd "$(dirname "$0")/.." || exit 1
bin=build/bin
fd=build/release/tests/fd
tests=(stream_fd promise_ready engine_fds options shim pool errors)	# the longest first
jobs=${JOBS:-$(nproc)}
work=$(mktemp -d)
cleanup() {
	local pids
	pids=$(jobs -p)
	[ -z "$pids" ] || kill $pids 2> /dev/null
	wait
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 143' INT TERM
# Old valgrinds say of each system call they have not heard of how to complain about that.
fail() {	# what, and of what programs the logs are of interest
	local name
	echo "FAILED: $1"
	for name in "${@:2}"; do
		tail -n 100 "$work/log.$name"
		grep -hvE 'WARNING: unhandled .* syscall|^--[0-9]+-- (You may|Read the|Neverth|it at)' "$work/valgrind.$name".*
	done
	exit 1
}

memcheck() {	# name, valgrind's options --, command...: becomes it
	local name=$1 options=()
	while shift; [ "$1" != -- ]; do options+=("$1"); done
	exec timeout -k 5 300 valgrind -q --error-exitcode=99 --log-file="$work/valgrind.$name.%p" "${options[@]}" "${@:2}"
}
checked() {	# name, command...: becomes it
	memcheck "$1" --leak-check=full --show-leak-kinds=definite,indirect,possible \
		--errors-for-leak-kinds=definite,indirect,possible -- "${@:2}"
}

server= server_name= port= pin=
announced() {	# name: sets port and pin when the server tells them
	local i
	server_name=$1
	for ((i = 0; i < 300; i++)); do
		port=$(sed -n 's/.*port[ :]*\([0-9][0-9]*\).*/\1/p' "$work/log.$1" | head -n 1)
		pin=$(sed -n 's/.*\([0-9a-f]\{64\}\).*/\1/p' "$work/log.$1" | head -n 1)
		[ -z "$port" ] || [ -z "$pin" ] || return
		kill -0 "$server" 2> /dev/null || fail "$1 does not start" "$1"
		sleep 0.1
	done
	fail "$1 tells no port and pin" "$1"
}
ended() {	# name, wanted exit status
	kill -TERM "$server"
	wait "$server"
	local status=$?
	[ $status -eq "$2" ] || fail "$1 (exit status $status)" "$1"
}
client() {	# name, wanted exit status, command...
	(checked "$1" "${@:3}") > "$work/log.$1" 2>&1 < "$work/www/small"
	local status=$?
	[ $status -eq "$2" ] || fail "$1 (exit status $status)" "$1" "$server_name"
}

command -v valgrind > /dev/null || { echo "check-leaks: valgrind is missing"; exit 1; }
export XDG_CONFIG_HOME=$work/config
mkdir -p "$work/www" "$work/got"
head -c 3000000 /dev/urandom > "$work/www/large"
head -c 1000 /dev/urandom > "$work/www/small"
: > "$work/www/empty"

(checked qserve $bin/qserve -b 127.0.0.1 -p 0 "$work/www") > "$work/log.qserve" 2>&1 &
server=$!
announced qserve
url=https://127.0.0.1:$port
client qget 0 $bin/qget --pin "$pin" -o "$work/got" "$url/large" "$url/small" "$url/empty"
for f in large small empty; do
	cmp "$work/www/$f" "$work/got/$f" || fail "$f came wrong"
done
# The ways of failing leave nothing behind either: a stream that is reset, a handshake that ends badly.
client missing 1 $bin/qget --pin "$pin" -o "$work/got" "$url/missing" "$url/small"
client refused 1 $bin/qget --pin "${pin//[0-9]/0}" -o "$work/got" "$url/small"
ended qserve 0

# This one knows no end but a signal's, with all that it has: nothing is lost then, only accesses count.
(memcheck echo_server --leak-check=no --exit-on-first-error=yes -- $bin/echo_server 0) > "$work/log.echo_server" 2>&1 &
server=$!
announced echo_server
for c in echo_client "qcat --alpn echo"; do
	client "${c%% *}" 0 $bin/$c --pin "$pin" 127.0.0.1 "$port"
	cmp "$work/www/small" "$work/log.${c%% *}" || fail "$c: what came back is wrong"
done
ended echo_server 143

for t in "${tests[@]}"; do
	while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n; done
	[ ! -e "$work/failed" ] || break
	(checked "$t" "$fd/test_$t" > "$work/log.$t" 2>&1) || echo "$t" >> "$work/failed" &
done
wait
[ ! -e "$work/failed" ] || fail "of the tests" $(cat "$work/failed")
echo "check-leaks: nothing is left behind ($(valgrind --version), ${#tests[@]} test programs)"
