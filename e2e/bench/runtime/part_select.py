"""One row by its key: an SQL function, beside pgbench with the same statement, fastify + pg with a pool of the same size,
and CivetWeb with libpq by hand."""
from benchlib import load, postgres, report

from . import servers

LEVELS = [1, 4, 16]
POOL_SIZE = 16
SQL, HANDLER, PGBENCH, FASTIFY, BY_HAND = 'SQL function', 'C handler', 'pgbench', 'fastify + pg', 'CivetWeb + libpq'


def run() -> None:
    database = postgres.Postgres()
    started = {}
    raw = {}
    try:
        database.psql_file(servers.HERE / 'items.sql')
        commands = {
            SQL: servers.runtime('runtime select sql', servers.sql_item(POOL_SIZE), database.socket_url),
            HANDLER: servers.runtime('runtime select handler', servers.handler('item', POOL_SIZE, POOL_SIZE), database.socket_url),
            FASTIFY: servers.fastify_pg(POOL_SIZE, database.socket_dir, database.port, 'postgres'),
            BY_HAND: servers.by_hand('item', 2 * POOL_SIZE, database.socket_dir, database.port, 'postgres'),
        }
        for name, command in commands.items():
            started[name] = command.start()
        load.warm_up([(started[name], command.url) for name, command in commands.items()], 'keys.lua')
        for connections in LEVELS:
            comparison = report.Comparison([SQL, HANDLER, PGBENCH, FASTIFY, BY_HAND])

            def measure(name: str, n: int = connections) -> report.Measurement:
                if name == PGBENCH:
                    return database.pgbench(servers.HERE / 'item.pgbench', n)
                return load.wrk(started[name], commands[name].url, n, 'keys.lua')

            comparison.measure(load.ROUNDS, measure)
            print_level(connections, comparison)
            raw[connections] = comparison.rounds
    finally:
        for server in started.values():
            server.stop()
        database.stop()
    report.save('runtime-select', raw)


def print_level(connections: int, comparison: report.Comparison) -> None:
    def cell(name: str, figure: str, places: int) -> str:
        return '' if name == PGBENCH else f'{comparison.median(name, figure):.{places}f}'

    report.table(f'select: a row by its key, {connections} connections',
                 ['client', 'rows/s', 'SQL function is x', 'p50 us', 'p99 us', 'CPU us/req', 'switches/req', 'errors'],
                 [[name, f'{comparison.median(name, "rate"):.0f}', f'{comparison.ratio(SQL, name):.2f}', cell(name, 'p50_us', 0),
                   cell(name, 'p99_us', 0), cell(name, 'cpu_us', 1), cell(name, 'switches', 2), str(comparison.errors(name))]
                  for name in comparison.rounds])
    report.target('rows/s / pgbench', comparison.ratio(SQL, PGBENCH), 0.55)
    print(f'  CivetWeb + libpq by hand / pgbench: {comparison.ratio(BY_HAND, PGBENCH):.2f}')
    report.target('rows/s / fastify + pg', comparison.ratio(SQL, FASTIFY), 2.0)
