"""A small JSON answer over kept connections: what the runtime costs per request, beside servers that do the same."""
from benchlib import load, processes, report

from . import servers

LEVELS = [1, 16, 64, 256]
RUNTIME, BARE, NGINX = 'cicada-runtime', 'bare CivetWeb', 'nginx return 200'
PEERS = ['Go net/http', 'Node http', 'fastify']


def contestants() -> list[servers.Command]:
    return [
        servers.runtime(RUNTIME, servers.handler('tiny', servers.CONCURRENCY_256)),
        servers.bare_civetweb(),
        servers.nginx(),
        servers.go(),
        servers.node_http(),
        servers.fastify(),
    ]


def print_level(connections: int, comparison: report.Comparison) -> None:
    rows = [[
        name,
        f'{comparison.median(name, "rate"):.0f}',
        f'{comparison.ratio(RUNTIME, name):.2f}',
        f'{comparison.median(name, "p50_us"):.0f}',
        f'{comparison.median(name, "p99_us"):.0f}',
        f'{comparison.median(name, "cpu_us"):.1f}',
        f'{comparison.median(name, "switches"):.2f}',
        f'{comparison.median(name, "pss_mb"):.1f}',
        str(comparison.errors(name)),
    ] for name in comparison.rounds]
    report.table(f'http: small JSON answer, {connections} kept connections',
                 ['server', 'requests/s', 'runtime is x', 'p50 us', 'p99 us', 'CPU us/req', 'switches/req', 'PSS MB', 'errors'],
                 rows)
    if connections == 64:
        report.target('requests/s / nginx', comparison.ratio(RUNTIME, NGINX), 0.6)
    report.target('requests/s / bare CivetWeb', comparison.ratio(RUNTIME, BARE), 0.9)
    for peer in PEERS:
        report.target(f'requests/s / {peer}', comparison.ratio(RUNTIME, peer), 1.0)


def run() -> None:
    started: dict[str, processes.Process] = {}
    raw = {}
    commands = {command.name: command for command in contestants()}
    try:
        for command in commands.values():
            started[command.name] = command.start()
        load.warm_up([(started[name], command.url) for name, command in commands.items()])
        for connections in LEVELS:
            comparison = report.Comparison(list(commands))
            comparison.measure(load.ROUNDS, lambda name, n=connections: load.wrk(started[name], commands[name].url, n))
            print_level(connections, comparison)
            raw[connections] = comparison.rounds
    finally:
        for server in started.values():
            server.stop()
    report.save('runtime-http', raw)
