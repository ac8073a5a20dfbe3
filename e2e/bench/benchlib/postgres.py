"""One PostgreSQL for all contestants: Debian's, with its default settings, fsync on."""
import os
import pathlib
import re
import subprocess

from . import build, load

PASSWORD = 'only-for-this-run'


class Postgres:
    """Lives as long as the pipe to .ci/with-postgres is open: it ends with this process, however that ends."""

    def __init__(self) -> None:
        folder = build.OUT / 'postgres'
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)  # the server runs as another user
        self.popen = subprocess.Popen(
            ['.ci/with-postgres', 'sh', '-c', 'echo "$TEST_DATABASE_URL"; echo "$TEST_DATABASE_SOCKET_DIR"; '
             'echo "$TEST_DATABASE_DIR"; exec cat'],
            env={**os.environ, 'TMPDIR': str(folder)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            start_new_session=True)
        url, self.socket_dir, data = (self.popen.stdout.readline().strip() for _ in range(3))
        if not data:
            raise RuntimeError('PostgreSQL did not start')
        self.port = int(re.search(r':(\d+)/', url).group(1))
        self._make_durable()
        self._ask_for_password(pathlib.Path(data) / 'pg_hba.conf')

    def _make_durable(self) -> None:
        self.psql('ALTER SYSTEM SET fsync = on')
        self.psql('SELECT pg_reload_conf()')
        if self.psql('SHOW fsync') != 'on':
            raise RuntimeError('fsync is off')

    def _ask_for_password(self, hba: pathlib.Path) -> None:
        self.psql(f"CREATE ROLE bench LOGIN PASSWORD '{PASSWORD}' IN ROLE pg_read_all_data, pg_write_all_data")
        hba.write_text('host all bench 127.0.0.1/32 scram-sha-256\n' + hba.read_text())
        self.psql('SELECT pg_reload_conf()')

    @property
    def socket_url(self) -> str:
        return f'postgresql://postgres@{self.socket_dir.replace("/", "%2F")}:{self.port}/postgres'

    @property
    def node_url(self) -> str:
        """The same for node's pg, which reads folders of sockets otherwise."""
        return f'postgresql://postgres@/postgres?host={self.socket_dir}&port={self.port}'

    @property
    def scram_url(self) -> str:
        return f'postgresql://bench:{PASSWORD}@127.0.0.1:{self.port}/postgres?sslmode=disable'

    def psql(self, *commands: str) -> str:
        words = [word for command in commands for word in ('-c', command)]
        return build.run('psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', self.socket_url, *words).strip()

    def psql_file(self, path: pathlib.Path) -> None:
        build.run('psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-f', path, self.socket_url)

    def pgbench(self, script: pathlib.Path, connections: int) -> dict[str, float]:
        out = build.run('pgbench', '-n', '-M', 'prepared', '-c', connections, '-j', min(connections, 2), '-T',
                        load.SECONDS, '-f', script, '-h', self.socket_dir, '-p', self.port, '-U', 'postgres',
                        'postgres')
        failed = re.search(r'number of failed transactions: (\d+)', out)
        return {'rate': float(re.search(r'tps = ([\d.]+)', out).group(1)),
                'mean_us': float(re.search(r'latency average = ([\d.]+)', out).group(1)) * 1000,
                'errors': int(failed.group(1)) if failed else 0}

    def stop(self) -> None:
        self.popen.stdin.close()
        self.popen.wait()
