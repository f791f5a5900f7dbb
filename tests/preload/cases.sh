# The programs of the matrix. Sourced by matrix.sh, which calls case_NAME once on TCP and once under the shim. In a case:
#   serve CMD...         start a server on $port and wait until it listens; also pid of it in $server
#   run LABEL CMD...     a client, in the foreground: output (normalised) and exit status go to the transcript
#   note TEXT            into the transcript
# "# NAME: needs | what is shown" is the case's line in the table.

# nc: nc socat | netcat-openbsd, both roles: 100 MB each way, checksums; half-close, then an answer; refused port
# (Debian's nc stops sending when the other side's data ends: so one way at a time.)
case_nc() {
	serve -o up nc -l -v 127.0.0.1 "$port"
	run up sh -c 'nc -N -v 127.0.0.1 "$0" < "$1"' "$port" "$data/big"
	served 0
	serve -i "$data/other" nc -l -N -v 127.0.0.1 "$port"
	run down sh -c 'nc -d -v 127.0.0.1 "$0" > down' "$port"
	served 0
	same up "$data/big" down "$data/other"
	run refused nc -v -w 3 127.0.0.1 "$port"
	run "refused, -z" nc -zv 127.0.0.1 "$port"
	serve socat -t 30 TCP-LISTEN:"$port",bind=127.0.0.1,reuseaddr SYSTEM:sha256sum
	run half-close sh -c 'nc -N 127.0.0.1 "$0" < "$1"' "$port" "$data/big"
	served 0
}

# nc_server_first: nc | netcat-openbsd: the server speaks first, the client only listens; IPv6
case_nc_server_first() {
	serve -i "$data/greeting" nc -6 -l -N ::1 "$port"
	run client sh -c 'nc -6 -d ::1 "$0"' "$port"
	served 0
}

# socat: socat sha256sum | socat, both roles: forking server, answer after half-close, 100 MB with checksum
case_socat() {
	serve socat -t 30 TCP-LISTEN:"$port",bind=127.0.0.1,reuseaddr,fork SYSTEM:sha256sum
	run "hash of 100 MB" sh -c 'socat -t 30 - TCP:127.0.0.1:"$0" < "$1"' "$port" "$data/big"
	run "hash of nothing" sh -c 'socat -t 30 - TCP:127.0.0.1:"$0" < /dev/null' "$port"
	run "by name" sh -c 'echo hello | socat -t 30 - TCP4:localhost:"$0"' "$port"
	fds_settle
	stop "$server"
}

# socat_send: socat | socat, both roles: the server sends 100 MB, then 100 MB the other way
case_socat_send() {
	serve socat -U TCP-LISTEN:"$port",bind=127.0.0.1,reuseaddr OPEN:"$data/big",rdonly
	run client sh -c 'socat -u TCP:127.0.0.1:"$0" CREATE:down' "$port"
	served 0
	serve socat -u TCP-LISTEN:"$port",bind=127.0.0.1,reuseaddr CREATE:up
	run client sh -c 'socat -u OPEN:"$1",rdonly TCP:127.0.0.1:"$0"' "$port" "$data/other"
	served 0
	same down "$data/big" up "$data/other"
}

# curl: curl $python | curl and python3 -m http.server: listing, 50 MB, ranges, keep-alive, errors
case_curl() {
	local u=http://127.0.0.1:$port
	serve "$python" -u -m http.server --protocol HTTP/1.1 --bind 127.0.0.1 --directory "$data/www" "$port"
	run listing curl -sS "$u/"
	run large curl -sS -o large -w '%{http_code} %{size_download} %{num_connects} %{remote_ip}\n' "$u/large"
	same large "$data/www/large"
	run "one connection" curl -sS -w '%{http_code} %{num_connects}\n' -o a "$u/small" -o b "$u/small" -o c "$u/nothing"
	run parallel curl -sS --no-progress-meter -Z --parallel-max 8 -o 'p#1' "$u/part[1-8]"
	local i
	for i in 1 2 3 4 5 6 7 8; do same p$i "$data/www/part$i"; done
	run head curl -sSI "$u/small"
	run "by name" curl -sS "http://localhost:$port/small"
	run post curl -sS -o post -w '%{http_code}\n' --data-binary @"$data/www/large" "$u/small"
	run refused curl -sS --connect-timeout 5 "http://127.0.0.1:$closed/"
	fds_settle
	stop "$server"
	said
}

# wget: wget $python | wget and python3 -m http.server: recursive download, checksums, spider, errors
case_wget() {
	local u=http://127.0.0.1:$port
	serve "$python" -u -m http.server --protocol HTTP/1.1 --bind 127.0.0.1 --directory "$data/www" "$port"
	run recursive wget -nv -r -np -nH -P tree "$u/"
	(cd tree && find . -type f | LC_ALL=C sort | xargs sha256sum) >> "$transcript"
	run spider wget -nv --spider "$u/small"
	run missing wget -nv -O missing "$u/nothing"
	run refused wget -nv -t 1 -O refused "http://127.0.0.1:$closed/"
	fds_settle
	stop "$server"
}

