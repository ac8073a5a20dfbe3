"""The contestants of throughput and pick-up: a process each with CONNECTIONS connections, on one database, with the same job."""
import json
import os
import pathlib
import time

from benchlib import build, load, postgres, processes

HERE = pathlib.Path('e2e/bench/events')
RUNTIME = pathlib.Path('build/release/bin/cicada-runtime').resolve()
CONNECTIONS = int(os.environ.get('BENCH_CONNECTIONS', '10'))  # of each contestant, in all
BATCH = 100
GRAPHILE_BATCH = 500  # as on its page on performance
WINDOW_SECONDS = max(load.SECONDS, 2)


def node() -> pathlib.Path:
    """pg-boss and graphile-worker need a newer one than Debian 12 has: it comes with them."""
    found = sorted((build.node_folder(HERE) / 'node_modules').glob('node-linux-*/bin/node'))
    if not found:
        raise RuntimeError('npm has installed no node for this machine')
    return found[0]


def script(name: str) -> pathlib.Path:
    return build.OUT / 'node' / HERE.name / name


class Queue:
    """A contestant: how jobs get in, and who works on them."""
    once = False  # a job's effects and its completion are one transaction

    def __init__(self, name: str, batch: int = 1, job: str = 'effect'):
        """job: what is worked on, if it is one thing."""
        self.name, self.batch, self.job = name, batch, job

    def fill(self, database: postgres.Postgres, jobs: int) -> None:
        """So many jobs `effect`, numbered from 1; nothing else may be there."""
        database.psql('TRUNCATE bench.effect', self.clear, self.many.format(jobs=jobs))

    def start(self, database: postgres.Postgres, options: str = '') -> processes.Process:
        return processes.Process(f'events {self.name}', [str(word) for word in self.command(database)],
                                 env={'PGOPTIONS': options, 'NODE_ENV': 'production', **self.env(database)})

    def env(self, database: postgres.Postgres) -> dict[str, str]:
        return {}


class Cicada(Queue):
    once = True
    clear = ('SELECT cicada.purge(q.name) FROM cicada.queue q')
    many = ("SELECT count(*) FROM generate_series(0, {jobs} / 10000 - 1) part, cicada.enqueue_many('effect',"
            " ARRAY(SELECT jsonb_build_object('number', part * 10000 + i) FROM generate_series(1, 10000) i))")

    def command(self, database: postgres.Postgres) -> list[object]:
        return [RUNTIME]

    def env(self, database: postgres.Postgres) -> dict[str, str]:
        trigger = {'name': self.job, 'queue': {'name': self.job}}
        if self.batch > 1:
            trigger['delivery'] = {'batchSize': self.batch}
        spec = {'handler': f'jobs.so:{self.job}{"_batch" if self.batch > 1 else ""}', 'concurrency': 1, 'eventConcurrency': CONNECTIONS - 1,
                'database': {'poolSize': CONNECTIONS - 1}, 'triggers': [trigger]}
        return {'CICADA_SPEC': json.dumps(spec), 'CICADA_FUNCTION_DIR': str(build.function(HERE / 'jobs.c').parent), 'CICADA_FUNCTION_NAME': self.job,
                'CICADA_LISTEN': '127.0.0.1:0', 'CICADA_ADMIN_LISTEN': '127.0.0.1:0', 'DATABASE_URL': database.socket_url,
                'CICADA_TERMINATION_LOG': str(build.OUT / 'log' / 'termination')}


class Graphile(Queue):
    clear = 'TRUNCATE graphile_worker._private_jobs'
    many = ("SELECT count(*) FROM graphile_worker.add_jobs(ARRAY(SELECT ('effect', json_build_object('number', i), NULL, NULL, NULL, NULL, NULL, NULL)"
            "::graphile_worker.job_spec FROM generate_series(1, {jobs}) i))")

    def command(self, database: postgres.Postgres) -> list[object]:
        return [node(), script('graphile.js'), database.node_url, CONNECTIONS, 0 if self.batch == 1 else self.batch]


class PgBoss(Queue):
    clear = 'TRUNCATE pgboss.job'
    many = ("INSERT INTO pgboss.job (name, data, policy) SELECT 'effect', jsonb_build_object('number', i), 'standard'"
            ' FROM generate_series(1, {jobs}) i')

    def __init__(self, name: str, batch: int = 1, once: bool = False):
        super().__init__(name, batch)
        self.once = once

    def command(self, database: postgres.Postgres) -> list[object]:
        return [node(), script('pgboss.js'), database.node_url, CONNECTIONS - 1, self.batch, int(self.once)]  # and one that listens


def install(database: postgres.Postgres) -> None:
    """All schemas, beside each other."""
    database.psql_file(pathlib.Path('runtime/schema/cicada.sql'))
    database.psql_file(HERE / 'jobs.sql')
    for peer in ('graphile.js', 'pgboss.js'):
        build.run(node(), script(peer), database.node_url, 0, 1, 0)
    database.psql("SELECT cicada.create_queue('effect'), cicada.create_queue('entry')")


def rate(database: postgres.Postgres, queue: Queue, jobs: int, options: str) -> dict[str, float]:
    """Jobs a second. They all wait before the process starts; the second after the first effect does not count, what is done within
    WINDOW_SECONDS after it does."""
    queue.fill(database, jobs)
    database.psql('CHECKPOINT')
    process = queue.start(database, options)
    deadline = time.monotonic() + 60
    while database.psql("SELECT coalesce(max(at) - min(at) < '1 s', true) FROM bench.effect") == 't':
        if time.monotonic() > deadline or process.popen.poll() is not None:
            raise RuntimeError(f'{queue.name}: {process.log.read_text()[-600:]}')
        time.sleep(0.1)
    cpu_us = process.cpu_us()
    counted = int(database.psql('SELECT count(*) FROM bench.effect'))
    time.sleep(WINDOW_SECONDS)
    cpu_us = process.cpu_us() - cpu_us
    counted = int(database.psql('SELECT count(*) FROM bench.effect')) - counted
    process.stop()
    per_second, twice = database.psql('SELECT count(*) / greatest(extract(epoch FROM max(at) - min(from_at)), 0.001), count(*) - count(DISTINCT number)'
                                      " FROM bench.effect, (SELECT min(at) + '1 s' FROM bench.effect) f (from_at) WHERE at > from_at").split('|')
    return {'rate': float(per_second), 'cpu_us': cpu_us / max(counted, 1), 'errors': int(twice)}
