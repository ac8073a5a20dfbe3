"""Trivial jobs a second, each with one write: beside graphile-worker and pg-boss, with as many connections, one by one and in batches."""
import os

from benchlib import load, postgres, report

from . import queues

JOBS = int(os.environ.get('BENCH_JOBS', '50000'))  # that wait, more than can be done; in tens of thousands
OFF = '-c synchronous_commit=off'


def compare(database: postgres.Postgres, title: str, contestants: list[queues.Queue], jobs: int, options: str) -> report.Comparison:
    by_name = {queue.name: queue for queue in contestants}
    comparison = report.Comparison(list(by_name))
    comparison.measure(load.ROUNDS, lambda name: queues.rate(database, by_name[name], jobs, options))
    first = contestants[0].name
    report.table(f'{title}: {queues.CONNECTIONS} connections each', ['', 'jobs/s', 'CPU us/job', 'cicada is x', 'exactly once'],
                 [[name, f'{comparison.median(name, "rate"):.0f}', f'{comparison.median(name, "cpu_us"):.0f}', f'{comparison.ratio(first, name):.2f}',
                   'yes' if queue.once else 'no'] for name, queue in by_name.items()])
    return comparison


def run() -> None:
    database = postgres.Postgres()
    single = [queues.Cicada('cicada'), queues.Graphile('graphile-worker'), queues.PgBoss('pg-boss'), queues.PgBoss('pg-boss transactional', once=True)]
    batched = [queues.Cicada('cicada', batch=queues.BATCH), queues.Graphile('graphile-worker', batch=queues.GRAPHILE_BATCH),
               queues.PgBoss('pg-boss', batch=queues.BATCH), queues.PgBoss('pg-boss transactional', batch=queues.BATCH, once=True)]
    try:
        queues.install(database)
        on = compare(database, 'throughput: one by one', single, JOBS, '')
        off = compare(database, 'throughput: one by one, synchronous_commit off', single, JOBS, OFF)
        batches = compare(database, 'throughput: in batches', batched, 10 * JOBS, '')
        batches_off = compare(database, 'throughput: in batches, synchronous_commit off', batched, 10 * JOBS, OFF)
        report.target('one by one / graphile-worker', on.ratio('cicada', 'graphile-worker'), 1.7)
        report.target('one by one, synchronous_commit off / graphile-worker', off.ratio('cicada', 'graphile-worker'), 3)
        report.target('in batches / graphile-worker', batches.ratio('cicada', 'graphile-worker'), 1)
        report.target('in batches, synchronous_commit off / graphile-worker', batches_off.ratio('cicada', 'graphile-worker'), 1)
        report.save('events-throughput', {'on': on.rounds, 'off': off.rounds, 'batches': batches.rounds, 'batches_off': batches_off.rounds})
    finally:
        database.stop()
