"""The end-to-end tests' own tools: the cluster, the database, HTTP, load, and the runner.

May use: Python's standard library, kubectl, helm, psql. Runs where the cluster's addresses can be reached
(e2e/run enters the network namespace). Every wait has a deadline.
"""
import base64
import contextlib
import dataclasses
import http.client
import json
import os
import pathlib
import re
import socket
import statistics
import subprocess
import sys
import threading
import time
import traceback
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / 'build' / 'e2e'
SYSTEM = 'cicada-system'
SHOP = 'shop'
DOMAIN = 'fn.example.com'
HOST = 'shop.example.com'


class Failure(Exception):
    """An expectation that did not hold."""


def expect(condition, message):
    if not condition:
        raise Failure(message)


def run(*command, check=True, stdin=None, timeout=120):
    """A command's standard output; its whole output is in the error when it fails."""
    done = subprocess.run([str(c) for c in command], input=stdin, capture_output=True, text=True, timeout=timeout)
    if check and done.returncode != 0:
        raise Failure(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout if check else done


def kubectl(*args, **kwargs):
    return run('kubectl', *args, **kwargs)


def apply(manifest, namespace=None, check=True):
    args = ['apply', '-f', '-'] + (['-n', namespace] if namespace else [])
    return kubectl(*args, stdin=manifest if isinstance(manifest, str) else json.dumps(manifest), check=check)


def until(what, seconds, probe, interval=0.1):
    """Waits until probe() is truthy and returns that; Failure with the last value after `seconds`. What can't be reached yet counts
    as not yet."""
    end, last = time.monotonic() + seconds, None
    while time.monotonic() < end:
        try:
            last = probe()
        except (OSError, http.client.HTTPException) as error:
            last = error
        else:
            if last:
                return last
        time.sleep(interval)
    raise Failure(f'{what}: not within {seconds} s (last: {last!r})')


# ---- the API server, through kubectl proxy: any kubeconfig works, and a call costs no process ----

class Api:
    def __init__(self):
        self.process = subprocess.Popen(['kubectl', 'proxy', '--port=0'], stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        self.port = int(line.rsplit(':', 1)[1])
        self.local = threading.local()

    def close(self):
        self.process.terminate()
        self.process.wait(10)

    def request(self, method, path, body=None, content_type='application/merge-patch+json'):
        for attempt in (1, 2):
            connection = getattr(self.local, 'connection', None)
            if connection is None:
                connection = self.local.connection = http.client.HTTPConnection('127.0.0.1', self.port, timeout=30)
            try:
                headers = {'Accept': 'application/json'}
                data = None
                if body is not None:
                    data, headers['Content-Type'] = json.dumps(body), content_type
                connection.request(method, path, data, headers)
                response = connection.getresponse()
                return response.status, response.read()
            except (OSError, http.client.HTTPException):
                connection.close()
                self.local.connection = None
                if attempt == 2:
                    raise
        raise AssertionError

    def get(self, path):
        status, data = self.request('GET', path)
        return json.loads(data) if status == 200 else None

    def text(self, path):
        status, data = self.request('GET', path)
        expect(status == 200, f'GET {path}: {status} {data[:300]!r}')
        return data.decode()


api: Api = None  # set by main()


def function(name, namespace=SHOP):
    return api.get(f'/apis/cicada.dev/v1alpha1/namespaces/{namespace}/functions/{name}')


def condition(name, kind='Ready', namespace=SHOP):
    """(status, reason, message, observedGeneration == generation) of a Function's condition."""
    tree = function(name, namespace) or {}
    for c in tree.get('status', {}).get('conditions', []):
        if c['type'] == kind:
            current = tree['status'].get('observedGeneration') == tree['metadata']['generation']
            return c['status'], c.get('reason', ''), c.get('message', ''), current
    return '', '', '', False


def wait_ready(name, namespace=SHOP, seconds=60):
    until(f'{namespace}/{name} Ready', seconds,
          lambda: (lambda c: c[0] == 'True' and c[3])(condition(name, namespace=namespace)))


def deployment_replicas(name, namespace=SHOP):
    tree = api.get(f'/apis/apps/v1/namespaces/{namespace}/deployments/{name}')
    return tree['spec'].get('replicas', 0) if tree else None


def pods(selector, namespace):
    tree = api.get(f'/api/v1/namespaces/{namespace}/pods?labelSelector={urllib.parse.quote(selector)}')
    return tree['items'] if tree else []


def ended_pods():
    """Pods of any namespace that were deleted, and whose objects are still there."""
    return [p['metadata']['name'] for p in api.get('/api/v1/pods')['items'] if p['metadata'].get('deletionTimestamp')]


def function_pods(name, namespace=SHOP):
    return pods(f'cicada.dev/function={name}', namespace)


def component_pods(component):
    return [p for p in pods(f'app.kubernetes.io/name=cicada,app.kubernetes.io/component={component}', SYSTEM)
            if not p['metadata'].get('deletionTimestamp')]


def pod_process(pod_name):
    """The process of a pod on this machine, or None."""
    for process in pathlib.Path('/proc').iterdir():
        try:
            if process.name.isdigit() and f'POD_NAME={pod_name}'.encode() in (process / 'environ').read_bytes().split(b'\0'):
                return int(process.name)
        except OSError:
            continue
    return None


def pod_is_ready(pod):
    return any(c['type'] == 'Ready' and c['status'] == 'True' for c in pod.get('status', {}).get('conditions', []))


def wait_asleep(name, namespace=SHOP, seconds=60, gone=True):
    """Zero replicas; with gone also no pod that still runs (a Pod object may stay a while after its container)."""
    def asleep():
        if deployment_replicas(name, namespace) != 0:
            return False
        return not gone or all(p['metadata'].get('deletionTimestamp') for p in function_pods(name, namespace))
    until(f'{namespace}/{name} at zero', seconds, asleep, 0.05)


# ---- the database ----

class Database:
    def __init__(self):
        self.admin_url = os.environ['E2E_DATABASE_URL']
        self.parsed = urllib.parse.urlsplit(self.admin_url)

    def url(self, database, user, password):
        return f'postgresql://{user}:{password}@{self.parsed.hostname}:{self.parsed.port}/{database}?sslmode=disable'

    def admin(self, sql, database=None):
        url = self.admin_url if not database else urllib.parse.urlunsplit(self.parsed._replace(path='/' + database))
        return run('psql', url, '-X', '-A', '-t', '-q', '-v', 'ON_ERROR_STOP=1', '-f', '-', stdin=sql).strip()

    def shop(self, sql):
        return self.admin(sql, 'shop')


database: Database = None


# ---- HTTP ----

@dataclasses.dataclass
class Answer:
    status: int
    headers: dict
    body: bytes
    seconds: float

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def server_timing(self):
        """{'decide': ms, ...}"""
        return {name: float(ms) for name, ms in
                re.findall(r'([\w-]+);dur=([0-9.]+)', self.headers.get('server-timing', ''))}


gateway_address = None  # (host, port) of the public listener


def http_call(method, path, body=None, host=HOST, headers=None, timeout=70, address=None):
    """One request on a connection of its own."""
    address = address or gateway_address
    start = time.monotonic()
    connection = http.client.HTTPConnection(*address, timeout=timeout)
    try:
        data = body if body is None or isinstance(body, (bytes, str)) else json.dumps(body)
        all_headers = {'Host': host, 'Connection': 'close', **(headers or {})}
        if data is not None:
            all_headers.setdefault('Content-Type', 'application/json')
        connection.request(method, path, data, all_headers)
        response = connection.getresponse()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read(),
                      time.monotonic() - start)
    finally:
        connection.close()


def order(user=1, product=1, quantity=1, host=HOST, **kwargs):
    return http_call('POST', '/orders', {'user_id': user, 'product_id': product, 'quantity': quantity}, host=host, **kwargs)


def call_by_name(name, method='GET', path='/', body=None, namespace=SHOP, **kwargs):
    """By the route for a first try without DNS: /fn/<namespace>/<name>/... on any host that nobody has."""
    return http_call(method, f'/fn/{namespace}/{name}{path}', body, host='localhost', **kwargs)


class Load:
    """A steady load with a connection per request: `rate` a second over `threads` threads, until stop()."""

    def __init__(self, request, rate=50, threads=8):
        self.request, self.interval, self.threads = request, threads / rate, threads
        self.lock, self.stopping = threading.Lock(), threading.Event()
        self.answered, self.failures, self.seconds = 0, [], []

    def _work(self, index):
        time.sleep(index * self.interval / self.threads)
        due = time.monotonic()
        while not self.stopping.is_set():
            try:
                answer = self.request()
                problem = None if 200 <= answer.status < 300 else f'{answer.status} {answer.body[:300]!r}'
            except (OSError, http.client.HTTPException) as error:
                problem = f'{type(error).__name__}: {error}'
                answer = None
            with self.lock:
                if problem:
                    self.failures.append(f'{time.strftime("%H:%M:%S")} {problem}')
                else:
                    self.answered += 1
                    self.seconds.append(answer.seconds)
            due = max(due + self.interval, time.monotonic() - 1)
            self.stopping.wait(max(0.0, due - time.monotonic()))

    def __enter__(self):
        self.workers = [threading.Thread(target=self._work, args=(i,), daemon=True) for i in range(self.threads)]
        for worker in self.workers:
            worker.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for worker in self.workers:
            worker.join(90)

    def verdict(self, what, least=1):
        print(f'    {what}: {self.answered} answered, {len(self.failures)} failed, '
              f'p50 {percentile(self.seconds, 50) * 1e3:.1f} ms, max {max(self.seconds, default=0) * 1e3:.0f} ms')
        expect(not self.failures, f'{what}: failed requests: {self.failures[:5]}')
        expect(self.answered >= least, f'{what}: only {self.answered} requests were answered')


def percentile(values, percent):
    if not values:
        return float('nan')
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def summary(values):
    """p50 / p95 / min / max of seconds, in ms."""
    return (f'p50 {percentile(values, 50) * 1e3:6.0f}  p95 {percentile(values, 95) * 1e3:6.0f}  '
            f'min {min(values) * 1e3:6.0f}  max {max(values) * 1e3:6.0f} ms  n={len(values)}')


class StopWatch:
    """Prints how long each step took."""

    def __init__(self):
        self.last = time.monotonic()

    def lap(self, what):
        now = time.monotonic()
        print(f'    {what}: {now - self.last:.1f} s')
        self.last = now


# ---- manifests ----

IMAGE_PREFIX = os.environ.get('E2E_IMAGE_PREFIX', '')  # with its final slash
IMAGE_TAG = os.environ.get('E2E_IMAGE_TAG', (ROOT / 'VERSION').read_text().strip())


def image(name):
    return f'{IMAGE_PREFIX}{name}:{IMAGE_TAG}'


def function_manifest(name, handler, namespace=SHOP, image_name='cicada-shop', **spec):
    body = {'image': image(image_name), 'handler': handler, **spec}
    return {'apiVersion': 'cicada.dev/v1alpha1', 'kind': 'Function',
            'metadata': {'name': name, 'namespace': namespace}, 'spec': body}


def sql_manifest(name, sql, namespace=SHOP, **spec):
    """A function without an image of its own."""
    body = {'sql': sql, 'database': {'secretRef': {'name': 'shop-db'}}, 'http': {}, **spec}
    return {'apiVersion': 'cicada.dev/v1alpha1', 'kind': 'Function',
            'metadata': {'name': name, 'namespace': namespace}, 'spec': body}


def patch_function(name, spec, namespace=SHOP):
    status, data = api.request('PATCH', f'/apis/cicada.dev/v1alpha1/namespaces/{namespace}/functions/{name}', {'spec': spec})
    expect(status == 200, f'patch of {name}: {status} {data[:300]!r}')


# ---- the runner ----

def run_cases(modules, only):
    """Each test_* function of each module, in order of definition."""
    passed, failed = 0, []
    for module in modules:
        for name, test in list(vars(module).items()):
            if not name.startswith('test_') or not callable(test) or getattr(test, '__module__', '') != module.__name__:
                continue
            title = f'{module.__name__}.{name}'
            if only and not any(o in title for o in only) and not getattr(test, 'always', False):
                continue
            print(f'-- {title}', flush=True)
            start = time.monotonic()
            try:
                test()
            except Exception as error:  # every kind: a case that can't run has failed
                failed.append(title)
                if not isinstance(error, Failure):
                    traceback.print_exc(file=sys.stdout)
                print(f'   FAILED {title} ({time.monotonic() - start:.1f} s): {error}', flush=True)
                diagnose(title)
                if getattr(test, 'essential', False):
                    print('   the rest needs this one: stopping', flush=True)
                    return passed, failed
            else:
                passed += 1
                print(f'   ok ({time.monotonic() - start:.1f} s)', flush=True)
    return passed, failed


def diagnose(title):
    """What a person would look at, into build/e2e/<case>.txt."""
    BUILD.mkdir(parents=True, exist_ok=True)
    commands = [['get', 'fn,deploy,rs,pods,svc,ing', '-A', '-o', 'wide'], ['describe', 'fn', '-A'],
                ['get', 'events', '-A', '--sort-by=.lastTimestamp'], ['get', 'pods', '-n', SYSTEM, '-o', 'yaml'],
                ['logs', '-n', SYSTEM, '-l', 'app.kubernetes.io/component=operator', '--tail=200', '--prefix'],
                ['logs', '-n', SYSTEM, '-l', 'app.kubernetes.io/component=gateway', '--tail=200', '--prefix'],
                ['logs', '-n', SHOP, '-l', 'app.kubernetes.io/managed-by=cicada', '--tail=50', '--prefix']]
    with open(BUILD / f'{title}.txt', 'w') as out:
        for command in commands:
            with contextlib.suppress(Exception):
                done = kubectl(*command, check=False)
                out.write(f'$ kubectl {" ".join(command)}\n{done.stdout}{done.stderr}\n')


def essential(test):
    test.essential = True
    return test


def always(test):
    """Runs also when only some cases were asked for."""
    test.always = True
    return test
