"""Jobs a second of several queues in turn, with synchronous_commit on and off."""
import os

from benchlib import load, postgres, report

from . import queues

JOBS = int(os.environ.get('BENCH_JOBS', '50000'))  # that wait, more than can be done; in tens of thousands


def compare(database: postgres.Postgres, title: str, contestants: list[queues.Queue], jobs: int, options: str) -> report.Comparison:
    by_name = {queue.name: queue for queue in contestants}
    comparison = report.Comparison(list(by_name))
    comparison.measure(load.ROUNDS, lambda name: queues.rate(database, by_name[name], jobs, options))
    first = contestants[0].name
    report.table(f'{title}: {queues.CONNECTIONS} connections each', ['', 'jobs/s', 'CPU us/job', 'cicada is x', 'exactly once'],
                 [[name, f'{comparison.median(name, "rate"):.0f}', f'{comparison.median(name, "cpu_us"):.0f}', f'{comparison.ratio(first, name):.2f}',
                   'yes' if queue.once else 'no'] for name, queue in by_name.items()])
    return comparison


def run(part: str, how: str, contestants: list[queues.Queue], jobs: int, goals: tuple[float, float]) -> None:
    """goals: of cicada by graphile-worker, with synchronous_commit on and off."""
    database = postgres.Postgres()
    try:
        queues.install(database)
        rounds = {}
        for (setting, options), goal in zip({'on': '', 'off': '-c synchronous_commit=off'}.items(), goals):
            comparison = compare(database, f'{part}: {how}, synchronous_commit {setting}', contestants, jobs, options)
            report.target(f'{how}, synchronous_commit {setting} / graphile-worker', comparison.ratio('cicada', 'graphile-worker'), goal)
            rounds[setting] = comparison.rounds
        report.save(f'events-{part}', rounds)
    finally:
        database.stop()
