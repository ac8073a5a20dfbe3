"""TLS at the gateway: certificates by name, renewal under load, what is refused. The chart serves no TLS by default: the first case turns it
on, the last one off again."""
import contextlib
import http.client
import pathlib
import socket
import ssl
import tempfile
import time

import harness
from harness import SHOP, SYSTEM, Answer, Load, apply, expect, kubectl, run, until
import case_faults
import case_install

NAME, HOST = 'secure', 'secure.example.com'
OTHER, OTHER_HOST = 'secure-other', 'other.example.com'
SECRET, OTHER_SECRET = 'secure-tls', 'other-tls'
NODE_PORT = 30443
SHOWN_SECONDS = 60  # a renewed certificate, as the gateway's README promises
SLACK_SECONDS = 5   # for the reading itself, on a machine that is busy
PIECE = bytes(1 << 20)
MEGABYTES = 64

REQUEST = '[req]\nprompt=no\ndistinguished_name=name\nx509_extensions=authority\n[name]\nCN=cicada e2e\n' \
    '[authority]\nbasicConstraints=critical,CA:TRUE\n'


class Authority:
    """An authority of the tests' own, in a folder that goes with it."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix='cicada-e2e-tls-')
        self.path('request').write_text(REQUEST)
        self.openssl('req', '-x509', *self.new_key('authority'), '-days', '2', '-out', self.path('authority.crt'))
        self.trusting = ssl.create_default_context(cafile=str(self.path('authority.crt')))

    def path(self, name):
        return pathlib.Path(self.folder.name) / name

    @staticmethod
    def openssl(*args):
        run('openssl', *args)

    def new_key(self, name):
        return ['-config', self.path('request'), '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout',
                self.path(f'{name}.key')]

    def issue(self, serial, *hosts):
        """(chain, key) in PEM of a certificate for the hosts, with a key of its own."""
        self.path('names').write_text('subjectAltName=' + ','.join(f'DNS:{host}' for host in hosts))
        self.openssl('req', *self.new_key('leaf'), '-out', self.path('leaf.csr'))
        self.openssl('x509', '-req', '-in', self.path('leaf.csr'), '-CA', self.path('authority.crt'), '-CAkey', self.path('authority.key'),
                     '-set_serial', serial, '-days', '2', '-extfile', self.path('names'), '-out', self.path('leaf.crt'))
        return self.path('leaf.crt').read_text(), self.path('leaf.key').read_text()


authority: Authority = None  # set by the first case


def set_secret(name, chain, key):
    apply({'apiVersion': 'v1', 'kind': 'Secret', 'type': 'kubernetes.io/tls', 'metadata': {'name': name, 'namespace': SHOP},
           'stringData': {'tls.crt': chain, 'tls.key': key}})


class Connection:
    """One connection whose handshake asked for a name; the certificate was verified for it."""

    def __init__(self, name=HOST, address=None):
        raw = socket.create_connection(address or (harness.gateway_address[0], NODE_PORT), timeout=70)
        try:
            self.socket = authority.trusting.wrap_socket(raw, server_hostname=name)
        except OSError:
            raw.close()
            raise
        self.http = http.client.HTTPConnection(name)
        self.http.sock = self.socket
        self.serial = int(self.socket.getpeercert()['serialNumber'], 16)

    def ask(self, path='/slow?ms=1', host=HOST, method='GET', body=None):
        start = time.monotonic()
        self.http.request(method, path, body, {'Host': host})
        response = self.http.getresponse()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read(), time.monotonic() - start)

    def close(self):
        self.http.close()


def ask_once(**kwargs):
    with contextlib.closing(Connection()) as connection:
        return connection.ask(**kwargs)


def tls_addresses():
    return [(pod['status']['podIP'], 8443) for pod in case_faults.two_ready('gateway')]


def refusal(name, address=None):
    """Why a handshake for the name fails: OpenSSL's reason."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(address or (harness.gateway_address[0], NODE_PORT), timeout=20) as raw:
        try:
            with context.wrap_socket(raw, server_hostname=name):
                return None
        except ssl.SSLError as error:
            return error.reason


def upgrade_chart(*values):
    run('helm', 'upgrade', 'cicada', case_install.CHART, '-n', SYSTEM, '--wait', '--timeout', '120s', *case_install.helm_values(), *values,
        timeout=200)
    case_faults.two_ready('gateway')


def gateway_may(verb):
    done = kubectl('auth', 'can-i', verb, 'secrets', '-n', SHOP, '--as', f'system:serviceaccount:{SYSTEM}:cicada-gateway', check=False)
    return done.stdout.strip() == 'yes'


def test_a_request_by_name_wakes_a_function():
    global authority
    authority = Authority()
    set_secret(SECRET, *authority.issue(1, HOST))
    set_secret(OTHER_SECRET, *authority.issue(2, OTHER_HOST))
    upgrade_chart('--set', 'gateway.tls.enabled=true', '--set', f'gateway.tls.nodePort={NODE_PORT}')
    expect(gateway_may('get') and not gateway_may('list'), 'the gateway may get a Secret by its name, and list none')
    for name, host, secret in ((NAME, HOST, SECRET), (OTHER, OTHER_HOST, OTHER_SECRET)):
        apply(harness.function_manifest(name, 'streams.so:streams', image_name='cicada-e2e-streams', limits={'bodyBytes': 1 << 30},
                                        http={'hosts': [host], 'tlsSecretName': secret}, scaling={'idleSeconds': 2, 'maxReplicas': 2}))
    for name in (NAME, OTHER):
        harness.wait_ready(name)
    harness.wait_asleep(NAME)
    for name, host, serial in ((NAME, HOST, 1), (OTHER, OTHER_HOST, 2)):
        with contextlib.closing(Connection(host)) as connection:
            expect(connection.serial == serial, f'{host}: the certificate with serial {connection.serial}')
            answer = connection.ask(host=host)
            expect(answer.status == 200, f'{name}: {answer}')
            if name == NAME:
                print(f"    from zero {answer.seconds * 1e3:.0f} ms: {answer.headers.get('server-timing')}")
                expect('start' in answer.server_timing, f'not held from zero: {answer.headers}')
            expect(connection.ask(host=host).status == 200, 'the second request of the connection')


