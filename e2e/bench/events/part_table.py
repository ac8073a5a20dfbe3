"""What a table trigger costs the writer: rows of a table that is captured, beside those of an equal one that is not."""
import time

from benchlib import build, load, postgres, report

from . import store

ROWS = 10000  # of one statement
CONNECTIONS = 4
NONE, CAPTURED = 'no trigger', 'captured'
TABLES = {NONE: 'public.free', CAPTURED: 'public.captured'}
BULK = {
    'INSERT': "INSERT INTO {table} (customer, total) SELECT i, 19.90 FROM generate_series(1, {rows}) i",
    'UPDATE': 'UPDATE {table} SET total = total + 1',
    'DELETE': 'DELETE FROM {table}',
}


def install(database: postgres.Postgres) -> None:
    for table in TABLES.values():
        database.psql(f'CREATE TABLE {table} (id bigserial PRIMARY KEY, customer integer NOT NULL, total numeric(10, 2) NOT NULL,'
                      " state text NOT NULL DEFAULT 'placed', placed_at timestamptz NOT NULL DEFAULT now())")
    database.psql(f"SELECT cicada.table_install('default', 'bench', 'captured', '{TABLES[CAPTURED]}', '{{INSERT,UPDATE,DELETE}}', NULL, NULL, false)")


def measure(database: postgres.Postgres, name: str) -> report.Measurement:
    """Microseconds a row, of one statement with many; and of a transaction that writes one."""
    table, figures = TABLES[name], {}
    for statement, sql in BULK.items():
        database.psql('CHECKPOINT')
        begin = time.monotonic()
        database.psql(sql.format(table=table, rows=ROWS))
        figures[statement] = (time.monotonic() - begin) * 1e6 / ROWS
    script = build.OUT / 'events-table.pgbench'
    script.write_text(f'INSERT INTO {table} (customer, total) VALUES (1, 19.90);\n')
    figures['transaction'] = database.pgbench(script, CONNECTIONS)['mean_us']
    database.psql(f'TRUNCATE {table}', "SELECT cicada.purge(cicada.trigger_queue('default', 'bench', 'captured'))", 'VACUUM')
    return figures


def run() -> None:
    database = store.start()
    try:
        install(database)
        comparison = report.Comparison(list(TABLES))
        comparison.measure(load.ROUNDS, lambda name: measure(database, name))
        kinds = [*BULK, 'transaction']
        report.table(f'table: us a row, {ROWS} rows a statement; us of a transaction with one INSERT, {CONNECTIONS} connections', ['', *kinds],
                     [[name, *[f'{comparison.median(name, kind):.1f}' for kind in kinds]] for name in TABLES])
        print('  the trigger adds, us a row: ' + ', '.join(f'{kind} {comparison.median(CAPTURED, kind) - comparison.median(NONE, kind):.1f}' for kind in BULK))
        print(f'  a transaction of one row with it: {comparison.ratio(CAPTURED, NONE, "transaction"):.2f} x one without')
        report.save('events-table', comparison.rounds)
    finally:
        database.stop()
