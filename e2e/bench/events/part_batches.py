"""The same as part_throughput.py, in batches."""
from . import queues, throughput


def run() -> None:
    throughput.run('batches', 'in batches', [queues.Cicada('cicada', batch=queues.BATCH), queues.Graphile('graphile-worker', batch=queues.GRAPHILE_BATCH),
                                             queues.PgBoss('pg-boss', batch=queues.BATCH),
                                             queues.PgBoss('pg-boss transactional', batch=queues.BATCH, once=True)], 5 * throughput.JOBS, (1, 1))
