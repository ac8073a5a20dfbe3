"""1,600 events a second, each in a transaction of its own, beside an INSERT into an equal table: what a writer waits for; then the same within a user's transaction,
and through PgBouncer in transaction mode."""
import contextlib
import pathlib

from benchlib import build, load, postgres, processes, report

from . import store

RATE = 1600
CONNECTIONS = 8
LEAST_SECONDS = 4  # else a p99 is that of a few
EVENT = (store.HERE / 'enqueue.pgbench').read_text()
PLAIN = (store.HERE / 'plain.pgbench').read_text()
ORDER = (store.HERE / 'order.pgbench').read_text()
# name: (script, through PgBouncer)
WRITERS = {
    'cicada.enqueue()': (EVENT, False),
    'INSERT into an equal table': (PLAIN, False),
    'order and cicada.enqueue()': (ORDER.replace('COMMIT;', EVENT + 'COMMIT;'), False),
    'order and INSERT': (ORDER.replace('COMMIT;', PLAIN + 'COMMIT;'), False),
    'order': (ORDER, False),
    'PgBouncer: cicada.enqueue()': (EVENT, True),
    'PgBouncer: INSERT': (PLAIN, True),
}
PAIRS = [('p99 / INSERT', 'cicada.enqueue()', 'INSERT into an equal table'), ('p99 within an order / INSERT there', 'order and cicada.enqueue()', 'order and INSERT'),
         ('p99 through PgBouncer / INSERT there', 'PgBouncer: cicada.enqueue()', 'PgBouncer: INSERT')]


@contextlib.contextmanager
def pooler(database: postgres.Postgres):
    """PgBouncer in transaction mode; where it listens."""
    folder, port = build.OUT / 'pgbouncer', build.free_port()
    folder.mkdir(exist_ok=True)
    for name, text in {'users': '"postgres" ""\n', 'settings': f"""[databases]
* = host={database.socket_dir} port={database.port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {folder}/users
pool_mode = transaction
default_pool_size = {CONNECTIONS}
"""}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o644)
    process = processes.Process('events pgbouncer', ['pgbouncer', '-q', '-u', 'postgres', str(folder / 'settings')])
    try:
        yield ['-h', '127.0.0.1', '-p', str(port), '-U', 'postgres', 'postgres']
    finally:
        process.stop()


def run() -> None:
    database = store.start()
    database.psql_file(store.HERE / 'order.sql')
    with contextlib.ExitStack() as ends:
        ends.callback(database.stop)
        pooled = ends.enter_context(pooler(database))
        script = build.OUT / 'events-enqueue.pgbench'

        def measure(name: str) -> report.Measurement:
            text, through_pooler = WRITERS[name]
            pathlib.Path(script).write_text(text)
            database.psql('TRUNCATE public.plain', "SELECT cicada.purge('work')", 'CHECKPOINT')
            found, first_us = store.latencies_us(database, script, RATE, CONNECTIONS, max(load.SECONDS, LEAST_SECONDS), pooled if through_pooler else None)
            return {'transactions': len(found), 'p50_us': store.percentile(found, 0.5), 'p99_us': store.percentile(found, 0.99), 'first_us': first_us}

        comparison = report.Comparison(list(WRITERS))
        comparison.measure(load.ROUNDS, measure)
        columns = ['p50_us', 'p99_us', 'first_us']
        report.table(f'enqueue: {RATE} transactions a second, {CONNECTIONS} connections, fsync on', ['writer', 'p50 us', 'p99 us', 'first of a connection us'],
                     [[name, *(f'{comparison.median(name, column):.0f}' for column in columns)] for name in WRITERS])
        for title, one, other in PAIRS:
            report.target(title, comparison.ratio(one, other, 'p99_us'), 1.15, at_most=True)
        print(f'  an event adds to an order (p50): {comparison.median("order and cicada.enqueue()", "p50_us") - comparison.median("order", "p50_us"):.0f} us;'
              f' an INSERT: {comparison.median("order and INSERT", "p50_us") - comparison.median("order", "p50_us"):.0f} us')
        report.save('events-enqueue', comparison.rounds)
