"""An operator with another runtime image as its default: awake Functions are rolled five at a time, sleeping ones at a limited rate, and nobody is woken."""
import os
import threading
import time

from benchlib import kubernetes, report

from . import fleet, kubelet

FUNCTIONS = int(os.environ.get('BENCH_UPGRADE_FUNCTIONS', '1000'))
AWAKE = 30
AT_ONCE = 5         # operator/function/rollout_gate.h
ASLEEP_PER_SECOND = 10
OLD, NEW = 'cicada-runtime:old', 'cicada-runtime:new'
DEPLOYMENTS = '/apis/apps/v1/deployments'


def is_complete(deployment: dict) -> bool:
    status, replicas = deployment.get('status', {}), deployment['spec']['replicas']
    return (status.get('observedGeneration', 0) >= deployment['metadata']['generation'] and status.get('updatedReplicas', 0) >= replicas
            and status.get('availableReplicas', 0) >= replicas and status.get('replicas', 0) <= replicas)


class Rollout:
    """What the Deployments went through, in the order in which the API server tells it."""

    def __init__(self, api: kubernetes.Api, awake: set[str]):
        self.awake, self.news = awake, threading.Condition()
        self.rolling: set[str] = set()
        self.rolling_most = 0
        self.rolled_at: dict[str, float] = {}  # when its template was seen to be the new one
        self.done: set[str] = set()
        self.woken: set[str] = set()
        self.watch = kubernetes.Watch(api, DEPLOYMENTS, self._seen, kubelet.SELECTOR)

    def _seen(self, _: str, deployment: dict, when: float) -> None:
        name = deployment['metadata']['name']
        with self.news:
            if name not in self.awake and deployment['spec']['replicas'] > 0:
                self.woken.add(name)
            if deployment['spec']['template']['spec']['containers'][0]['image'] != NEW:
                return
            self.rolled_at.setdefault(name, when)
            if is_complete(deployment):
                self.done.add(name)
                self.rolling.discard(name)
            elif name in self.awake:
                self.rolling.add(name)
                self.rolling_most = max(self.rolling_most, len(self.rolling))
            self.news.notify_all()

    def await_done(self, count: int, seconds: float) -> None:
        with self.news:
            if not self.news.wait_for(lambda: len(self.done) >= count, seconds):
                raise RuntimeError(f'{len(self.done)} of {count} are done after {seconds} s')

    def rate_most(self) -> int:
        """The most sleeping ones within one second."""
        times = sorted(when for name, when in self.rolled_at.items() if name not in self.awake)
        return max((sum(1 for when in times if start <= when < start + 1) for start in times), default=0)


def measure() -> dict[str, object]:
    plane = kubernetes.ControlPlane('control-upgrade')
    all_of_them, pods = fleet.Fleet(plane), kubelet.Kubelet(plane.api)
    plane.register_gateway()
    plane.start_gateway()
    operator = plane.start_operator(OLD)
    all_of_them.grow(0, AWAKE, initialReplicas=1, idleSeconds=3600)
    all_of_them.grow(AWAKE, FUNCTIONS)
    plane.await_quiet(10, 300)
    pods.forget()
    awake = {f'item-{index}' for index in range(AWAKE)}
    rollout = Rollout(plane.api, awake)
    operator.stop()
    started, offset = time.monotonic(), plane.audit_size()
    operator = plane.start_operator(NEW)
    rollout.await_done(FUNCTIONS, 120 + FUNCTIONS)
    asleep = [when for name, when in rollout.rolled_at.items() if name not in awake]
    awake_times = [when for name, when in rollout.rolled_at.items() if name in awake]
    plane.await_quiet(10, 300)
    return {'functions': FUNCTIONS, 'awake': AWAKE, 'rolling_most': rollout.rolling_most, 'per_second_most': rollout.rate_most(),
            'awake_s': max(awake_times) - started, 'asleep_s': max(asleep) - started, 'woken': sorted(rollout.woken),
            'pods_of_sleeping': sorted(pods.functions - awake), 'not_ready': FUNCTIONS - len(all_of_them.ready),
            'operator_pss_mb': fleet.pss_mb(operator.process),
            'requests': {' '.join(key): count for key, count in sorted(plane.requests(offset).items()) if key[0] == 'operator'}}


def run() -> None:
    with kubernetes.own_network():
        data = measure()
    report.table(f'upgrade: {FUNCTIONS} Functions, {AWAKE} awake; an operator with another runtime image',
                 ['Functions', 'all have it after s', 'most at once', 'most in 1 s'],
                 [['awake', f'{data["awake_s"]:.0f}', str(data['rolling_most']), '-'], ['asleep', f'{data["asleep_s"]:.0f}', '-', str(data['per_second_most'])]])
    print(f'  woken: {data["woken"] or "none"}; pods of sleeping ones: {data["pods_of_sleeping"] or "none"}; not Ready afterwards: {data["not_ready"]}')
    print(f'  asked of the API server by the operator: {data["requests"]}')
    report.target('awake ones in rollout at once', data['rolling_most'], AT_ONCE, at_most=True)
    report.target('sleeping ones renewed in a second', data['per_second_most'], ASLEEP_PER_SECOND + 1, at_most=True)
    report.target('sleeping ones that were woken', len(data['woken']) + len(data['pods_of_sleeping']), 0, at_most=True)
    report.save('control-upgrade', data)
