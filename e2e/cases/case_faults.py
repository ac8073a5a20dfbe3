"""Parts of the control plane go away; requests do not notice."""
import os
import pathlib
import signal
import time

import harness
from harness import SYSTEM, Load, expect, kubectl, order, until


def leader():
    lease = harness.api.get(f'/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases/cicada-operator')
    return (lease or {}).get('spec', {}).get('holderIdentity') or ''


def two_ready(component):
    return until(f'two {component} pods ready', 60, lambda: (lambda p: p if len(p) == 2 and all(
        map(harness.pod_is_ready, p)) else None)(harness.component_pods(component)))


def pid_of(pod_name):
    pid = harness.pod_process(pod_name)
    expect(pid, f'no process of {pod_name} on this machine')
    return pid


def test_operator_hangs_the_standby_leads():
    """SIGSTOP: it can neither renew nor release its Lease. Woken again it must notice, and not lead beside the other."""
    two_ready('operator')
    first = until('a leader', 30, leader)
    pid = pid_of(first)
    with Load(order, rate=20, threads=4) as load:
        os.kill(pid, signal.SIGSTOP)
        try:
            start = time.monotonic()
            second = until('another leader', 20, lambda: (lambda who: who if who not in ('', first) else None)(leader()))
            print(f'    {second} leads {time.monotonic() - start:.1f} s after {first} hung')
        finally:
            os.kill(pid, signal.SIGCONT)
        until('the old leader has ended', 15, lambda: not pathlib.Path(f'/proc/{pid}').exists())
    load.verdict('requests meanwhile', least=100)
    two_ready('operator')
    expect(leader() == second, f'{leader()} leads, not {second}')


def test_operator_killed_another_leads():
    two_ready('operator')
    first = until('a leader', 30, leader)
    with Load(order, rate=20, threads=4) as load:
        kubectl('delete', 'pod', first, '-n', SYSTEM, '--grace-period=0', '--force')
        start = time.monotonic()
        second = until('another leader', 20, lambda: (lambda who: who if who not in ('', first) else None)(leader()))
        print(f'    {second} leads {time.monotonic() - start:.1f} s after {first} was killed')
        time.sleep(2)
    load.verdict('requests meanwhile', least=20)
    two_ready('operator')


def test_without_any_operator_warm_and_cold_requests_are_answered():
    name = 'create-order'
    harness.wait_asleep(name)
    kubectl('scale', 'deploy', 'cicada-operator', '-n', SYSTEM, '--replicas=0')
    try:
        until('no operator', 60, lambda: not harness.pods('app.kubernetes.io/component=operator', SYSTEM))
        answer = order()
        expect(answer.status == 201 and 'start' in answer.server_timing, f'cold: {answer.status} {answer.headers}')
        print(f'    cold without an operator: {answer.seconds * 1e3:.0f} ms')
        expect(order().status == 201, 'warm')
        # Both gateways anew, while no operator runs; nobody puts the function to zero now, so the test does.
        for pod in harness.component_pods('gateway'):
            kubectl('delete', 'pod', pod['metadata']['name'], '-n', SYSTEM)
        gateways = two_ready('gateway')
        status, _ = harness.api.request('PATCH', f'/apis/apps/v1/namespaces/{harness.SHOP}/deployments/{name}/scale',
                                        {'spec': {'replicas': 0}})
        expect(status == 200, 'scale to zero by hand')
        until('asleep', 60, lambda: not harness.function_pods(name))
        for pod in gateways:
            answer = order(address=(pod['status']['podIP'], 8080))
            expect(answer.status == 201, f"through {pod['metadata']['name']}: {answer.status} {answer.body}")
            print(f'    through a gateway that never saw an operator: {answer.seconds * 1e3:.0f} ms, '
                  f"{answer.headers.get('server-timing')}")
    finally:
        kubectl('scale', 'deploy', 'cicada-operator', '-n', SYSTEM, '--replicas=2')
    two_ready('operator')
    harness.wait_asleep(name)


def test_gateway_pods_deleted_under_load():
    two_ready('gateway')
    harness.patch_function('create-order', {'scaling': {'idleSeconds': 30}})
    expect(order().status == 201, 'no order')
    with Load(order, rate=50) as load:
        time.sleep(1)
        for _ in range(2):
            victim = harness.component_pods('gateway')[0]['metadata']['name']
            kubectl('delete', 'pod', victim, '-n', SYSTEM, timeout=200)
            two_ready('gateway')
        time.sleep(1)
    load.verdict('two gateways deleted, one after the other', least=100)
    harness.patch_function('create-order', {'scaling': {'idleSeconds': 1}})


def test_function_pod_deleted_under_load():
    harness.patch_function('create-order', {'scaling': {'idleSeconds': 30}})
    expect(order().status == 201, 'no order')
    with Load(order, rate=40) as load:
        time.sleep(1)
        for _ in range(3):
            for pod in harness.function_pods('create-order'):
                if not pod['metadata'].get('deletionTimestamp'):
                    kubectl('delete', 'pod', pod['metadata']['name'], '-n', harness.SHOP, '--wait=false')
            time.sleep(2)
    load.verdict('its pods deleted three times', least=100)
    harness.patch_function('create-order', {'scaling': {'idleSeconds': 1}})


def test_zero_and_back_again_under_sparse_load():
    """Requests at moments that cross the decision to sleep: each is answered."""
    name = 'create-order'
    harness.wait_asleep(name)
    failures, cold = [], 0
    for i in range(25):
        answer = order()
        cold += 'start' in answer.server_timing
        if answer.status != 201:
            failures.append(f'{answer.status} {answer.body[:200]!r}')
        # idleSeconds is 1 and decisions fall once a second: pauses from 0.9 to 2.3 s meet it in every phase.
        time.sleep(0.9 + (i % 8) * 0.2)
    print(f'    25 requests, {cold} of them cold, {len(failures)} failed')
    expect(not failures, failures[:3])
