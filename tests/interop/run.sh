#!/usr/bin/env bash
# Run the interop scenarios: see README. Usage: run.sh DIR-WITH-PROGRAMS [name...]; every run is named PAIR/SCENARIO.
set -u
bin=$(cd "$1" && pwd) || exit 1
shift
only=("$@")
here=$(cd "$(dirname "$0")" && pwd)
dir=$(mktemp -d)
cd "$dir" || exit 1
passed=0 failed=0
server_pid= relay_pid=
cleanup() {
	[ -z "$server_pid" ] || kill "$server_pid" 2> /dev/null
	[ -z "$relay_pid" ] || kill "$relay_pid" 2> /dev/null
	if [ -n "${KEEP:-}" ]; then echo "logs are in $dir"; else rm -rf "$dir"; fi
}
trap cleanup EXIT

make_cert() {
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=localhost -keyout "$1.key" -out "$1.pem" \
		-addext "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1" 2> openssl.log || { cat openssl.log; exit 1; }
}
make_cert server
make_cert stranger

wanted() {
	[ ${#only[@]} -eq 0 ] && return 0
	local o
	for o in "${only[@]}"; do [[ $1 == *$o* ]] && return 0; done
	return 1
}

verdict() {	# name, 0 or not
	if [ "$2" -eq 0 ]; then
		passed=$((passed + 1))
		echo "ok      $1"
		return
	fi
	failed=$((failed + 1))
	echo "FAILED  $1"
	tail -n 3 client.out server.out 2> /dev/null | sed 's/^/        /'
	[ -z "${KEEP:-}" ] || { mkdir -p "failed/$1" && cp ./*.out ./*.keys "failed/$1" 2> /dev/null; }
}

# Start a server of ours or quic-go; sets $port.
start_server() {	# program, scenario, host, options...
	local program=$1 scenario=$2 host=$3
	shift 3
	rm -f server.out	# or the last one's port might be taken for this one's
	"$bin/$program" server "$scenario" "$host:0" --cert server.pem --key server.key "$@" > server.out 2>&1 &
	server_pid=$!
	port=
	local i
	for ((i = 0; i < 200; i++)); do
		port=$(sed -n 's/^listening //p' server.out 2> /dev/null)
		[ -n "$port" ] && return 0
		kill -0 "$server_pid" 2> /dev/null || break
		sleep 0.05
	done
	return 1
}

stop_server() {	# 0: it ended by itself and well
	local i status
	if [ "${1:-}" = kill ]; then
		kill "$server_pid" 2> /dev/null
		wait "$server_pid" 2> /dev/null
		server_pid=
		! grep -q '^failed' server.out
		return
	fi
	wait "$server_pid"
	status=$?
	server_pid=
	return $status
}

# One scenario between two programs that share the command line. CLIENT_SAYS: options of the client alone. MUST_SAY: what
# its last line must match.
run() {	# name, client, server, scenario, host, options...
	local name=$1 client=$2 server=$3 scenario=$4 host=$5 ca=server.pem status=0
	shift 5
	wanted "$name" || return 0
	rm -f ./*.out ./*.keys session
	local end= client_extra=(${CLIENT_SAYS:-})
	case $scenario in
	badca) ca=stranger.pem end=kill ;;
	badalpn) end=kill client_extra+=(--alpn other) ;;
	resume) [ "$client" = peer ] && client_extra+=(--session session) ;;
	esac
	if start_server "$server" "$scenario" "$host" --keylog server.keys "$@"; then
		"$bin/$client" client "$scenario" "$host:$port" --ca $ca --keylog client.keys "$@" "${client_extra[@]}" \
			> client.out 2>&1 || status=1
		[ $status -eq 0 ] || end=kill
		stop_server $end || status=1
		[ -n "${MUST_SAY:-}" ] && ! grep -qE "$MUST_SAY" client.out && status=1
	else
		status=1
		kill "$server_pid" 2> /dev/null
	fi
	verdict "$name" $status
}

all_scenarios() {	# client, server
	local c=$1 s=$2 p="$1-to-$2" retries= update=200
	local scenarios=(echo bulk streams reset stop close sclose resume badca badalpn)
	case $s in
	aioquic) scenarios=(echo bulk streams reset stop close sclose resume badca) ;;	# badalpn: 0x128 is its code
	# OpenSSL 3.5 has no call for STOP_SENDING with a code, and its server tells nobody that a handshake failed.
	openssl) scenarios=(echo bulk streams reset close sclose resume badca) ;;
	esac
	# It drops what is sealed by a second update within three PTO, and asks for such.
	[[ $p != *openssl* ]] || update=2000
	for scenario in "${scenarios[@]}"; do
		run "$p/$scenario" "$c" "$s" $scenario 127.0.0.1
	done
	run "$p/idle" "$c" "$s" idle 127.0.0.1 --idle 1000
	run "$p/ipv6" "$c" "$s" echo '[::1]'
	[ "$c" = goquic ] && retries='retries=1'
	MUST_SAY=$retries run "$p/retry" "$c" "$s" echo 127.0.0.1 --retry
	MUST_SAY='key-updates=[1-9]' run "$p/keyupdate" "$c" "$s" bulk 127.0.0.1 --key-update $update
}

# What only these peers can be told to do.
more_scenarios() {	# client, server
	local p="$1-to-$2" suite group
	case $p in
	aioquic-to-peer)
		run "$p/newcid" aioquic peer newcid 127.0.0.1
		run "$p/rebind" aioquic peer rebind 127.0.0.1
		run "$p/early" aioquic peer early 127.0.0.1
		CLIENT_SAYS='--version 1a2a3a4a' run "$p/version" aioquic peer echo 127.0.0.1
		for suite in AES_256_GCM_SHA384 CHACHA20_POLY1305_SHA256; do
			CLIENT_SAYS="--suite $suite" run "$p/$suite" aioquic peer echo 127.0.0.1
		done ;;
	openssl-to-peer)
		for suite in TLS_AES_128_GCM_SHA256 TLS_CHACHA20_POLY1305_SHA256; do
			CLIENT_SAYS="--suite $suite" run "$p/$suite" openssl peer echo 127.0.0.1
		done
		for group in P-384 X25519MLKEM768; do
			CLIENT_SAYS="--groups $group" run "$p/$group" openssl peer echo 127.0.0.1
		done ;;
	esac
}

# ---- ngtcp2: HTTP/3 around a plain file ------------------------------------------------

size=3000000
ngtcp2_server() {	# name, server options...: our client fetches a file from gtlsserver
	local name=$1 status=0 i
	shift
	wanted "$name" || return 0
	mkdir -p htdocs
	"$bin/peer" pattern $size > htdocs/file
	port=$((20000 + RANDOM % 20000))
	gtlsserver -q -d htdocs "$@" 127.0.0.1 $port server.key server.pem > server.out 2>&1 &
	server_pid=$!
	for ((i = 0; i < 100; i++)); do
		grep -q " 0100007F:$(printf %04X $port) " /proc/net/udp && break
		sleep 0.05
	done
	"$bin/peer" client h3 127.0.0.1:$port --ca server.pem --alpn h3 --path /file --expect $size > client.out 2>&1 || status=1
	stop_server kill
	verdict "$name" $status
}

ngtcp2_client() {	# name, client options...: gtlsclient fetches from us
	local name=$1 status=0
	shift
	wanted "$name" || return 0
	rm -rf download && mkdir download
	"$bin/peer" pattern $size > expected
	if start_server peer h3 127.0.0.1 --alpn h3 --expect $size; then
		timeout 60 gtlsclient -q --no-http-dump --download=download --exit-on-all-streams-close "$@" \
			127.0.0.1 "$port" https://localhost/file > client.out 2>&1 || status=1
		cmp -s expected download/file || status=1
		stop_server $([ $status -eq 0 ] || echo kill) || status=1
	else
		status=1
	fi
	verdict "$name" $status
}

ngtcp2_runs() {
	ngtcp2_server peer-to-ngtcp2/transfer
	ngtcp2_server peer-to-ngtcp2/retry -V
	ngtcp2_server peer-to-ngtcp2/loss -t 0.05 -r 0.05
	ngtcp2_server peer-to-ngtcp2/chacha20 --ciphers=NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+CHACHA20-POLY1305
	ngtcp2_client ngtcp2-to-peer/transfer
	ngtcp2_client ngtcp2-to-peer/loss -t 0.05 -r 0.05
	ngtcp2_client ngtcp2-to-peer/keyupdate --key-update=5ms
	ngtcp2_client ngtcp2-to-peer/zero-length-cid --scid=
	ngtcp2_client ngtcp2-to-peer/version-negotiation -v 0x1a2a3a4a --preferred-versions=v1
	ngtcp2_client ngtcp2-to-peer/chacha20 --ciphers=NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+CHACHA20-POLY1305
}

# ---- tshark: is what we send what the rest of the world calls QUIC? ------------------------

tshark_run() {	# client, server
	local name="tshark/$1-to-$2" status=0 front= shark side i
	wanted "$name" || return 0
	rm -f ./*.out ./*.keys
	start_server "$2" bulk 127.0.0.1 --mb 1 --keylog server.keys || status=1
	"$bin/goquic" relay "127.0.0.1:$port" wire.pcap > relay.out 2>&1 &
	relay_pid=$!
	for ((i = 0; i < 100; i++)); do
		front=$(sed -n 's/^listening //p' relay.out 2> /dev/null)
		[ -z "$front" ] || break
		sleep 0.05
	done
	"$bin/$1" client bulk "127.0.0.1:$front" --ca server.pem --mb 1 --keylog client.keys > client.out 2>&1 || status=1
	stop_server $([ $status -eq 0 ] || echo kill) || status=1
	kill $relay_pid
	wait $relay_pid 2> /dev/null
	relay_pid=
	shark=(tshark -r wire.pcap -d udp.port==2,quic -o tls.keylog_file:client.keys)
	# Every 1-RTT packet must open, both directions must carry STREAM frames, nothing may be malformed.
	"${shark[@]}" -Y 'quic.short && !quic.frame && !quic.stateless_reset_token' > undecrypted.txt 2> shark.err
	"${shark[@]}" -Y '_ws.malformed || quic.decryption_failed' > bad.txt 2>> shark.err
	for side in srcport dstport; do
		[ "$("${shark[@]}" -Y "udp.$side == 2 && quic.frame_type in {0x08..0x0f}" 2>> shark.err | wc -l)" -gt 100 ] || status=1
	done
	[ ! -s undecrypted.txt ] && [ ! -s bad.txt ] || status=1
	[ $status -eq 0 ] || head -n 3 undecrypted.txt bad.txt shark.err
	verdict "$name" $status
}

pairs=${INTEROP_PAIRS:-peer:peer peer:goquic goquic:peer goquic:goquic}
for pair in $pairs; do
	all_scenarios "${pair%:*}" "${pair#*:}"
	more_scenarios "${pair%:*}" "${pair#*:}"
	command -v tshark > /dev/null && tshark_run "${pair%:*}" "${pair#*:}"
done
if [[ $pairs == *peer* ]] && command -v gtlsclient > /dev/null && [ -x "$(command -v gtlsserver || echo /usr/sbin/gtlsserver)" ]; then
	PATH=$PATH:/usr/sbin ngtcp2_runs
fi
echo "interop: $passed passed, $failed failed"
[ $failed -eq 0 ] && [ $passed -gt 0 ]
