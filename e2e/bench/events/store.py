"""A PostgreSQL with schema cicada, and pgbench beside it at fixed rates."""
import pathlib
import tempfile

from benchlib import build, postgres, processes

HERE = pathlib.Path('e2e/bench/events')
WORK = 1  # ids of the queues, as events.sql makes them
BACKLOG = 2
LATER = 3
WARM_UP_SECONDS = 1  # in which each connection makes its plans and reads its catalogs


def start() -> postgres.Postgres:
    database = postgres.Postgres()
    for path in [pathlib.Path('runtime/schema/cicada.sql'), HERE / 'events.sql']:
        database.psql_file(path)
    return database


def connection(database: postgres.Postgres) -> list[str]:
    return ['-h', database.socket_dir, '-p', str(database.port), '-U', 'postgres', 'postgres']


def latencies_us(database: postgres.Postgres, script: pathlib.Path, rate: int, connections: int, seconds: int,
                 pooled: list[str] | None = None) -> tuple[list[float], float]:
    """Of each transaction at that rate, from when it was due, without those of the warm-up; the median of connections' first ones.
    pooled: through a pooler, which takes no prepared statements."""
    with tempfile.TemporaryDirectory(dir=build.OUT) as folder:
        build.run('pgbench', '-n', '-M', 'extended' if pooled else 'prepared', '-R', rate, '-c', connections, '-j', 2, '-T', WARM_UP_SECONDS + seconds,
                  '-f', script, '-l', '--log-prefix', f'{folder}/log', *(pooled or connection(database)))
        lines = [line.split() for path in pathlib.Path(folder).iterdir() for line in path.read_text().splitlines()]
    # client, its transaction's number, latency, script, end of it in seconds and microseconds
    done = sorted((int(epoch) + int(us) / 1e6, float(took), client) for client, _, took, _, epoch, us, *_ in lines if took.isdigit())
    firsts: dict[str, float] = {}
    for _, took, client in done:
        firsts.setdefault(client, took)
    return sorted(took for at, took, _ in done if at >= done[0][0] + WARM_UP_SECONDS), percentile(sorted(firsts.values()), 0.5)


def in_background(database: postgres.Postgres, name: str, sql: str, rate: float, connections: int, seconds: int) -> processes.Process:
    script = build.OUT / f'events-{name}.pgbench'
    script.write_text(sql + '\n')
    return processes.Process(f'events {name}', ['pgbench', '-n', '-M', 'prepared', '-R', str(rate), '-c', str(connections), '-T',
                                                str(seconds), '-f', str(script), *connection(database)],
                             env={'PGOPTIONS': '-c synchronous_commit=off'})


def percentile(values: list[float], share: float) -> float:
    return values[min(int(len(values) * share), len(values) - 1)] if values else 0.0


def claims_us(database: postgres.Postgres, part: str) -> list[float]:
    return [float(line) for line in database.psql(f"SELECT us FROM public.claims WHERE part = '{part}' ORDER BY us").split()]
