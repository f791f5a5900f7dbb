#!/usr/bin/env bash
# The same script of socket calls on the kernel's TCP and under the shim; what the calls return is compared. Differences that
# are meant stand in differences.txt with their reason; one that is not there fails, and so does one that is there but no
# longer happens (but with a ~ in front it may happen or not). Usage: compare.sh BUILD_DIR [SCENARIO...]; AGAINST=tcp
# compares TCP with itself. The transcripts stay in BUILD_DIR/compare.
set -u
build=$1
shift
. "$(dirname "$0")/env.sh"
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
out=$build/compare
mkdir -p "$out"
certificates || exit 1
: > "$work/shim.log"

in_netns='hole hole_timeout no_route'
# ThreadSanitizer knows no threads in a child forked of several, and so no engine.
engine_in_child='forked_listener forked_fresh forked_client'
sed -n 's/^scenario //p' "$here/script.txt" > "$work/all"
case $build in
*tsan*) grep -vxF "${engine_in_child// /$'\n'}" "$work/all" > "$work/some" && mv "$work/some" "$work/all" ;;
esac
plain=() apart=()
for s in ${*:-$(cat "$work/all")}; do
	case " $in_netns " in
	*" $s "*) apart+=("$s") ;;
	*) plain+=("$s") ;;
	esac
done

# Routes that lead nowhere: what is sent to 198.51.100.0/25 comes back in by lo, where it is nobody's, and is dropped.
netns() {
	unshare -rn sh -c 'ip link set lo up && ip route add 198.51.100.0/25 dev lo && ip route add unreachable 198.51.100.128/25 &&
		exec "$@"' sh "$@"
}
if [ ${#apart[@]} -gt 0 ] && ! netns true 2> /dev/null; then
	echo "compare: skipped, no network namespaces here: ${apart[*]}"
	apart=()
fi

play() {	# name, prefix...
	local name=$1 other
	shift
	: > "$out/$name.apart"
	: > "$out/$name.txt"
	: > "$out/$name.err"
	[ ${#apart[@]} -eq 0 ] || netns timeout -k 5 200 "$@" "$build/tests/preload/compare" "$here/script.txt" "${apart[@]}" \
		> "$out/$name.apart" 2>> "$out/$name.err" &
	other=$!
	[ ${#plain[@]} -eq 0 ] || timeout -k 5 600 "$@" "$build/tests/preload/compare" "$here/script.txt" "${plain[@]}" \
		> "$out/$name.txt" 2>> "$out/$name.err"
	wait $other
	cat "$out/$name.apart" >> "$out/$name.txt"
	rm "$out/$name.apart"
}

play tcp env &
first=$!
second=shim
if [ "${AGAINST:-shim}" = tcp ]; then
	second=tcp-again
	play $second env
else
	[ -e "$lib" ] || { echo "compare: no $lib" >&2; exit 1; }
	play $second "${shim[@]}"
fi
wait $first
cp "$work/shim.log" "$out/shim.log"

grep -v '^#' "$here/differences.txt" | grep . > "$work/meant"
[ $second = shim ] || : > "$work/meant"
awk -v played=" ${plain[*]:-} ${apart[*]:-} " '
function outcome(line) { sub(/^[^|]*\|[^|]*\|[^|]*\|/, "", line); return line }
FILENAME == ARGV[1] {
	split($0, part, "#")
	may = sub(/^~/, "", part[1])
	meant[part[1], part[2], part[3], part[4]] = 1
	if (may)
		used[part[1], part[2], part[3], part[4]] = 1
	next
}
{ split($0, part, "|"); key = part[1] "|" part[2] }
FILENAME == ARGV[2] { order[++n] = key; step[key] = part[3]; tcp[key] = outcome($0); next }
{ other[key] = outcome($0) }
END {
	for (i = 1; i <= n; i++) {
		key = order[i]
		split(key, part, "|")
		scenarios[part[1]] = scenarios[part[1]] + 0
		got = key in other ? other[key] : "not reached"
		if (got == tcp[key]) {
			same++
			continue
		}
		if ((part[1], step[key], tcp[key], got) in meant) {
			used[part[1], step[key], tcp[key], got] = 1
			known++
			continue
		}
		printf "%s: %s\n\tTCP:  %s\n\tshim: %s\n", key, step[key], tcp[key], got
		scenarios[part[1]]++
	}
	for (m in meant) {
		split(m, part, SUBSEP)
		if (!(m in used) && index(played, " " part[1] " ")) {
			printf "differences.txt: does not happen any more: %s|%s|%s|%s\n", part[1], part[2], part[3], part[4]
			scenarios[part[1]]++
		}
	}
	for (s in scenarios) {
		if (scenarios[s])
			bad++
		else
			good++
	}
	printf "compare: %d passed, %d failed (%d calls alike, %d different as documented)\n", good, bad, same, known
	exit !(n && !bad)
}' "$work/meant" "$out/tcp.txt" "$out/$second.txt"
status=$?
[ ! -s "$out/$second.err" ] || { echo "stderr of the run:"; head -n 40 "$out/$second.err"; status=1; }
exit $status
