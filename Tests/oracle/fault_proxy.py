"""A TCP proxy that misbehaves on command.

    fault_proxy.py LISTEN-PORT TARGET-PORT

Commands on standard input, one a line: `pass`, `blackhole` (connections stay open, nothing goes through),
`cut` (all connections are reset), `refuse` (reset, and new ones too, until `pass`), `delay SECONDS`
(each piece, in both directions), `cutafter BYTES` (the next connections are reset after so many bytes
towards the client), `target PORT...` (new connections lead there, to one after the other). Answers each
with `ok`. Ends with its standard input.
"""

import asyncio
import socket
import struct
import sys


class Proxy:
    def __init__(self, target):
        self.targets = [target]
        self.open = asyncio.Event()
        self.open.set()
        self.refusing = False
        self.delay = 0.0
        self.limit = None
        self.writers = set()

    def cut(self):
        for writer in list(self.writers):
            raw = writer.get_extra_info("socket")
            try:
                # A linger of zero turns the close into a reset.
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            except OSError:
                # The peer was faster, and the socket is closed already.
                continue
            writer.transport.abort()

    async def pump(self, reader, writer, limit):
        passed = 0
        try:
            while data := await reader.read(65536):
                if self.delay:
                    await asyncio.sleep(self.delay)
                await self.open.wait()
                passed += len(data)
                writer.write(data)
                await writer.drain()
                if limit is not None and passed > limit:
                    self.cut()
        except OSError:
            pass
        finally:
            writer.close()

    async def serve(self, reader, writer):
        self.writers.add(writer)
        try:
            if self.refusing:
                self.cut()
                return
            self.targets.append(self.targets.pop(0))
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self.targets[-1])
            self.writers.add(server_writer)
            await asyncio.gather(
                self.pump(reader, server_writer, None), self.pump(server_reader, writer, self.limit)
            )
            self.writers.discard(server_writer)
        except OSError:
            writer.close()
        finally:
            self.writers.discard(writer)

    def command(self, line):
        verb, *words = line.split()
        if verb == "pass":
            self.refusing, self.delay, self.limit = False, 0.0, None
            self.open.set()
        elif verb == "blackhole":
            self.open.clear()
        elif verb == "cut":
            self.cut()
        elif verb == "refuse":
            self.refusing = True
            self.cut()
        elif verb == "delay":
            self.delay = float(words[0])
        elif verb == "target":
            self.targets = [int(word) for word in words]
        elif verb == "cutafter":
            self.limit = int(words[0])
        else:
            raise SystemExit(f"fault_proxy: {line}")


async def main():
    proxy = Proxy(int(sys.argv[2]))
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", int(sys.argv[1]))
    commands = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    print("ok", flush=True)
    async with server:
        while line := (await commands.readline()).decode().strip():
            proxy.command(line)
            print("ok", flush=True)


asyncio.run(main())
