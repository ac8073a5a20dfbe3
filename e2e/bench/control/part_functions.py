"""1,000 and 5,000 Functions that sleep: memory, time until a new one is Ready, what is asked of the API server at rest, restarts."""
import os
import re
import time

from benchlib import kubernetes, report

from . import fleet

SIZES = [int(size) for size in os.environ.get('BENCH_FUNCTIONS', '1000,5000').split(',')]
REST_SECONDS = float(os.environ.get('BENCH_REST_SECONDS', '600'))
NEW_ONES = int(os.environ.get('BENCH_NEW', '50'))
SAMPLE = 20
RESTARTS = 3
QUIET_SECONDS = 10.0
PROGRAMS = ('gateway', 'operator')


class Bench:
    def __init__(self) -> None:
        self.plane = kubernetes.ControlPlane('control')
        self.fleet = fleet.Fleet(self.plane)
        self.spare = 1_000_000  # numbers of those that are made to be measured
        self.plane.register_gateway()
        self.running = {'gateway': self.plane.start_gateway(), 'operator': self.plane.start_operator()}
        for name in PROGRAMS:
            self.await_ready(name)
        self.await_log('operator', 'leading')

    def await_ready(self, name: str) -> None:
        address = f'{kubernetes.NODE_ADDRESS}:9090' if name == 'gateway' else '127.0.0.1:9190'
        self.running[name].process.wait_for(f'http://{address}/readyz', seconds=60)

    def await_log(self, name: str, text: str) -> None:
        deadline = time.monotonic() + 60
        while not re.search(text, self.running[name].process.log.read_text()):
            if time.monotonic() > deadline:
                raise RuntimeError(f'{name} does not say "{text}"')
            time.sleep(0.005)

    def memory(self) -> dict[str, float]:
        return {name: fleet.pss_mb(self.running[name].process) for name in PROGRAMS}

    def new_ones(self) -> dict[str, dict[str, float]]:
        """One after another; they go again, and what that costs is over before the next."""
        figures = []
        for _ in range(NEW_ONES):
            self.spare += 1
            figures.append(self.fleet.new_one(self.spare))
            self.fleet.remove(self.spare)
        return {key: fleet.percentiles([each[key] for each in figures]) for key in figures[0]}

    def rest(self, seconds: float) -> dict[str, object]:
        self.plane.await_quiet(QUIET_SECONDS, 300)
        offset, cpu = self.plane.audit_size(), {name: self.running[name].process.cpu_us() for name in PROGRAMS}
        started = time.monotonic()
        time.sleep(seconds)
        took = time.monotonic() - started
        return {'seconds': took, 'requests': {' '.join(key): count for key, count in sorted(self.plane.requests(offset).items())},
                'cpu_percent': {name: (self.running[name].process.cpu_us() - cpu[name]) / took / 1e4 for name in PROGRAMS}}

    def restart(self, name: str) -> float:
        """Seconds from exec: of the gateway until it is ready and routes, of the operator until a Function that was made meanwhile is Ready."""
        self.running[name].stop()
        self.spare += 1
        if name == 'operator':
            self.plane.api.must('POST', fleet.path_of(self.spare), fleet.manifest(self.spare))
        started = time.monotonic()
        self.running[name] = self.plane.start_gateway() if name == 'gateway' else self.plane.start_operator()
        if name == 'gateway':
            self.await_ready(name)
            if wrong := fleet.wrong_routes([0]):
                raise RuntimeError(f'after a restart: {wrong}')
            return time.monotonic() - started
        took = self.fleet.await_ready(f'item-{self.spare}') - started
        self.fleet.remove(self.spare)
        return took

    def size(self, before: int, count: int) -> dict[str, object]:
        figures: dict[str, object] = {'settle': self.fleet.grow(before, count)}
        self.plane.await_quiet(QUIET_SECONDS, 300)
        figures['memory'] = self.memory()
        figures['wrong_routes'] = fleet.wrong_routes(sample(count))
        figures['new'] = self.new_ones()
        figures['rest'] = self.rest(REST_SECONDS)
        figures['memory_after_rest'] = self.memory()
        return figures

    def cut(self, count: int) -> dict[str, object]:
        offset = self.plane.audit_size()
        figures: dict[str, object] = {'away_s': self.plane.restart_apiserver()}
        self.spare += 1
        figures['first_new_ms'] = self.fleet.new_one(self.spare)['ready_ms']
        self.fleet.remove(self.spare)
        self.plane.await_quiet(QUIET_SECONDS, 300)
        figures['requests'] = {' '.join(key): number for key, number in sorted(self.plane.requests(offset).items())}
        figures['memory'] = self.memory()
        figures['wrong_routes'] = fleet.wrong_routes(sample(count))
        figures['new'] = self.new_ones()
        figures['rest'] = self.rest(REST_SECONDS)
        # Whoever cannot renew the Lease for 10 s ends, and is started again.
        figures['ends'] = {name: self.running[name].ends for name in PROGRAMS}
        return figures


