#!/bin/sh
# Who may know whom, checked. Usage: check-layers.sh SHARED_LIBRARY OBJECT...
#  1 includes go downward only; folders of one level never include each other
#  2 the sans-I/O folders ask the system for nothing (no clock, randomness, threads, sockets; files only in tls/)
#  3 the shared library shows qsock_ names only
set -u
shared=$1
shift
bad=0

awk '
BEGIN {
	level["base"] = 0; level["wire"] = 1; level["crypto"] = 2
	level["tls"] = level["recovery"] = level["stream"] = level["path"] = 3
	level["conn"] = 4; level["endpoint"] = 5; level["io"] = 6; level["sock"] = 7; level["preload"] = 8
}
function complain(text) { printf "%s:%d: %s\n", FILENAME, FNR, text; bad = 1 }
FNR == 1 {
	n = split(FILENAME, part, "/")
	from = part[n - 1]
	if (!(from in level))
		complain("folder " from " has no place among the layers")
}
/^[ \t]*#[ \t]*include[ \t]*["<]/ {
	split($0, quoted, /["<>]/)
	name = quoted[2]
	if (name ~ /^qsock/) {
		if (level[from] < level["io"])
			complain(from " must not know the public header " name)
		next
	}
	if (split(name, at, "/") < 2 || !(at[1] in level) || at[1] == from)
		next
	if (level[at[1]] > level[from])
		complain(from " includes upward: " name)
	else if (level[at[1]] == level[from])
		complain(from " includes its neighbour: " name)
}
END { exit bad }' $(find libqsock preload -name '*.[ch]' 2> /dev/null) || bad=1

never='clock|clock_gettime|clock_nanosleep|gettimeofday|time|nanosleep|usleep|sleep
getrandom|getentropy|arc4random.*|rand|random|drand48|pthread_.*|thrd_.*|mtx_.*
socket|socketpair|bind|listen|accept4?|connect|send|sendto|sendm?msg|sendfile|recv|recvfrom|recvm?msg
epoll_.*|poll|ppoll|select|eventfd|pipe2?|ioctl|syscall'
files='open|openat|creat|fopen|fdopen|read|readv|pread|write|writev|pwrite|close
getenv|secure_getenv|unlink|rename|mkdir|stat|fstat'
never=$(printf %s "$never" | tr '\n' '|')
files=$(printf %s "$files" | tr '\n' '|')
for object in "$@"; do
	case $object in
	*/libqsock/io/* | */libqsock/sock/* | */preload/*) continue ;;
	*/libqsock/tls/*) forbidden=$never ;;
	*) forbidden="$never|$files" ;;
	esac
	calls=$(nm -u "$object" | awk '{ sub(/(64)?(@.*)?$/, "", $2); print $2 }' |
		grep -Ex "_*($forbidden)(_chk)?") || continue
	echo "$object: sans-I/O code calls" $calls
	bad=1
done

nm -D --defined-only "$shared" |
	awk '$2 != "A" && $3 !~ /^qsock_/ { print "exported: " $3; bad = 1 } END { exit bad }' || bad=1

[ $bad -eq 0 ] && echo "layers: clean"
exit $bad
