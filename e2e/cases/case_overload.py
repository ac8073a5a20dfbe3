"""More than there is room for, two gateways, and pods that do not come: nothing is dropped, and no pod works on more than it may."""
import concurrent.futures
import threading
import time

import harness
from harness import SHOP, Load, apply, call_by_name, expect, kubectl, until


def gateway_addresses():
    """Of both gateways, to call each by itself."""
    pods = until('two gateways ready', 60, lambda: (lambda p: p if len(p) == 2 and all(map(harness.pod_is_ready, p)) else None)(
        harness.component_pods('gateway')))
    return [(pod['status']['podIP'], 8080) for pod in pods]


def all_at_once(count, request):
    """request(i) for each i < count, every one on a thread of its own, begun together; the answers."""
    barrier = threading.Barrier(count)

    def one(i):
        barrier.wait(30)
        return request(i)
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def exclusive(name, **spec):
    """A function whose handler says 500 if it is called while it is at work in the same process."""
    return harness.function_manifest(name, 'e2e.so:handle_exclusive', image_name='cicada-e2e', concurrency=1, http={}, **spec)


def expect_all_answered(answers, what):
    failed = [f'{a.status} {a.body[:200]!r}' for a in answers if a.status != 200]
    seconds = [a.seconds for a in answers]
    print(f'    {what}: {len(answers) - len(failed)} answered, {len(failed)} failed, p50 {harness.percentile(seconds, 50):.2f} s, '
          f'last {max(seconds):.2f} s')
    expect(not failed, failed[:5])


def test_overload_is_held_and_no_pod_works_on_two():
    name = 'crowded'
    gateways = gateway_addresses()
    apply(exclusive(name, scaling={'maxReplicas': 10, 'initialReplicas': 0, 'idleSeconds': 5}))
    try:
        harness.wait_ready(name)
        harness.wait_asleep(name)
        answers = all_at_once(100, lambda i: call_by_name(name, path='/?ms=300', address=gateways[i % 2]))
        expect_all_answered(answers, '100 at once from zero, limit 1 per pod, 300 ms, two gateways')
        print(f'    replicas: {harness.deployment_replicas(name)}')
    finally:
        kubectl('delete', 'fn', name, '-n', SHOP)


def test_concurrency_one_is_one_over_two_gateways():
    """One pod, and both gateways send as much as they may."""
    name = 'single'
    gateways = gateway_addresses()
    apply(exclusive(name, replicas=1))
    try:
        harness.wait_ready(name)
        for _ in range(5):
            answers = all_at_once(20, lambda i: call_by_name(name, path='/?ms=30', address=gateways[i % 2]))
            expect_all_answered(answers, '20 at once for one pod')
    finally:
        kubectl('delete', 'fn', name, '-n', SHOP)


def test_two_gateways_wake_at_once():
    name = 'woken'
    gateways = gateway_addresses()
    apply(exclusive(name, scaling={'maxReplicas': 1, 'initialReplicas': 0, 'idleSeconds': 1}))
    try:
        harness.wait_ready(name)
        for _ in range(5):
            harness.wait_asleep(name)
            answers = all_at_once(2, lambda i: call_by_name(name, path='/?ms=1', address=gateways[i]))
            expect_all_answered(answers, 'one to each gateway')
            expect(len([p for p in harness.function_pods(name) if not p['metadata'].get('deletionTimestamp')]) <= 1, 'two pods')
    finally:
        kubectl('delete', 'fn', name, '-n', SHOP)


def test_a_pod_deleted_by_hand_while_requests_are_held():
    name = 'plucked'
    apply(exclusive(name, scaling={'maxReplicas': 1, 'initialReplicas': 0, 'idleSeconds': 1}))
    try:
        harness.wait_ready(name)
        for grace in (None, 0, None, 0):
            harness.wait_asleep(name)
            before = {p['metadata']['uid'] for p in harness.function_pods(name)}
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                held = pool.submit(call_by_name, name, path='/?ms=1')
                pod = until('its pod', 20, lambda: next(
                    (p for p in harness.function_pods(name) if p['metadata']['uid'] not in before), None), 0.005)
                path = f"/api/v1/namespaces/{SHOP}/pods/{pod['metadata']['name']}"
                options = {} if grace is None else {'gracePeriodSeconds': grace}
                status, _ = harness.api.request('DELETE', path, options, 'application/json')
                expect(status in (200, 202), f'delete: {status}')
                answer = held.result()
            expect_all_answered([answer], f'its pod deleted, grace {grace}')
    finally:
        kubectl('delete', 'fn', name, '-n', SHOP)


def test_a_cordoned_node_is_waited_for():
    """Unschedulable waits, and says so when its time is over; a node that comes back serves what is held."""
    patient, hasty = 'patient', 'hasty'
    nodes = [n['metadata']['name'] for n in harness.api.get('/api/v1/nodes')['items']]
    for name, seconds in ((patient, 60), (hasty, 3)):
        apply(exclusive(name, holdSeconds=seconds, scaling={'maxReplicas': 1, 'initialReplicas': 0, 'idleSeconds': 1}))
    try:
        for name in (patient, hasty):
            harness.wait_ready(name)
            harness.wait_asleep(name)
        kubectl('cordon', *nodes)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            held = pool.submit(call_by_name, patient, path='/?ms=1')
            refused = call_by_name(hasty, path='/?ms=1')
            print(f'    {refused.status} after {refused.seconds:.1f} s: {refused.json["detail"]}')
            expect(refused.status == 503 and refused.json['code'] == 'hold_timeout', refused.body)
            expect('Unschedulable' in refused.json['detail'], refused.body)
            expect(not held.done(), 'the other was answered')
            kubectl('uncordon', *nodes)
            expect_all_answered([held.result()], 'held while no node took pods')
    finally:
        kubectl('uncordon', *nodes)
        kubectl('delete', 'fn', patient, hasty, '-n', SHOP)


def test_a_newest_generation_that_never_gets_ready_refuses_nobody():
    """The pod before serves on, also when it has to be replaced; mended, requests wait for the new one."""
    name = 'halfway'
    apply(exclusive(name, scaling={'maxReplicas': 1, 'idleSeconds': 60}))
    try:
        harness.wait_ready(name)
        expect(call_by_name(name, path='/?ms=1').status == 200, 'not served')
        harness.patch_function(name, {'handler': 'e2e.so:no_such_handler'})
        until('HandlerLoadFailed', 60, lambda: harness.condition(name)[:2] == ('False', 'HandlerLoadFailed'))
        with Load(lambda: call_by_name(name, path='/?ms=1'), rate=40, threads=4) as load:
            for _ in range(3):
                for pod in harness.function_pods(name):
                    if harness.pod_is_ready(pod) and not pod['metadata'].get('deletionTimestamp'):
                        kubectl('delete', 'pod', pod['metadata']['name'], '-n', SHOP, '--wait=false')
                time.sleep(2)
            harness.patch_function(name, {'handler': 'e2e.so:handle_exclusive'})
            harness.wait_ready(name)
            time.sleep(1)
        load.verdict('the older pod deleted three times beside a broken newest, then mended', least=100)
    finally:
        kubectl('delete', 'fn', name, '-n', SHOP)
