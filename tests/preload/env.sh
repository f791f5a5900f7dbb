# Sourced by compare.sh and matrix.sh: a work directory, certificates, and how a program is put on the shim.
# Wants $build (a directory with lib/ and tests/preload/); sets $work, $shim (words of a command's prefix).
build=$(cd "$build" && pwd) || exit 1
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
lib=$build/lib/libqsock_preload.so
work=$(mktemp -d "${TMPDIR:-/tmp}/qsock-preload.XXXXXX") || exit 1

# One authority, a certificate of the server's, and an authority nobody should believe.
certificates() {
	(cd "$work" && for ca in ca stranger; do
		openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "/CN=$ca" \
			-keyout $ca.key -out $ca.pem
	done && openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost -keyout key.pem -out csr.pem &&
		printf '%s\n' 'subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1,IP:0.0.0.0,IP:198.51.100.2' > ext &&
		openssl x509 -req -in csr.pem -CA ca.pem -CAkey ca.key -days 2 -extfile ext -out cert.pem
	) > "$work/openssl.log" 2>&1 || { cat "$work/openssl.log" >&2; return 1; }
}

# A sanitizer's runtime has to be loaded before the shim that was built with it. GCC 12's LeakSanitizer is not made for
# children forked from several threads: it waits for locks that a thread held which they do not have. Leaks are looked for
# in tests/unit and tests/fd. ThreadSanitizer takes descriptors of equal number for the same (see tests/support/loopback.c).
runtime= plain_memory=()
case $build in
*asan*)
	runtime=$(cc -print-file-name=libasan.so)
	export ASAN_OPTIONS=detect_leaks=0
	;;
*tsan*)
	runtime=$(cc -print-file-name=libtsan.so)
	for call in close socketpair pipe dup socket accept epoll_create1 recv send connect write open fopen fclose; do
		echo "race_top:interceptor_$call"
	done > "$work/tsan"
	echo 'race:^recv_record$' >> "$work/tsan"
	export TSAN_OPTIONS=history_size=7:io_sync=0:die_after_fork=0:suppressions=$work/tsan
	! setarch -R true 2> /dev/null || plain_memory=(setarch -R)	# as in tests/run.sh
	;;
esac
shim=("${plain_memory[@]}" env "LD_PRELOAD=${runtime:+$runtime:}$lib" "QSOCK_CERT=$work/cert.pem" "QSOCK_KEY=$work/key.pem"
	"QSOCK_CAFILE=$work/ca.pem" "XDG_CONFIG_HOME=$work/config" "QSOCK_LOG=$work/shim.log")
