#!/usr/bin/env bash
# Programs of Debian, unmodified, on plain TCP and under the shim: same output, same exit status; and under the shim no TCP
# socket (strace), no descriptor left in the server, no thread or process left. Usage: matrix.sh BUILD_DIR [CASE...]. The
# table goes to BUILD_DIR/preload-matrix.txt, transcripts to BUILD_DIR/matrix/CASE/{tcp,shim}. AGAINST=tcp compares TCP
# with itself. Every wait is bounded; processes are ended by their pid.
set -u
build=$1
shift
. "$(dirname "$0")/env.sh"
out=$build/matrix
table=$build/preload-matrix.txt
marks=$work/marks
passed=0 failed=0 skipped=0
python=/usr/bin/python3
sshd=/usr/sbin/sshd
[ -x $python ] || python=python3
PATH=$PATH:/usr/sbin:/sbin
against=${AGAINST:-shim}
mkdir -p "$marks"

# ---- processes: those of a case carry a mark in their environment ---------------------------------

marked() {	# pids that carry this mark and still run
	local p
	for p in /proc/[0-9]*; do
		grep -qsz "^QSOCK_MATRIX=$1\$" "$p/environ" 2> /dev/null && [ "${p#/proc/}" != "$BASHPID" ] &&
			! grep -qs '^State:.Z' "$p/status" && echo "${p#/proc/}"
	done
}

end_marked() {
	local p i
	for i in TERM KILL; do
		for p in $(marked "$1"); do kill -$i "$p" 2> /dev/null; done
		sleep 0.2
	done
}

cleanup() {
	[ -z "${mark:-}" ] || end_marked "$mark"
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 1' INT TERM

free_port() {	# free for TCP and UDP, below the ephemeral ones, not given out before
	local p hex
	while :; do
		p=$((10000 + (RANDOM * 32768 + RANDOM) % 20000))
		hex=$(printf ':%04X ' $p)
		grep -qs "$hex" /proc/net/tcp /proc/net/tcp6 /proc/net/udp /proc/net/udp6 && continue
		grep -qx $p "$work/ports" 2> /dev/null && continue
		echo $p >> "$work/ports"
		echo $p
		return
	done
}

complain() {
	echo "$1" >> "$complaints"
}

# ---- what a case is written with ---------------------------------------------------------------------

# The prefix of every program of a case: the mark, then strace and the shim, or neither.
prefix() {
	local trace=()
	words=(env "QSOCK_MATRIX=$mark")
	[ "$mode" = shim ] || return
	if [ -n "$strace" ]; then
		trace=(strace -D -f -qq --seccomp-bpf -e trace=socket -e signal=none -o "$dir/strace.$((++straces))")
	fi
	words+=("${trace[@]}" "${shim[@]}")
}

listening() {
	local files=(/proc/net/tcp /proc/net/tcp6)
	[ "$mode" = tcp ] || files=(/proc/net/udp /proc/net/udp6)
	awk -v port="$(printf '%04X' "$port")" -v tcp="$mode" '
		{ n = split($2, part, ":") }
		part[n] == port && (tcp != "tcp" || $4 == "0A") { found = 1 }
		END { exit !found }' "${files[@]}" 2> /dev/null
}

serve() {
	local input=/dev/null output=server.$((++servers)).out i
	while :; do
		case $1 in
		-i) input=$2 ;;
		-o) output=$2 ;;
		*) break ;;
		esac
		shift 2
	done
	prefix
	"${words[@]}" "$@" < "$input" > "$output" 2> server.$servers.err &
	server=$!
	for ((i = 0; i < 200; i++)); do
		if listening; then
			sleep 0.1
			fds_before=$(count_fds)
			return
		fi
		kill -0 $server 2> /dev/null || break
		sleep 0.05
	done
	complain "the server did not start: $(tail -n 1 server.$servers.err)"
	fds_before=0
}

