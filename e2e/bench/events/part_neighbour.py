"""A function whose neighbour has a backlog of 1,000,000: how much later its events are entered."""
import os

from benchlib import postgres, report

from . import part_pickup, queues

BACKLOG = int(os.environ.get('BENCH_BACKLOG', '1000000'))
ALONE, WAITING, WORKED = 'no backlog', 'a backlog that nobody works on', 'a backlog that its function works on'


def run() -> None:
    database = postgres.Postgres()
    function, neighbour = queues.Cicada('cicada', job='entry'), queues.Cicada('cicada neighbour')
    try:
        queues.install(database)
        found = {ALONE: part_pickup.measure(database, function)}
        for _ in range(BACKLOG // 100000):
            database.psql(neighbour.many.format(jobs=100000))
        database.psql('CHECKPOINT')
        found[WAITING] = part_pickup.measure(database, function)
        process = neighbour.start(database)
        before = int(database.psql('SELECT count(*) FROM bench.effect'))
        found[WORKED] = part_pickup.measure(database, function)
        done = int(database.psql('SELECT count(*) FROM bench.effect')) - before
        process.stop()
        report.table(f'neighbour: {BACKLOG} due events of another function, which did {done} of them meanwhile', ['', 'p50 ms', 'p99 ms', 'most ms'],
                     [[name, *[f'{figures[figure]:.2f}' for figure in ('p50_ms', 'p99_ms', 'most_ms')]] for name, figures in found.items()])
        report.target('p99 beside it - p99 without, ms', max(found[name]['p99_ms'] for name in (WAITING, WORKED)) - found[ALONE]['p99_ms'], 100, at_most=True)
        report.save('events-neighbour', found)
    finally:
        database.stop()
