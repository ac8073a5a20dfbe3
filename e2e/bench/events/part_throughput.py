"""Trivial jobs a second, each with one write, one by one: beside graphile-worker and pg-boss, with as many connections."""
from . import queues, throughput


def run() -> None:
    throughput.run('throughput', 'one by one', [queues.Cicada('cicada'), queues.Graphile('graphile-worker'), queues.PgBoss('pg-boss'),
                                                queues.PgBoss('pg-boss transactional', once=True)], throughput.JOBS, (1.7, 3))
