"""The faults, one function each: what it does to the cluster, and what it waits for until the cluster is whole again.

`what` names the Functions under load. `number` counts the rounds, from 0. None of them may cost a request.
"""
import contextlib
import os
import signal
import time

import harness
from harness import ROOT, SHOP, SYSTEM, expect, kubectl, run, until
import case_faults
import case_install


def live(pods):
    return [pod['metadata']['name'] for pod in pods if not pod['metadata'].get('deletionTimestamp')]


def ended(names, seconds=120):
    """Waits until no process of these pods is left. (Their objects may stay for a minute.)"""
    until(f'processes of {names} have ended', seconds, lambda: not any(map(harness.pod_process, names)), 0.2)


def whole():
    """Operator and gateways are as many and as ready as they should be."""
    case_faults.two_ready('operator')
    case_faults.two_ready('gateway')


def served(what):
    """They answer, also what came before this. A fault that comes every few seconds, however long the last one takes to be over, is no fault but an
    outage: on a busy machine no pod might get to serve."""
    for function in what:
        answer = harness.call_by_name(function, path='/?ms=0&id=served')
        expect(answer.status == 200, f'{function}: {answer.status} {answer.body[:200]!r}')


def function_rollout(what, number):
    before = [name for function in what for name in live(harness.function_pods(function))]
    for function in what:
        harness.patch_function(function, {'env': [{'name': 'ROUND', 'value': f'{number}-{time.time()}'}]})
    for function in what:
        harness.wait_ready(function)
    ended(before)


def rollout(component):
    before = live(harness.component_pods(component))
    kubectl('rollout', 'restart', f'deploy/cicada-{component}', '-n', SYSTEM)
    kubectl('rollout', 'status', f'deploy/cicada-{component}', '-n', SYSTEM, '--timeout=150s', timeout=160)
    ended(before)


def gateway_rollout(_what, _number):
    rollout('gateway')


def operator_rollout(_what, _number):
    rollout('operator')


def chart_upgrade(_what, number):
    before = live(harness.component_pods('gateway')) + live(harness.component_pods('operator'))
    values = [part for component in ('gateway', 'operator')
              for part in ('--set-string', f'{component}.podAnnotations.round={number}-{int(time.time())}')]
    run('helm', 'upgrade', 'cicada', case_install.CHART, '-n', SYSTEM, '--wait', '--timeout', '150s', *case_install.helm_values(), *values,
        timeout=200)
    ended(before)


def pod_delete(what, _number):
    # A kubelet of 1.20 that is told to end a pod while it starts it does so a minute later.
    ready = [list(filter(harness.pod_is_ready, harness.function_pods(function))) for function in what]
    victims = [names[0] for names in map(live, ready) if names]
    for name in victims:
        kubectl('delete', 'pod', name, '-n', SHOP, '--wait=false')
    ended(victims)


def gateway_delete(_what, _number):
    victim = live(harness.component_pods('gateway'))[0]
    kubectl('delete', 'pod', victim, '-n', SYSTEM, '--wait=false')
    ended([victim])
    whole()


def scale_down(what, _number):
    """Three pods of each by hand, then one, then as many as there is work for."""
    def ready(function):
        return sum(map(harness.pod_is_ready, harness.function_pods(function)))
    for function in what:
        kubectl('scale', f'fn/{function}', '-n', SHOP, '--replicas=3')
    for function in what:
        until(f'three pods of {function}', 60, lambda f=function: ready(f) >= 3)
    for function in what:
        kubectl('scale', f'fn/{function}', '-n', SHOP, '--replicas=1')
    for function in what:
        until(f'one pod of {function}', 60, lambda f=function: len(live(harness.function_pods(f))) == 1)
    for function in what:
        harness.patch_function(function, {'replicas': None})


