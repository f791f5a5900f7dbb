# So many connections at once to aserver.py.
import asyncio, sys

async def ask(port, n):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    data = b"x" * (n * 7919)
    assert writer.get_extra_info("peername") == ("127.0.0.1", port)
    writer.write(data)
    writer.write_eof()
    answer = await reader.read(-1)
    writer.close()
    await writer.wait_closed()
    return answer == b"%d:" % len(data) + data

async def main():
    right = await asyncio.gather(*(ask(int(sys.argv[1]), n) for n in range(int(sys.argv[2]))))
    print(sum(right), "of", len(right), "answered right")

asyncio.run(main())
