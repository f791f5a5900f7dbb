#!/bin/sh
# Usage: run.sh BUILD_DIR. libqsock against TCP + TLS 1.3 (OpenSSL) on this machine: a table, and BUILD_DIR/bench.json.
# Both sides of every pair of programs are two processes on loopback. The figures shim_* are programs made for TCP (shim.sh).
# In each round every figure is measured with ours and with the baseline, one after the other; shown are medians of the rounds and their spread, (largest - smallest) / median.
# The machine's other work shows in every figure, CPU seconds included: compare within one table.
# BENCH_ROUNDS (3), BENCH_ONLY ("bulk_up rr_one_stream"), BENCH_LIMIT (300 s, after which no round is begun or continued).
set -u
out=$1
programs=$out/tests/bench
rounds=${BENCH_ROUNDS:-3}
deadline=$(($(date +%s) + ${BENCH_LIMIT:-300}))
all="bulk_down bulk_up rr_one_stream rr_fresh_stream rr_fresh_stream_64 handshake_full_16 handshake_resumed_16
mem_idle_connection mem_idle_stream shim_redis shim_iperf3_down shim_iperf3_up"
baseline="bulk_down bulk_up rr_one_stream rr_fresh_stream_64 handshake_full_16 handshake_resumed_16 mem_idle_connection"

work=$(cd "$out" && pwd)/bench-work
rm -rf "$work"
mkdir -p "$work" || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
export XDG_CONFIG_HOME="$work" TMPDIR="$work"	# the server's self-made key; session files
: > "$work/results"

# One line in results: program figure value server client note.
measure() {
	[ ! -e "$work/failed.$1.$2" ] && [ ! -e "$work/skipped.$1.$2" ] || return 0
	left=$((deadline - $(date +%s)))
	[ "$left" -gt 0 ] || return 0
	[ "$left" -lt 30 ] || left=30
	case $2 in
	shim_*) line=$(timeout -k 2 "$left" "${0%/*}/shim.sh" "$out" "$1" "$2") ;;
	*) line=$(timeout -k 2 "$left" "$programs/$1" "$2") ;;
	esac
	status=$?
	if [ $status -eq 77 ]; then
		: > "$work/skipped.$1.$2"
	elif [ $status -eq 0 ]; then
		echo "$1 $line" >> "$work/results"
		echo "round $round: $1 $line" >&2
	else
		: > "$work/failed.$1.$2"
		echo "round $round: $1 $2 FAILED (exit status $status)" >&2
	fi
}

round=1
while [ "$round" -le "$rounds" ]; do
	for figure in ${BENCH_ONLY:-$all}; do
		measure quic "$figure"
		case " $(echo $baseline) " in
		*" $figure "*) measure tls "$figure" ;;
		esac
		case $figure in
		shim_*)
			measure tls "$figure"
			measure tcp "$figure"
			;;
		esac
	done
	round=$((round + 1))
done

