#!/usr/bin/env python3
"""The other side of the interop runs: aioquic as client or server for raw streams. Speaks the same scenarios and takes
the same command line as ../peer.c; see ../README for all of them."""
import argparse
import asyncio
import socket
import ssl
import sys

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.asyncio.server import serve
from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import MAX_EARLY_DATA
from aioquic.tls import CipherSuite

RESET_BY_CLIENT, RESET_BY_SERVER, STOP_BY_SERVER = 77, 78, 55
CLOSE_BY_CLIENT, CLOSE_BY_SERVER = (1234, "goodbye from the client"), (4321, "goodbye from the server")
CLEAN = (0, "")
CHUNK = 65536
SEND_AHEAD = 1 << 20        # aioquic buffers whatever it is given: so much of a stream at most

PERIOD = bytes(((o ^ o >> 8) * 157) & 255 for o in range(65536))


class Failed(Exception):
    pass


def want(what, got, expected):
    if got != expected:
        raise Failed(f"{what}: want {expected}, got {got}")


def pattern(off, n):
    """The bytes of any stream from this offset; they repeat after 64 KiB but for the two upper bytes of the offset."""
    out = bytearray()
    while n:
        start = off & 0xFFFF
        k = min(n, 65536 - start)
        upper = (off >> 16 ^ off >> 24) & 255
        part = PERIOD[start:start + k]
        out += part.translate(UPPER[upper]) if upper else part
        off, n = off + k, n - k
    return bytes(out)


# (a ^ upper) * 157, from a * 157: 157 is odd, so multiplication by it can be undone modulo 256.
UNDO = pow(157, -1, 256)
UPPER = [bytes((((b * UNDO) & 255) ^ u) * 157 & 255 for b in range(256)) for u in range(256)]


class Stream:
    """What has come on a stream: data and its end, a reset, or the wish that we stop."""

    def __init__(self, conn, stream_id):
        self.conn, self.id = conn, stream_id
        self.data, self.fin, self.reset, self.stopped = bytearray(), False, None, None

    async def read(self, n=None):
        """n bytes, or all up to the end. A reset raises."""
        await self.conn.until(lambda: self.fin or self.reset is not None or n and len(self.data) >= n)
        if self.reset is not None:
            raise ConnectionResetError(self.reset)
        if n and len(self.data) < n:
            raise Failed(f"stream {self.id} ends early")
        out = bytes(self.data[:n] if n else self.data)
        del self.data[:len(out)]
        return out

    async def pattern(self):
        """Read to the end; how many bytes came."""
        off = 0
        while True:
            await self.conn.until(lambda: self.data or self.fin or self.reset is not None)
            if self.reset is not None:
                raise ConnectionResetError(self.reset)
            if self.data:
                if bytes(self.data) != pattern(off, len(self.data)):
                    raise Failed(f"wrong byte from offset {off} on")
                off += len(self.data)
                self.data.clear()
            elif self.fin:
                return off

    def write(self, data, fin=False):
        self.conn.quic.send_stream_data(self.id, data, end_stream=fin)
        self.conn.transmit()

    async def write_pattern(self, total):
        """So many bytes and the end, no faster than they are acknowledged, until the peer stops us."""
        sender, off = self.conn.quic._streams[self.id].sender, 0
        while self.stopped is None:
            k = min(CHUNK, total - off)
            off += k
            # The end goes with the last bytes: aioquic 1.2 forgets one that comes after they are acknowledged.
            self.write(pattern(off - k, k), off == total)
            if off == total:
                return
            await self.conn.until(lambda: self.stopped is not None or off - sender._buffer_start < SEND_AHEAD)


