"""The contestants: cicada-gateway, nginx and HAProxy before the same two addresses of one upstream, with the same features."""
import os
import pathlib
import re
import time

from benchlib import build, processes

from . import api_server

GATEWAY = pathlib.Path('build/release/bin/cicada-gateway').resolve()
HERE = pathlib.Path('e2e/bench/gateway')
OUT = build.OUT / 'gateway'
HOST = 'hello.bench.example'  # benchlib/proxied.lua sends it, too
BODY = '{"message":"Hello, World!","ok":true}'
START_SECONDS = 10.0
# Function pods listen on port 8080. Addresses of this run's own, so that nobody else's port 8080 is in the way.
PODS = [f'127.{1 + os.getpid() // 250 % 250}.{1 + os.getpid() % 250}.{i}' for i in (1, 2)]
PORT = 8080
CONCURRENCY = 250                   # requests that a pod gets at once
CONNECTIONS = 2 * CONCURRENCY + 4   # connections to a pod, as the gateway has them
WORKERS = 2

UPSTREAM_CONF = """
daemon off; worker_processes 1; pid {out}/upstream.pid; error_log {out}/upstream-error.log;
events {{ worker_connections 4096; }}
http {{
    access_log off; default_type application/json; keepalive_requests 1000000000; keepalive_timeout 600s;
    client_body_temp_path {out}/temp; proxy_temp_path {out}/temp; fastcgi_temp_path {out}/temp;
    uwsgi_temp_path {out}/temp; scgi_temp_path {out}/temp;
    server {{ {listen} location / {{ return 200 '{body}'; }} }}
}}
"""
NGINX_CONF = """
daemon off; worker_processes {workers}; pid {out}/nginx.pid; error_log {out}/nginx-error.log;
events {{ worker_connections 4096; }}
http {{
    access_log off; keepalive_requests 1000000000; keepalive_timeout 75s;
    client_body_temp_path {out}/temp; proxy_temp_path {out}/temp; fastcgi_temp_path {out}/temp;
    uwsgi_temp_path {out}/temp; scgi_temp_path {out}/temp;
    map $http_x_request_id $id {{ default $request_id; "~^[A-Za-z0-9._-]+$" $http_x_request_id; }}
    upstream pods {{
        zone pods 256k; random two least_conn; {servers}
        keepalive {connections}; keepalive_requests 1000000000; keepalive_timeout 50s;
    }}
    server {{ listen 127.0.0.1:{port} backlog=4096 default_server; return 404; }}
    server {{
        listen 127.0.0.1:{port}; server_name {host};
        location / {{
            proxy_pass http://pods; proxy_http_version 1.1; proxy_connect_timeout 2s; proxy_next_upstream error timeout;
            proxy_set_header Connection ""; proxy_set_header Host $http_host;
            proxy_set_header X-Request-Id $id; proxy_hide_header X-Request-Id; add_header X-Request-Id $id always;
            proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header X-Forwarded-Host $http_host;
        }}
    }}
}}
"""
HAPROXY_CONF = """
global
    nbthread {workers}
    maxconn 12000
    no strict-limits
defaults
    mode http
    option http-keep-alive
    option redispatch
    http-reuse always
    timeout connect 2s
    timeout client 75s
    timeout server 300s
    timeout queue 60s
    timeout http-request 10s
    timeout http-keep-alive 75s
frontend in
    bind 127.0.0.1:{port} backlog 4096
    http-request set-header X-Request-Id %[uuid] unless {{ req.hdr(X-Request-Id) -m reg ^[A-Za-z0-9._-]+$ }}
    http-request set-var(txn.id) req.hdr(X-Request-Id)
    http-request set-header X-Forwarded-For %[src]
    http-request set-header X-Forwarded-Proto http
    http-request set-header X-Forwarded-Host %[req.hdr(Host)]
    http-response set-header X-Request-Id %[var(txn.id)]
    use_backend pods if {{ hdr(Host) -i {host} }}
backend pods
    balance random(2)
{servers}
"""


class Proxy:
    """A started one."""

    def __init__(self, process: processes.Process, port: int):
        self.process, self.port = process, port
        self.url = f'http://127.0.0.1:{port}/?id=1'

    def wait(self) -> None:
        self.process.wait_for(self.url, host=HOST)


