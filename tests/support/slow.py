"""A TCP proxy that passes what it gets at a given rate, or answers 503 to everything: run as a program, in whatever
network namespace it is to listen in.

    python slow.py LISTEN_HOST LISTEN_PORT TARGET_PORT BYTES_PER_SECOND
    python slow.py LISTEN_HOST LISTEN_PORT 503
"""

from __future__ import annotations

import asyncio
import sys

SLICES_PER_SECOND = 20
DOWN = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


async def main(host: str, port: int, target: int, rate: int) -> None:
    async def pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter, slice_size: int) -> None:
        try:
            while data := await source.read(slice_size):
                sink.write(data)
                await sink.drain()
                if rate and slice_size < 65536:
                    await asyncio.sleep(len(data) / rate)
        except ConnectionError:
            pass
        finally:
            sink.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if target == 503:
            await reader.read(1000)
            writer.write(DOWN)
            writer.close()
            return
        there_reader, there_writer = await asyncio.open_connection(host, target)
        slice_size = max(rate // SLICES_PER_SECOND, 1)
        await asyncio.gather(pass_on(reader, there_writer, 65536), pass_on(there_reader, writer, slice_size))

    server = await asyncio.start_server(serve, host, port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    rate = int(sys.argv[4]) if len(sys.argv) > 4 else 0
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), rate))