def sample(count: int) -> list[int]:
    return sorted({i * (count - 1) // (SAMPLE - 1) for i in range(SAMPLE)})


def disturbing(rest: dict) -> int:
    """Requests at rest that there should not be: lists, and writes of anything but the Lease."""
    return sum(count for key, count in rest['requests'].items()
               if key.split()[1] == 'list' or (key.split()[1] in kubernetes.WRITES and key.split()[2] != 'leases'))


def measure() -> dict[str, object]:
    bench = Bench()
    time.sleep(2)
    data: dict[str, object] = {'empty': bench.memory()}
    before = 0
    for count in SIZES:
        data[str(count)] = bench.size(before, count)
        before = count
        show_size(count, data)
    data['restarts'] = {name: [bench.restart(name) for _ in range(RESTARTS)] for name in PROGRAMS}
    time.sleep(2)
    data['memory_after_restart'] = bench.memory()
    data['cut'] = bench.cut(before)
    # The last, because it wakes one.
    data['held'] = fleet.ask(8080, 'item-0.example.com', '/?id=1', 'GET') == 0
    return data


def show_size(count: int, data: dict) -> None:
    figures = data[str(count)]
    settle, new, rest = figures['settle'], figures['new'], figures['rest']
    rows = [[name, f'{data["empty"][name]:.1f}', f'{figures["memory"][name]:.1f}', f'{figures["memory_after_rest"][name]:.1f}',
             f'{(figures["memory"][name] - data["empty"][name]) * 2**20 / count:.0f}', f'{rest["cpu_percent"][name]:.2f}'] for name in PROGRAMS]
    report.table(f'functions: {count} of them, asleep; made in {settle["created_s"]:.0f} s, all Ready after {settle["ready_s"]:.0f} s',
                 ['program', 'PSS MB with none', 'with them', 'after rest', 'bytes per function', '% CPU at rest'], rows)
    report.table(f'functions: a new one with {count} present, {NEW_ONES} one after another', ['ms', 'median', 'p99', 'max'],
                 [[what, *[f'{new[key][kind]:.0f}' for kind in ('median', 'p99', 'max')]] for what, key in (('routed', 'routed_ms'), ('Ready', 'ready_ms'))])
    print(f'  wrong routes: {figures["wrong_routes"] or "none"} (of {len(sample(count)) * 8})')
    print(f'  asked of the API server in {rest["seconds"]:.0f} s of rest: {rest["requests"]}')
    if count <= 1000:
        for name in PROGRAMS:
            report.target(f'{name} with {count} functions, PSS MB', max(figures['memory'][name], figures['memory_after_rest'][name]), 20, at_most=True)
    report.target('a new one is Ready, ms, the slowest', new['ready_ms']['max'], 1000, at_most=True)
    report.target(f'writes other than the Lease, and lists, in {rest["seconds"]:.0f} s of rest', disturbing(rest), 0, at_most=True)


def show_end(data: dict) -> None:
    restarts, cut = data['restarts'], data['cut']
    memory = ', '.join(f'{name} {cut["memory"][name]:.1f} MB' for name in PROGRAMS)
    report.table(f'functions: restarts with {SIZES[-1]} of them', ['program', 'least s', 'most s', 'PSS MB then'],
                 [[name, f'{min(restarts[name]):.2f}', f'{max(restarts[name]):.2f}', f'{data["memory_after_restart"][name]:.1f}'] for name in PROGRAMS])
    print(f'  the API server was away for {cut["away_s"]:.1f} s: the first new one Ready after {cut["first_new_ms"]:.0f} ms; '
          f'then a new one in {cut["new"]["ready_ms"]["median"]:.0f} ms (max {cut["new"]["ready_ms"]["max"]:.0f}); '
          f'PSS {memory}')
    print(f'  asked of it until all was quiet: {cut["requests"]}')
    print(f'  asked of it in {cut["rest"]["seconds"]:.0f} s of rest: {cut["rest"]["requests"]}; wrong routes: {cut["wrong_routes"] or "none"}')
    print(f'  a request for a sleeping function is held: {"yes" if data["held"] else "NO"}')
    report.target('writes other than the Lease, and lists, at rest after that', disturbing(cut['rest']), 0, at_most=True)


def run() -> None:
    with kubernetes.own_network():
        data = measure()
    show_end(data)
    report.save('control-functions', data)
