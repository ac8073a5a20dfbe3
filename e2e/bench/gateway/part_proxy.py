"""Requests over kept connections through cicada-gateway, nginx and HAProxy to the same upstream: throughput, and what each costs."""
import math

from benchlib import load, report

from . import proxies

LEVELS = [1, 16, 64, 256]
GATEWAY, PEERS = 'cicada-gateway', ['nginx', 'HAProxy']
SCRIPT = 'proxied.lua'


def print_level(connections: int, comparison: report.Comparison) -> None:
    rows = [[
        name,
        f'{comparison.median(name, "rate"):.0f}',
        f'{comparison.ratio(GATEWAY, name):.2f}',
        spread(comparison, name),
        f'{comparison.median(name, "p50_us"):.0f}',
        f'{comparison.median(name, "p99_us"):.0f}',
        f'{comparison.median(name, "cpu_us"):.1f}',
        f'{comparison.ratio(GATEWAY, name, "cpu_us"):.2f}',
        f'{comparison.median(name, "switches"):.2f}',
        f'{comparison.median(name, "pss_mb"):.1f}',
        str(comparison.errors(name)),
    ] for name in comparison.rounds]
    report.table(f'proxy: small JSON answer through a proxy, {connections} kept connections',
                 ['proxy', 'requests/s', 'gateway is x', 'least..most', 'p50 us', 'p99 us', 'CPU us/req', 'gateway is x',
                  'switches/req', 'PSS MB', 'errors'], rows)
    for peer in PEERS:
        report.target(f'requests/s / {peer}', comparison.ratio(GATEWAY, peer), 0.97)
        report.target(f'CPU per request / {peer}', comparison.ratio(GATEWAY, peer, 'cpu_us'), 1.0, at_most=True)


def spread(comparison: report.Comparison, peer: str) -> str:
    """Of the rounds' own ratios."""
    ratios = [one['rate'] / other['rate'] for one, other in zip(comparison.rounds[GATEWAY], comparison.rounds[peer], strict=True)]
    return f'{min(ratios):.2f}..{max(ratios):.2f}'


def print_mean(levels: dict[int, report.Comparison]) -> None:
    print('\nproxy: geometric mean over the levels')
    for peer in PEERS:
        for figure, text, limit, at_most in (('rate', 'requests/s', 1.05, False), ('cpu_us', 'CPU per request', 1.0, True)):
            ratios = [comparison.ratio(GATEWAY, peer, figure) for comparison in levels.values()]
            report.target(f'{text} / {peer}, mean', math.prod(ratios) ** (1 / len(ratios)), limit, at_most)


def run() -> None:
    upstream, started = proxies.start_upstream(), {}
    levels: dict[int, report.Comparison] = {}
    try:
        started[GATEWAY] = proxies.start_gateway(proxies.PODS)
        started['nginx'] = proxies.start_nginx()
        started['HAProxy'] = proxies.start_haproxy()
        for proxy in started.values():
            proxy.wait()
        load.warm_up([(proxy.process, proxy.url) for proxy in started.values()], SCRIPT)
        for connections in LEVELS:
            levels[connections] = report.Comparison(list(started))
            levels[connections].measure(
                load.ROUNDS, lambda name, n=connections: load.wrk(started[name].process, started[name].url, n, SCRIPT))
            print_level(connections, levels[connections])
        print_mean(levels)
    finally:
        for proxy in [*started.values(), upstream]:
            proxy.process.stop()
    report.save('gateway-proxy', {connections: comparison.rounds for connections, comparison in levels.items()})