class Conn(QuicConnectionProtocol):
    def __init__(self, quic, stream_handler=None):
        super().__init__(quic, stream_handler)
        self.quic = quic
        self.streams, self.fresh = {}, []
        self.end = None
        self.key_updates = 0
        self.handshake = None
        self.waiters = []

    def quic_event_received(self, event):
        if isinstance(event, events.HandshakeCompleted):
            self.handshake = event
        elif isinstance(event, events.ConnectionTerminated):
            self.end = event
        elif isinstance(event, events.StreamDataReceived):
            s = self.stream(event.stream_id)
            s.data += event.data
            s.fin = s.fin or event.end_stream
        elif isinstance(event, events.StreamReset):
            self.stream(event.stream_id).reset = event.error_code
        elif isinstance(event, events.StopSendingReceived):
            self.stream(event.stream_id).stopped = event.error_code

    def datagram_received(self, data, addr):
        super().datagram_received(data, addr)
        self.wake()

    def _handle_timer(self):
        super()._handle_timer()
        self.wake()

    def wake(self):
        for f in self.waiters:
            if not f.done():
                f.set_result(None)
        self.waiters.clear()

    async def until(self, condition, also_ended=False):
        while not condition():
            if self.end is not None:
                if also_ended:
                    return
                raise Failed(f"connection ended: {self.end}")
            f = asyncio.get_running_loop().create_future()
            self.waiters.append(f)
            await f

    def stream(self, stream_id):
        if stream_id not in self.streams:
            self.streams[stream_id] = Stream(self, stream_id)
            if stream_id % 2 == int(self.quic.configuration.is_client):
                self.fresh.append(self.streams[stream_id])
        return self.streams[stream_id]

    def open(self, uni=False):
        stream_id = self.quic.get_next_available_stream_id(is_unidirectional=uni)
        self.quic.send_stream_data(stream_id, b"")      # only this takes the id
        return self.stream(stream_id)

    async def accept(self):
        """The next stream of the peer, or None: the connection has ended."""
        await self.until(lambda: self.fresh, also_ended=True)
        return self.fresh.pop(0) if self.fresh else None

    async def ended(self):
        await self.until(lambda: self.end is not None)
        return self.end

    async def want_closed(self, code, reason):
        end = await self.ended()
        want("end of the connection", (end.error_code, end.frame_type, end.reason_phrase), (code, None, reason))

    async def want_idle(self):
        want("end of the connection", (await self.ended()).reason_phrase, "Idle timeout")


# ---- scenarios ---------------------------------------------------------------------


async def echo_once(conn, n):
    s = conn.open()
    writer = asyncio.create_task(s.write_pattern(n))
    want("echo", await s.pattern(), n)
    await writer


async def echo_stream(s):
    off = 0
    while True:
        await s.conn.until(lambda: s.data or s.fin or s.reset is not None, also_ended=True)
        if s.reset is not None or s.conn.end is not None and not s.data:
            return
        data = bytes(s.data)
        s.data.clear()
        s.write(data, s.fin)
        off += len(data)
        if s.fin:
            return
        sender = s.conn.quic._streams[s.id].sender
        await s.conn.until(lambda: off - sender._buffer_start < SEND_AHEAD, also_ended=True)


async def echo_server(conn, end):
    tasks = []
    while (s := await conn.accept()) is not None:
        tasks.append(asyncio.create_task(echo_stream(s)))
    await conn.want_closed(*end)
    await asyncio.gather(*tasks)


async def bulk(conn, opt):
    n = opt.mb << 20
    writer = asyncio.create_task(conn.open(uni=True).write_pattern(n))
    peer = await conn.accept()
    want("bulk", await peer.pattern(), n)
    await writer


async def many_streams(conn, opt):
    async def one():
        await echo_once(conn, 32)
    await asyncio.gather(*(one() for _ in range(opt.streams)))


async def want_reset(s, codes, what):
    try:
        await s.read()
    except ConnectionResetError as e:
        if e.args[0] in codes:
            return
        raise Failed(f"{what}: code {e.args[0]}, want one of {codes}") from e
    raise Failed(f"{what}: no reset")


async def reset_client(conn):
    s = conn.open()
    s.write(pattern(0, 1000))
    await s.read(1000)
    conn.quic.reset_stream(s.id, RESET_BY_CLIENT)
    conn.transmit()
    await want_reset(s, (RESET_BY_SERVER, RESET_BY_CLIENT), "reset by the server")