def start_upstream() -> Proxy:
    """One worker, as a pod is one process; it is both pods."""
    (OUT / 'temp').mkdir(parents=True, exist_ok=True)
    conf = OUT / 'upstream.conf'
    listen = ' '.join(f'listen {address}:{PORT} backlog=4096;' for address in PODS)
    conf.write_text(UPSTREAM_CONF.format(out=OUT, listen=listen, body=BODY))
    process = processes.Process('gateway upstream', ['nginx', '-e', str(OUT / 'upstream-error.log'), '-p', str(OUT), '-c', str(conf)])
    upstream = Proxy(process, PORT)
    upstream.url = f'http://{PODS[0]}:{PORT}/?id=1'
    upstream.wait()
    return upstream


def function(name: str, spec: dict[str, object]) -> dict[str, object]:
    return {'apiVersion': 'cicada.dev/v1alpha1', 'kind': 'Function',
            'metadata': {'name': name, 'namespace': 'bench', 'uid': name, 'resourceVersion': '1', 'generation': 1},
            'spec': {'handler': 'hello.so:hello', 'concurrency': CONCURRENCY, 'http': {'hosts': [HOST]}, **spec}}


def pod(name: str, address: str) -> dict[str, object]:
    return {'metadata': {'name': name, 'namespace': 'bench', 'uid': name, 'resourceVersion': '1',
                         'labels': {'app.kubernetes.io/managed-by': 'cicada', 'cicada.dev/function': 'hello'}},
            'spec': {'nodeName': 'node'},
            'status': {'phase': 'Running', 'podIP': address, 'conditions': [{'type': 'Ready', 'status': 'True'}]}}


def start_gateway(pods: list[str], spec: dict[str, object] | None = None) -> Proxy:
    """The program as in a cluster, with the settings that it has there; what it knows comes from an API server of ours."""
    OUT.mkdir(parents=True, exist_ok=True)
    kubeconfig = OUT / 'kubeconfig'
    api_server.ApiServer({'/apis/cicada.dev/v1alpha1/functions': [function('hello', spec or {})],
                          '/api/v1/pods': [pod(f'hello-{i}', address) for i, address in enumerate(pods)]}, kubeconfig)
    process = processes.Process('cicada-gateway', [
        str(GATEWAY), f'--kubeconfig={kubeconfig}', f'--loops={WORKERS}', '--public-listen=127.0.0.1:0',
        '--internal-listen=127.0.0.1:0', '--admin-listen=127.0.0.1:0', '--announce-listen=127.0.0.1:0',
        '--drain-quiet-seconds=0'])
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.popen.poll() is None:
        said = process.log.read_text()
        if 'catalogue synced' in said and (found := re.search(r'listening: public (\d+)', said)):
            return Proxy(process, int(found.group(1)))
        time.sleep(0.01)
    raise RuntimeError(f'cicada-gateway does not serve: {process.log.read_text()[-600:]}')


def start_nginx() -> Proxy:
    (OUT / 'temp').mkdir(parents=True, exist_ok=True)
    port, conf = build.free_port(), OUT / 'nginx.conf'
    servers = ' '.join(f'server {address}:{PORT} max_conns={CONNECTIONS} max_fails=0;' for address in PODS)
    conf.write_text(NGINX_CONF.format(out=OUT, port=port, workers=WORKERS, host=HOST, servers=servers, connections=CONNECTIONS))
    return Proxy(processes.Process('nginx', ['nginx', '-e', str(OUT / 'nginx-error.log'), '-p', str(OUT), '-c', str(conf)]), port)


def start_haproxy(max_connections: int = CONNECTIONS) -> Proxy:
    OUT.mkdir(parents=True, exist_ok=True)
    port, conf = build.free_port(), OUT / 'haproxy.cfg'
    servers = '\n'.join(f'    server pod{i} {address}:{PORT} maxconn {max_connections}' for i, address in enumerate(PODS))
    conf.write_text(HAPROXY_CONF.format(port=port, workers=WORKERS, host=HOST, servers=servers))
    return Proxy(processes.Process('haproxy', ['haproxy', '-db', '-f', str(conf)]), port)
