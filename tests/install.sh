#!/bin/sh
# make check-install: installs into empty folders and uses that as a stranger would: README's program, with the shared
# and with the static library, the header in C99 and C++. make uninstall must leave no file.
set -eu
work=$(mktemp -d)
server=
cleanup() {
	[ -z "$server" ] || kill "$server" 2> /dev/null || true
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM
die() { echo "check-install: $*" >&2; exit 1; }
make_() { ${MAKE:-make} -s VARIANT=release "$@" > /dev/null; }

prefix=$work/prefix
make_ install PREFIX="$prefix"
make_ install PREFIX=/usr DESTDIR="$work/stage"
(cd "$prefix" && find . | sort) > "$work/a"
(cd "$work/stage/usr" && find . | sort) > "$work/b"
cmp -s "$work/a" "$work/b" || die "DESTDIR and PREFIX install different files"
! grep -q "$work" "$work/stage/usr/lib/pkgconfig/qsock.pc" || die "qsock.pc names DESTDIR"

export PKG_CONFIG_PATH="$prefix/lib/pkgconfig" XDG_CONFIG_HOME="$work/config"
awk '/^```c$/ { on = 1; next } /^```$/ { on = 0 } on' README.md > "$work/echo.c"
shared=$(pkg-config --cflags --libs qsock)
static="$(pkg-config --cflags qsock) -L$prefix/lib -l:libqsock.a \
	$(pkg-config --static --libs qsock | sed 's/-lqsock//')"
${CC:-cc} -Wall -Wextra -Werror "$work/echo.c" -o "$work/echo_shared" $shared
${CC:-cc} -Wall -Wextra -Werror "$work/echo.c" -o "$work/echo_static" $static
printf '%s\n' '#include <qsock.h>' \
	'int main(void) { return qsock_socket(AF_INET, SOCK_STREAM, IPPROTO_QUIC) < 0; }' > "$work/h.c"
cp "$work/h.c" "$work/h.cc"
${CC:-cc} -std=c99 -pedantic -Wall -Wextra -Werror "$work/h.c" -o "$work/h" $shared
LD_LIBRARY_PATH=$prefix/lib "$work/h" || die "no socket"
! command -v c++ > /dev/null || c++ -std=c++98 -pedantic -Wall -Wextra -Werror "$work/h.cc" -o "$work/h" $shared
! ldd "$work/echo_static" | grep -q libqsock || die "the static program wants the shared library"

mkfifo "$work/said"
"$prefix/bin/echo_server" 0 2> "$work/said" &
server=$!
read -r line < "$work/said"
port=$(echo "$line" | sed 's/.*port \([0-9]*\).*/\1/')
pin=$(echo "$line" | sed 's/.*--pin //')
for program in shared static; do
	answer=$(LD_LIBRARY_PATH=$prefix/lib timeout 20 "$work/echo_$program" localhost "$port" "$pin")
	[ "$answer" = "hello, QUIC" ] || die "echo, $program: $answer"
done

make_ uninstall PREFIX="$prefix"
left=$(find "$prefix" ! -type d)
[ -z "$left" ] || die "left after uninstall: $left"
echo "README's program, shared and static, C99$(! command -v c++ > /dev/null || echo ' and C++'): works as installed"
