"""The replicas: cicada-runtime as in pods, each started again when it ends, as a kubelet would."""
import json
import os
import pathlib
import signal
import subprocess
import threading
import time

from database import ROOT, Failure

RUNTIME = ROOT / 'build/release/bin/cicada-runtime'
DRAIN_SECONDS = 60


def descendants(pid: int) -> list[int]:
    found: list[int] = []
    for path in pathlib.Path(f'/proc/{pid}/task').glob('*/children'):
        try:
            children = [int(word) for word in path.read_text().split()]
        except OSError:
            continue
        for child in children:
            found += [child, *descendants(child)]
    return found


def send_signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


class Replica:
    """starts: how often it was started; crashes: how often it ended unasked. Only its own thread starts it, and with that it ends."""

    def __init__(self, name: str, function: str, spec: dict, url: str, folder: pathlib.Path, within: tuple[str, ...] = ()):
        """within: a command that runs another somewhere else."""
        self.within, self.name, self.function, self.log = within, name, function, (folder / f'{name}.log').open('wb')
        self.env = {**os.environ, 'CICADA_SPEC': json.dumps(spec), 'CICADA_FUNCTION_DIR': str(folder), 'CICADA_FUNCTION_NAME': function,
                    'CICADA_LISTEN': '127.0.0.1:0', 'CICADA_ADMIN_LISTEN': '127.0.0.1:0', 'CICADA_TERMINATION_LOG': str(folder / f'{name}.end'),
                    'DATABASE_URL': url}
        self.stopping, self.asked, self.frozen = False, False, False
        self.starts = self.crashes = 0
        self.popen: subprocess.Popen | None = None
        self.thread = threading.Thread(target=self._look_after, daemon=True)
        self.thread.start()

    def _look_after(self) -> None:
        while not self.stopping:
            self.starts, self.asked = self.starts + 1, False
            self.popen = subprocess.Popen([*self.within, 'setpriv', '--pdeathsig', 'KILL', RUNTIME], env=self.env, stdin=subprocess.DEVNULL, stdout=self.log,
                                          stderr=subprocess.STDOUT)
            self.popen.wait()
            if not self.asked:
                self.crashes += 1
            time.sleep(0.3)

    def signal_all(self, number: int) -> None:
        for pid in [self.popen.pid, *descendants(self.popen.pid)]:
            send_signal(pid, number)

    def kill(self) -> None:
        """As when its node loses power."""
        self.asked = True
        self.signal_all(signal.SIGKILL)

    def kill_worker(self) -> None:
        """As a crash in the handler: the parent starts another."""
        for pid in descendants(self.popen.pid):
            send_signal(pid, signal.SIGKILL)

    def drain(self) -> None:
        """As a pod that is deleted. What does not end in time has failed."""
        process, self.asked = self.popen, True
        process.terminate()
        self._await_end(process)

    def _await_end(self, process: subprocess.Popen) -> None:
        try:
            process.wait(DRAIN_SECONDS)
        except subprocess.TimeoutExpired as error:
            self.kill()
            raise Failure(f'{self.name} does not end {DRAIN_SECONDS} s after SIGTERM') from error

    def freeze(self, seconds: float) -> None:
        """As if it got no processor for so long; returns at once."""
        def thaw() -> None:
            time.sleep(seconds)
            self.signal_all(signal.SIGCONT)
            self.frozen = False
        self.frozen = True
        self.signal_all(signal.SIGSTOP)
        threading.Thread(target=thaw, daemon=True).start()

    def ask_to_stop(self) -> None:
        self.stopping = self.asked = True
        self.signal_all(signal.SIGCONT)
        self.popen.terminate()

    def stop(self) -> None:
        """After ask_to_stop(): a second SIGTERM would mean "at once"."""
        try:
            self._await_end(self.popen)
        finally:
            self.thread.join()
            self.log.close()


def stop_all(replicas: list[Replica]) -> None:
    for replica in replicas:
        replica.ask_to_stop()
    for replica in replicas:
        replica.stop()


def build_handlers(folder: pathlib.Path) -> None:
    subprocess.run(['cc', '-std=c11', '-D_GNU_SOURCE', '-O2', '-g', '-Wall', '-Wextra', '-Werror', '-fPIC', '-shared', '-fvisibility=hidden', '-Wl,-z,defs',
                    f'-I{ROOT / "runtime/sdk"}', '-o', folder / 'chaos.so', ROOT / 'e2e/chaos/chaos.c'], check=True)
