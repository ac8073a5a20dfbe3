"""Processes that this run started, what they use, and how they end: by pid, never by name."""
import os
import pathlib
import subprocess
import time
import urllib.error
import urllib.request

from . import build

TICKS_PER_SECOND = os.sysconf('SC_CLK_TCK')
END_SECONDS = 5.0
_started: list['Process'] = []


class Process:
    """A program and all its descendants. Its output goes to build/bench/log/NAME.log."""

    def __init__(self, name: str, command: list[str], env: dict[str, str] | None = None):
        log = build.OUT / 'log' / f'{name.replace(" ", "-").replace("/", "-")}.log'
        log.parent.mkdir(parents=True, exist_ok=True)
        self.name, self.log = name, log
        with log.open('wb') as out:
            self.popen = subprocess.Popen(command, env={**os.environ, **(env or {})}, stdin=subprocess.DEVNULL,
                                          stdout=out, stderr=subprocess.STDOUT)
        _started.append(self)

    def pids(self) -> list[int]:
        return [self.popen.pid, *descendants(self.popen.pid)]

    def wait_for(self, url: str, status: int = 200, seconds: float = 10.0, host: str | None = None) -> None:
        """Until a GET is answered with that status."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.popen.poll() is None:
            if status_of(url, host) == status:
                return
            time.sleep(0.02)
        raise RuntimeError(f'{self.name} does not answer at {url}: {self.log.read_text()[-600:]}')

    def cpu_us(self) -> float:
        return sum(cpu_us(pid) for pid in self.pids())

    def switches(self) -> int:
        return sum(switches(pid) for pid in self.pids())

    def memory_mb(self) -> dict[str, float]:
        """PSS and RSS of all of it together."""
        figures = [memory_kb(pid) for pid in self.pids()]
        return {name: sum(each[name] for each in figures) / 1024 for name in ('pss', 'rss')}

    def stop(self) -> None:
        if self in _started:
            _started.remove(self)
        pids = descendants(self.popen.pid)
        self.popen.terminate()
        try:
            self.popen.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
            for pid in pids:
                kill(pid)


def status_of(url: str, host: str | None = None) -> int:
    """0: no answer."""
    request = urllib.request.Request(url, headers={'Host': host} if host else {})
    try:
        with urllib.request.urlopen(request, timeout=1) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def stop_all() -> None:
    while _started:
        _started[-1].stop()


def kill(pid: int) -> None:
    try:
        os.kill(pid, 9)
    except ProcessLookupError:
        pass


def stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the state on; [] if it is gone."""
    try:
        return pathlib.Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()
    except OSError:
        return []


def busy_us() -> float:
    """What the processors that this run is pinned to have done so far, for whomever, interrupts included."""
    pinned = {f'cpu{number}' for number in os.sched_getaffinity(0)}
    lines = [line.split() for line in pathlib.Path('/proc/stat').read_text().splitlines()]
    ticks = sum(sum(map(int, (*line[1:4], *line[6:8]))) for line in lines if line[0] in pinned)  # but idle and iowait
    return ticks * 1e6 / TICKS_PER_SECOND


def children_us() -> float:
    """CPU time of commands that have ended, as those of build.run()."""
    times = os.times()
    return (times.children_user + times.children_system) * 1e6


def descendants(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in os.listdir('/proc'):
        if entry.isdigit() and (fields := stat(int(entry))):
            children.setdefault(int(fields[1]), []).append(int(entry))
    found, queue = [], [pid]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


def cpu_us(pid: int) -> float:
    fields = stat(pid)
    return (int(fields[11]) + int(fields[12])) * 1e6 / TICKS_PER_SECOND if fields else 0.0


def switches(pid: int) -> int:
    """Context switches of all its threads, wanted or not."""
    total = 0
    for status in pathlib.Path(f'/proc/{pid}/task').glob('*/status'):
        try:
            total += sum(int(line.split()[1]) for line in status.read_text().splitlines() if 'ctxt_switches' in line)
        except OSError:
            pass
    return total


def memory_kb(pid: int) -> dict[str, int]:
    figures = {'pss': 0, 'rss': 0}
    try:
        for line in pathlib.Path(f'/proc/{pid}/smaps_rollup').read_text().splitlines():
            name = line.split(':')[0].lower()
            if name in figures:
                figures[name] = int(line.split()[1])
    except OSError:
        pass
    return figures
