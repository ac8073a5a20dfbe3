"""The chart: upgrade under load, uninstall."""
import time

import harness
from harness import SYSTEM, Load, expect, kubectl, order, run, until
import case_faults
import case_install


def test_upgrade_under_load_fails_no_request():
    harness.patch_function('create-order', {'scaling': {'idleSeconds': 30}})
    expect(order().status == 201, 'no order')
    with Load(order, rate=40) as load:
        time.sleep(1)
        run('helm', 'upgrade', 'cicada', case_install.CHART, '-n', SYSTEM, '--wait', '--timeout', '120s',
            *case_install.helm_values(), '--set', 'logLevel=debug', timeout=200)
        case_faults.two_ready('gateway')
        time.sleep(1)
    load.verdict('helm upgrade of operator and gateway', least=100)


def test_values_schema_refuses_unknown_keys():
    done = run('helm', 'upgrade', 'cicada', case_install.CHART, '-n', SYSTEM, *case_install.helm_values(), '--set',
               'gatewayy.replicas=3', check=False)
    expect(done.returncode != 0 and 'gatewayy' in done.stderr, f'accepted: {done.stdout}{done.stderr}')


def wait_pods_gone(names, clock):
    """The processes go when they have drained. Kubernetes 1.20 keeps the objects of their pods until the kubelet has removed their
    containers, which it does once a minute, and has looked at its pods again, every ten seconds."""
    until('our processes have ended', 30, lambda: not any(map(harness.pod_process, names)))
    clock.lap('processes gone')
    until('our pods are gone', 150, lambda: not harness.pods('app.kubernetes.io/name=cicada', SYSTEM))
    clock.lap('pods gone')


def our_pods():
    return [pod['metadata']['name'] for pod in harness.pods('app.kubernetes.io/name=cicada', SYSTEM)]


def test_uninstall_keeps_the_functions():
    clock, names = harness.StopWatch(), our_pods()
    run('helm', 'uninstall', 'cicada', '-n', SYSTEM, '--wait', '--timeout', '120s', timeout=200)
    clock.lap('helm uninstall')
    expect(harness.function('create-order'), 'the Function went with the chart')
    wait_pods_gone(names, clock)
    left = kubectl('get', 'clusterrole,clusterrolebinding,ingressclass', '-o', 'name')
    ours = [line for line in left.splitlines() if 'cicada' in line]
    expect(not ours, f'left behind: {ours}')
    # Installed anew it takes the Functions over as they are.
    run('helm', 'install', 'cicada', case_install.CHART, '-n', SYSTEM, '--wait', '--timeout', '90s', *case_install.helm_values())
    clock.lap('helm install')
    until('an order through the new installation', 60, lambda: order().status == 201, 1)
    clock.lap('an order')


def test_deleting_everything_leaves_nothing():
    clock = harness.StopWatch()
    kubectl('delete', 'namespace', harness.SHOP, timeout=180)
    clock.lap('namespace of the functions')
    names = our_pods()
    run('helm', 'uninstall', 'cicada', '-n', SYSTEM, '--wait', '--timeout', '120s', timeout=200)
    # A namespace that is deleted with pods still in it looks at them again only after half their grace period.
    wait_pods_gone(names, clock)
    kubectl('delete', 'namespace', SYSTEM, timeout=120)
    clock.lap('chart and system namespace')
    kubectl('delete', 'crd', 'functions.cicada.dev', timeout=120)
