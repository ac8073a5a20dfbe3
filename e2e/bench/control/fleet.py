"""Many Functions in a control plane, and what there is to measure about them."""
import http.client
import socket
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from benchlib import kubernetes, processes

NAMESPACES = 10
CREATORS = 4
FUNCTIONS = '/apis/cicada.dev/v1alpha1/functions'
HELD_SECONDS = 0.3
READY_SECONDS = 120.0


def namespace_of(index: int) -> str:
    return f'team-{index % NAMESPACES}'


def manifest(index: int, **scaling: object) -> dict:
    """A function of SQL with a host of its own: Deployment, Service and Ingress are made for it."""
    return {'apiVersion': 'cicada.dev/v1alpha1', 'kind': 'Function', 'metadata': {'name': f'item-{index}', 'namespace': namespace_of(index)},
            'spec': {'sql': 'SELECT id, name, price FROM items WHERE id = :id::int', 'result': 'Row', 'database': {'secretRef': {'name': 'bench'}},
                     'http': {'hosts': [f'item-{index}.example.com'], 'methods': ['GET']}, 'scaling': {'initialReplicas': 0, **scaling}}}


def path_of(index: int) -> str:
    return f'/apis/cicada.dev/v1alpha1/namespaces/{namespace_of(index)}/functions'


class Fleet:
    def __init__(self, plane: kubernetes.ControlPlane):
        self.plane, self.api = plane, plane.api
        self.ready: dict[str, float] = {}  # name -> when it was seen Ready
        self.news = threading.Condition()
        for i in range(NAMESPACES):
            self.api.must('POST', '/api/v1/namespaces', {'metadata': {'name': f'team-{i}'}})
        self.watch = kubernetes.Watch(self.api, FUNCTIONS, self._seen)

    def _seen(self, kind: str, function: dict, when: float) -> None:
        name = function['metadata']['name']
        status = function.get('status', {})
        is_ready = status.get('observedGeneration') == function['metadata']['generation'] and any(
            condition['type'] == 'Ready' and condition['status'] == 'True' for condition in status.get('conditions', []))
        with self.news:
            if kind == 'DELETED' or not is_ready:
                self.ready.pop(name, None)
            else:
                self.ready.setdefault(name, when)
            self.news.notify_all()

    def await_ready(self, name: str, seconds: float = READY_SECONDS) -> float:
        """When it became Ready."""
        with self.news:
            if not self.news.wait_for(lambda: name in self.ready, seconds):
                raise RuntimeError(f'{name} is not Ready after {seconds} s')
            return self.ready[name]

    def grow(self, first: int, count: int, **scaling: object) -> dict[str, float]:
        """Makes them, and waits until all are Ready: seconds from before the first."""
        started = time.monotonic()

        def create(index: int) -> None:
            self.api.must('POST', path_of(index), manifest(index, **scaling))
        with ThreadPoolExecutor(CREATORS) as creators:
            list(creators.map(create, range(first, count)))
        created = time.monotonic() - started
        with self.news:
            limit = READY_SECONDS + count * 0.2
            if not self.news.wait_for(lambda: len(self.ready) >= count, limit):
                raise RuntimeError(f'{len(self.ready)} of {count} are Ready after {limit} s')
        return {'created_s': created, 'ready_s': time.monotonic() - started}

    def new_one(self, index: int) -> dict[str, float]:
        """From before the request that makes it: until its route is there, and until its status says Ready."""
        name, started = f'item-{index}', time.monotonic()
        self.api.must('POST', path_of(index), manifest(index))
        while (status := ask(8080, f'item-{index}.example.com', '/')) != 405:
            if status != 404 or time.monotonic() - started > READY_SECONDS:
                raise RuntimeError(f'{name} is not routed: {status}')
            time.sleep(0.002)
        routed = time.monotonic()
        return {'routed_ms': (routed - started) * 1000, 'ready_ms': (self.await_ready(name) - started) * 1000}

    def remove(self, index: int) -> None:
        self.api.must('DELETE', f'{path_of(index)}/item-{index}')
        name = f'item-{index}'
        with self.news:
            self.news.wait_for(lambda: name not in self.ready, READY_SECONDS)


def ask(port: int, host: str, target: str, method: str = 'DELETE') -> int:
    """The gateway's status; DELETE is a method that these functions do not take, so 405 shows a route and wakes nobody. 0: it holds the request."""
    connection = http.client.HTTPConnection(kubernetes.NODE_ADDRESS, port, timeout=HELD_SECONDS if method == 'GET' else 10)
    try:
        connection.request(method, target, headers={'Host': host, 'Connection': 'close'})
        return connection.getresponse().status
    except socket.timeout:
        return 0
    finally:
        connection.close()


def wrong_routes(indices: list[int]) -> list[str]:
    """What the gateway answers otherwise than it should, of every kind of route."""
    wrong = []

    def check(expected: int, port: int, host: str, target: str) -> None:
        if (status := ask(port, host, target)) != expected:
            wrong.append(f'{host}{target} on {port}: {status}, not {expected}')
    for index in indices:
        name, namespace = f'item-{index}', namespace_of(index)
        check(405, 8080, f'{name}.example.com', '/')
        check(405, 8080, 'localhost', f'/fn/{namespace}/{name}/x')
        check(405, 8081, f'{name}.{namespace}', '/')
        check(405, 8081, f'{name}.{namespace}.svc.cluster.local', '/')
        check(404, 8080, f'{name}.{namespace}', '/')  # inside names outside
        check(404, 8080, f'no-{name}.example.com', '/')
        check(404, 8080, 'localhost', f'/fn/{namespace}/no-{name}')
        check(404, 8081, name, '/')  # a bare name
    return wrong


def pss_mb(process: processes.Process) -> float:
    return processes.memory_kb(process.popen.pid)['pss'] / 1024


def percentiles(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {'median': statistics.median(ordered), 'p99': ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))], 'max': ordered[-1]}
