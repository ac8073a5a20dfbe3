#!/usr/bin/python3
"""Forwards TCP connections from the host's loopback into a network namespace.

forward.py NETNS_FILE TARGET_HOST:PORT FIRST_PORT PORT_FILE

Listens on 127.0.0.1 on the first free port from FIRST_PORT on and writes that port to PORT_FILE.
One process does it without a helper on the other side: a socket stays in the namespace in which it
was made, so this listens first, enters the namespace then, and connects there.
"""
import asyncio
import ctypes
import os
import socket
import sys

CLONE_NEWNET = 0x40000000


def listen(first_port):
    for port in range(first_port, first_port + 1000):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
            listener.listen(128)
            return listener, port
        except OSError:
            listener.close()
    sys.exit(f"no free port from {first_port} on")


def enter_namespace(path):
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(path, os.O_RDONLY)
    if libc.setns(descriptor, CLONE_NEWNET) != 0:
        sys.exit(f"setns {path}: {os.strerror(ctypes.get_errno())}")
    os.close(descriptor)


async def pump(reader, writer):
    """Copies one direction until its end, and hands the end on."""
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.close()


async def main():
    namespace, target, first_port, port_file = sys.argv[1:]
    host, port = target.rsplit(":", 1)
    listener, listening = listen(int(first_port))
    enter_namespace(namespace)

    async def serve(reader, writer):
        try:
            inner_reader, inner_writer = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.transport.abort()
            return
        await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer))
        inner_writer.close()
        writer.close()

    server = await asyncio.start_server(serve, sock=listener)
    with open(port_file + ".new", "w") as file:
        file.write(f"{listening}\n")
    os.rename(port_file + ".new", port_file)
    await server.serve_forever()


asyncio.run(main())
