"""A program that is no handler, as a function: WebSocket, events, large bodies, on the whole path."""
import base64
import hashlib
import os
import re
import socket
import struct
import threading
import time

import harness
from harness import SHOP, SYSTEM, apply, call_by_name, expect, kubectl, until

NAME = 'streams'
IDLE_SECONDS = 5
SILENCE_SECONDS = 4
GIGABYTE = 1 << 30
SLACK_KB = 4096
PIECE = bytes(1 << 20)


def deploy():
    apply(harness.function_manifest(NAME, 'streams.so:streams', image_name='cicada-e2e-streams', http={}, timeoutSeconds=10,
                                    idleTimeoutSeconds=SILENCE_SECONDS, limits={'bodyBytes': GIGABYTE},
                                    scaling={'idleSeconds': IDLE_SECONDS, 'maxReplicas': 2}))
    harness.wait_ready(NAME)


def send_head(line, *headers, address=None):
    """A connection on which the head of a request was sent; its reader."""
    connection = socket.create_connection(address or harness.gateway_address, timeout=70)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall('\r\n'.join([line, 'Host: localhost', *headers, '', '']).encode())
    return connection, connection.makefile('rb')


def read_head(reader):
    """(status, headers)"""
    status = int(reader.readline().split()[1])
    headers = {}
    for line in iter(reader.readline, b'\r\n'):
        name, value = line.decode().split(':', 1)
        headers[name.lower()] = value.strip()
    return status, headers


