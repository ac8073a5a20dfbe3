"""The fault suite's runs: rounds of a fault under two loads at once, gateways killed, long requests in flight, how fast things end."""
import json
import os
import pathlib
import signal
import time

import harness
from harness import SHOP, apply, expect, until
import case_faults
import injections
import load
from injections import live

STEADY, WAVES, LONG = 'load-steady', 'load-waves', 'load-long'
STEADY_RATE = int(os.environ.get('FAULT_STEADY', '100'))  # requests a second
WAVES_RATE = int(os.environ.get('FAULT_WAVES', '200'))    # at the top of a wave
RISE_S, REST_S = 5, 4                                     # a wave rises and falls in so long, and the function falls asleep between two
LONG_MS, LONG_COUNT = 30000, 12


def function(name, **spec):
    return harness.function_manifest(name, 'e2e.so:handle_record', image_name='cicada-e2e', http={}, queueDepth=5000,
                                     database={'secretRef': {'name': 'shop-db'}, 'poolSize': 4}, **spec)


def make_functions():
    load.make_table()
    apply(function(STEADY, concurrency=4, drainSeconds=30, scaling={'minReplicas': 2, 'maxReplicas': 4}))
    apply(function(WAVES, concurrency=4, drainSeconds=30, scaling={'minReplicas': 0, 'maxReplicas': 4, 'idleSeconds': 1}))
    apply(function(LONG, concurrency=20, timeoutSeconds=60, drainSeconds=60, scaling={'minReplicas': 1, 'idleSeconds': 60}))
    for name in (STEADY, WAVES, LONG):
        harness.wait_ready(name)


def delete_functions():
    for name in (STEADY, WAVES, LONG):
        harness.kubectl('delete', 'fn', name, '-n', SHOP, '--ignore-not-found')


def keep(folder, results):
    (load.BUILD / folder / 'result.json').write_text(json.dumps(results, indent=1) + '\n', encoding='utf-8')


def stamp():
    """Ids of an earlier run on the same database are not these."""
    return f'{int(time.time()) % 1000000:x}'


def rounds(name, inject, count):
    """`count` rounds of one fault, with both loads running all the while. {shape: Account}"""
    start = time.monotonic()
    clients = {'steady': load.Client(name, f'{name}-s{stamp()}', STEADY, rate=STEADY_RATE),
               'waves': load.Client(name, f'{name}-w{stamp()}', WAVES, rate=WAVES_RATE, rise=RISE_S, rest=REST_S)}
    marks = []
    try:
        time.sleep(2)
        for number in range(count):
            marks.append([time.monotonic()])
            inject((STEADY, WAVES), number)
            injections.served((STEADY, WAVES))
            marks[-1].append(time.monotonic())
            time.sleep(1 + number % 5 * 0.7)  # the next one meets the wave in another phase
    finally:
        accounts = {shape: client.stop() for shape, client in clients.items()}
    keep(name, {'rounds': count, 'injected': marks, **{shape: account.figures() for shape, account in accounts.items()}})
    for shape, account in accounts.items():
        print(f'    {shape:6s} {count} rounds in {time.monotonic() - start:.0f} s: {account.text()}')
    return accounts


def graceful(name, count):
    accounts = rounds(name, injections.GRACEFUL[name], count)
    for shape, account in accounts.items():
        account.expect_clean(f'{name}, {shape}')


def has_ended(process):
    """Reaped, or waiting for it with no thread left: only then has it no socket any more. Its command line is gone a moment before, and its first
    thread may be a zombie while another, on a busy machine, still holds the files of all."""
    folder = pathlib.Path(f'/proc/{process}')
    try:
        stat = (folder / 'stat').read_text()
        threads = len(list((folder / 'task').iterdir()))
    except (FileNotFoundError, ProcessLookupError):
        return True
    return stat[stat.rindex(')') + 2] in 'ZX' and threads <= 1


def killed_gateway(number):
    """One round: clients that know the gateways by address, one of which is killed. (Account, lines that only the kill may explain)"""
    pods = case_faults.two_ready('gateway')
    victim = pods[number % 2]['metadata']['name']
    process = case_faults.pid_of(victim)
    targets = [f"{pod['status']['podIP']}:8080" for pod in pods]
    client = load.Client('gateway-kill', f'gateway-kill-{number}-{stamp()}', STEADY, rate=STEADY_RATE * 2, again=False, targets=targets)
    try:
        time.sleep(2)
        before = time.monotonic()
        os.kill(process, signal.SIGKILL)
        until('it is dead, and its sockets closed', 5, lambda: has_ended(process), 0.005)
        after = time.monotonic()
        time.sleep(3)
    finally:
        account = client.stop()
    own = [line for line in account.lines if line.target == number % 2 and line.connected and line.connected <= after and line.sent <= after
           and line.done >= before]
    # A container that died again and again is started later and later: a new pod has no such past.
    harness.kubectl('delete', 'pod', victim, '-n', harness.SYSTEM, '--grace-period=0', '--force')
    injections.whole()
    return account, own


