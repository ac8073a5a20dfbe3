"""One to many, changes under load, deletion, rest."""
import re
import pathlib
import time

import harness
from harness import SHOP, Load, apply, call_by_name, expect, http_call, order, until


def test_load_brings_more_replicas_and_one_pod_never_works_on_two():
    name = 'busy'
    apply(harness.function_manifest(name, 'e2e.so:handle_exclusive', image_name='cicada-e2e', concurrency=1, http={},
                                    scaling={'maxReplicas': 4, 'idleSeconds': 3}))
    try:
        harness.wait_ready(name)
        with Load(lambda: call_by_name(name, path='/?ms=200'), rate=40, threads=8) as load:
            until('more than one replica', 30, lambda: sum(map(harness.pod_is_ready, harness.function_pods(name))) >= 3)
            time.sleep(3)
        load.verdict('200 ms handler, concurrency 1, 8 clients', least=20)
        described = harness.kubectl('describe', 'fn', name, '-n', SHOP)
        message = harness.condition(name, 'Active')[2]
        print(f'    Active: {message}')
        expect(re.fullmatch(r'\d replicas: .+ \(load [\d.]+ over 60 s, [\d.]+ over 6 s; target 0\.7 for each\)', message), message)
        expect(message in described, f'kubectl describe does not tell why: {described}')
        harness.wait_asleep(name, seconds=90)
        until('Events of each change', 10, lambda: all(
            re.search(rf'Normal\s+{reason}\s.*\scicada-operator\s+\d+ -> {to} replicas: \S', harness.kubectl('describe', 'fn', name, '-n', SHOP))
            for reason, to in (('ScaledUp', '[2-4]'), ('ScaledToZero', '0'))), 1)
    finally:
        harness.kubectl('delete', 'fn', name, '-n', SHOP)


def test_spec_change_under_load_fails_no_request():
    name = 'create-order'
    harness.patch_function(name, {'scaling': {'idleSeconds': 30}})
    expect(order().status == 201, 'no order')
    with Load(order, rate=40) as load:
        time.sleep(1)
        for value in ('one', 'two'):
            generation = harness.function(name)['metadata']['generation']
            before = {p['metadata']['name'] for p in harness.function_pods(name)}
            harness.patch_function(name, {'env': [{'name': 'ROLL', 'value': value}]})
            expect(harness.function(name)['metadata']['generation'] == generation + 1, 'no new generation')
            harness.wait_ready(name)
            until('the old pods are gone', 60, lambda: not before & {
                p['metadata']['name'] for p in harness.function_pods(name)})
        time.sleep(1)
    load.verdict('two rollouts under load', least=100)


def test_routes_and_scaling_changes_roll_no_pod():
    name = 'create-order'
    expect(order().status == 201, 'no order')
    before = {p['metadata']['uid'] for p in harness.function_pods(name) if not p['metadata'].get('deletionTimestamp')}
    harness.patch_function(name, {'scaling': {'idleSeconds': 20, 'maxReplicas': 9}, 'queueDepth': 999, 'holdSeconds': 59})
    harness.wait_ready(name)
    time.sleep(2)
    after = {p['metadata']['uid'] for p in harness.function_pods(name) if not p['metadata'].get('deletionTimestamp')}
    expect(before == after, f'pods were replaced: {before} -> {after}')


def test_replicas_pinned_and_given_back():
    name = 'settle-payment'
    harness.kubectl('scale', f'fn/{name}', '-n', SHOP, '--replicas=2')
    until('two pods', 30, lambda: sum(map(harness.pod_is_ready, harness.function_pods(name))) == 2)
    until('status.replicas', 10, lambda: harness.function(name)['status'].get('replicas') == 2)
    harness.kubectl('scale', f'fn/{name}', '-n', SHOP, '--replicas=0')
    harness.wait_asleep(name)
    answer = until('switched off', 10, lambda: (lambda a: a if a.status == 503 else None)(
        http_call('POST', '/payments', {'order_id': 1, 'payment_status': 'paid'}, timeout=5)))
    expect(b'ScaledToZeroByUser' in answer.body, answer.body)
    harness.patch_function(name, {'replicas': None})
    until('given back', 20, lambda: http_call('POST', '/payments', {'order_id': 0, 'payment_status': 'paid'}).status < 500)


