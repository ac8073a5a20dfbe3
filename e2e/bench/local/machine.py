"""A cicada-local with Functions of this run's own."""
import pathlib
import re
import shutil
import time

from benchlib import build, processes

LOCAL = pathlib.Path('build/release/bin/cicada-local').resolve()
START_SECONDS = 30.0
FUNCTION = """apiVersion: cicada.dev/v1alpha1
kind: Function
metadata: {{name: {name}}}
spec:
  sql: {sql}
  result: Row
  database: {{secretRef: {{name: bench}}, poolSize: {pool_size}}}
  scaling: {{idleSeconds: 1}}
  http: {{}}
---
"""


class Machine:
    """Started once it can be called; start_ms is from before fork and exec to its line that says so, as it is seen here."""

    def __init__(self, names: list[str], sql: str, pool_size: int, database_url: str):
        folder = build.OUT / 'local'
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / 'functions.yaml').write_text(''.join(FUNCTION.format(name=name, sql=sql, pool_size=pool_size) for name in names))
        started = time.perf_counter()
        self.process = processes.Process('cicada-local', [str(LOCAL), '--listen=127.0.0.1:0', f'--state-dir={folder / "state"}',
                                                          f'--database-url={database_url}', str(folder / 'functions.yaml')])
        self.port = self._await_port(started + START_SECONDS)
        self.start_ms = (time.perf_counter() - started) * 1000

    def _await_port(self, deadline: float) -> int:
        while time.perf_counter() < deadline and self.process.popen.poll() is None:
            if found := re.search(r'listening on port (\d+):', self.process.log.read_text()):
                return int(found.group(1))
            time.sleep(0.001)
        raise RuntimeError(f'cicada-local does not listen: {self.process.log.read_text()[-600:]}')

    def own_memory_mb(self) -> dict[str, float]:
        """Without its functions' processes."""
        return {name: kb / 1024 for name, kb in processes.memory_kb(self.process.popen.pid).items()}