def gateway_kill(count):
    total = {'sent': 0, 'answered': 0, 'failed': 0, 'inFlight': 0, 'refused': 0, 'orphans': 0, 'twice': 0}
    wrong, seconds, reasons = [], [], {}
    for number in range(count):
        account, own = killed_gateway(number)
        figures, mine = account.figures(), {line.number for line in own}
        for key in total:
            total[key] += len(own) if key == 'inFlight' else figures[key]
        for reason, times in account.failed.items():
            reasons[reason] = reasons.get(reason, 0) + times
        seconds += account.seconds
        wrong += [line for line in account.lines if line.outcome != 'ok' and line.number not in mine]
        wrong += account.twice + account.lies
    keep('gateway-kill', {'rounds': count, **total, 'reasons': reasons})
    print(f"    {count} kills: {total['sent']} sent, {total['answered']} answered, {total['inFlight']} were on the killed one's connections, "
          f"{total['failed']} failed {reasons}, {total['twice']} twice, {total['orphans']} rows without an answer; "
          f"{total['refused']} connections refused, and made to the other; p50 {harness.percentile(seconds, 50) * 1e3:.1f} "
          f'p99 {harness.percentile(seconds, 99) * 1e3:.1f} max {max(seconds) * 1e3:.0f} ms')
    expect(not wrong, f'not to be explained by the kill: {wrong[:5]}')


def long_in_flight(name):
    """Requests of 30 s, begun before the fault, outlive it."""
    client = load.Client(f'long-{name}', f'long-{name}-{stamp()}', LONG, rate=12, ms=LONG_MS, count=LONG_COUNT, again=False)
    time.sleep(3)
    start = time.monotonic()
    injections.GRACEFUL[name]((LONG,), 0)
    took = time.monotonic() - start
    account = client.finish()
    keep(f'long-{name}', account.figures())
    print(f'    {name} ({took:.0f} s): {account.text()}')
    account.expect_clean(f'{LONG_MS} ms in flight, {name}')


# ---- how fast things end ----

def wait_end(process, seconds=60):
    until('the process has ended', seconds, lambda: not os.path.exists(f'/proc/{process}'), 0.005)


def terminated(pod_name, meanwhile=None):
    """Seconds from SIGTERM to the end of the pod's process; `meanwhile` runs in between."""
    process = case_faults.pid_of(pod_name)
    start = time.monotonic()
    os.kill(process, signal.SIGTERM)
    if meanwhile:
        start = meanwhile()
    wait_end(process)
    return time.monotonic() - start


def replaced(pod_name, namespace):
    harness.kubectl('delete', 'pod', pod_name, '-n', namespace, '--grace-period=0', '--force')


def gateways_settled():
    """Their name stands for the two that are ready, and for none that ended: whom a pod can't ask, it has to await for its 2 s of quiet. Kubernetes
    names an ended pod for some seconds, until its object is gone."""
    def settled():
        ready = {pod['status']['podIP'] for pod in case_faults.two_ready('gateway')}
        subsets = harness.api.get(f'/api/v1/namespaces/{harness.SYSTEM}/endpoints/cicada-gateway-peers').get('subsets') or []
        return ready == {address['ip'] for subset in subsets for address in subset.get('addresses') or []}
    until('the name of the gateways stands for the two that are ready', 60, settled)


def idle_ends(count):
    """An idle pod of a function ends at once, an idle gateway after its quiet time, and each request begins that anew."""
    quiet = {'function': [], 'gateway': [], 'gateway, asked meanwhile': []}
    harness.patch_function(LONG, {'scaling': {'minReplicas': 1, 'idleSeconds': 60}})
    for _ in range(count):
        until('a pod', 60, lambda: sum(map(harness.pod_is_ready, harness.function_pods(LONG))) == 1 and live(harness.function_pods(LONG)))
        name = live(harness.function_pods(LONG))[0]
        gateways_settled()
        time.sleep(2)  # answers of the name server are valid for a second
        quiet['function'].append(terminated(name))
        replaced(name, SHOP)
        for key in ('gateway', 'gateway, asked meanwhile'):
            pod = case_faults.two_ready('gateway')[0]
            name, address = pod['metadata']['name'], (pod['status']['podIP'], 8080)

            def ask(address=address):
                for _ in range(3):
                    time.sleep(1.5)
                    answer = harness.call_by_name(LONG, path='/?ms=0&id=quiet', address=address)
                    expect(answer.status == 200, f'{answer.status} {answer.body}')
                return time.monotonic()
            quiet[key].append(terminated(name, None if key == 'gateway' else ask))
            replaced(name, harness.SYSTEM)
    injections.whole()
    (load.BUILD / 'idle').mkdir(parents=True, exist_ok=True)
    keep('idle', quiet)
    for key, seconds in quiet.items():
        print(f'    {key}: {harness.summary(seconds)}')
    # Medians: a single one may meet a busy machine.
    for key, quiet_s in (('function', 0), ('gateway', 2), ('gateway, asked meanwhile', 2)):
        expect(min(quiet[key]) >= quiet_s and harness.percentile(quiet[key], 50) <= quiet_s + 0.3, f'{key}: {quiet[key]}')
