"""etcd, API server and controller manager of e2e/cluster without a node, in a network namespace of their own: pods are made, and nothing starts them.

Also the two programs of Cicada against it, with the rights that the chart gives them. All of it ends with this process, however that ends.
"""
import base64
import collections
import contextlib
import ctypes
import http.client
import json
import os
import pathlib
import shutil
import ssl
import subprocess
import threading
import time

from . import build, processes

CACHE = pathlib.Path(os.environ.get('CICADA_CACHE') or pathlib.Path(os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache') / 'cicada')
KUBERNETES = CACHE / 'kubernetes-1.20.2/bin'
VERSION = '1.20.2'
PROGRAMS = pathlib.Path('build/release/bin').resolve()
SYSTEM = 'cicada-system'
NODE_ADDRESS = '10.244.0.1'  # the gateway's; all of 10.244.0.0/16 is this namespace's own
START_SECONDS = 180.0
CLONE_NEWNET = 0x40000000
# Those that have to do with what a Function is made of. No node, so none that looks after nodes: they would delete pods.
CONTROLLERS = 'deployment,replicaset,endpoint,endpointslice,garbagecollector,namespace,serviceaccount,serviceaccount-token,resourcequota'
LEFT_OUT = ('Deployment', 'PodDisruptionBudget', 'NetworkPolicy')  # of the chart: here the programs are processes
WRITES = ('create', 'update', 'patch', 'delete', 'deletecollection')
AUDIT_POLICY = """apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {{level: Metadata, users: [{users}]}}
- {{level: None}}
"""


@contextlib.contextmanager
def own_network():
    """This thread, and what it starts, in a network namespace with nothing in it but its own addresses: ports are free, nobody else is reached."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open('/proc/self/ns/net') as before:
        if libc.unshare(CLONE_NEWNET) != 0:
            raise RuntimeError(f'needs root (a network namespace): {os.strerror(ctypes.get_errno())}')
        try:
            build.run('ip', 'link', 'set', 'lo', 'up')
            build.run('ip', 'addr', 'add', f'{NODE_ADDRESS}/16', 'dev', 'lo')
            yield
        finally:
            processes.stop_all()
            if libc.setns(before.fileno(), CLONE_NEWNET) != 0:
                raise RuntimeError(f'setns: {os.strerror(ctypes.get_errno())}')


def account(component: str) -> str:
    return f'system:serviceaccount:{SYSTEM}:cicada-{component}'


class Pki:
    """One authority for servers and clients; who a client is, its certificate says."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        folder.mkdir(parents=True)
        self._key('ca')
        build.run('openssl', 'req', '-x509', '-new', '-key', folder / 'ca.key', '-subj', '/CN=kubernetes-ca', '-days', 3650, '-out', folder / 'ca.crt',
                  '-addext', 'basicConstraints=critical,CA:TRUE', '-addext', 'keyUsage=critical,keyCertSign,cRLSign,digitalSignature')
        build.run('openssl', 'genrsa', '-out', folder / 'service-accounts.key', 2048)
        build.run('openssl', 'rsa', '-in', folder / 'service-accounts.key', '-pubout', '-out', folder / 'service-accounts.pub')
        self.certificate('apiserver', '/CN=kube-apiserver', 'subjectAltName=DNS:localhost,DNS:kubernetes.default.svc,IP:127.0.0.1')

    def _key(self, name: str) -> None:
        build.run('openssl', 'ecparam', '-name', 'prime256v1', '-genkey', '-noout', '-out', self.folder / f'{name}.key')

    def certificate(self, name: str, subject: str, extensions: str = '') -> None:
        self._key(name)
        config = self.folder / f'{name}.ext'
        config.write_text(f'keyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth,clientAuth\n{extensions}\n')
        request = build.run('openssl', 'req', '-new', '-key', self.folder / f'{name}.key', '-subj', subject)
        build.run('openssl', 'x509', '-req', '-CA', self.folder / 'ca.crt', '-CAkey', self.folder / 'ca.key', '-set_serial', f'0x{os.urandom(8).hex()}',
                  '-days', 3650, '-extfile', config, '-out', self.folder / f'{name}.crt', input=request)

    def kubeconfig(self, name: str, subject: str, port: int) -> pathlib.Path:
        self.certificate(name, subject)

        def data(file: str) -> str:
            return base64.b64encode((self.folder / file).read_bytes()).decode()
        path = self.folder / f'{name}.kubeconfig'
        path.write_text(json.dumps({
            'apiVersion': 'v1', 'kind': 'Config', 'current-context': 'bench',
            'clusters': [{'name': 'bench', 'cluster': {'server': f'https://127.0.0.1:{port}', 'certificate-authority-data': data('ca.crt')}}],
            'users': [{'name': name, 'user': {'client-certificate-data': data(f'{name}.crt'), 'client-key-data': data(f'{name}.key')}}],
            'contexts': [{'name': 'bench', 'context': {'cluster': 'bench', 'user': name}}]}))
        return path


class Api:
    """As cluster-admin, over a kept connection for each thread."""

    def __init__(self, pki: Pki, port: int):
        self.port, self.local = port, threading.local()
        self.tls = ssl.create_default_context(cafile=str(pki.folder / 'ca.crt'))
        self.tls.load_cert_chain(pki.folder / 'admin.crt', pki.folder / 'admin.key')

    def connect(self, timeout: float | None = 30) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection('127.0.0.1', self.port, timeout=timeout, context=self.tls)

    def request(self, method: str, path: str, body: object = None, kind: str = 'application/json') -> tuple[int, bytes]:
        for attempt in (1, 2):
            connection = getattr(self.local, 'connection', None)
            if connection is None:
                connection = self.local.connection = self.connect()
            try:
                connection.request(method, path, None if body is None else json.dumps(body), {'Content-Type': kind})
                answer = connection.getresponse()
                return answer.status, answer.read()
            except (OSError, http.client.HTTPException):
                connection.close()
                self.local.connection = None
                if attempt == 2:
                    raise
        raise AssertionError

    def must(self, method: str, path: str, body: object = None, kind: str = 'application/json') -> dict:
        status, data = self.request(method, path, body, kind)
        if status >= 300:
            raise RuntimeError(f'{method} {path}: {status} {data[:500]!r}')
        return json.loads(data)


class Watch:
    """A list and then a watch; on_event(type, object, when) for each, on a thread of its own. Goes on after a cut."""

    def __init__(self, api: Api, path: str, on_event, selector: str = ''):
        self.api, self.path, self.on_event, self.selector = api, path, on_event, selector
        self.stopping, self.connection = False, None
        self.listed = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        if not self.listed.wait(60):
            raise RuntimeError(f'no list of {path}')

    def _run(self) -> None:
        while not self.stopping:
            try:
                tree = self.api.must('GET', f'{self.path}?limit=0{self.selector}')
                for item in tree['items']:
                    self.on_event('ADDED', item, time.monotonic())
                self.listed.set()
                self._watch(tree['metadata']['resourceVersion'])
            except (OSError, http.client.HTTPException, RuntimeError, ValueError, AttributeError):
                time.sleep(0.05)  # the API server is away, or stop() has closed the connection

    def _watch(self, version: str) -> None:
        self.connection = self.api.connect(None)
        self.connection.request('GET', f'{self.path}?watch=1&resourceVersion={version}&timeoutSeconds=86400{self.selector}')
        answer = self.connection.getresponse()
        while not self.stopping and (line := answer.readline()):
            event = json.loads(line)
            if event['type'] == 'ERROR':
                return
            self.on_event(event['type'], event['object'], time.monotonic())

    def stop(self) -> None:
        self.stopping = True
        if self.connection:
            self.connection.close()


class Program:
    """A process that is started again when it ends by itself, as a kubelet would; ends counts that."""

    def __init__(self, start):
        self.start, self.process, self.ends = start, start(), 0
        self.lock, self.stopped = threading.Lock(), False
        threading.Thread(target=self._look_after, daemon=True).start()

    def _look_after(self) -> None:
        while not self.stopped:
            time.sleep(0.2)
            with self.lock:
                if not self.stopped and self.process.popen.poll() is not None:
                    self.ends += 1
                    self.process.stop()
                    self.process = self.start()

    def stop(self) -> None:
        with self.lock:
            self.stopped = True
            self.process.stop()


class ControlPlane:
    def __init__(self, name: str):
        for program in ('etcd', 'openssl', 'ip', 'setpriv'):
            if not shutil.which(program):
                raise RuntimeError(f'{program} is missing: make deps')
        subprocess.run(['e2e/cluster/build-kubernetes', '--quiet'], check=True)
        self.tools = pathlib.Path(build.run('e2e/cluster/fetch-tools', '--print-dir').strip())
        self.folder = build.OUT / name
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.port = build.free_port()
        self.pki = Pki(self.folder / 'pki')
        self.kubeconfigs = {name: self.pki.kubeconfig(name, subject, self.port) for name, subject in (
            ('admin', '/O=system:masters/CN=admin'), ('controller-manager', '/CN=system:kube-controller-manager'),
            ('operator', f'/O=system:serviceaccounts/CN={account("operator")}'), ('gateway', f'/O=system:serviceaccounts/CN={account("gateway")}'))}
        self.audit = self.folder / 'audit.log'
        (self.folder / 'audit.yaml').write_text(AUDIT_POLICY.format(users=f'"{account("operator")}", "{account("gateway")}"'))
        self.api = Api(self.pki, self.port)
        self._start()
        self._install_chart()

    # ---- its own processes ----

    def launch(self, name: str, *command: object) -> processes.Process:
        """Ends with us, also when we are killed."""
        return processes.Process(name, ['setpriv', '--pdeathsig', 'KILL', *map(str, command)])

    def _start(self) -> None:
        self.etcd_port, peer = build.free_port(), build.free_port()
        self.launch('etcd', 'etcd', '--name', 'bench', '--data-dir', self.folder / 'etcd',
                    '--listen-client-urls', f'http://127.0.0.1:{self.etcd_port}', '--advertise-client-urls', f'http://127.0.0.1:{self.etcd_port}',
                    '--listen-peer-urls', f'http://127.0.0.1:{peer}', '--initial-advertise-peer-urls', f'http://127.0.0.1:{peer}',
                    '--initial-cluster', f'bench=http://127.0.0.1:{peer}', '--log-level', 'warn', '--logger', 'zap')
        self.start_apiserver()
        pki = self.pki.folder
        self.launch('kube-controller-manager', KUBERNETES / 'kube-controller-manager', f'--kubeconfig={self.kubeconfigs["controller-manager"]}',
                    '--kube-api-qps=200', '--kube-api-burst=400', '--bind-address=127.0.0.1', '--secure-port=0', '--port=0', '--leader-elect=false',
                    '--use-service-account-credentials=true', f'--controllers={CONTROLLERS}', f'--root-ca-file={pki / "ca.crt"}',
                    f'--service-account-private-key-file={pki / "service-accounts.key"}')

    def start_apiserver(self) -> None:
        pki = self.pki.folder
        self.apiserver = self.launch(
            'kube-apiserver', KUBERNETES / 'kube-apiserver', '--advertise-address=127.0.0.1', '--bind-address=127.0.0.1', f'--secure-port={self.port}',
            '--endpoint-reconciler-type=none', f'--etcd-servers=http://127.0.0.1:{self.etcd_port}', '--service-cluster-ip-range=10.96.0.0/16',
            '--authorization-mode=RBAC', '--allow-privileged=true', f'--client-ca-file={pki / "ca.crt"}', f'--tls-cert-file={pki / "apiserver.crt"}',
            f'--tls-private-key-file={pki / "apiserver.key"}', '--service-account-issuer=https://kubernetes.default.svc.cluster.local',
            f'--service-account-key-file={pki / "service-accounts.pub"}', f'--service-account-signing-key-file={pki / "service-accounts.key"}',
            f'--audit-policy-file={self.folder / "audit.yaml"}', f'--audit-log-path={self.audit}', '--profiling=false')
        self._await('API server', self.is_ready)

    def restart_apiserver(self) -> float:
        """Killed: all connections and watches are cut. Seconds that it was away."""
        started = time.monotonic()
        self.apiserver.popen.kill()
        self.apiserver.stop()
        self.start_apiserver()
        return time.monotonic() - started

    def is_ready(self) -> bool:
        try:
            return self.api.request('GET', '/readyz')[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def _await(self, what: str, probe) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not probe():
            if time.monotonic() > deadline:
                raise RuntimeError(f'waited in vain for: {what}')
            time.sleep(0.05)

    def _install_chart(self) -> None:
        """The CRD, accounts and rights, Services, Ingress class."""
        self.api.must('POST', '/api/v1/namespaces', {'metadata': {'name': SYSTEM}})
        text = build.run(self.tools / 'helm', 'template', 'cicada', 'charts/cicada', '--namespace', SYSTEM, '--kube-version', VERSION, '--include-crds')
        kept = [document for document in text.split('\n---\n') if not any(f'\nkind: {kind}\n' in f'\n{document}\n' for kind in LEFT_OUT)]
        build.run(self.tools / 'kubectl', f'--kubeconfig={self.kubeconfigs["admin"]}', f'--cache-dir={self.folder / "kubectl"}', 'apply', '-f', '-',
                  input='\n---\n'.join(kept))
        self._await('the Function CRD', lambda: self.api.request('GET', '/apis/cicada.dev/v1alpha1/functions')[0] == 200)

    # ---- Cicada's processes ----

    def start_operator(self, runtime_image: str = 'cicada-runtime:bench') -> Program:
        return Program(lambda: self.launch('cicada-operator', PROGRAMS / 'cicada-operator', f'--kubeconfig={self.kubeconfigs["operator"]}', f'--namespace={SYSTEM}',
                           f'--runtime-image={runtime_image}', '--admin-listen=127.0.0.1:9190'))

    def start_gateway(self) -> Program:
        return Program(lambda: self.launch('cicada-gateway', PROGRAMS / 'cicada-gateway', f'--kubeconfig={self.kubeconfigs["gateway"]}', f'--namespace={SYSTEM}',
                           '--identity=gateway-0', *[f'--{name}-listen={NODE_ADDRESS}:{port}' for name, port in
                                                     (('public', 8080), ('internal', 8081), ('admin', 9090), ('announce', 9091))]))

    def register_gateway(self) -> None:
        """A pod for the gateway's process: by it the operator finds its figures, and it the addresses of its kind."""
        path = f'/api/v1/namespaces/{SYSTEM}/pods'
        self._await('service account', lambda: self.api.request('GET', f'/api/v1/namespaces/{SYSTEM}/serviceaccounts/default')[0] == 200)
        labels = {'app.kubernetes.io/name': 'cicada', 'app.kubernetes.io/component': 'gateway'}
        self.api.must('POST', path, {'metadata': {'name': 'gateway-0', 'labels': labels},
                                     'spec': {'nodeName': 'bench', 'automountServiceAccountToken': False, 'containers': [{'name': 'gateway', 'image': 'cicada'}]}})
        self.api.must('PATCH', f'{path}/gateway-0/status', {'status': ready_status(NODE_ADDRESS)}, 'application/merge-patch+json')

    # ---- what was asked of the API server ----

    def requests(self, offset: int) -> collections.Counter:
        """(component, verb, resource) of all that operator and gateway have asked since the audit log was that long."""
        found: collections.Counter = collections.Counter()
        with self.audit.open('rb') as log:
            log.seek(offset)
            for line in log:
                if not line.endswith(b'\n'):
                    break  # half written
                event = json.loads(line)
                verb, stage = event['verb'], event['stage']
                if stage != ('ResponseStarted' if verb == 'watch' else 'ResponseComplete'):
                    continue
                target = event.get('objectRef', {})
                resource = '/'.join(part for part in (target.get('resource'), target.get('subresource')) if part) or event['requestURI']
                found[event['user']['username'].rpartition('cicada-')[2], verb, resource] += 1
        return found

    def audit_size(self) -> int:
        return self.audit.stat().st_size

    def await_quiet(self, seconds: float, limit: float) -> None:
        """Until nobody has written anything but the Lease for that long."""
        deadline = time.monotonic() + limit
        while True:
            offset = self.audit_size()
            time.sleep(seconds)
            if not any(verb in WRITES and resource != 'leases' for _, verb, resource in self.requests(offset)):
                return
            if time.monotonic() > deadline:
                raise RuntimeError(f'not quiet after {limit} s: {self.requests(offset)}')


def ready_status(address: str) -> dict:
    now = time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())
    return {'phase': 'Running', 'podIP': address, 'podIPs': [{'ip': address}], 'hostIP': NODE_ADDRESS, 'startTime': now,
            'conditions': [{'type': kind, 'status': 'True', 'lastTransitionTime': now} for kind in ('PodScheduled', 'Initialized', 'ContainersReady', 'Ready')]}
