// The other side of the interop runs: quic-go as client or server for raw streams. Speaks the same scenarios and takes
// the same command line as ../peer.c; see ../README for both.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"
	_ "unsafe" // for go:linkname

	quic "github.com/lucas-clemente/quic-go"
	"github.com/lucas-clemente/quic-go/logging"
)

// The interval has no setting; its variable is there for quic-go's own tests.
//
//go:linkname keyUpdateInterval github.com/lucas-clemente/quic-go/internal/handshake.KeyUpdateInterval
var keyUpdateInterval uint64

var (
	flags      = flag.NewFlagSet("peer", flag.ExitOnError)
	certFile   = flags.String("cert", "", "PEM")
	keyFile    = flags.String("key", "", "PEM")
	caFile     = flags.String("ca", "", "PEM")
	serverName = flags.String("name", "localhost", "server name to verify")
	alpn       = flags.String("alpn", "qsock-interop", "comma-separated")
	keylog     = flags.String("keylog", "", "append TLS secrets to this file")
	retry      = flags.Bool("retry", false, "server: demand Retry")
	idleMs     = flags.Int("idle", 30000, "idle timeout, ms")
	mb         = flags.Int("mb", 10, "MB each way of scenario bulk")
	streams    = flags.Int("streams", 1000, "number of streams of scenario streams")
	keyUpdate  = flags.Uint64("key-update", 0, "update keys after so many packets")
	seconds    = flags.Int("deadline", 60, "give up after so many seconds")
)

// Scenario codes, the same in peer.c.
const (
	resetByClient = 77
	resetByServer = 78
	stopByServer  = 55
	closeByClient = 1234
	closeByServer = 4321
	clientReason  = "goodbye from the client"
	serverReason  = "goodbye from the server"
)

func must(err error) {
	if err != nil {
		fail("%v", err)
	}
}

func fail(format string, a ...interface{}) {
	fmt.Printf("failed: "+format+"\n", a...)
	os.Exit(1)
}

// ---- pattern: byte at an offset of any stream --------------------------------

func patternByte(off uint64) byte {
	return byte((off ^ off>>8 ^ off>>16 ^ off>>24) * 157)
}

func patternFill(p []byte, off uint64) {
	for i := range p {
		p[i] = patternByte(off + uint64(i))
	}
}

func writePattern(w io.Writer, n uint64) error {
	buf := make([]byte, 32768)
	for off := uint64(0); off < n; {
		k := uint64(len(buf))
		if n-off < k {
			k = n - off
		}
		patternFill(buf[:k], off)
		if _, err := w.Write(buf[:k]); err != nil {
			return err
		}
		off += k
	}
	return nil
}

// readPattern reads to the end and returns how many bytes came.
func readPattern(r io.Reader) (uint64, error) {
	buf := make([]byte, 32768)
	for off := uint64(0); ; {
		n, err := r.Read(buf)
		for i := 0; i < n; i++ {
			if buf[i] != patternByte(off+uint64(i)) {
				fail("wrong byte at offset %d", off+uint64(i))
			}
		}
		off += uint64(n)
		if err == io.EOF {
			return off, nil
		}
		if err != nil {
			return off, err
		}
	}
}

// ---- configuration -------------------------------------------------------------

// Counts what cannot be seen from outside.
type tracer struct{ logging.NullTracer }
type connTracer struct{ logging.NullConnectionTracer }

var seen struct {
	sync.Mutex
	keyUpdates, retries int
}

func (tracer) TracerForConnection(context.Context, logging.Perspective, logging.ConnectionID) logging.ConnectionTracer {
	return connTracer{}
}

func (connTracer) UpdatedKey(logging.KeyPhase, bool) {
	seen.Lock()
	seen.keyUpdates++
	seen.Unlock()
}

func (connTracer) ReceivedRetry(*logging.Header) {
	seen.Lock()
	seen.retries++
	seen.Unlock()
}

func quicConfig() *quic.Config {
	return &quic.Config{
		MaxIdleTimeout:           time.Duration(*idleMs) * time.Millisecond,
		RequireAddressValidation: func(net.Addr) bool { return *retry },
		Tracer:                   tracer{},
		TokenStore:               quic.NewLRUTokenStore(4, 4),
	}
}

func tlsConfig() *tls.Config {
	c := &tls.Config{NextProtos: strings.Split(*alpn, ","), ServerName: *serverName}
	if *certFile != "" {
		cert, err := tls.LoadX509KeyPair(*certFile, *keyFile)
		must(err)
		c.Certificates = []tls.Certificate{cert}
	}
	if *caFile != "" {
		pem, err := os.ReadFile(*caFile)
		must(err)
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			fail("no certificate in %s", *caFile)
		}
	}
	if *keylog != "" {
		f, err := os.OpenFile(*keylog, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0600)
		must(err)
		c.KeyLogWriter = f
	}
	c.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	return c
}

