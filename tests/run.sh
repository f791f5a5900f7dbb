#!/usr/bin/env bash
# Run cmocka programs one after another: their summaries on the screen, everything they said in PROGRAM.log.
# Stops at the first failure, shows its log and names the program. TEST_TIMEOUT: seconds for each test; one that takes
# more is named, with where its threads are.
set -u
[ $# -gt 0 ] || { echo "no test programs here"; exit 0; }
limit=${TEST_TIMEOUT:-300}

# ThreadSanitizer of GCC 12 cannot cope with the address randomisation of newer kernels.
plain=()
if setarch -R true 2>/dev/null; then plain=(setarch -R); fi

threads() { # PID
	local said=
	if command -v gdb > /dev/null; then
		said=$(timeout 60 gdb -nx -batch -p "$1" -ex "thread apply all backtrace" | grep -E "^(Thread|#)")
	fi
	echo "${said:-$(cd /proc/"$1"/task && grep -s . -- */comm */wchan)}"
}

# cmocka says when a test begins and ends, so one that lasts too long is a log that does not grow.
watch() { # LOG
	local pid parent size last=-1 quiet=0
	while ((quiet < limit)); do
		sleep 1
		kill -0 $$ || exit	# the script was interrupted
		size=$(stat -c %s "$1")
		((quiet = size == last ? quiet + 1 : 0))
		last=$size
	done
	read -r pid parent < "$1.pid"
	{
		echo "no end within $limit s: $(sed -n 's/^\[ *RUN *\] //p' "$1" | tail -n 1)"
		threads "$pid"
	} >> "$1"
	kill -ALRM "$parent"
}

for program in "$@"; do
	log=$program.log
	case $program in
	*/tsan/*) run=("${plain[@]}") ;;
	*) run=() ;;
	esac
	: > "$log"
	watch "$log" < /dev/null > /dev/null 2>&1 &
	watcher=$!
	# shellcheck disable=SC2016
	timeout -k 5 $((20 * limit)) "$BASH" -c 'echo $$ $PPID > "$0"; exec "$@"' "$log.pid" "${run[@]}" "$program" >> "$log" 2>&1
	status=$?
	kill "$watcher" 2> /dev/null
	wait "$watcher" 2> /dev/null
	rm -f "$log.pid"
	if [ $status -eq 0 ]; then
		echo "$program"
		grep -aE '^\[ +(PASSED|SKIPPED) +\] [0-9]+ test' "$log"
		continue
	fi
	grep -avE '^\[ +(RUN|OK) +\]' "$log" | tail -n 200
	echo "FAILED: $program (exit status $status, all output in $log)" >&2
	exit 1
done