# What differs from run to run: ports, process ids, times, rates.
normalise() {
	sed -E -e "s/\b$port\b/PORT/g" -e "s/\b$closed\b/CLOSED/g" -e 's/[0-9.]+ requests per second.*/RATE/' \
		-e 's/[0-9.]+ ?[KMG]B\/s/RATE/g' -e 's/\b(1[0-9]|[2-6]?[0-9])[0-9]{3}\b/NUMBER/g' -e 's/[0-9.]+s\b/SECONDS/g' -e 's/\b[0-9]+ ms\b/SECONDS/g' \
		-e 's/[0-9]{2}:[0-9]{2}:[0-9]{2}/TIME/g' -e 's/[0-9]{4}-[0-9]{2}-[0-9]{2}/DATE/g' \
		-e 's/[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4}/DATE/g' -e 's/[0-9]{2}.[A-Z][a-z]{2}.[0-9]{4}/DATE/g' \
		-e 's/\[[0-9]+\]:/[PID]:/g' \
		-e "s#$dir#DIR#g" -e "s#$work#WORK#g" | tr '\r' '\n' | grep -av 'rps=\|^ *$'
	return 0
}

note() {
	printf '%s\n' "$*" >> "$transcript"
}

run() {
	local label=$1 status
	shift
	prefix
	timeout -k 5 90 "${words[@]}" "$@" < /dev/null > run.out 2> run.err
	status=$?
	{
		echo "== $label: exit $status"
		normalise < run.out
		normalise < run.err
	} >> "$transcript"
	[ $status -lt 124 ] || complain "$label: $([ $status -eq 124 ] && echo timed out || echo "exit $status")"
}