async def reset_server(conn):
    s = await conn.accept()
    s.write(await s.read(1000))
    await want_reset(s, (RESET_BY_CLIENT,), "reset by the client")
    if s.stopped is None:
        conn.quic.reset_stream(s.id, RESET_BY_SERVER)
        conn.transmit()
    await conn.want_closed(*CLEAN)


async def stop_client(conn):
    s = conn.open()
    await s.write_pattern(1 << 40)
    want("stopped by the server", s.stopped, STOP_BY_SERVER)
    want("the server's half", await s.pattern(), 0)


async def stop_server(conn):
    s = await conn.accept()
    await s.read(1000)
    conn.quic.stop_stream(s.id, STOP_BY_SERVER)
    s.write(b"", True)
    await conn.want_closed(*CLEAN)


async def client_does(scenario, conn, opt):
    """The client's part; how it closes."""
    if scenario == "echo":
        for n in (65536, 0, 1):
            await echo_once(conn, n)
    elif scenario == "bulk":
        await bulk(conn, opt)
        await echo_once(conn, 1)
    elif scenario == "streams":
        await many_streams(conn, opt)
    elif scenario == "reset":
        await reset_client(conn)
    elif scenario == "stop":
        await stop_client(conn)
    elif scenario == "close":
        await echo_once(conn, 100)
        return CLOSE_BY_CLIENT
    elif scenario == "sclose":
        await echo_once(conn, 100)
        await conn.want_closed(*CLOSE_BY_SERVER)
    elif scenario == "idle":
        await echo_once(conn, 100)
        await conn.want_idle()
    elif scenario in ("resume", "early"):
        await echo_once(conn, 100)
    elif scenario == "rebind":
        await rebind(conn)
    elif scenario == "newcid":
        for _ in range(20):
            await echo_once(conn, 1000)
            conn.change_connection_id()
    else:
        raise Failed(f"unknown scenario {scenario}")
    return CLEAN


async def rebind(conn):
    """A NAT forgets us: the same connection goes on from another port, five times."""
    for i in range(5):
        await echo_once(conn, 100000)
        old = conn._transport
        sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(("::", 0, 0, 0))
        await asyncio.get_running_loop().create_datagram_endpoint(lambda: conn, sock=sock)
        old.abort()
    await echo_once(conn, 100000)


async def serve_one(scenario, conn, opt, nth):
    await conn.until(lambda: conn.handshake)
    if scenario == "resume":
        want("resumed", conn.handshake.session_resumed, nth > 0)
    if scenario in ("echo", "streams", "resume"):
        await echo_server(conn, CLEAN)
    elif scenario == "bulk":
        await bulk(conn, opt)
        await echo_server(conn, CLEAN)
    elif scenario == "reset":
        await reset_server(conn)
    elif scenario == "stop":
        await stop_server(conn)
    elif scenario == "close":
        await echo_server(conn, CLOSE_BY_CLIENT)
    elif scenario in ("sclose", "idle"):
        await echo_stream(await conn.accept())
        if scenario == "idle":
            return await conn.want_idle()
        await conn.ping()       # a close overtakes what is on its way
        conn.close(*CLOSE_BY_SERVER)
    else:
        raise Failed(f"unknown scenario {scenario}")


# ---- roles -----------------------------------------------------------------------------


def configuration(opt, is_client):
    c = QuicConfiguration(is_client=is_client, alpn_protocols=opt.alpn.split(","), idle_timeout=opt.idle / 1000)
    if opt.cert:
        c.load_cert_chain(opt.cert, opt.key)
    if opt.ca:
        c.load_verify_locations(opt.ca)
    elif is_client:
        c.verify_mode = ssl.CERT_NONE
    c.server_name = opt.name if is_client else None
    if opt.keylog:
        c.secrets_log_file = open(opt.keylog, "a")
    if opt.suite:
        c.cipher_suites = [CipherSuite[opt.suite]]
    if opt.version:
        c.original_version = int(opt.version, 16)
        c.supported_versions = [c.original_version] + c.supported_versions
    return c


async def update_keys(conn, every):
    """Once in so many packets."""
    done = 0
    while every and not conn.end:
        await conn.until(lambda: conn.handshake and conn.quic._packet_number - done >= every, also_ended=True)
        if not conn.end:
            done = conn.quic._packet_number
            conn.request_key_update()
            conn.key_updates += 1


