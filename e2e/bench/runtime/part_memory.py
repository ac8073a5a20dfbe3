"""What a server holds: after one request, and with 256 connections that have each made one."""
import socket

from benchlib import postgres, processes, report

from . import servers

CONNECTIONS = 256
REQUEST = b'GET /?id=1 HTTP/1.1\r\nHost: bench\r\n\r\n'


def ask_on_many(port: int) -> list[socket.socket]:
    sockets = []
    for _ in range(CONNECTIONS):
        connection = socket.create_connection(('127.0.0.1', port), timeout=10)
        connection.sendall(REQUEST)
        if not connection.recv(4096).startswith(b'HTTP/1.1 200'):
            raise RuntimeError(f'port {port}: no 200')
        sockets.append(connection)
    return sockets


def measure(command: servers.Command, many: bool) -> report.Measurement:
    server = command.start()
    try:
        figures: report.Measurement = {f'idle_{name}': value for name, value in server.memory_mb().items()}
        figures['processes'] = len(server.pids())
        if many:
            sockets = ask_on_many(command.port)
            figures |= {f'many_{name}': value for name, value in server.memory_mb().items()}
            for connection in sockets:
                connection.close()
        return figures
    finally:
        server.stop()


def run() -> None:
    database = postgres.Postgres()
    try:
        database.psql_file(servers.HERE / 'items.sql')
        wide = {
            'runtime, handler, concurrency 128': servers.runtime('memory wide', servers.handler('tiny', servers.CONCURRENCY_256)),
            'bare CivetWeb': servers.bare_civetweb(), 'nginx': servers.nginx(), 'Go net/http': servers.go(),
            'Node http': servers.node_http(), 'fastify': servers.fastify(),
        }
        usual = {
            'runtime, handler': servers.runtime('memory', servers.handler('tiny', 16)),
            'runtime, handler + row': servers.runtime('memory row', servers.handler('item', 16, 4), database.socket_url),
            'runtime, SQL function': servers.runtime('memory sql', servers.sql_item(4), database.socket_url),
        }
        figures = {name: measure(command, many=False) for name, command in usual.items()}
        figures |= {name: measure(command, many=True) for name, command in wide.items()}
    finally:
        database.stop()
    keys = ['idle_rss', 'idle_pss', 'many_rss', 'many_pss']
    report.table(f'memory in MB of all its processes: after one request, and with {CONNECTIONS} connections',
                 ['server', 'processes', 'RSS', 'PSS', 'RSS, many', 'PSS, many'],
                 [[name, str(each['processes']), *[f'{each[key]:.1f}' if key in each else '' for key in keys]]
                  for name, each in figures.items()])
    for name in usual:
        report.target(f'{name}, RSS in MB', figures[name]['idle_rss'], 12, at_most=True)
    report.save('runtime-memory', figures)