def test_a_host_of_another_name_is_misdirected():
    with contextlib.closing(Connection()) as connection:
        answer = connection.ask(host=OTHER_HOST)
        expect(answer.status == 421 and answer.json['code'] == 'misdirected_request', answer)
        expect(connection.ask().status == 200, 'the connection serves its own name after that')


def test_names_without_a_certificate_are_refused():
    """By each gateway, with the alert that says why; what is no TLS gets an answer that says so."""
    for address in tls_addresses():
        for name in ('unknown.example.com', f'x.{HOST}', HOST.upper() + '.unknown', None):
            reason = refusal(name, address)
            expect(reason == 'TLSV1_UNRECOGNIZED_NAME', f'{name}: {reason}')
        answer = harness.http_call('GET', '/', host=HOST, address=address)
        expect(answer.status == 400 and answer.json['code'] == 'plain_http', answer)
    expect(refusal(HOST.upper()) is None, 'names are the same in capitals')
    expect(ask_once().status == 200, 'others are served')


def test_large_bodies_both_ways():
    with contextlib.closing(Connection()) as connection:
        answer = connection.ask(f'/bytes?n={MEGABYTES << 20}')
        expect(answer.status == 200 and len(answer.body) == MEGABYTES << 20, f'{answer.status}, {len(answer.body)} bytes')
        down = answer.seconds
        answer = connection.ask('/sink', method='POST', body=PIECE * MEGABYTES)
        expect(answer.status == 200 and int(answer.body) == MEGABYTES << 20, answer)
        print(f'    {MEGABYTES} MiB down in {down:.1f} s, up in {answer.seconds:.1f} s')


def test_a_renewed_certificate_is_shown():
    """By every gateway within the promised time, and no request fails meanwhile; connections that exist go on."""
    addresses, shown = tls_addresses(), {}
    with contextlib.closing(Connection()) as kept, Load(ask_once, rate=10, threads=4) as load:
        expect(kept.ask().status == 200, 'before')
        time.sleep(1)
        start = time.monotonic()
        set_secret(SECRET, *authority.issue(3, HOST))

        def all_show_it():
            expect(kept.ask().status == 200, 'a connection that is older')
            for address in addresses:
                with contextlib.closing(Connection(address=address)) as connection:
                    if connection.serial == 3:
                        shown.setdefault(address, time.monotonic() - start)
            return len(shown) == len(addresses)
        until('the renewed certificate', SHOWN_SECONDS + SLACK_SECONDS, all_show_it, 0.5)
        time.sleep(1)
    print(f"    shown after {' and '.join(f'{seconds:.1f}' for seconds in shown.values())} s")
    load.verdict('a new connection each while a certificate is renewed', least=100)


def events_of(name, reason):
    path = f'/api/v1/namespaces/{SHOP}/events?fieldSelector=involvedObject.name={name},reason={reason}'
    return (harness.api.get(path) or {}).get('items')


def test_a_missing_secret_is_told_to_its_function():
    name, host, secret = 'secure-missing', 'missing.example.com', 'no-such-secret'
    apply(harness.function_manifest(name, 'streams.so:streams', image_name='cicada-e2e-streams',
                                    http={'hosts': [host], 'tlsSecretName': secret}, scaling={'initialReplicas': 0}))
    try:
        event = until('its Event', 20, lambda: events_of(name, 'TlsSecretInvalid'))[0]
        expect(event['involvedObject']['kind'] == 'Function' and event['type'] == 'Warning', event)
        expect(f'Secret {secret}: SecretMissing' in event['message'], event['message'])
        expect(refusal(host) == 'TLSV1_UNRECOGNIZED_NAME', 'there is no certificate')
    finally:
        kubectl('delete', 'fn', name, '-n', SHOP)


def test_an_ingress_of_somebody_else_is_told_so():
    name, host = 'foreign', 'foreign.example.com'
    backend = {'service': {'name': NAME, 'port': {'number': 80}}}
    apply({'apiVersion': 'networking.k8s.io/v1', 'kind': 'Ingress', 'metadata': {'name': name, 'namespace': SHOP},
           'spec': {'ingressClassName': 'cicada', 'tls': [{'hosts': [host], 'secretName': SECRET}],
                    'rules': [{'host': host, 'http': {'paths': [{'path': '/', 'pathType': 'Prefix', 'backend': backend}]}}]}})
    try:
        event = until('its Event', 20, lambda: events_of(name, 'NotServed'))[0]
        expect(event['involvedObject']['kind'] == 'Ingress' and event['type'] == 'Warning', event)
        expect('spec.http.hosts' in event['message'], event['message'])
        expect(harness.http_call('GET', '/', host=host).status == 404, 'it is no route')
        expect(refusal(host) == 'TLSV1_UNRECOGNIZED_NAME', 'nor a name')
    finally:
        kubectl('delete', 'ingress', name, '-n', SHOP)


def test_without_tls_the_gateway_reads_no_secret():
    kubectl('delete', 'fn', NAME, OTHER, '-n', SHOP)
    kubectl('delete', 'secret', SECRET, OTHER_SECRET, '-n', SHOP)
    upgrade_chart()
    expect(not gateway_may('get'), 'the right is gone with TLS')
    authority.folder.cleanup()