class WebSocket:
    """A client of RFC 6455, as far as the tests need one."""

    def __init__(self, address=None):
        key = base64.b64encode(os.urandom(16)).decode()
        start = time.monotonic()
        self.connection, self.reader = send_head(f'GET /fn/{SHOP}/{NAME}/ws HTTP/1.1', 'Connection: Upgrade', 'Upgrade: websocket',
                                                 f'Sec-WebSocket-Key: {key}', 'Sec-WebSocket-Version: 13', address=address)
        status, self.headers = read_head(self.reader)
        self.seconds = time.monotonic() - start
        expect(status == 101, f'WebSocket: {status} {self.headers}')
        proof = base64.b64encode(hashlib.sha1((key + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11').encode()).digest()).decode()
        expect(self.headers['sec-websocket-accept'] == proof, self.headers)

    def send(self, payload, opcode=2):
        mask = os.urandom(4)
        size = len(payload)
        head = struct.pack('!BB', 0x80 | opcode, 0x80 | size) if size < 126 else \
            struct.pack('!BBH', 0x80 | opcode, 0xFE, size) if size < 65536 else struct.pack('!BBQ', 0x80 | opcode, 0xFF, size)
        repeated = (mask * (size // 4 + 1))[:size]
        masked = (int.from_bytes(payload, 'big') ^ int.from_bytes(repeated, 'big')).to_bytes(size, 'big')
        self.connection.sendall(head + mask + masked)

    def receive(self):
        """(opcode, payload); (None, b'') at the end."""
        head = self.reader.read(2)
        if len(head) < 2:
            return None, b''
        size = head[1] & 127
        if size > 125:
            size = struct.unpack('!H' if size == 126 else '!Q', self.reader.read(2 if size == 126 else 8))[0]
        return head[0] & 15, self.reader.read(size)

    def echo(self, payload, opcode=2):
        self.send(payload, opcode)
        expect(self.receive() == (opcode, payload), f'no echo of {len(payload)} bytes')

    def close(self):
        self.reader.close()
        self.connection.close()


def gateway_figure(name):
    """The sum over all gateways."""
    total = 0.0
    for pod in harness.component_pods('gateway'):
        text = harness.http_call('GET', '/metrics', address=(pod['status']['podIP'], 9090)).body.decode()
        total += sum(float(value) for value in re.findall(rf'^{name}(?:{{[^}}]*}})? ([0-9.e+]+)$', text, re.M))
    return total


def test_a_websocket_wakes_a_function_and_keeps_it_awake():
    deploy()
    harness.wait_asleep(NAME)
    one = WebSocket()
    timing = one.headers.get('server-timing', '')
    expect('start;' in timing, f'not held from zero: {one.headers}')
    print(f'    101 from zero after {one.seconds * 1e3:.0f} ms: {timing}')
    for size in (0, 1, 125, 126, 65535, 65536, 3 << 20):
        one.echo(os.urandom(size))
    one.echo('Grüße'.encode(), opcode=1)
    one.send(b'ping', opcode=9)
    expect(one.receive() == (10, b'ping'), 'no pong')
    expect(gateway_figure('cicada_gateway_websockets') == 1, 'the gateways count one')
    end = time.monotonic() + 2 * IDLE_SECONDS + 4
    while time.monotonic() < end:  # far longer than idleSeconds; each pause is shorter than the longest silence
        one.echo(b'still here')
        time.sleep(1)
    expect(harness.deployment_replicas(NAME) >= 1, 'put to sleep under an open WebSocket')
    one.send(struct.pack('!H', 1000), opcode=8)
    expect(one.receive() == (8, struct.pack('!H', 1000)), 'no closing handshake')
    expect(one.receive() == (None, b''), 'the pod closed, and the client sees it')
    one.close()
    until('no WebSocket is counted', 5, lambda: gateway_figure('cicada_gateway_websockets') == 0)
    harness.wait_asleep(NAME)


def test_silence_ends_a_websocket():
    one = WebSocket()
    one.echo(b'x')
    start = time.monotonic()
    expect(one.receive() == (None, b''), 'more came')
    seconds = time.monotonic() - start
    print(f'    ended after {seconds:.1f} s of silence')
    expect(SILENCE_SECONDS - 0.5 < seconds < SILENCE_SECONDS + 2, f'after {seconds:.1f} s')
    one.close()


def test_a_gateway_that_leaves_keeps_its_websockets():
    gateway = next(p for p in harness.component_pods('gateway') if harness.pod_is_ready(p))
    one = WebSocket(address=(gateway['status']['podIP'], 8080))
    name = gateway['metadata']['name']
    kubectl('delete', 'pod', name, '-n', SYSTEM, '--wait=false')
    end = time.monotonic() + 8
    while time.monotonic() < end:
        one.echo(b'through the drain')
        time.sleep(0.5)
    expect(harness.api.get(f'/api/v1/namespaces/{SYSTEM}/pods/{name}'), 'it did not wait for its WebSocket')
    one.close()
    until('the gateway has left', 30, lambda: not harness.api.get(f'/api/v1/namespaces/{SYSTEM}/pods/{name}'))
    until('two gateways ready', 60, lambda: len([p for p in harness.component_pods('gateway') if harness.pod_is_ready(p)]) == 2)


def test_events_arrive_as_they_are_sent():
    connection, reader = send_head(f'GET /fn/{SHOP}/{NAME}/sse?n=10&ms=200 HTTP/1.1')
    status, headers = read_head(reader)
    expect(status == 200 and headers['content-type'] == 'text/event-stream', f'{status} {headers}')
    times = []
    while (size := int(reader.readline(), 16)) > 0:
        expect(reader.read(size) == f'data: {len(times)}\n\n'.encode(), 'event')
        reader.readline()
        times.append(time.monotonic())
    gaps = [b - a for a, b in zip(times, times[1:])]
    print(f'    10 events, 200 ms apart: {min(gaps) * 1e3:.0f} to {max(gaps) * 1e3:.0f} ms')
    expect(len(times) == 10 and max(gaps) < 0.5 and min(gaps) > 0.05, gaps)
    connection.close()


def test_trailers_head_and_continue():
    answer = call_by_name(NAME, path='/trailers')
    expect(answer.status == 200 and answer.body == b'body' and 'x-sum' not in answer.headers and 'trailer' not in answer.headers,
           answer)
    answer = call_by_name(NAME, 'HEAD', '/bytes')
    expect(answer.status == 200 and answer.body == b'', answer)
    harness.wait_asleep(NAME)
    harness.until('its pods are gone, not only on their way out', 90, lambda: not harness.function_pods(NAME))
    start = time.monotonic()
    connection, reader = send_head(f'POST /fn/{SHOP}/{NAME}/sink HTTP/1.1', 'Expect: 100-continue', 'Content-Length: 5')
    connection.settimeout(0.05)
    try:
        early = connection.recv(1, socket.MSG_PEEK)
        # Where this process had to wait for its turn there may be a pod by now.
        waited_s = time.monotonic() - start
        expect(waited_s > 0.2, f'{early!r} after {waited_s:.3f} s, before there was a pod')
    except TimeoutError:
        pass
    connection.settimeout(70)
    status, headers = read_head(reader)
    expect(status == 100, f'100 when a pod has it, not {status} {headers} after {time.monotonic() - start:.3f} s')
    connection.sendall(b'hello')
    status, headers = read_head(reader)
    expect(status == 200 and reader.read(int(headers['content-length'])) == b'5', f'{status} {headers}')
    connection.close()


class Memory:
    """The highest PSS of the gateways while the block runs, in KB above what it was before."""

    def __enter__(self):
        self.pids = [harness.pod_process(p['metadata']['name']) for p in harness.component_pods('gateway')]
        self.before, self.highest, self.stopping = self.read(), 0, threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()
        return self

    def read(self):
        return sum(int(re.search(r'^Pss:\s+(\d+)', open(f'/proc/{pid}/smaps_rollup').read(), re.M)[1]) for pid in self.pids)

    def watch(self):
        while not self.stopping.wait(0.1):
            self.highest = max(self.highest, self.read())

    def __exit__(self, *_):
        self.stopping.set()
        self.thread.join()


def verdict(what, memory, start):
    print(f'    1 GB {what}: {time.monotonic() - start:.1f} s, the gateways from {memory.before} to at most {memory.highest} KB PSS')
    expect(memory.highest < memory.before + SLACK_KB, f'{what}: {memory.before} KB became {memory.highest} KB')


def test_a_gigabyte_each_way_in_constant_memory():
    expect(call_by_name(NAME).status == 200, 'awake')
    for what, query in (('down', ''), ('down in chunks', '&chunked=1')):
        with Memory() as memory:
            start, total = time.monotonic(), 0
            connection, reader = send_head(f'GET /fn/{SHOP}/{NAME}/bytes?n={GIGABYTE}{query} HTTP/1.1', 'Connection: close')
            expect(read_head(reader)[0] == 200, what)
            while got := len(reader.read1(1 << 18)):
                total += got
            connection.close()
        expect(total >= GIGABYTE, f'{what}: {total} bytes')
        verdict(what, memory, start)
    for what, header in (('up', f'Content-Length: {GIGABYTE}'), ('up in chunks', 'Transfer-Encoding: chunked')):
        with Memory() as memory:
            start = time.monotonic()
            connection, reader = send_head(f'POST /fn/{SHOP}/{NAME}/sink HTTP/1.1', header)
            for _ in range(GIGABYTE // len(PIECE)):
                connection.sendall(PIECE if 'Length' in header else b'100000\r\n' + PIECE + b'\r\n')
            connection.sendall(b'' if 'Length' in header else b'0\r\n\r\n')
            status, headers = read_head(reader)
            expect(status == 200 and reader.read(int(headers['content-length'])) == str(GIGABYTE).encode(), f'{what}: {status}')
            connection.close()
        verdict(what, memory, start)
    kubectl('delete', 'fn', NAME, '-n', SHOP)
