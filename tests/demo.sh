#!/bin/sh
# make demo: a real directory of files goes over QUIC through file descriptors; checksums are compared.
set -eu
bin=build/bin
work=$(mktemp -d)
server=
cleanup() {
	[ -z "$server" ] || kill "$server" 2>/dev/null || true
	[ -z "$server" ] || wait "$server" 2>/dev/null || true
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# What is served: this project's sources and headers, and one large file.
mkdir -p "$work/www" "$work/got"
find libqsock include examples -type f | while read -r f; do
	cp "$f" "$work/www/$(echo "$f" | tr / _)"
done
head -c 200000000 /dev/urandom >"$work/www/large.bin"

XDG_CONFIG_HOME=$work/config $bin/qserve -b 127.0.0.1 -p 0 "$work/www" 2>"$work/server.log" &
server=$!
i=0
until grep -q 'pin' "$work/server.log" && grep -q 'port' "$work/server.log"; do
	kill -0 "$server" 2>/dev/null || { cat "$work/server.log" >&2; exit 1; }
	i=$((i + 1))
	[ $i -lt 100 ] || { echo "demo: the server does not start" >&2; exit 1; }
	sleep 0.1
done
cat "$work/server.log"
port=$(sed -n 's/.*port[ :]*\([0-9][0-9]*\).*/\1/p' "$work/server.log" | head -n 1)
pin=$(sed -n 's/.*pin[ :]*\([0-9a-f]\{64\}\).*/\1/p' "$work/server.log" | head -n 1)

(cd "$work/www" && ls) | sed "s|^|https://127.0.0.1:$port/|" >"$work/urls"
start=$(date +%s.%N)
# shellcheck disable=SC2046
$bin/qget --pin "$pin" -o "$work/got" $(cat "$work/urls")
end=$(date +%s.%N)

(cd "$work/www" && sha256sum ./*) >"$work/sums"
(cd "$work/got" && sha256sum --quiet -c "$work/sums")
files=$(wc -l <"$work/urls")
bytes=$(cat "$work/www"/* | wc -c)
awk -v f="$files" -v b="$bytes" -v s="$start" -v e="$end" 'BEGIN {
	printf "%d files, %.1f MB over one QUIC connection in %.2f s: %.2f Gbit/s; all checksums equal\n",
		f, b / 1e6, e - s, b * 8 / 1e9 / (e - s) }'
