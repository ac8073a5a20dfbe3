"""A request for a sleeping SQL function, until its answer: beside exec to first 200 of the very same function without all around it."""
import os
import socket
import time

from benchlib import build, postgres, report
from runtime import servers

from . import machine

STARTS = int(os.environ.get('BENCH_STARTS', '21'))
POOL_SIZE = 4
COLD, WARM, FLOOR = 'asleep, through cicada-local', 'awake, through cicada-local', 'exec of cicada-runtime to its first 200'


def ask(port: int, target: str) -> float:
    """Milliseconds from before connect to the end of the answer."""
    started = time.perf_counter()
    with socket.create_connection(('127.0.0.1', port), timeout=10) as connection:
        connection.sendall(f'GET {target} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n'.encode())
        answer = b''
        while piece := connection.recv(4096):
            answer += piece
    took_ms = (time.perf_counter() - started) * 1000
    if not answer.startswith(b'HTTP/1.1 200') or b'"id":1' not in answer:
        raise RuntimeError(f'{target}: {answer.decode()}')
    return took_ms


def run() -> None:
    helper = build.c_program(servers.HERE / 'first_answer.c')
    database = postgres.Postgres()
    try:
        database.psql_file(servers.HERE / 'items.sql')
        # Each is started cold once: nobody waits until one sleeps.
        names = [f'item-{i}' for i in range(STARTS)]
        local = machine.Machine(names, servers.ITEM_SQL, POOL_SIZE, database.socket_url)
        floor = servers.runtime('start', servers.sql_item(POOL_SIZE), database.socket_url)
        left = iter(names)
        current = ['']

        def measure(name: str) -> report.Measurement:
            if name == FLOOR:
                out = build.run(helper, floor.port, *floor.command, env={**os.environ, **floor.env})
                return {'ms': int(out.split()[-1]) / 1000}
            if name == COLD:
                current[0] = next(left)
            return {'ms': ask(local.port, f'/fn/default/{current[0]}/?id=1')}

        comparison = report.Comparison([COLD, WARM, FLOOR])
        comparison.measure(STARTS, measure)
        local.process.stop()
    finally:
        database.stop()
    report.table(f'cold: an SQL function, SELECT by key over a Unix socket, {STARTS} times each', ['request', 'median ms', 'least ms'],
                 [[name, f'{comparison.median(name, "ms"):.1f}', f'{comparison.least(name, "ms"):.1f}'] for name in comparison.rounds])
    report.target('request to a sleeping SQL function, ms', comparison.median(COLD, 'ms'), 15, at_most=True)
    report.save('local-cold', comparison.rounds)