redis_server() {
	serve redis-server --port "$port" --bind 127.0.0.1 --save '' --appendonly no --daemonize no --dir "$PWD" "$@"
}

# redis: redis-server redis-cli | redis-server and redis-cli: commands, mass insertion, blocking pop, publish and subscribe
case_redis() {
	redis_server
	local cli="redis-cli -h 127.0.0.1 -p $port" subscriber
	run set $cli set key value
	run get $cli get key
	run "large value" sh -c 'head -c 20000000 "$0" | base64 -w0 | redis-cli -p "$1" -x set large' "$data/big" "$port"
	run "large value back" sh -c 'redis-cli -p "$0" get large | sha256sum' "$port"
	run pipe sh -c 'seq 20000 | sed "s/.*/SET n:& v&/" | redis-cli -p "$0" --pipe' "$port"
	run dbsize $cli dbsize
	run "blocking pop" sh -c 'redis-cli -p "$0" blpop list 20 & sleep 0.3; redis-cli -p "$0" rpush list x > pushed; wait' "$port"
	run "client list" sh -c 'redis-cli -p "$0" client list | grep -o "addr=[0-9.]*:" ' "$port"
	run "unknown command" $cli nonsense
	run refused redis-cli -h 127.0.0.1 -p "$closed" ping
	fds_settle
	run "publish, subscribe" sh -c '(sleep 0.5; redis-cli -p "$0" publish ch hello > published) & timeout 2 redis-cli -p "$0" subscribe ch; wait' "$port"
	run shutdown $cli shutdown nosave
	served 0
}

# redis_benchmark: redis-server redis-benchmark | redis-benchmark: 50 clients, pipelining 16; 200 clients
case_redis_benchmark() {
	redis_server
	run "50 clients, pipelining 16" redis-benchmark -h 127.0.0.1 -p "$port" -c 50 -P 16 -n 100000 -t set,get,lpush,lrange_100 -q
	run "200 clients" redis-benchmark -h 127.0.0.1 -p "$port" -c 200 -n 20000 -t get -q
	run "no keep-alive" redis-benchmark -h 127.0.0.1 -p "$port" -c 10 -n 2000 -k 0 -t get -q
	run "connections made" redis-cli -p "$port" dbsize
	fds_settle
	stop "$server"
}

# redis_replica: redis-server redis-cli | redis-server as replica of another: the server connects by itself
case_redis_replica() {
	redis_server
	local primary=$server primary_port=$port
	run fill sh -c 'seq 50000 | sed "s/.*/SET n:& v&/" | redis-cli -p "$0" --pipe' "$port"
	port=$(free_port)
	redis_server --replicaof 127.0.0.1 "$primary_port" --repl-diskless-sync-delay 0
	run "replicated" sh -c 'for i in $(seq 100); do [ "$(redis-cli -p "$0" dbsize)" = 50000 ] && break; sleep 0.1; done; redis-cli -p "$0" dbsize' "$port"
	run "new key" sh -c 'redis-cli -p "$1" set new key; for i in $(seq 100); do
		[ "$(redis-cli -p "$0" get new)" = key ] && break; sleep 0.1; done; redis-cli -p "$0" get new' "$port" "$primary_port"
	stop "$server"
	stop "$primary"
}

# iperf3: iperf3 $python | iperf3 both directions, and 4 streams at once
case_iperf3() {
	serve iperf3 -s -p "$port" -B 127.0.0.1
	local args
	run "first" sh -c 'iperf3 -c 127.0.0.1 -p "$0" -n 1M > /dev/null' "$port"
	fds_before=$(count_fds)	# iperf3 keeps one more from its first test on
	for args in "" "-R" "-P 4" "-P 4 -R" "--bidir" "-n 50M" "-n 50M -R"; do
		# shellcheck disable=SC2086
		run "$args" sh -c 'iperf3 -c 127.0.0.1 -p "$0" -t 1 -J "$@" > iperf.json; s=$?; "'"$python"'" -c "$S" < iperf.json; exit $s' "$port" $args
	done
	fds_settle
	stop "$server"
}
# what of iperf3's report can be compared
export S='
import json, sys
r = json.load(sys.stdin)
print("error:", r.get("error", "none"))
end = r.get("end", {})
print("streams:", len(end.get("streams", [])))
for k in ("sum_sent", "sum_received", "sum_sent_bidir_reverse", "sum_received_bidir_reverse"):
    if k in end:
        print(k, "more than 1 MB" if end[k]["bytes"] > 1e6 else "%d bytes" % end[k]["bytes"])
if end and "-n" in sys.argv:
    print(end["sum_received"]["bytes"])
'

