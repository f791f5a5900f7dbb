package main

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"sync"
	"time"
)

// relay passes datagrams between one client and the server and writes them to a pcap file as they would look on a wire,
// from port 1 (client) to port 2 (server) and back. A capture on the loopback device would need privileges and show GSO trains
// of up to 64 KB in place of datagrams.
func relay(server, file string) {
	to, err := net.ResolveUDPAddr("udp", server)
	must(err)
	front, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	must(err)
	back, err := net.DialUDP("udp", nil, to)
	must(err)
	must(front.SetReadBuffer(4 << 20))
	must(back.SetReadBuffer(4 << 20))
	out, err := os.Create(file)
	must(err)
	p := pcap{f: out}
	p.header()
	fmt.Printf("listening %d\n", front.LocalAddr().(*net.UDPAddr).Port)

	clients := make(chan *net.UDPAddr, 1)
	go func() {
		client := <-clients
		buf := make([]byte, 65536)
		for {
			if n, err := back.Read(buf); err == nil {
				p.datagram(2, 1, buf[:n])
				front.WriteToUDP(buf[:n], client)
			}
		}
	}()
	buf := make([]byte, 65536)
	for known := false; ; {
		n, from, err := front.ReadFromUDP(buf)
		must(err)
		if !known {
			clients <- from
			known = true
		}
		p.datagram(1, 2, buf[:n])
		back.Write(buf[:n])
	}
}

type pcap struct {
	sync.Mutex
	f *os.File
}

func (p *pcap) header() {
	b := make([]byte, 24)
	binary.LittleEndian.PutUint32(b, 0xa1b2c3d4)
	binary.LittleEndian.PutUint16(b[4:], 2)
	binary.LittleEndian.PutUint16(b[6:], 4)
	binary.LittleEndian.PutUint32(b[16:], 262144)
	binary.LittleEndian.PutUint32(b[20:], 101) // raw IP
	_, err := p.f.Write(b)
	must(err)
}

func (p *pcap) datagram(src, dst uint16, data []byte) {
	const head = 16 + 20 + 8
	b := make([]byte, head, head+len(data))
	now, size := time.Now(), 28+len(data)
	binary.LittleEndian.PutUint32(b, uint32(now.Unix()))
	binary.LittleEndian.PutUint32(b[4:], uint32(now.Nanosecond()/1000))
	binary.LittleEndian.PutUint32(b[8:], uint32(size))
	binary.LittleEndian.PutUint32(b[12:], uint32(size))
	ip := b[16:]
	ip[0], ip[8], ip[9] = 0x45, 64, 17
	binary.BigEndian.PutUint16(ip[2:], uint16(size))
	copy(ip[12:], []byte{10, 0, 0, byte(src), 10, 0, 0, byte(dst)})
	udp := ip[20:]
	binary.BigEndian.PutUint16(udp, src)
	binary.BigEndian.PutUint16(udp[2:], dst)
	binary.BigEndian.PutUint16(udp[4:], uint16(8+len(data)))
	p.Lock()
	defer p.Unlock()
	_, err := p.f.Write(append(b, data...))
	must(err)
}
