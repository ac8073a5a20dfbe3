"""What a proxy adds to a request's latency when there is no hurry: a fixed rate, an open loop, beside the upstream itself."""
import json
import os

from benchlib import build, load, report

from . import proxies

RATES = [int(rate) for rate in os.environ.get('BENCH_RATES', '1000,4000').split(',')]  # requests/s
DIRECT, GATEWAY, PEERS = 'no proxy', 'cicada-gateway', ['nginx', 'HAProxy']


def ask(proxy: proxies.Proxy, address: str, rate: int) -> report.Measurement:
    helper = build.c_program(proxies.HERE / 'open_loop.c')
    cpu_us = proxy.process.cpu_us()
    result = json.loads(build.run(helper, address, proxy.port, proxies.HOST, rate, load.SECONDS))
    return {**result, 'cpu_us': (proxy.process.cpu_us() - cpu_us) / max(result['requests'], 1)}


def print_rate(rate: int, comparison: report.Comparison) -> None:
    def added(name: str, figure: str) -> str:
        return '' if name == DIRECT else f'{comparison.median(name, figure) - comparison.median(DIRECT, figure):+.0f}'

    report.table(f'latency: {rate} requests/s at fixed times, counted from when each was due',
                 ['proxy', 'p50 us', 'added', 'p99 us', 'added', 'p99.9 us', 'CPU us/req', 'errors'],
                 [[name, f'{comparison.median(name, "p50_us"):.0f}', added(name, 'p50_us'),
                   f'{comparison.median(name, "p99_us"):.0f}', added(name, 'p99_us'),
                   f'{comparison.median(name, "p999_us"):.0f}', f'{comparison.median(name, "cpu_us"):.1f}',
                   str(comparison.errors(name))] for name in comparison.rounds])
    for peer in PEERS:
        report.target(f'p50 / {peer}', comparison.ratio(GATEWAY, peer, 'p50_us'), 1.0, at_most=True)


def run() -> None:
    started = {DIRECT: proxies.start_upstream()}
    raw = {}
    try:
        started[GATEWAY] = proxies.start_gateway(proxies.PODS)
        started['nginx'] = proxies.start_nginx()
        started['HAProxy'] = proxies.start_haproxy()
        for proxy in started.values():
            proxy.wait()
        for rate in RATES:
            comparison = report.Comparison(list(started))
            comparison.measure(load.ROUNDS, lambda name, rate=rate: ask(
                started[name], proxies.PODS[0] if name == DIRECT else '127.0.0.1', rate))
            print_rate(rate, comparison)
            raw[rate] = comparison.rounds
    finally:
        for proxy in started.values():
            proxy.process.stop()
    report.save('gateway-latency', raw)