# ssh: ssh sftp scp ssh-keygen $sshd | openssh: sshd (-r, no re-exec), ssh with exit status and 20 MB each way, sftp, scp
case_ssh() {
	mkdir -p /run/sshd 2> /dev/null
	ssh-keygen -q -t ed25519 -N '' -f host.key < /dev/null
	ssh-keygen -q -t ed25519 -N '' -f user.key < /dev/null
	cp user.key.pub authorized
	printf '%s\n' "ListenAddress 127.0.0.1:$port" "HostKey $PWD/host.key" "AuthorizedKeysFile $PWD/authorized" \
		'StrictModes no' 'UsePAM no' "PidFile $PWD/sshd.pid" 'PermitRootLogin yes' 'UseDNS no' \
		'Subsystem sftp internal-sftp' > sshd.conf
	echo "[127.0.0.1]:$port $(cut -d' ' -f1,2 host.key.pub)" > known
	local o="-F none -o UserKnownHostsFile=$PWD/known -o StrictHostKeyChecking=yes -o BatchMode=yes -i $PWD/user.key -o IdentitiesOnly=yes"
	serve "$sshd" -D -e -r -f "$PWD/sshd.conf"
	run "command" ssh $o -p "$port" 127.0.0.1 'echo hello; echo "${SSH_CONNECTION%% *}"; exit 7'
	run "20 MB to and fro" sh -c 'head -c 20000000 "$2" | ssh $0 -p "$1" 127.0.0.1 cat | sha256sum' "$o" "$port" "$data/big"
	printf '%s\n' "put $data/www/large up.bin" "get up.bin down.bin" 'ls up.bin' 'rm up.bin' > batch
	run "sftp" sh -c 'cd "$2" && sftp $0 -q -P "$1" -b batch 127.0.0.1:"$2"' "$o" "$port" "$PWD"
	same down.bin "$data/www/large"
	run "scp" sh -c 'scp $0 -q -P "$1" "$2" 127.0.0.1:"$3"/copied' "$o" "$port" "$data/www/large" "$PWD"
	same copied "$data/www/large"
	run "wrong host key" sh -c 'ssh ${0/known/authorized} -p "$1" 127.0.0.1 true 2>&1 | tail -n 1' "$o" "$port"
	fds_settle
	stop "$server"
}

# prefork: socat | a prefork server of 4 children (tests/preload/prefork.c), 24 clients, 8 at a time
case_prefork() {
	serve "$build/tests/preload/prefork" "$port" 4
	run "one" sh -c 'printf "hello\nworld\n" | socat -t 20 - TCP:127.0.0.1:"$0"' "$port"
	run "server closes" sh -c 'printf "one\nquit\nlost\n" | socat -t 20 - TCP:127.0.0.1:"$0"' "$port"
	run "24 clients" sh -c 'seq 24 | xargs -P 8 -I@ sh -c '\''printf "line @\n" | socat -t 20 - TCP:127.0.0.1:"$0"'\'' "$0" | LC_ALL=C sort' "$port"
	run "children that answered" sh -c 'seq 40 | xargs -P 8 -I@ sh -c '\''(echo who; sleep 0.2) | socat -t 20 - TCP:127.0.0.1:"$0"'\'' "$0" |
		sort -u | grep -c child | sed "s/[2-9].*/more than one/"' "$port"
	fds_settle
	stop "$server"
}

# nginx: nginx ab curl | nginx, master and 2 workers, reload; ab: 5000 connections, 20 at a time, and keep-alive
case_nginx() {
	local u=http://127.0.0.1:$port kind
	{
		[ "$(id -u)" -ne 0 ] || echo 'user root;'
		echo "worker_processes 2; pid $PWD/nginx.pid; error_log $PWD/nginx.err;" 'events { worker_connections 200; }'
		echo "http { access_log off; server { listen 127.0.0.1:$port; root $data/www; }"
		for kind in client_body proxy fastcgi uwsgi scgi; do echo "${kind}_temp_path $PWD/tmp.$kind;"; done
		echo '}'
	} > nginx.conf
	serve nginx -c "$PWD/nginx.conf" -e "$PWD/nginx.err" -g 'daemon off;'
	run small curl -sS "$u/small"
	run parallel curl -sS --no-progress-meter -Z --parallel-max 8 -o 'p#1' "$u/part[1-8]"
	local i
	for i in 1 2 3 4 5 6 7 8; do same p$i "$data/www/part$i"; done
	run "5000 connections" sh -c 'ab -q -n 5000 -c 20 "$0" | grep -E "^(Complete|Failed|Write|HTML)"' "$u/small"
	run "keep-alive" sh -c 'ab -q -k -n 5000 -c 20 "$0" | grep -E "^(Complete|Failed|Write|HTML)"' "$u/small"
	fds_settle
	kill -HUP "$server"
	run "after reload" sh -c 'seq 20 | xargs -P 4 -I@ curl -sS "$0"' "$u/small"
	stop "$server"
}

# python: $python | a Python asyncio server and client: 50 connections at once, half-close
case_python() {
	serve "$python" -u "$here/aserver.py" "$port"
	run client "$python" "$here/aclient.py" "$port" 50
	fds_settle
	stop "$server"
}
