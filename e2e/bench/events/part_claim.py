"""A claim beside backlogs: 1,000,000 due events of another queue, and 1,000,000 delayed ones of the same."""
import os

from benchlib import build, postgres, report

from . import store

BACKLOG = int(os.environ.get('BENCH_BACKLOG', '1000000'))
CLAIMS = 500
ALONE, BESIDE, DELAYED, ITSELF = 'no backlog', 'another queue has it', 'the queue has it, delayed', 'the queue has it, due'
QUEUES = {ALONE: store.WORK, BESIDE: store.WORK, DELAYED: store.LATER, ITSELF: store.BACKLOG}
NAMES = {store.WORK: 'work', store.LATER: 'later', store.BACKLOG: 'backlog'}


def fill(database: postgres.Postgres, queue: int, due: str) -> None:
    database.psql('INSERT INTO cicada.event_1 (id, due_at, time, queue, epoch, attempt, lane, priority, depth, ordered, alone, payload)'
                  f" SELECT nextval('cicada.event_id'), {due}, now(), {queue}, 0, 0, 0, 0, 0, false, false, '1'"
                  f' FROM generate_series(1, {BACKLOG})')


def measure(database: postgres.Postgres, name: str) -> list[float]:
    """One event at a time is sent and claimed."""
    queue = QUEUES[name]
    script = build.OUT / 'events-claim.pgbench'
    script.write_text(f"SELECT cicada.enqueue('{NAMES[queue]}', '1');\nCALL public.work('{name}', {queue}, 1);\n")
    build.run('pgbench', '-n', '-M', 'prepared', '-c', 1, '-t', CLAIMS, '-f', script, *store.connection(database))
    return store.claims_us(database, name)


def run() -> None:
    database = store.start()
    try:
        found = {ALONE: measure(database, ALONE)}
        fill(database, store.BACKLOG, 'now()')
        fill(database, store.LATER, "now() + interval '1 day'")
        database.psql('CHECKPOINT')
        for name in [BESIDE, DELAYED, ITSELF]:
            found[name] = measure(database, name)
        stats = database.psql("EXPLAIN (ANALYZE, SUMMARY on, FORMAT json) SELECT * FROM cicada.queue_stats()")
        stats_ms = float(stats.split('"Execution Time": ')[1].split('\n')[0])
        report.table(f'claim: of one event, {BACKLOG} events of backlog', ['', 'p50 us', 'p99 us'],
                     [[name, f'{store.percentile(us, 0.5):.0f}', f'{store.percentile(us, 0.99):.0f}'] for name, us in found.items()])
        print(f'  queue_stats(): {stats_ms:.1f} ms')
        report.target('p99 beside the backlog - p99 without, ms',
                      (store.percentile(found[BESIDE], 0.99) - store.percentile(found[ALONE], 0.99)) / 1000, 100, at_most=True)
        report.target('p99 with delayed ones in the queue, ms', store.percentile(found[DELAYED], 0.99) / 1000, 50, at_most=True)
        report.save('events-claim', {'claims': found, 'queue_stats_ms': stats_ms})
    finally:
        database.stop()
