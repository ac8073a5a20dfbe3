"""Orders: the shop's handler in its transaction, beside pgbench with the very same statements and as many connections,
and CivetWeb with libpq by hand: in the fewest round trips, and in as many as a handler needs that sees the order before COMMIT."""
import pathlib

from benchlib import load, postgres, report

from . import servers

LEVELS = [1, 4, 16]
RUNTIME, PGBENCH, BY_HAND, SEEN = 'cicada-runtime', 'pgbench', 'CivetWeb + libpq', 'the same, order seen'


def run() -> None:
    database = postgres.Postgres()
    try:
        for path in [pathlib.Path('functions/shop/schema.sql'), servers.HERE / 'shop.sql']:
            database.psql_file(path)
        spec = {'handler': 'shop.so:handle_user_request', 'concurrency': max(LEVELS), 'database': {'poolSize': max(LEVELS)},
                'http': {'successStatus': 201}}
        command = servers.runtime('runtime insert', spec, database.socket_url, pathlib.Path('build/release/functions').resolve(),
                                  status=400)  # a GET has no order
        by_hand = {name: servers.by_hand(request, 2 * max(LEVELS), database.socket_dir, database.port, 'postgres', status=400)
                   for name, request in ((BY_HAND, 'order'), (SEEN, 'order-seen'))}
        print_and_save({RUNTIME: command, **by_hand}, database)
    finally:
        database.stop()


def print_and_save(commands: dict[str, servers.Command], database: postgres.Postgres) -> None:
    started = {}
    raw = {}
    try:
        for name, command in commands.items():
            started[name] = command.start()
        for connections in LEVELS:
            database.psql('TRUNCATE public.orders CASCADE', 'VACUUM public.products', 'CHECKPOINT')
            comparison = report.Comparison([RUNTIME, PGBENCH, BY_HAND, SEEN])

            def measure(name: str, n: int = connections) -> report.Measurement:
                if name == PGBENCH:
                    return database.pgbench(servers.HERE / 'order.pgbench', n)
                return load.wrk(started[name], commands[name].url, n, 'orders.lua')

            comparison.measure(load.ROUNDS, measure)
            report.table(f'insert: an order in its transaction, fsync on, {connections} connections',
                         ['client', 'orders/s', 'errors'],
                         [[name, f'{comparison.median(name, "rate"):.0f}', str(comparison.errors(name))]
                          for name in comparison.rounds])
            print(f'  runtime: {comparison.median(RUNTIME, "cpu_us"):.0f} us of CPU, '
                  f'{comparison.median(RUNTIME, "switches"):.1f} context switches per order')
            print(f'  CivetWeb + libpq by hand / pgbench: {comparison.ratio(BY_HAND, PGBENCH):.2f}, order seen before COMMIT: '
                  f'{comparison.ratio(SEEN, PGBENCH):.2f}')
            report.target('orders/s / pgbench', comparison.ratio(RUNTIME, PGBENCH), 0.9)
            raw[connections] = comparison.rounds
    finally:
        for server in started.values():
            server.stop()
    report.save('runtime-insert', raw)
