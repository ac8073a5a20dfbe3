"""Memory while 10,000 requests are held, because nothing can serve them: the gateway, and HAProxy's queue."""
import socket
import time

from benchlib import report

from . import proxies

HELD = 10000
GATEWAY, HAPROXY = 'cicada-gateway', 'HAProxy'
SETTLE_SECONDS = 2.0
REQUEST = (f'GET /orders/42 HTTP/1.1\r\nHost: {proxies.HOST}\r\nUser-Agent: bench\r\nAccept: application/json\r\n'
           f'Authorization: Bearer {"x" * 77}\r\n\r\n').encode()  # 200 bytes


def hold(proxy: proxies.Proxy) -> list[socket.socket]:
    clients = []
    for _ in range(HELD):
        clients.append(socket.create_connection(('127.0.0.1', proxy.port), timeout=10))
        clients[-1].sendall(REQUEST)
    time.sleep(SETTLE_SECONDS)
    return clients


def answered(clients: list[socket.socket]) -> int:
    count = 0
    for client in clients:
        client.setblocking(False)
        try:
            client.recv(1)
            count += 1  # an answer, or the end: none is due
        except BlockingIOError:
            pass
    return count


def measure(start: object) -> report.Measurement:
    proxy = start()
    clients: list[socket.socket] = []
    try:
        before = proxy.process.memory_mb()['pss']
        clients = hold(proxy)
        return {'before_mb': before, 'pss_mb': proxy.process.memory_mb()['pss'], 'errors': answered(clients)}
    finally:
        for client in clients:
            client.close()
        proxy.process.stop()


def start_haproxy() -> proxies.Proxy:
    proxy = proxies.start_haproxy(max_connections=1)
    proxy.process.wait_for(proxy.url, 503)  # to another host: nothing of it goes into the queue
    return proxy


def silent_pods() -> list[socket.socket]:
    """They take connections and never answer: the one request that each of them may have keeps all others waiting."""
    pods = []
    for address in proxies.PODS:
        pods.append(socket.create_server((address, proxies.PORT), backlog=16))
    return pods


def run() -> None:
    starts = {
        # No pods: it goes on asking for one.
        GATEWAY: lambda: proxies.start_gateway([], {'queueDepth': HELD, 'holdSeconds': 600}),
        HAPROXY: start_haproxy,
    }
    pods = silent_pods()
    comparison = report.Comparison(list(starts))
    comparison.measure(1, lambda name: measure(starts[name]))
    for pod in pods:
        pod.close()
    report.table(f'held: {HELD} requests of {len(REQUEST)} bytes that nothing can serve', ['proxy', 'PSS MB before', 'PSS MB held', 'answered'],
                 [[name, f'{comparison.median(name, "before_mb"):.1f}', f'{comparison.median(name, "pss_mb"):.1f}',
                   str(comparison.errors(name))] for name in comparison.rounds])
    report.target(f'{HELD} held requests, PSS MB', comparison.median(GATEWAY, 'pss_mb'), 16, at_most=True)
    report.save('gateway-held', comparison.rounds)
