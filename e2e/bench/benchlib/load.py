"""Load over HTTP, by wrk: closed loop, kept connections."""
import json
import os
import pathlib

from . import build, processes

SECONDS = int(os.environ.get('BENCH_SECONDS', '2'))  # wrk and pgbench take whole ones
ROUNDS = int(os.environ.get('BENCH_ROUNDS', '5'))
SCRIPTS = pathlib.Path('e2e/bench/benchlib')


def wrk(server: processes.Process, url: str, connections: int, script: str = 'static.lua') -> dict[str, float]:
    """One measurement of a server: its rate, latencies, and what each request cost it, wrk and all together."""
    cpu_us, switches = server.cpu_us(), server.switches()
    client_us, busy_us = processes.children_us(), processes.busy_us()
    out = build.run('wrk', '-t', min(connections, 2), '-c', connections, '-d', f'{SECONDS}s', '--timeout', '10s',
                    '-s', SCRIPTS / script, url)
    client_us, busy_us = processes.children_us() - client_us, processes.busy_us() - busy_us
    result = json.loads(out[out.rindex('{"requests"'):])
    requests = max(result['requests'], 1)
    return {
        'rate': result['requests'] / result['seconds'],
        'p50_us': result['p50_us'],
        'p99_us': result['p99_us'],
        'errors': result['errors'],
        'cpu_us': (server.cpu_us() - cpu_us) / requests,
        'client_us': client_us / requests,
        'busy_us': busy_us / requests,
        'switches': (server.switches() - switches) / requests,
        'pss_mb': server.memory_mb()['pss'],
    }


def warm_up(servers: list[tuple[processes.Process, str]], script: str = 'static.lua') -> None:
    """Lets compilers at run time do their work before anything counts."""
    for server, url in servers:
        wrk(server, url, 16, script)
