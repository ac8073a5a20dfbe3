"""One row by its key: an SQL function, beside pgbench with the same statement, fastify + pg with a pool of the same size,
and CivetWeb with libpq by hand."""
import os

from benchlib import load, postgres, report

from . import servers

LEVELS = [1, 4, 16]
POOL_SIZE = 16
TARGET = 0.55  # of pgbench
FULL = 0.9  # so much of the cores' time is at work: CPU, not waiting, decides
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
    report.target('rows/s / pgbench', comparison.ratio(SQL, PGBENCH), TARGET)
    print(f'  CivetWeb + libpq by hand / pgbench: {comparison.ratio(BY_HAND, PGBENCH):.2f}')
    print_room(comparison)
    report.target('rows/s / fastify + pg', comparison.ratio(SQL, FASTIFY), 2.0)


def print_room(comparison: report.Comparison) -> None:
    """What a row may cost the server if the target is to be met, beside what it costs by hand; where the cores do not rest."""
    cores = len(os.sched_getaffinity(0))
    if comparison.median(BY_HAND, 'busy_us') * comparison.median(BY_HAND, 'rate') < FULL * cores * 1e6:
        return
    row_us = cores * 1e6 / comparison.median(PGBENCH, 'rate') / TARGET
    client_us = comparison.median(BY_HAND, 'client_us')
    rest_us = comparison.median(BY_HAND, 'busy_us') - client_us - comparison.median(BY_HAND, 'cpu_us')
    print(f'  at {TARGET} a row takes {row_us:.0f} us of {cores} cores: wrk {client_us:.0f}, PostgreSQL and interrupts {rest_us:.0f}, '
          f'left for the server {row_us - client_us - rest_us:.0f}; by hand it takes {comparison.median(BY_HAND, "cpu_us"):.0f}')