// ---- what errors must look like --------------------------------------------------

func wantStreamError(err error, code int, what string) {
	var se *quic.StreamError
	if !errors.As(err, &se) || se.ErrorCode != quic.StreamErrorCode(code) {
		fail("%s: want code %d, got %v", what, code, err)
	}
}

func wantClosed(conn quic.Connection, code int, reason string) {
	_, err := conn.AcceptStream(context.Background())
	var ae *quic.ApplicationError
	if !errors.As(err, &ae) || ae.ErrorCode != quic.ApplicationErrorCode(code) || !ae.Remote || ae.ErrorMessage != reason {
		fail("want close by peer with code %d %q, got %v", code, reason, err)
	}
}

func wantIdle(conn quic.Connection) {
	_, err := conn.AcceptStream(context.Background())
	var ie *quic.IdleTimeoutError
	if !errors.As(err, &ie) {
		fail("want idle timeout, got %v", err)
	}
}

func wantTransportError(err error, lo, hi uint64) {
	var te *quic.TransportError
	if !errors.As(err, &te) || uint64(te.ErrorCode) < lo || uint64(te.ErrorCode) > hi {
		fail("want transport error %#x-%#x, got %v", lo, hi, err)
	}
}

func open(conn quic.Connection) quic.Stream {
	s, err := conn.OpenStreamSync(context.Background())
	must(err)
	return s
}

func accept(conn quic.Connection) quic.Stream {
	s, err := conn.AcceptStream(context.Background())
	must(err)
	return s
}

// ---- scenarios -------------------------------------------------------------------

func echoOnce(conn quic.Connection, n uint64) {
	s := open(conn)
	done := make(chan error, 1)
	go func() {
		err := writePattern(s, n)
		if err == nil {
			err = s.Close()
		}
		done <- err
	}()
	got, err := readPattern(s)
	must(err)
	must(<-done)
	if got != n {
		fail("echo: sent %d bytes, got %d", n, got)
	}
}

// Echo every stream until the peer closes.
func echoServer(conn quic.Connection, code int, reason string) {
	for {
		s, err := conn.AcceptStream(context.Background())
		if err != nil {
			break
		}
		go func() {
			if _, err := io.Copy(s, s); err == nil {
				s.Close()
			}
		}()
	}
	wantClosed(conn, code, reason)
}

// Both sides alike: n bytes out on a unidirectional stream of one's own, n bytes in on the peer's.
func bulk(conn quic.Connection) {
	n := uint64(*mb) << 20
	done := make(chan error, 1)
	go func() {
		s, err := conn.OpenUniStreamSync(context.Background())
		if err == nil {
			err = writePattern(s, n)
		}
		if err == nil {
			err = s.Close()
		}
		done <- err
	}()
	r, err := conn.AcceptUniStream(context.Background())
	must(err)
	got, err := readPattern(r)
	must(err)
	must(<-done)
	if got != n {
		fail("bulk: want %d bytes, got %d", n, got)
	}
}

func manyStreams(conn quic.Connection) {
	var wg sync.WaitGroup
	for i := 0; i < *streams; i++ {
		s := open(conn) // waits for credit
		wg.Add(1)
		go func() {
			defer wg.Done()
			must(writePattern(s, 32))
			must(s.Close())
			if got, err := readPattern(s); err != nil || got != 32 {
				fail("stream %d: %d bytes, %v", s.StreamID(), got, err)
			}
		}()
	}
	wg.Wait()
}

func resetClient(conn quic.Connection) {
	s := open(conn)
	buf := make([]byte, 1000)
	must(writePattern(s, 1000))
	_, err := io.ReadFull(s, buf)
	must(err)
	s.CancelWrite(resetByClient)
	_, err = readPattern(s)
	var se *quic.StreamError
	if errors.As(err, &se) && se.ErrorCode == resetByClient {
		return // the server answered the reset with our own code
	}
	wantStreamError(err, resetByServer, "reset by the server")
}

func resetServer(conn quic.Connection) {
	s := accept(conn)
	buf := make([]byte, 1000)
	_, err := io.ReadFull(s, buf)
	must(err)
	_, err = s.Write(buf)
	must(err)
	_, err = s.Read(buf)
	wantStreamError(err, resetByClient, "reset by the client")
	s.CancelWrite(resetByServer)
	wantClosed(conn, 0, "")
}

func stopClient(conn quic.Connection) {
	s := open(conn)
	err := writePattern(s, 1<<40)
	wantStreamError(err, stopByServer, "stopped by the server")
	got, err := readPattern(s) // the server's own half ends cleanly
	if err != nil || got != 0 {
		fail("stop: %d bytes, %v", got, err)
	}
}

func stopServer(conn quic.Connection) {
	s := accept(conn)
	buf := make([]byte, 1000)
	_, err := io.ReadFull(s, buf)
	must(err)
	s.CancelRead(stopByServer)
	must(s.Close())
	wantClosed(conn, 0, "")
}

