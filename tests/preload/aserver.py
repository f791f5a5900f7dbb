# Echo server on asyncio: answers after the client's end, with length and data.
import asyncio, signal, sys

async def talk(reader, writer):
    data = await reader.read(-1)
    writer.write(b"%d:" % len(data) + data)
    await writer.drain()
    writer.close()
    await writer.wait_closed()

async def main():
    server = await asyncio.start_server(talk, "127.0.0.1", int(sys.argv[1]))
    stop = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set_result, None)
    await stop
    server.close()

asyncio.run(main())
