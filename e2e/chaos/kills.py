"""What is done to runtimes and to PostgreSQL, at random."""
import os
import random
import signal

from database import Database
from runtimes import Replica, send_signal

FREEZE_SECONDS = (32, 40)  # a lease is 30


class Killer:
    """Does one thing after another; counts holds how often each was done. `left_alone`: replicas that it does not touch."""

    def __init__(self, chance: random.Random, database: Database, replicas: list[Replica]):
        self.chance, self.database, self.replicas = chance, database, replicas
        self.frozen_most = max(len(replicas) // 4, 1)
        self.ways = {self.kill: 10, self.kill_worker: 4, self.drain: 6, self.freeze: 2, self.terminate_backends: 8, self.crash_backend: 2,
                     self.restart_immediately: 2, self.restart_fast: 1}
        self.counts = {way.__name__: 0 for way in self.ways}

    def kill_one(self) -> str:
        """What was done, in words."""
        way = self.chance.choices(list(self.ways), list(self.ways.values()))[0]
        told = way()
        self.counts[way.__name__] += told != ''
        return f'{way.__name__} {told}' if told else ''

    def total(self) -> int:
        return sum(self.counts.values())

    def _replica(self) -> Replica:
        return self.chance.choice([replica for replica in self.replicas if not replica.frozen])

    def kill(self) -> str:
        replica = self._replica()
        replica.kill()
        return replica.name

    def kill_worker(self) -> str:
        replica = self._replica()
        replica.kill_worker()
        return replica.name

    def drain(self) -> str:
        replica = self._replica()
        replica.drain()
        return replica.name

    def freeze(self) -> str:
        if sum(replica.frozen for replica in self.replicas) >= self.frozen_most:
            return ''
        replica, seconds = self._replica(), self.chance.uniform(*FREEZE_SECONDS)
        replica.freeze(seconds)
        return f'{replica.name} for {seconds:.0f} s'

    def terminate_backends(self) -> str:
        pids = self.database.backends()
        chosen = self.chance.sample(pids, self.chance.randint(1, max(len(pids) // 3, 1))) if pids else []
        for pid in chosen:
            send_signal(pid, signal.SIGTERM)  # what pg_terminate_backend() sends
        return f'{len(chosen)} of {len(pids)}' if chosen else ''

    def crash_backend(self) -> str:
        """The server ends all others then, and recovers from its log."""
        pids = self.database.backends()
        if pids:
            os.kill(self.chance.choice(pids), signal.SIGKILL)
        return 'one' if pids else ''

    def restart_immediately(self) -> str:
        self.database.restart('immediate')
        return 'PostgreSQL'

    def restart_fast(self) -> str:
        self.database.restart('fast')
        return 'PostgreSQL'
