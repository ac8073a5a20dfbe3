"""How long an event waits while nobody has anything to do: from its producer's commit to the entry of the handler."""
import time

from benchlib import build, load, postgres, processes, report

from . import queues, store

EVENTS = 100 # of a round
SEND = {
    'cicada': "SELECT cicada.enqueue('entry', jsonb_build_object('number', $1::bigint))",
    'graphile-worker': "SELECT graphile_worker.add_job('entry', json_build_object('number', $1::bigint))",
    # As its own send() does it, with a notification.
    'pg-boss': "WITH sent AS (INSERT INTO pgboss.job (name, data, policy) VALUES ('entry', jsonb_build_object('number', $1::bigint), 'standard') RETURNING id)"
               " SELECT pg_notify('pgboss_' || left(encode(sha224('pgboss'), 'hex'), 24), 'entry') FROM sent",
}


def measure(database: postgres.Postgres, queue: queues.Queue) -> report.Measurement:
    database.psql('TRUNCATE bench.entry')
    process = queue.start(database)
    try:
        send(database, process, queue.name, 5)  # whatever is made when it is needed, is
        lines = send(database, process, queue.name, EVENTS)
    finally:
        process.stop()
    committed = {int(number): float(at) for number, at in (line.split() for line in lines)}
    entered = {int(number): float(at) for number, at in (row.split('|') for row in database.psql('SELECT number, min(at) FROM bench.entry GROUP BY number').split())}
    waited_ms = sorted((entered[number] - at) * 1000 for number, at in committed.items())
    return {'p50_ms': store.percentile(waited_ms, 0.5), 'p99_ms': store.percentile(waited_ms, 0.99), 'most_ms': waited_ms[-1]}


def send(database: postgres.Postgres, process: processes.Process, name: str, events: int) -> list[str]:
    """Until all have been entered."""
    database.psql('TRUNCATE bench.entry')
    conninfo = f'host={database.socket_dir} port={database.port} user=postgres dbname=postgres'
    lines = build.run(build.c_program(queues.HERE / 'producer.c', 'pq'), conninfo, events, SEND[name]).splitlines()
    deadline = time.monotonic() + 30
    while int(database.psql('SELECT count(DISTINCT number) FROM bench.entry')) < events:
        if time.monotonic() > deadline or process.popen.poll() is not None:
            raise RuntimeError(f'{process.name}: {process.log.read_text()[-600:]}')
        time.sleep(0.1)
    return lines


def run() -> None:
    database = postgres.Postgres()
    contestants = {queue.name: queue for queue in (queues.Cicada('cicada', job='entry'), queues.Graphile('graphile-worker'), queues.PgBoss('pg-boss'))}
    try:
        queues.install(database)
        comparison = report.Comparison(list(contestants))
        comparison.measure(load.ROUNDS, lambda name: measure(database, contestants[name]))
        report.table(f'pick-up: commit to the entry of the handler, {EVENTS} events a round, each 40 to 120 ms after the one before', ['', 'p50 ms', 'p99 ms', 'most ms'],
                     [[name, *[f'{comparison.median(name, figure):.2f}' for figure in ('p50_ms', 'p99_ms', 'most_ms')]] for name in contestants])
        report.target('p50, ms', comparison.median('cicada', 'p50_ms'), 2, at_most=True)
        report.target('p99, ms', comparison.median('cicada', 'p99_ms'), 10, at_most=True)
        report.save('events-pickup', comparison.rounds)
    finally:
        database.stop()
