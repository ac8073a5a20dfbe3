"""1,000 events a second while another transaction holds a snapshot open: nobody can vacuum what is done."""
import os
import time

from benchlib import postgres, processes, report

from . import store

SECONDS = int(os.environ.get('BENCH_SNAPSHOT_SECONDS', '600'))
BEFORE_SECONDS = max(SECONDS // 10, 15)
RATE = 1000
SIZE = ("SELECT sum(pg_total_relation_size(oid))::bigint FROM pg_class WHERE relnamespace = 'cicada'::regnamespace"
        " AND relkind IN ('r', 'S')")


def work(database: postgres.Postgres, part: str, seconds: int) -> int:
    """Events are sent, claimed by two workers and settled; the largest that the schema was."""
    running = [store.in_background(database, f'{part} send', "SELECT cicada.enqueue('work', '{\"order\": 12345, \"total\": \"19.90\"}');",
                                   RATE, 4, seconds),
               store.in_background(database, f'{part} work', f"CALL public.work('{part}', {store.WORK}, 50);", 100, 2, seconds),
               store.in_background(database, f'{part} maintain', 'SELECT cicada.event_maintain();', 1, 1, seconds)]
    largest = 0
    while any(process.popen.poll() is None for process in running):
        largest = max(largest, int(database.psql(SIZE)))
        time.sleep(1)
    for process in running:
        if process.popen.returncode != 0:
            raise RuntimeError(f'{process.name}: {process.log.read_text()[-600:]}')
    return largest


def run() -> None:
    database = store.start()
    try:
        before_bytes = work(database, 'before', BEFORE_SECONDS)
        holder = processes.Process('events holder', ['psql', '-XqAt', database.socket_url, '-c', 'BEGIN ISOLATION LEVEL REPEATABLE READ',
                                                     '-c', f'SELECT pg_sleep({SECONDS + 60})'])
        held_bytes = work(database, 'held', SECONDS)
        after_bytes = int(database.psql(SIZE))
        holder.stop()
        figures = {part: store.claims_us(database, part) for part in ('before', 'held')}
        events = {part: int(database.psql(f"SELECT sum(events) FROM public.claims WHERE part = '{part}'")) for part in figures}
        report.table(f'snapshot: {RATE} events a second, held open for {SECONDS} s',
                     ['', 'events', 'claims', 'p50 us', 'p99 us', 'largest MB'],
                     [[part, str(events[part]), str(len(us)), f'{store.percentile(us, 0.5):.0f}', f'{store.percentile(us, 0.99):.0f}',
                       f'{size / 1e6:.1f}'] for (part, us), size in zip(figures.items(), [before_bytes, held_bytes], strict=True)])
        report.target('claim p99, ms', store.percentile(figures['held'], 0.99) / 1000, 50, at_most=True)
        report.target('size afterwards / largest before', after_bytes / before_bytes, 2, at_most=True)
        report.save('events-snapshot', {'claims': figures, 'before_bytes': before_bytes, 'held_bytes': held_bytes,
                                        'after_bytes': after_bytes})
    finally:
        database.stop()
