"""A PostgreSQL of its own, asked through psql by whoever can wait until it is back."""
import os
import pathlib
import re
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BACK_SECONDS = 60


class Failure(Exception):
    pass


class Database:
    """Lives as long as the pipe to .ci/with-postgres is open: it ends with this process, however that ends."""

    def __init__(self, folder: pathlib.Path, listen: str | None = None):
        """listen: an address besides the Unix socket, with a password."""
        folder.chmod(0o755)  # the server runs as another user
        self.popen = subprocess.Popen([ROOT / '.ci/with-postgres', 'sh', '-c', 'echo "$TEST_DATABASE_SOCKET_DIR"; echo "$TEST_DATABASE_URL"; exec cat'],
                                      env={**os.environ, 'TMPDIR': str(folder), **({'PG_LISTEN': listen} if listen else {})}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                      start_new_session=True)
        self.folder, self.tcp_url = (self.popen.stdout.readline().strip() for _ in range(2))
        if not self.tcp_url:
            raise Failure('PostgreSQL did not start')
        self.port = int(re.search(r':(\d+)/', self.tcp_url).group(1))
        # What is committed without waiting for the disk is lost when the server is killed: claims, and there shall be many of them.
        self.ask("ALTER SYSTEM SET wal_writer_delay = '2s'")
        self.ask('SELECT pg_reload_conf()')

    def url(self, user: str = 'postgres') -> str:
        return f'postgresql://{user}@{self.folder.replace("/", "%2F")}:{self.port}/postgres'

    def psql(self, *words: object) -> subprocess.CompletedProcess:
        return subprocess.run(['psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', self.url(), *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True)

    def ask(self, sql: str) -> str:
        """The answer, asked for again while the server is away."""
        deadline = time.monotonic() + BACK_SECONDS
        while True:
            done = self.psql('-c', sql)
            if done.returncode == 0:
                return done.stdout.strip()
            if done.returncode != 2 and 'terminat' not in done.stderr or time.monotonic() > deadline:
                raise Failure(f'{sql}: {done.stderr.strip()[-500:]}')
            time.sleep(0.2)

    def run_file(self, path: pathlib.Path) -> None:
        done = self.psql('-f', path)
        if done.returncode != 0:
            raise Failure(f'{path}: {done.stderr[-500:]}')

    def restart(self, mode: str) -> None:
        """By pg_ctl; mode "immediate" ends it as a crash does."""
        pgbin = sorted(pathlib.Path('/usr/lib/postgresql').glob('*/bin'), key=lambda path: float(path.parent.name))[-1]
        as_postgres = ['setpriv', '--reuid=postgres', '--regid=postgres', '--clear-groups', '--'] if os.getuid() == 0 else []
        done = subprocess.run([*as_postgres, pgbin / 'pg_ctl', '-D', f'{self.folder}/data', '-m', mode, '-s', '-w', '-t', '60', '-l', f'{self.folder}/log',
                               'restart'], cwd='/', stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            raise Failure(f'restart ({mode}): {done.stdout[-500:]}')

    def backends(self) -> list[int]:
        return [int(line) for line in self.ask("SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()").split()]

    def stop(self) -> None:
        self.popen.stdin.close()
        self.popen.wait()
