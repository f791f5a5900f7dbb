#!/usr/bin/env bash
# Run cmocka programs one after another: their summaries on the screen, everything they said in PROGRAM.log.
# Stops at the first failure, shows its log and names the program. TEST_TIMEOUT: seconds for each program.
set -u
[ $# -gt 0 ] || { echo "no test programs here"; exit 0; }

# ThreadSanitizer of GCC 12 cannot cope with the address randomisation of newer kernels.
plain=()
if setarch -R true 2>/dev/null; then plain=(setarch -R); fi

for program in "$@"; do
	log=$program.log
	case $program in
	*/tsan/*) run=("${plain[@]}") ;;
	*) run=() ;;
	esac
	timeout -k 5 "${TEST_TIMEOUT:-900}" "${run[@]}" "$program" > "$log" 2>&1
	status=$?
	if [ $status -eq 0 ]; then
		echo "$program"
		grep -aE '^\[ +(PASSED|SKIPPED) +\] [0-9]+ test' "$log"
		continue
	fi
	grep -avE '^\[ +(RUN|OK) +\]' "$log" | tail -n 200
	[ $status -ne 124 ] || echo "timed out after ${TEST_TIMEOUT:-900} s"
	echo "FAILED: $program (exit status $status, all output in $log)" >&2
	exit 1
done
