"""The load of the fault suite, and what became of each request: by the client's account and by the rows in the database.

May use: e2e/cases/harness.py, the program `client` of this folder.
"""
import collections
import csv
import dataclasses
import json
import pathlib
import signal
import subprocess
import time

import harness
from harness import ROOT, SHOP, expect

BUILD = ROOT / 'build' / 'faults'
TABLE = 'e2e_requests'


def make_table():
    harness.database.shop(f'SET ROLE shop; CREATE TABLE IF NOT EXISTS {TABLE} (id text NOT NULL, pod text NOT NULL, '
                          f"at timestamptz NOT NULL DEFAULT clock_timestamp()); TRUNCATE {TABLE};")


@dataclasses.dataclass
class Line:
    """One request, as the client writes it; times in seconds of CLOCK_MONOTONIC."""
    number: int
    due: float
    connected: float
    sent: float
    done: float
    method: str
    kind: str
    port: int
    target: int
    attempts: int
    refused: int
    status: int
    outcome: str

    @staticmethod
    def read(path):
        with open(path, encoding='utf-8') as file:
            for cells in csv.reader(file):
                yield Line(int(cells[0]), *(int(c) / 1e6 for c in cells[1:5]), cells[5], cells[6], *map(int, cells[7:12]), cells[12])


@dataclasses.dataclass
class Account:
    """What became of all requests of one client."""
    sent: int
    answered: int
    failed: collections.Counter  # by reason
    twice: list                  # ids with two rows or more
    lies: list                   # answered 2xx, and no row
    orphans: list                # a row, and no 2xx
    again: int                   # sent once more by the client, because a kept connection was closed before it got a byte
    refused: int                 # connections refused on the way to an answer
    seconds: list
    lines: list

    def figures(self):
        return {'sent': self.sent, 'answered': self.answered, 'failed': sum(self.failed.values()), 'reasons': dict(self.failed),
                'twice': len(self.twice), 'lies': len(self.lies), 'orphans': len(self.orphans), 'again': self.again,
                'refused': self.refused, 'p50': round(harness.percentile(self.seconds, 50) * 1e3, 1),
                'p99': round(harness.percentile(self.seconds, 99) * 1e3, 1), 'max': round(max(self.seconds, default=0) * 1e3, 1)}

    def text(self):
        f = self.figures()
        reasons = ''.join(f', {count} x {reason}' for reason, count in self.failed.most_common())
        return (f"{f['sent']} sent, {f['answered']} answered, {f['failed']} failed{reasons}, {f['twice']} twice, {f['lies']} without a row, "
                f"{f['orphans']} rows without an answer, {f['again']} sent again, {f['refused']} refused; "
                f"p50 {f['p50']} p99 {f['p99']} max {f['max']} ms")

    def expect_clean(self, what):
        expect(not self.failed and not self.twice and not self.lies and not self.orphans, f'{what}: {self.text()}; first: ' + '; '.join(
            f'{line.number} {line.method} {line.kind} sent {line.attempts}x done {line.done:.3f}: {line.outcome}'
            for line in self.lines if line.outcome != 'ok')[:1500] + f' {self.twice[:3]} {self.lies[:3]} {self.orphans[:3]}')


class Client:
    """The program, as a process of its own. Its requests' ids begin with `run`, which no other may have."""

    def __init__(self, folder, run, function, *, rate, ms=20, rise=0, rest=0, count=0, keep=60, get=25, again=True, targets=None):
        self.run, self.path = run, BUILD / folder / f'{run}.csv'
        self.path.parent.mkdir(parents=True, exist_ok=True)
        addresses = targets or [f'{harness.gateway_address[0]}:{harness.gateway_address[1]}']
        command = [BUILD / 'client', '--host', 'localhost', '--path', f'/fn/{SHOP}/{function}/?ms={ms}', '--prefix', run, '--rate', rate,
                   '--rise', rise, '--rest', rest, '--count', count, '--keep', keep, '--get', get]
        command += (['--again'] if again else []) + (['--elsewhere'] if targets else []) + addresses
        with open(self.path, 'w', encoding='utf-8') as out:
            self.process = subprocess.Popen([str(c) for c in command], stdout=out, stderr=subprocess.PIPE, text=True)

    def stop(self, seconds=120):
        """Begins nothing new, waits for what is under way."""
        self.process.send_signal(signal.SIGTERM)
        return self.finish(seconds)

    def finish(self, seconds=120):
        try:
            _, error = self.process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        expect(self.process.returncode == 0, f'the client: exit {self.process.returncode}: {error}')
        return self.account(json.loads(error.splitlines()[-1]))

    def account(self, totals):
        lines = sorted(Line.read(self.path), key=lambda line: line.number)
        expect(len(lines) == totals['sent'], f"{totals['sent']} requests, {len(lines)} accounts of them")
        rows = self.rows()
        ids = {f'{self.run}-{line.number}': line for line in lines}
        strangers = set(rows) - set(ids)
        expect(not strangers, f'rows of requests that nobody sent: {list(strangers)[:3]}')
        answered = {name for name, line in ids.items() if line.outcome == 'ok'}
        return Account(
            sent=len(lines), answered=len(answered),
            failed=collections.Counter(line.outcome for line in lines if line.outcome != 'ok'),
            twice=[name for name, count in rows.items() if count > 1],
            lies=sorted(answered - set(rows)), orphans=sorted(set(rows) - answered),
            again=sum(line.attempts > 1 for line in lines), refused=sum(line.refused for line in lines),
            seconds=[line.done - line.due for line in lines if line.outcome == 'ok'], lines=lines)

    def rows(self):
        """{id: number of rows}; a copy of the rows goes beside the client's account."""
        out = harness.database.shop(f"SELECT id, pod, extract(epoch FROM at) FROM {TABLE} WHERE id LIKE '{self.run}-%' ORDER BY at")
        pathlib.Path(str(self.path).replace('.csv', '.rows')).write_text(out + '\n', encoding='utf-8')
        return collections.Counter(line.split('|', 1)[0] for line in out.splitlines())


def settle(seconds):
    """A pause in which nothing is done to the cluster."""
    time.sleep(seconds)
