"""From exec to the first answer 200, each server started and killed in turn with the others."""
import os

from benchlib import build, postgres, report

from . import servers

STARTS = int(os.environ.get('BENCH_STARTS', '21'))
POOL_SIZE = 4
PLAIN, SQL_SOCKET = 'handler', 'SQL function, Unix socket'


def contestants(database: postgres.Postgres) -> dict[str, servers.Command]:
    socket, scram = database.socket_url, database.scram_url
    handler = servers.handler('item', 16, POOL_SIZE)
    return {
        PLAIN: servers.runtime('start', servers.handler('tiny', 16)),
        'handler + row, Unix socket': servers.runtime('start', handler, socket),
        'handler + row, TCP + scram': servers.runtime('start', handler, scram),
        SQL_SOCKET: servers.runtime('start', servers.sql_item(POOL_SIZE), socket),
        'SQL function, TCP + scram': servers.runtime('start', servers.sql_item(POOL_SIZE), scram),
        'Go net/http': servers.go(),
        'Node http': servers.node_http(),
        'fastify': servers.fastify(),
        'fastify + pg, TCP + scram': servers.fastify_pg(POOL_SIZE, '127.0.0.1', database.port, 'bench', postgres.PASSWORD),
    }


def run() -> None:
    helper = build.c_program(servers.HERE / 'first_answer.c')
    database = postgres.Postgres()
    try:
        database.psql_file(servers.HERE / 'items.sql')
        commands = contestants(database)
        comparison = report.Comparison(list(commands))

        def measure(name: str) -> report.Measurement:
            command = commands[name]
            out = build.run(helper, command.port, *command.command, env={**os.environ, **command.env})
            return {'ms': int(out.split()[-1]) / 1000}

        comparison.measure(STARTS, measure)
    finally:
        database.stop()
    report.table(f'start: from exec to the first 200, {STARTS} starts each', ['server', 'median ms', 'least ms', 'runtime is x'],
                 [[name, f'{comparison.median(name, "ms"):.1f}', f'{comparison.least(name, "ms"):.1f}',
                   f'{comparison.ratio(PLAIN, name, "ms"):.2f}'] for name in comparison.rounds])
    report.target('handler without database, ms', comparison.median(PLAIN, 'ms'), 7, at_most=True)
    report.target('SQL function over a Unix socket, ms', comparison.median(SQL_SOCKET, 'ms'), 12, at_most=True)
    report.save('runtime-start', comparison.rounds)
