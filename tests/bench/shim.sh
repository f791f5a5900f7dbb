#!/usr/bin/env bash
# Usage: shim.sh BUILD_DIR quic|tls|tcp shim_redis|shim_iperf3_down|shim_iperf3_up. Programs made for TCP: under the shim (quic),
# on TCP with TLS 1.3 (redis's own; for iperf3 a stunnel on each side), on plain TCP. Prints what run.sh reads: figure,
# value, CPU of the server's and of the client's side, note. CPU is per million requests or per GB. Exit status 77: a program is missing.
set -u
build=$1 kind=$2 figure=$3
. "$(dirname "$0")/../preload/env.sh"
pids=()
cleanup() {
	[ ${#pids[@]} -eq 0 ] || kill "${pids[@]}" 2> /dev/null
	wait
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 1' INT TERM
need() {
	local p
	for p in "$@"; do
		command -v "$p" > /dev/null || { echo "bench: $figure needs $p" >&2; exit 77; }
	done
}

free_port() {
	local p
	while :; do
		p=$((10000 + RANDOM % 20000))
		grep -qs "$(printf ':%04X ' $p)" /proc/net/tcp /proc/net/tcp6 /proc/net/udp /proc/net/udp6 || break
	done
	echo $p
}

until_port() {	# waits until something is bound there
	local i
	for ((i = 0; i < 100; i++)); do
		grep -qs "$(printf ':%04X ' "$1")" /proc/net/tcp /proc/net/udp && return
		sleep 0.05
	done
	echo "bench: nobody listens on $1" >&2
	exit 1
}

cpu() {	# seconds that these processes have used, and shim threads with them
	local p sum=0
	for p in "$@"; do
		sum=$((sum + $(awk '{ sub(/.*\) /, ""); print $12 + $13 }' "/proc/$p/stat" 2> /dev/null || echo 0)))
	done
	awk -v t=$sum -v hz="$(getconf CLK_TCK)" 'BEGIN { print t / hz }'
}

prefix=()
[ "$kind" != quic ] || prefix=("${shim[@]}")
certificates || exit 1
tls_client=() tls_server=() apart_server=() apart_client=()
TIMEFORMAT='%U %S'
port=$(free_port)

redis() {
	local requests=1000000 options=(--port "$port")
	need redis-server redis-benchmark
	if [ "$kind" = tls ]; then
		options=(--port 0 --tls-port "$port" --tls-cert-file "$work/cert.pem" --tls-key-file "$work/key.pem" --tls-auth-clients no
			--tls-ca-cert-file "$work/ca.pem" --tls-protocols TLSv1.3 --tls-ciphersuites TLS_AES_128_GCM_SHA256)
		tls_client=(--tls --cacert "$work/ca.pem" --tls-ciphersuites TLS_AES_128_GCM_SHA256)
		redis-benchmark --help 2>&1 | grep -q -e --tls || { echo "bench: this redis has no TLS" >&2; exit 77; }
	fi
	"${prefix[@]}" redis-server --bind 127.0.0.1 --save '' --appendonly no --daemonize no "${options[@]}" > "$work/server.out" 2>&1 &
	pids=($!)
	until_port "$port"
	local before after
	before=$(cpu "${pids[@]}")
	{ time "${prefix[@]}" redis-benchmark -h 127.0.0.1 -p "$port" "${tls_client[@]}" -c 50 -P 16 -n $requests -t get --csv \
		> "$work/csv" 2> "$work/err"; } 2> "$work/time" || { cat "$work/err" >&2; exit 1; }
	after=$(cpu "${pids[@]}")
	awk -F '"' -v f=$figure -v n=$requests -v s="$after" -v s0="$before" -v c="$(tail -n 1 "$work/time")" '
		$2 == "GET" { split(c, t, " "); m = n / 1e6; printf "%s %.0f %.2f %.2f 50_clients,_16_requests_at_once\n", f, $4, (s - s0) / m, (t[1] + t[2]) / m }' "$work/csv"
}

tunnel() {	# name, client yes|no, accept, connect
	printf '%s\n' 'foreground = yes' 'pid =' 'debug = 3' 'socket = l:TCP_NODELAY=1' 'socket = r:TCP_NODELAY=1' 'sslVersion = TLSv1.3' \
		'ciphersuites = TLS_AES_128_GCM_SHA256' "[$1]" "client = $2" "accept = 127.0.0.1:$3" "connect = 127.0.0.1:$4" > "$work/$1.conf"
	if [ "$2" = yes ]; then
		printf '%s\n' "CAfile = $work/ca.pem" 'verifyChain = yes' >> "$work/$1.conf"
	else
		printf '%s\n' "cert = $work/cert.pem" "key = $work/key.pem" >> "$work/$1.conf"
	fi
	"$stunnel" "$work/$1.conf" > "$work/$1.out" 2>&1 &
	tunnel_pid=$!
	pids+=($!)
	until_port "$3"
}

iperf() {	# options
	local entry=$port middle stunnel
	need iperf3 python3
	"${prefix[@]}" iperf3 -s -B 127.0.0.1 -p "$port" > "$work/server.out" 2>&1 &
	pids=($!)
	until_port "$port"
	apart_server=("${pids[0]}")
	if [ "$kind" = tls ]; then
		need stunnel4
		stunnel=$(command -v stunnel4)
		middle=$(free_port)
		tunnel server no "$middle" "$port"
		apart_server+=("$tunnel_pid")
		entry=$(free_port)
		tunnel client yes "$entry" "$middle"
		apart_client=("$tunnel_pid")
	fi
	local s c
	s=$(cpu "${apart_server[@]}")
	c=$(cpu "${apart_client[@]}")
	{ time "${prefix[@]}" iperf3 -c 127.0.0.1 -p "$entry" -t 2 -J "$@" > "$work/json" 2> "$work/err"; } 2> "$work/time" ||
		{ head -c 1000 "$work/err" "$work/json" >&2; exit 1; }
	s="$(cpu "${apart_server[@]}") - $s" c="$(cpu "${apart_client[@]}") - $c + $(tail -n 1 "$work/time" | tr ' ' +)"
	python3 - "$figure" "$s" "$c" "$work/json" <<-'END'
		import json, sys
		figure, server, client, path = sys.argv[1:]
		r = json.load(open(path))["end"]["sum_received"]
		seconds = lambda text: sum(float(x) for x in text.replace("- ", "-").replace("+", " ").split())
		gb = r["bytes"] / 1e9
		print("%s %.3f %.3f %.3f one_connection,_2_s" % (figure, r["bits_per_second"] / 1e9, seconds(server) / gb, seconds(client) / gb))
	END
}

case $figure in
shim_redis) redis ;;
shim_iperf3_down) iperf -R ;;
shim_iperf3_up) iperf ;;
*) echo "bench: no such figure: $figure" >&2; exit 2 ;;
esac