async def client(scenario, host, port, opt):
    c = configuration(opt, True)
    conns, resumed = [], []

    def make(quic, stream_handler=None):
        conns.append(Conn(quic, stream_handler))
        return conns[-1]

    async def one():
        async with connect(host, port, configuration=c, create_protocol=make, local_port=0,
                           session_ticket_handler=lambda t: setattr(c, "session_ticket", t)) as conn:
            await conn.until(lambda: conn.handshake)
            resumed.append((conn.handshake.session_resumed, conn.handshake.early_data_accepted))
            updater = asyncio.create_task(update_keys(conn, opt.key_update))
            end = await client_does(scenario, conn, opt)
            updater.cancel()
            if not conn.end:
                conn.close(*end)
            return conn

    if scenario in ("badca", "badalpn"):
        try:
            await one()
        except ConnectionError:
            code = conns[-1].end.error_code
            if not 0x100 <= code <= 0x1FF or scenario == "badalpn" and code != 0x178:
                raise Failed(f"want a TLS error, got {conns[-1].end}") from None
            return conns[-1]
        raise Failed("connected, but must not")
    conn = await one()
    if scenario == "resume":
        conn = await one()
    elif scenario == "early":
        # No ticket of theirs allows 0-RTT; we act as if it did. The data must arrive all the same, by 1-RTT.
        c.session_ticket.max_early_data_size = MAX_EARLY_DATA
        async with connect(host, port, configuration=c, create_protocol=make, wait_connected=False) as conn:
            await echo_once(conn, 5000)
            resumed.append((conn.handshake.session_resumed, conn.handshake.early_data_accepted))
    if scenario in ("resume", "early"):
        want("resumed, early data", resumed, [(False, False), (True, False)])
    return conn


async def server(scenario, host, port, opt):
    tickets, queue = {}, asyncio.Queue()

    def make(quic, stream_handler=None):
        conn = Conn(quic, stream_handler)
        queue.put_nowait(conn)
        return conn

    listener = await serve(host, port, configuration=configuration(opt, False), create_protocol=make, retry=opt.retry,
                           session_ticket_handler=lambda t: tickets.update({t.ticket: t}),
                           session_ticket_fetcher=lambda label: tickets.pop(label, None))
    print("listening", listener._transport.get_extra_info("sockname")[1], flush=True)
    for nth in range(2 if scenario == "resume" else 1):
        conn = await queue.get()
        updater = asyncio.create_task(update_keys(conn, opt.key_update))
        if scenario in ("badca", "badalpn"):
            end = await conn.ended()
            if conn.handshake:
                raise Failed(f"accepted a connection that must fail: {end}")
        else:
            await serve_one(scenario, conn, opt, nth)
        updater.cancel()
    await asyncio.sleep(0.1)        # what was sent last has left
    return conn


def main():
    p = argparse.ArgumentParser()
    p.add_argument("role", choices=("client", "server"))
    p.add_argument("scenario")
    p.add_argument("address")
    for name in ("cert", "key", "ca", "keylog", "suite", "version"):
        p.add_argument("--" + name)
    p.add_argument("--name", default="localhost")
    p.add_argument("--alpn", default="qsock-interop")
    p.add_argument("--session")
    p.add_argument("--retry", action="store_true")
    for name, default in (("idle", 30000), ("mb", 10), ("streams", 1000), ("key-update", 0), ("deadline", 60)):
        p.add_argument("--" + name, type=int, default=default)
    opt = p.parse_args()
    host, port = opt.address.rsplit(":", 1)
    try:
        role = client if opt.role == "client" else server
        conn = asyncio.run(asyncio.wait_for(role(opt.scenario, host.strip("[]"), int(port), opt), opt.deadline))
    except (Failed, OSError, asyncio.TimeoutError) as e:
        print("failed:", repr(e))
        sys.exit(1)
    print(f"ok {opt.role} {opt.scenario} key-updates={conn.key_updates}")


if __name__ == "__main__":
    main()
