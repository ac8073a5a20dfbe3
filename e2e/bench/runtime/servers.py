"""The contestants: Cicada's runtime as a user runs it, and its peers with the same answer."""
import json
import pathlib

from benchlib import build, processes

HERE = pathlib.Path('e2e/bench/runtime')
BODY = '{"message":"Hello, World!","ok":true}'
RUNTIME = pathlib.Path('build/release/bin/cicada-runtime').resolve()
# 2 x concurrency + 8 threads serve as many kept connections: 264, of which 256 are used. concurrency + 4 may wait.
CONCURRENCY_256 = 128
THREADS_256 = 2 * CONCURRENCY_256 + 8
ITEM_SQL = 'SELECT id, name, price_cents, stock FROM bench.items WHERE id = :id'

NGINX_CONF = """
daemon off; worker_processes 2; pid {out}/nginx.pid; error_log {out}/log/nginx-error.log;
events {{ worker_connections 1024; }}
http {{
    access_log off; default_type application/json; keepalive_requests 1000000000; keepalive_timeout 60s;
    client_body_temp_path {out}/nginx; proxy_temp_path {out}/nginx; fastcgi_temp_path {out}/nginx;
    uwsgi_temp_path {out}/nginx; scgi_temp_path {out}/nginx;
    server {{ listen 127.0.0.1:{port} backlog=1024; location / {{ return 200 '{body}'; }} }}
}}
"""


class Command:
    """How a server is started; once it serves, a GET of `url` is answered with `status`."""

    def __init__(self, name: str, port: int, command: list[object], env: dict[str, str] | None = None, status: int = 200):
        self.name, self.port, self.status = name, port, status
        self.command = [str(word) for word in command]
        self.env = env or {}
        self.url = f'http://127.0.0.1:{port}/?id=1'

    def start(self) -> processes.Process:
        server = processes.Process(self.name, self.command, self.env)
        server.wait_for(self.url, self.status)
        return server


def runtime(name: str, spec: dict[str, object], database_url: str | None = None, functions: pathlib.Path | None = None,
            status: int = 200) -> Command:
    """As in a pod: PID 1's parent and its worker, settings by environment."""
    port = build.free_port()
    env = {
        'CICADA_SPEC': json.dumps(spec),
        'CICADA_FUNCTION_DIR': str(functions or build.OUT / 'functions'),
        'CICADA_FUNCTION_NAME': 'bench',
        'CICADA_LISTEN': f'127.0.0.1:{port}',
        'CICADA_ADMIN_LISTEN': '127.0.0.1:0',
        'CICADA_TERMINATION_LOG': str(build.OUT / 'log' / 'termination'),
    }
    if database_url:
        env['DATABASE_URL'] = database_url
    return Command(name, port, [RUNTIME], env, status)


def handler(symbol: str, concurrency: int, pool_size: int = 0) -> dict[str, object]:
    """The spec of a handler in handlers.c."""
    build.function(HERE / 'handlers.c')
    spec: dict[str, object] = {'handler': f'handlers.so:{symbol}', 'concurrency': concurrency}
    if pool_size:
        spec['database'] = {'poolSize': pool_size}
    return spec


def sql_item(pool_size: int) -> dict[str, object]:
    return {'sql': ITEM_SQL, 'result': 'Row', 'concurrency': pool_size, 'database': {'poolSize': pool_size}}


def bare_civetweb() -> Command:
    port = build.free_port()
    return Command('bare CivetWeb', port, [build.c_program(HERE / 'bare_civetweb.c', 'civetweb'), port, THREADS_256, BODY])


def by_hand(request: str, threads: int, host: str, port_of_database: int, user: str, status: int = 200) -> Command:
    """The same request by CivetWeb and libpq alone: what is left of a figure when all that the runtime adds is taken away."""
    port = build.free_port()
    program = build.c_program(HERE / 'by_hand.c', 'civetweb', 'pq')
    return Command(f'by hand {request}', port, [program, port, threads, request,
                                                f'host={host} port={port_of_database} user={user} dbname=postgres'], status=status)


def nginx() -> Command:
    port = build.free_port()
    conf = build.OUT / 'nginx.conf'
    (build.OUT / 'nginx').mkdir(exist_ok=True)
    (build.OUT / 'log').mkdir(exist_ok=True)
    conf.write_text(NGINX_CONF.format(out=build.OUT, port=port, body=BODY))
    return Command('nginx return 200', port, ['nginx', '-e', build.OUT / 'log/nginx-error.log', '-p', build.OUT, '-c', conf])


def go() -> Command:
    port = build.free_port()
    return Command('Go net/http', port, [build.go_program(HERE / 'http_go.go'), port, BODY])


def node(name: str, script: str, *arguments: object) -> Command:
    port = build.free_port()
    return Command(name, port, ['node', build.node_folder(HERE) / script, port, *(arguments or [BODY])],
                   {'NODE_ENV': 'production'})


def node_http() -> Command:
    return node('Node http', 'http_node.js')


def fastify() -> Command:
    return node('fastify', 'fastify.js')


def fastify_pg(pool_size: int, host: str, port: int, user: str, password: str = '') -> Command:
    return node('fastify + pg', 'fastify_pg.js', pool_size, host, port, user, *([password] if password else []))