func wantResumed(conn quic.Connection, want bool) {
	if got := conn.ConnectionState().TLS.DidResume; got != want {
		fail("resumed: want %v, got %v", want, got)
	}
}

func dial(addr string, tc *tls.Config, qc *quic.Config) (quic.Connection, error) {
	remote, err := net.ResolveUDPAddr("udp", addr)
	must(err)
	local, err := net.ListenUDP("udp", &net.UDPAddr{})
	must(err)
	return quic.Dial(local, remote, *serverName, tc, qc)
}

func client(scenario, addr string) {
	tc, qc := tlsConfig(), quicConfig()
	conn, err := dial(addr, tc, qc)
	switch scenario {
	case "badca":
		wantTransportError(err, 0x100, 0x1ff)
		return
	case "badalpn":
		wantTransportError(err, 0x178, 0x178)
		return
	}
	must(err)
	code, reason := 0, ""
	switch scenario {
	case "echo":
		echoOnce(conn, 65536)
		echoOnce(conn, 0)
		echoOnce(conn, 1)
	case "bulk":
		bulk(conn)
		wantEcho(conn)
	case "streams":
		manyStreams(conn)
	case "reset":
		resetClient(conn)
	case "stop":
		stopClient(conn)
	case "close":
		echoOnce(conn, 100)
		code, reason = closeByClient, clientReason
	case "sclose":
		echoOnce(conn, 100)
		wantClosed(conn, closeByServer, serverReason)
		return
	case "idle":
		echoOnce(conn, 100)
		wantIdle(conn)
		return
	case "resume":
		wantResumed(conn, false)
		echoOnce(conn, 100)
		must(conn.CloseWithError(0, ""))
		conn, err = dial(addr, tc, qc)
		must(err)
		wantResumed(conn, true)
		echoOnce(conn, 100)
	default:
		fail("unknown scenario %s", scenario)
	}
	must(conn.CloseWithError(quic.ApplicationErrorCode(code), reason))
}

// The last word of a bulk transfer: who gets this answer knows that the other side has everything.
func wantEcho(conn quic.Connection) { echoOnce(conn, 1) }

func serve(scenario string, conn quic.Connection, nth int) {
	switch scenario {
	case "echo", "streams":
		echoServer(conn, 0, "")
	case "bulk":
		bulk(conn)
		echoServer(conn, 0, "")
	case "reset":
		resetServer(conn)
	case "stop":
		stopServer(conn)
	case "close":
		echoServer(conn, closeByClient, clientReason)
	case "sclose":
		s := accept(conn)
		_, err := io.Copy(s, s)
		must(err)
		must(s.Close())
		// A close overtakes what is still on its way: wait until the client has had time to read.
		time.Sleep(200 * time.Millisecond)
		must(conn.CloseWithError(closeByServer, serverReason))
	case "idle":
		s := accept(conn)
		_, err := io.Copy(s, s)
		must(err)
		must(s.Close())
		wantIdle(conn)
	case "resume":
		wantResumed(conn, nth > 0)
		echoServer(conn, 0, "")
	default:
		fail("unknown scenario %s", scenario)
	}
}

func server(scenario, addr string) {
	l, err := quic.ListenAddr(addr, tlsConfig(), quicConfig())
	must(err)
	fmt.Printf("listening %d\n", l.Addr().(*net.UDPAddr).Port)
	conns := 1
	if scenario == "resume" {
		conns = 2
	}
	if scenario == "badca" || scenario == "badalpn" { // nobody gets in: until we are killed
		_, err := l.Accept(context.Background())
		fail("accepted a connection that must fail: %v", err)
	}
	for i := 0; i < conns; i++ {
		conn, err := l.Accept(context.Background())
		must(err)
		serve(scenario, conn, i)
	}
}

func main() {
	if len(os.Args) == 4 && os.Args[1] == "relay" {
		relay(os.Args[2], os.Args[3])
	}
	if len(os.Args) < 4 {
		fmt.Println("usage: peer client|server SCENARIO HOST:PORT [options]\n       peer relay HOST:PORT PCAP-FILE")
		os.Exit(2)
	}
	must(flags.Parse(os.Args[4:]))
	if *keyUpdate > 0 {
		keyUpdateInterval = *keyUpdate
	}
	time.AfterFunc(time.Duration(*seconds)*time.Second, func() { fail("not done after %d s", *seconds) })
	role, scenario := os.Args[1], os.Args[2]
	if role == "server" {
		server(scenario, os.Args[3])
	} else {
		client(scenario, os.Args[3])
	}
	seen.Lock()
	fmt.Printf("ok %s %s key-updates=%d retries=%d\n", role, scenario, seen.keyUpdates, seen.retries)
	seen.Unlock()
}
