#!/usr/bin/env bash
# make check-leaks: conversations of the example programs, both ends under a leak checker. Any access to memory that is not
# theirs, and any block that is lost when they end, directly or with another, is a failure.
# valgrind before 3.22 has not heard of the system calls that the engine cannot do without (pidfd_open, pidfd_getfd): there the
# programs built with AddressSanitizer do the same check. ASAN_BIN: where those are.
set -u
cd "$(dirname "$0")/.." || exit 1
bin=build/bin
asan=${ASAN_BIN:-build/asan/bin}
work=$(mktemp -d)
server=
cleanup() {
	[ -z "$server" ] || kill -KILL "$server" 2> /dev/null
	rm -rf "$work"
}
trap cleanup EXIT
# LeakSanitizer stops all threads by ptrace and now and then waits for ever for one: no word about leaks, so once more.
fail() {
	if [ "${2:-0}" -eq 124 ] && [ "${CHECK_LEAKS_TRY:-1}" -lt 4 ]; then
		echo "check-leaks: the leak checker hangs, try $((${CHECK_LEAKS_TRY:-1} + 1))"
		cleanup
		CHECK_LEAKS_TRY=$((${CHECK_LEAKS_TRY:-1} + 1)) exec "$BASH" tests/valgrind.sh
	fi
	echo "FAILED: $1"
	cat "$work"/log.* "$work"/valgrind.* 2> /dev/null
	exit 1
}

checked() {	# name, command...: becomes it
	local name=$1
	shift
	if [ "$tool" = valgrind ]; then
		exec timeout 120 valgrind -q --error-exitcode=99 --leak-check=full --errors-for-leak-kinds=definite,indirect \
			--show-leak-kinds=definite,indirect --log-file="$work/valgrind.$name.%p" "$bin/$1" "${@:2}"
	fi
	ASAN_OPTIONS=detect_leaks=1:exitcode=99 exec timeout 20 "$asan/$1" "${@:2}"
}

version=$(valgrind --version 2> /dev/null | sed -nE 's/^valgrind-([0-9]+)\.([0-9]+).*/\1 \2/p')
tool=valgrind
read -r major minor <<< "${version:-0 0}"
[ "$major" -gt 3 ] || { [ "$major" -eq 3 ] && [ "$minor" -ge 22 ]; } || tool=LeakSanitizer
[ $tool = valgrind ] || [ -x "$asan/qserve" ] || { echo "check-leaks: make VARIANT=asan first"; exit 1; }

export XDG_CONFIG_HOME=$work/config
mkdir -p "$work/www" "$work/got"
head -c 3000000 /dev/urandom > "$work/www/large"
head -c 1 /dev/urandom > "$work/www/small"
: > "$work/www/empty"
(checked server qserve -b 127.0.0.1 -p 0 "$work/www") > "$work/log.server" 2>&1 &
server=$!
for ((i = 0; i < 300; i++)); do
	port=$(sed -n 's/.*port[ :]*\([0-9][0-9]*\).*/\1/p' "$work/log.server" | head -n 1)
	pin=$(sed -n 's/.*\([0-9a-f]\{64\}\).*/\1/p' "$work/log.server" | head -n 1)
	[ -z "$port" ] || [ -z "$pin" ] || break
	kill -0 "$server" 2> /dev/null || fail "the server does not start"
	sleep 0.1
done
[ -n "$port" ] && [ -n "$pin" ] || fail "the server tells no port and pin"

url=https://127.0.0.1:$port
(checked client qget --pin "$pin" -o "$work/got" "$url/large" "$url/small" "$url/empty") > "$work/log.client" 2>&1 ||
	fail "the client" $?
for f in large small empty; do
	cmp "$work/www/$f" "$work/got/$f" || fail "$f came wrong"
done
# The ways of failing leave nothing behind either: a stream that is reset, a handshake that ends badly.
(checked missing qget --pin "$pin" -o "$work/got" "$url/missing" "$url/small") > "$work/log.missing" 2>&1
status=$?
[ $status -eq 1 ] || fail "the client, asking for what is not there" $status
(checked refused qget --pin "${pin//[0-9]/0}" -o "$work/got" "$url/small") > "$work/log.refused" 2>&1
status=$?
[ $status -eq 1 ] || fail "the client with a wrong pin" $status

kill -TERM "$server"
wait "$server"
status=$?
server=
[ $status -eq 0 ] || fail "the server (exit status $status)" $status
echo "check-leaks: nothing is left behind ($tool)"