echo
echo "kernel $(uname -r), $(nproc) cores, $(openssl version 2> /dev/null || echo OpenSSL), load $(cut -d' ' -f1-3 /proc/loadavg)"
awk -v json="$out/bench.json" '
function add(impl, name, v) { value[impl, name, ++n[impl, name]] = v + 0 }
function sort(impl, name,    i, j, t) {
	for (i = 2; i <= n[impl, name]; i++)
		for (j = i; j > 1 && value[impl, name, j - 1] > value[impl, name, j]; j--) {
			t = value[impl, name, j]
			value[impl, name, j] = value[impl, name, j - 1]
			value[impl, name, j - 1] = t
		}
}
function median(impl, name,    k) {
	k = n[impl, name]
	return k % 2 ? value[impl, name, (k + 1) / 2] : (value[impl, name, k / 2] + value[impl, name, k / 2 + 1]) / 2
}
function spread(impl, name,    m) {
	m = median(impl, name)
	return m ? sprintf("%.0f%%", 100 * (value[impl, name, n[impl, name]] - value[impl, name, 1]) / m) : "-"
}
function number(v) { return v >= 1000 ? sprintf("%.0f", v) : v >= 100 ? sprintf("%.1f", v) : sprintf("%.3f", v) }
function row(name, unit, base, target, what,    v, b, r, t) {
	v = n["quic", name] ? number(median("quic", name)) : "null"
	b = n["tls", base] ? number(median("tls", base)) : "null"
	r = v != "null" && b != "null" && b > 0 ? sprintf("%.2f", v / b) : "null"
	t = n["tcp", base] ? number(median("tcp", base)) : ""
	printf "%s\n  {\"name\": \"%s\", \"value\": %s, \"unit\": \"%s\", \"baseline\": %s, \"ratio\": %s%s}", \
		rows++ ? "," : "[", name, v, unit, b, r, t == "" ? "" : ", \"tcp\": " t > json
	if (t != "")
		what = what "; plain TCP: " t
	sub("null", "-", v); sub("null", "-", b); sub("null", "-", r)
	if (v != "-" || b != "-")
		printf "%-21s %-15s %9s %6s %9s %6s %6s  %-19s %s\n", name, unit, v, \
			n["quic", name] ? spread("quic", name) : "-", b, n["tls", base] ? spread("tls", base) : "-", r, target, what
}
function sides(name, unit, base,    line, impl, k) {
	if (!n["quic", name "/server"])
		return
	line = sprintf("%-21s %-15s", name, unit)
	line = line sprintf(" %9s %9s", number(median("quic", name "/server")), number(median("quic", name "/client")))
	if (n["tls", base "/server"])
		line = line sprintf(" %9s %9s", number(median("tls", base "/server")), number(median("tls", base "/client")))
	print line "   " note["quic", name]
}
{
	add($1, $2, $3)
	add($1, $2 "/server", $4)
	add($1, $2 "/client", $5)
	note[$1, $2] = $6
	if ($2 == "bulk_down") { add($1, "cpu_per_gb_tx", $4); add($1, "cpu_per_gb_rx", $5) }
	if ($2 == "bulk_up") { add($1, "cpu_per_gb_tx", $5); add($1, "cpu_per_gb_rx", $4) }
}
END {
	for (k in n) { split(k, part, SUBSEP); sort(part[1], part[2]) }
	printf "%-21s %-15s %9s %6s %9s %6s %6s  %-19s %s\n", "figure", "unit", "libqsock", "spread", "TCP+TLS", "spread", \
		"ratio", "target", "the baseline is"
	row("bulk_down", "Gbit/s", "bulk_down", ">=4, >=0.5x", "one connection, 2^30 bytes, server to client")
	row("bulk_up", "Gbit/s", "bulk_up", ">=4, >=0.5x", "the same, client to server")
	row("rr_one_stream", "1/s", "rr_one_stream", ">=0.9x", "64 bytes to and fro on a kept connection")
	row("rr_fresh_stream", "1/s", "rr_one_stream", "", "the same: a request on a kept connection")
	row("rr_fresh_stream_64", "1/s", "rr_fresh_stream_64", "", "64 kept connections, a request on each at a time")
	row("handshake_full_16", "1/s", "handshake_full_16", ">=1500", "connect, handshake, orderly end; 16 at a time")
	row("handshake_resumed_16", "1/s", "handshake_resumed_16", "", "the same with the last ticket")
	row("mem_idle_connection", "KB per side", "mem_idle_connection", "<=30", "an idle TLS connection, buffers released")
	row("mem_idle_stream", "KB per side", "mem_idle_connection", "", "the same: a stream of ours stands for one")
	row("cpu_per_gb_tx", "CPU s/GB", "cpu_per_gb_tx", "", "the sending process in both bulk figures")
	row("cpu_per_gb_rx", "CPU s/GB", "cpu_per_gb_rx", "", "the receiving process in both bulk figures")
	row("shim_redis", "1/s", "shim_redis", ">=0.6x", "redis-benchmark (50 clients, 16 at once), redis with TLS")
	row("shim_iperf3_down", "Gbit/s", "shim_iperf3_down", ">=0.6x", "iperf3, server to client, through two stunnels")
	row("shim_iperf3_up", "Gbit/s", "shim_iperf3_up", ">=0.6x", "the same, client to server")
	print "\n]" > json

	printf "\n%-21s %-15s %9s %9s %9s %9s   %s\n", "each side", "", "ours: srv", "client", "TLS: srv", "client", \
		"ours, last round"
	sides("bulk_down", "CPU s/GB", "bulk_down")
	sides("bulk_up", "CPU s/GB", "bulk_up")
	sides("rr_one_stream", "CPU us each", "rr_one_stream")
	sides("rr_fresh_stream", "CPU us each", "rr_one_stream")
	sides("rr_fresh_stream_64", "CPU us each", "rr_fresh_stream_64")
	sides("handshake_full_16", "CPU us each", "handshake_full_16")
	sides("handshake_resumed_16", "CPU us each", "handshake_resumed_16")
	sides("shim_redis", "CPU s/million", "shim_redis")
	sides("shim_iperf3_down", "CPU s/GB", "shim_iperf3_down")
	sides("shim_iperf3_up", "CPU s/GB", "shim_iperf3_up")
	sides("mem_idle_connection", "KB each", "mem_idle_connection")
	sides("mem_idle_stream", "KB each", "mem_idle_connection")
	print "\nMemory is the growth of resident pages of the process (of the larger side in the first table); socket buffers in"
	print "the kernel are not in it, on either side of the comparison: of ours a socketpair for each, one UDP socket for all;"
	print "of the baseline a TCP socket for each. The baseline: blocking sockets, TCP_NODELAY, TLS_AES_128_GCM_SHA256, X25519,"
	print "P-256. For CPU and memory less is better. GB = 1e9 bytes."
}' "$work/results"
ls "$work" | sed -n 's/^skipped\.\([a-z]*\)\.\(.*\)/skipped, a program is missing: \1 \2/p'
ls "$work" | sed -n 's/^failed\.\([a-z]*\)\.\(.*\)/FAILED: \1 \2/p' | grep . && exit 1
exit 0
