"""1,600 events a second, each in a transaction of its own, beside an INSERT into an equal table: what a writer waits for."""
from benchlib import load, report

from . import store

RATE = 1600
CONNECTIONS = 8
ENQUEUE, PLAIN = 'cicada.enqueue()', 'INSERT into an equal table'
SCRIPTS = {ENQUEUE: store.HERE / 'enqueue.pgbench', PLAIN: store.HERE / 'plain.pgbench'}


def run() -> None:
    database = store.start()
    try:
        def measure(name: str) -> report.Measurement:
            database.psql('CHECKPOINT')
            found = store.latencies_us(database, SCRIPTS[name], RATE, CONNECTIONS, max(load.SECONDS, 2))
            return {'transactions': len(found), 'p50_us': store.percentile(found, 0.5), 'p99_us': store.percentile(found, 0.99)}

        comparison = report.Comparison([ENQUEUE, PLAIN])
        comparison.measure(load.ROUNDS, measure)
        report.table(f'enqueue: {RATE} transactions a second, {CONNECTIONS} connections, fsync on', ['writer', 'p50 us', 'p99 us'],
                     [[name, f'{comparison.median(name, "p50_us"):.0f}', f'{comparison.median(name, "p99_us"):.0f}']
                      for name in comparison.rounds])
        report.target('p99 / INSERT', comparison.ratio(ENQUEUE, PLAIN, 'p99_us'), 1.15, at_most=True)
        report.save('events-enqueue', comparison.rounds)
    finally:
        database.stop()
