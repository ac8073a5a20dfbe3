"""Who sends: transactions with writes of their own, some of which are rolled back, until there are enough."""
import pathlib
import subprocess
import threading
import time

from database import Database, Failure

BACKLOG_MOST = 3000  # more than that would only wait
TRANSACTIONS = 100   # of one call


class Producers:
    def __init__(self, database: Database, functions: list[str], count: int, folder: pathlib.Path):
        self.database, self.functions = database, functions
        self.stopping = False
        self.log = (folder / 'producers.log').open('w')
        self.threads = [threading.Thread(target=self._produce, args=(number,), daemon=True) for number in range(count)]
        for thread in self.threads:
            thread.start()

    def _produce(self, number: int) -> None:
        names = ','.join(self.functions)
        while not self.stopping:
            if self._backlog() > BACKLOG_MOST:
                time.sleep(0.2)
                continue
            # One connection for each call: a procedure commits by itself, and what it had not committed when it was cut off was never sent.
            done = self.database.psql('-c', f"CALL chaos.produce({number}, '{{{names}}}', {TRANSACTIONS})")
            if done.returncode != 0:
                self.log.write(done.stderr)
                time.sleep(0.1)

    def _backlog(self) -> int:
        done = self.database.psql('-c', 'SELECT count(*) FROM (SELECT FROM cicada.event LIMIT 100000) e')
        return int(done.stdout) if done.returncode == 0 else BACKLOG_MOST + 1

    def stop(self) -> None:
        self.stopping = True
        for thread in self.threads:
            thread.join()
        self.log.close()