def scale_to_zero(what, _number):
    """Somebody scales the Deployment itself to zero under the load: it is woken again."""
    for function in what:
        status, body = harness.api.request('PATCH', f'/apis/apps/v1/namespaces/{SHOP}/deployments/{function}/scale', {'spec': {'replicas': 0}})
        expect(status == 200, f'scale: {status} {body[:200]!r}')
    time.sleep(2)


def evict(namespace, name):
    body = {'apiVersion': 'policy/v1beta1', 'kind': 'Eviction', 'metadata': {'name': name, 'namespace': namespace}}
    status, answer = harness.api.request('POST', f'/api/v1/namespaces/{namespace}/pods/{name}/eviction', body, 'application/json')
    expect(status in (200, 201, 404, 429), f'eviction of {name}: {status} {answer[:200]!r}')
    return status in (200, 201)


def node_drain(what, _number):
    """Cordoned, and every pod of ours evicted that its disruption budget lets go. There is no other node: what is evicted comes back
    when this one is uncordoned, two seconds later, and requests wait for it."""
    node = harness.api.get('/api/v1/nodes')['items'][0]['metadata']['name']
    kubectl('cordon', node)
    try:
        victims = [(SHOP, name) for function in what for name in live(harness.function_pods(function))]
        victims += [(SYSTEM, name) for component in ('gateway', 'operator') for name in live(harness.component_pods(component))]
        gone = [name for namespace, name in victims if evict(namespace, name)]
        expect(gone, 'no pod could be evicted')
        time.sleep(2)
    finally:
        kubectl('uncordon', node)
    ended(gone)
    whole()


def kill_operator(name):
    os.kill(case_faults.pid_of(name), signal.SIGKILL)
    time.sleep(1)
    # A container that died again and again is started later and later: a new pod has no such past.
    kubectl('delete', 'pod', name, '-n', SYSTEM, '--grace-period=0', '--force')


def operator_kill(_what, _number):
    leader = until('a leader', 40, case_faults.leader)
    kill_operator(next(name for name in live(harness.component_pods('operator')) if name != leader))
    whole()


def leader_kill(_what, _number):
    first = until('a leader', 40, case_faults.leader)
    kill_operator(first)
    until('another leader', 40, lambda: case_faults.leader() not in ('', first))
    whole()


def restart(*names, pause=0):
    run(ROOT / 'e2e/cluster/restart', '--pause', str(pause), *names)


def api_answers():
    with contextlib.suppress(ValueError):
        return harness.api.request('GET', '/readyz')[0] == 200
    return False


def forget_exits():
    """An operator that could not renew its Lease for ten seconds ends. A container that ended again and again is started later and later: a new pod has
    no such past."""
    for pod in harness.component_pods('operator'):
        if any(status['restartCount'] for status in pod['status'].get('containerStatuses', [])):
            kubectl('delete', 'pod', pod['metadata']['name'], '-n', SYSTEM, '--grace-period=0', '--force')


def apiserver_restart(_what, _number):
    restart('kube-apiserver', pause=1)
    until('the API server answers', 60, api_answers)
    time.sleep(3)  # everybody's watches come back
    forget_exits()
    whole()


def controllers_restart(_what, _number):
    restart('kube-controller-manager', 'kube-scheduler', pause=1)
    time.sleep(4)
    whole()


def dns_restart(_what, _number):
    restart('dns', pause=1)
    time.sleep(2)


GRACEFUL = {
    'function-rollout': function_rollout, 'gateway-rollout': gateway_rollout, 'operator-rollout': operator_rollout,
    'chart-upgrade': chart_upgrade, 'pod-delete': pod_delete, 'gateway-delete': gateway_delete, 'scale-down': scale_down,
    'scale-to-zero': scale_to_zero, 'node-drain': node_drain, 'operator-kill': operator_kill, 'leader-kill': leader_kill,
    'apiserver-restart': apiserver_restart, 'controllers-restart': controllers_restart, 'dns-restart': dns_restart,
}
