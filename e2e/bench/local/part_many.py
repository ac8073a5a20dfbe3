"""1,000 Functions in one cicada-local: how long until they can be called, and what they hold while they sleep."""
import os

from benchlib import postgres, report
from runtime import servers

from . import machine
from .part_cold import ask

FUNCTIONS = 1000
ROUNDS = int(os.environ.get('BENCH_ROUNDS', '5'))


def run() -> None:
    database = postgres.Postgres()
    counts = {f'{count} functions': count for count in (1, FUNCTIONS)}
    try:
        database.psql_file(servers.HERE / 'items.sql')

        def measure(name: str) -> report.Measurement:
            names = [f'item-{i}' for i in range(counts[name])]
            local = machine.Machine(names, servers.ITEM_SQL, 4, database.socket_url)
            figures = {'start_ms': local.start_ms, **local.own_memory_mb()}
            figures['last_ms'] = ask(local.port, f'/fn/default/{names[-1]}/?id=1')
            local.process.stop()
            return figures

        comparison = report.Comparison(list(counts))
        comparison.measure(ROUNDS, measure)
    finally:
        database.stop()
    report.table(f'many: from exec until they can be called, {ROUNDS} starts each', ['cicada-local with', 'median ms', 'PSS MB', 'RSS MB'],
                 [[name, *[f'{comparison.median(name, key):.1f}' for key in ('start_ms', 'pss', 'rss')]] for name in counts])
    report.target(f'{FUNCTIONS} functions can be called, ms', comparison.median(f'{FUNCTIONS} functions', 'start_ms'), 1000, at_most=True)
    report.save('local-many', comparison.rounds)