def test_a_horizontal_pod_autoscaler_acts_on_the_function():
    """Through the scale subresource, as KEDA does. Without a metrics server here, its limits are what it acts by."""
    name = 'settle-payment'
    path = f'/apis/autoscaling/v1/namespaces/{SHOP}/horizontalpodautoscalers/{name}'
    harness.kubectl('scale', f'fn/{name}', '-n', SHOP, '--replicas=1')  # one that is at zero is switched off, for it, too
    apply({'apiVersion': 'autoscaling/v1', 'kind': 'HorizontalPodAutoscaler', 'metadata': {'name': name, 'namespace': SHOP},
           'spec': {'minReplicas': 2, 'maxReplicas': 4, 'targetCPUUtilizationPercentage': 50,
                    'scaleTargetRef': {'apiVersion': 'cicada.dev/v1alpha1', 'kind': 'Function', 'name': name}}})
    try:
        for replicas in (2, 3):
            status, data = harness.api.request('PATCH', path, {'spec': {'minReplicas': replicas}})
            expect(status == 200, f'{status} {data[:300]!r}')
            until(f'spec.replicas {replicas}', 60, lambda: harness.function(name)['spec'].get('replicas') == replicas)
            until(f'{replicas} pods', 30, lambda: sum(map(harness.pod_is_ready, harness.function_pods(name))) == replicas)
        until('it sees them', 60, lambda: harness.api.get(path)['status'].get('currentReplicas') == 3)
    finally:
        harness.kubectl('delete', 'hpa', name, '-n', SHOP)
        harness.patch_function(name, {'replicas': None})
    harness.wait_ready(name)


def test_delete_takes_every_child():
    name = 'short-lived'
    apply(harness.function_manifest(name, 'shop.so:handle_user_request', database={'secretRef': {'name': 'shop-db'}},
                                    http={'hosts': ['short.example.com']}))
    harness.wait_ready(name)
    harness.kubectl('delete', 'fn', name, '-n', SHOP)
    def gone():
        for path in ('/apis/apps/v1/{}/deployments', '/api/v1/{}/services', '/apis/networking.k8s.io/v1/{}/ingresses'):
            if harness.api.get(path.format(f'namespaces/{SHOP}') + f'/{name}'):
                return False
        return not harness.function_pods(name)
    until('children are gone', 60, gone)
    until('no route', 10, lambda: http_call('GET', '/', host='short.example.com').status == 404)


def writes():
    """Writes seen by the API server so far, but Leases and the nodes' own, by verb and resource."""
    found = {}
    for line in harness.api.text('/metrics').splitlines():
        if not line.startswith('apiserver_request_total{'):
            continue
        labels = dict(re.findall(r'(\w+)="([^"]*)"', line))
        if labels['verb'] not in ('POST', 'PUT', 'PATCH', 'DELETE', 'APPLY') or labels['resource'] in ('leases', 'nodes'):
            continue
        if labels['resource'] in ('tokenreviews', 'subjectaccessreviews'):
            continue  # questions, not writes
        key = (labels['verb'], labels['resource'], labels.get('subresource', ''))
        found[key] = found.get(key, 0) + float(line.rsplit(' ', 1)[1])
    return found


def statuses():
    """Of all Functions: what to look at when somebody has written."""
    return {f"{f['metadata']['namespace']}/{f['metadata']['name']}": f.get('status') for f in harness.api.get('/apis/cicada.dev/v1alpha1/functions')['items']}


def test_a_settled_system_writes_nothing():
    for name in ('create-order', 'settle-payment'):
        harness.patch_function(name, {'scaling': {'idleSeconds': 1}})
        harness.wait_asleep(name)
    # The others fall asleep in their own time, and the kubelet deletes the objects of pods that have ended when its bookkeeping comes to it
    # (see case_chart): neither is what a settled system does.
    until('every function sleeps, and its pods are gone', 240, lambda: not harness.pods('', SHOP) and not harness.ended_pods(), 1)
    time.sleep(15)
    before, told = writes(), statuses()
    time.sleep(60)
    after = writes()
    changed = {k: after[k] - before.get(k, 0) for k in after if after[k] != before.get(k, 0)}
    print(f'    writes in 60 s but Leases: {changed or "none"}')
    expect(not changed, f'writes: {changed}; changed: {[(told.get(k), v) for k, v in statuses().items() if v != told.get(k)]}')


def pss_bytes(pid):
    text = pathlib.Path(f'/proc/{pid}/smaps_rollup').read_text()
    return int(re.search(r'^Pss:\s+(\d+) kB', text, re.M).group(1)) * 1024


def test_memory_of_operator_and_gateway():
    found = 0
    for process in pathlib.Path('/proc').iterdir():
        if not process.name.isdigit():
            continue
        try:
            name = pathlib.PurePath((process / 'cmdline').read_bytes().split(b'\0')[0].decode()).name
            if name in ('cicada-operator', 'cicada-gateway'):
                found += 1
                threads = len(list((process / 'task').iterdir()))
                print(f'    {name}: PSS {pss_bytes(process.name) / 2**20:.1f} MiB, {threads} threads (goal: under 15)')
        except (OSError, UnicodeDecodeError):
            continue
    expect(found >= 4, f'{found} of our processes seen on this machine')