# What has arrived is what was sent: by checksum.
same() {	# got, sent, got, sent...
	while [ $# -ge 2 ]; do
		note "$1: $([ "$(sha256sum < "$1")" = "$(sha256sum < "$2")" ] && echo same || echo "DIFFERENT, $(stat -c %s "$1") bytes")"
		shift 2
	done 2>> "$transcript"
}

said() {	# the server's own words, sorted: it may have served several at once
	normalise < server.$servers.err | LC_ALL=C sort >> "$transcript"
}

ended() {	# a pid, within ten seconds
	local i
	for ((i = 0; i < 200; i++)); do
		kill -0 "$1" 2> /dev/null || return 0
		sleep 0.05
	done
	return 1
}

served() {	# the server ends by itself, with this status
	local status
	if ! ended $server; then
		complain "the server did not end"
		kill -9 $server
	fi
	wait $server
	status=$?
	note "server: exit $status"
	[ $status -eq "$1" ] || complain "the server's exit status is $status: $(tail -n 1 server.$servers.err)"
}

stop() {
	local status
	kill "$1" 2> /dev/null || complain "the server is gone: $(tail -n 1 server.$servers.err)"
	if ! ended "$1"; then
		complain "the server does not end on SIGTERM"
		kill -9 "$1"
	fi
	wait "$1"
	status=$?
	note "server: exit $status after SIGTERM"
}

count_fds() {
	local n=(/proc/"$server"/fd/*)
	echo ${#n[@]}
}

# The server holds as many descriptors as before the work, and no dead thread or child.
fds_settle() {
	local i now dead
	for ((i = 0; i < 100; i++)); do
		now=$(count_fds)
		dead=$(cat /proc/"$server"/task/*/status 2> /dev/null | grep -c '^State:.Z')
		dead=$((dead + $(dead_children)))
		[ "$now" -eq "$fds_before" ] && [ "$dead" -eq 0 ] && return
		sleep 0.1
	done
	complain "the server held $fds_before descriptors and now $now; dead threads and children: $dead"
}

dead_children() {
	local c n=0
	for c in $(cat /proc/"$server"/task/*/children 2> /dev/null); do
		grep -qs '^State:.Z' /proc/"$c"/status && n=$((n + 1))
	done
	echo $n
}

# ---- a case in one mode --------------------------------------------------------------------------------

play() {	# name, mode, directory
	local left
	# One name for both: programs fit what they print to the length of a path.
	mode=$2 dir=$out/$1/now mark=$1-$3-$$ straces=0 servers=0 server=
	transcript=$dir/transcript complaints=$dir/complaints
	rm -rf "$dir" "$out/$1/$3"
	mkdir -p "$dir"
	: > "$complaints"
	: > "$transcript"
	cd "$dir" || exit 1
	port=$(free_port) closed=$(free_port)
	: > "$work/shim.log"
	"case_$1" 2> case.err
	left=$(marked "$mark")
	for ((i = 0; i < 30 && ${#left} > 0; i++)); do
		sleep 0.1
		left=$(marked "$mark")
	done
	if [ -n "$left" ]; then
		complain "still running: $(for p in $left; do tr '\0' ' ' < /proc/$p/cmdline; done)"
		end_marked "$mark"
	fi
	mark=
	[ ! -s case.err ] || complain "the case itself: $(head -n 3 case.err)"
	[ "$mode" = tcp ] || under_the_shim
	cd "$out" || exit 1
	mv "$dir" "$out/$1/$3"
	dir=$out/$1/$3 transcript=$dir/transcript complaints=$dir/complaints
}

under_the_shim() {
	cp "$work/shim.log" shim.log
	[ -s shim.log ] || complain "the log of the shim is empty"
	if [ -n "$strace" ] && cat strace.* 2> /dev/null | grep -E 'socket\(AF_INET6?, SOCK_STREAM' > tcp-sockets; then
		complain "TCP sockets were created: $(head -n 1 tcp-sockets)"
	fi
	rm -f strace.*
}

verdict() {	# name, what, result
	printf '%-18s %s\n' "$3" "$1"
	printf '%s\t%s\t%s\n' "$1" "$2" "$3${4:+: $4}" >> "$table.new"
}

missing() {	# of these programs
	local p
	for p in $1; do
		eval "p=$p"
		command -v "$p" > /dev/null || { echo "$p"; return; }
	done
}

one() {	# name, needs, what
	local lack first=tcp
	lack=$(missing "$2")
	if [ -n "$lack" ]; then
		skipped=$((skipped + 1))
		verdict "$1" "$3" skipped "$lack is not installed"
		echo "                   $lack is not installed"
		return
	fi
	play "$1" tcp tcp
	play "$1" "$against" "$([ "$against" = tcp ] && echo tcp2 || echo shim)"
	other=$dir
	grep -h ': DIFFERENT' "$out/$1/tcp/transcript" "$other/transcript" >> "$other/complaints"
	if cmp -s "$out/$1/tcp/transcript" "$other/transcript" && [ ! -s "$out/$1/tcp/complaints" ] && [ ! -s "$other/complaints" ]; then
		passed=$((passed + 1))
		verdict "$1" "$3" "same as TCP"
		rm -rf "$out/$1"
		return
	fi
	failed=$((failed + 1))
	verdict "$1" "$3" FAILED "$(cat "$out/$1/tcp/complaints" "$other/complaints" | head -n 1)"
	sed 's/^/        on TCP: /' "$out/$1/tcp/complaints"
	sed 's/^/        /' "$other/complaints"
	diff "$out/$1/tcp/transcript" "$other/transcript" | head -n 20 | sed 's/^/        /'
	find "$out/$1" -size +1M -delete
}

# ---- all ---------------------------------------------------------------------------------------------------

data=$work/data
mkdir -p "$data/www/dir" "$out"
head -c 100000000 /dev/urandom > "$data/big"
{ tail -c 50000000 "$data/big"; head -c 50000000 "$data/big"; } > "$data/other"
head -c 50000000 "$data/big" > "$data/www/large"
for i in 1 2 3 4 5 6 7 8; do tail -c $((i * 999983)) "$data/big" > "$data/www/part$i"; done
echo 'a small file' > "$data/www/small"
echo 'deeper down' > "$data/www/dir/file"
seq 1000 > "$data/greeting"
certificates || exit 1
if [ "$against" = shim ] && [ ! -e "$lib" ]; then
	echo "matrix: no $lib" >&2
	exit 1
fi
strace=
if command -v strace > /dev/null && strace -D -f -qq --seccomp-bpf -o /dev/null true 2> /dev/null; then
	strace=yes
else
	echo "strace is missing or may not trace here: sockets are not watched"
fi

. "$here/cases.sh"
: > "$table.new"
while IFS='|' read -r head what; do
	name=${head%%:*}
	case " ${*:-$name} " in
	*" $name "*) one "$name" "${head#*:}" "${what# }" ;;
	esac
done <<< "$(sed -nE 's/^# ([a-z0-9_]+): ([^|]*) \| (.*)/\1:\2|\3/p' "$here/cases.sh")"
mv "$table.new" "$table"
[ $failed -gt 0 ] || rmdir "$out" 2> /dev/null
[ $skipped -eq 0 ] || echo "matrix: $skipped skipped"
echo "matrix: $passed passed, $failed failed"
[ $failed -eq 0 ] && [ $passed -gt 0 ]
