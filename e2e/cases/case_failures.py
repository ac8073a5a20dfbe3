"""What can't start says why: in the condition within 30 s, and to the request that waits for it, at once."""
import time

import harness
from harness import SHOP, apply, call_by_name, expect, until


def check_failure(name, reason, mentions, codes, also_wait=None, **spec):
    """The Function shows `reason`, naming `mentions`; a held request gets 503 with one of `codes` at once (once its pod
    waits for `also_wait`, if given)."""
    manifest = harness.function_manifest(name, **{'handler': 'shop.so:handle_user_request', 'http': {}, **spec})
    apply(manifest)
    try:
        start = time.monotonic()
        until(f'{name}: Ready=False {reason}', 30, lambda: harness.condition(name)[:2] == ('False', reason))
        status, shown, message, _ = harness.condition(name)
        print(f'    {shown} after {time.monotonic() - start:.1f} s: {message}')
        for text in mentions:
            expect(text in message, f'{name}: the message does not name {text!r}: {message}')
        events = harness.kubectl('get', 'events', '-n', SHOP, '--field-selector', f'involvedObject.name={name}')
        expect(reason in events, f'no Event {reason}: {events}')
        if also_wait:
            until(f'{name}: {also_wait}', 30, lambda: also_wait in [
                c['state'].get('waiting', {}).get('reason') for p in harness.function_pods(name)
                for c in p['status'].get('containerStatuses', [])])
        answer = call_by_name(name, 'POST', body={}, timeout=30)
        expect(answer.status == 503 and answer.json['code'] in codes, f'{name}: {answer.status} {answer.body}')
        expect('retry-after' in answer.headers, answer.headers)
        expect(answer.seconds < 3, f'{name}: held for {answer.seconds:.1f} s')
        print(f"    request: 503 {answer.json['code']} after {answer.seconds * 1e3:.0f} ms")
        for secret in ('no-such-secret', 'no-such-image'):
            expect(secret.encode() not in answer.body, f'the answer tells {secret}')
    finally:
        harness.kubectl('delete', 'fn', name, '-n', SHOP)


def test_a_bad_image():
    bad = 'registry.invalid/no-such-image:1'  # .invalid never resolves (RFC 2606)
    check_failure('bad-image', 'ImagePullFailed', [bad], {'ImagePullBackOff', 'ErrImagePull'},
                  # The first failed pull may be bad luck, and requests wait; a back-off is an answer.
                  also_wait='ImagePullBackOff', image=bad)


def test_a_handler_that_does_not_exist():
    check_failure('bad-handler', 'HandlerLoadFailed', ['shop.so', 'no_such_handler'],
                  {'HandlerLoadFailed', 'ContainerExited', 'CrashLoopBackOff'}, handler='shop.so:no_such_handler')


def test_a_shared_object_that_does_not_exist():
    check_failure('bad-object', 'HandlerLoadFailed', ['missing.so'],
                  {'HandlerLoadFailed', 'ContainerExited', 'CrashLoopBackOff'}, handler='missing.so:handle')


def test_a_missing_secret():
    check_failure('bad-secret', 'SecretMissing', ['no-such-secret'], {'CreateContainerConfigError', 'SecretMissing'},
                  database={'secretRef': {'name': 'no-such-secret'}})


def test_a_missing_key_of_a_secret():
    check_failure('bad-key', 'SecretMissing', ['shop-db', 'no-such-key'], {'CreateContainerConfigError', 'SecretMissing'},
                  database={'secretRef': {'name': 'shop-db', 'key': 'no-such-key'}})


def test_a_crash_at_start():
    check_failure('crash', 'ContainerExited', ['signal'], {'ContainerExited', 'CrashLoopBackOff'},
                  image=harness.image('cicada-e2e'), handler='e2e.so:handle_crash_at_start')


def test_no_room_on_any_node():
    """Unschedulable waits (a node may come), but says so."""
    apply(harness.function_manifest('huge', 'shop.so:handle_user_request', http={},
                                    template={'resources': {'requests': {'memory': '900Gi'}}}))
    try:
        until('Unschedulable', 30, lambda: harness.condition('huge')[1] == 'Unschedulable')
        print(f"    {harness.condition('huge')[2]}")
    finally:
        harness.kubectl('delete', 'fn', 'huge', '-n', SHOP)


def test_a_quota():
    harness.kubectl('create', 'namespace', 'tight', check=False)
    apply({'apiVersion': 'v1', 'kind': 'ResourceQuota', 'metadata': {'name': 'no-pods', 'namespace': 'tight'},
           'spec': {'hard': {'pods': '0'}}})
    until('the quota is in force', 20, lambda: (harness.api.get('/api/v1/namespaces/tight/resourcequotas/no-pods') or {}).get(
        'status', {}).get('hard'))
    apply(harness.function_manifest('over', 'shop.so:handle_user_request', namespace='tight', http={}))
    try:
        until('QuotaExceeded', 30, lambda: harness.condition('over', namespace='tight')[:2] == ('False', 'QuotaExceeded'))
        print(f"    {harness.condition('over', namespace='tight')[2]}")
        answer = call_by_name('over', namespace='tight', timeout=30)
        expect(answer.status == 503 and answer.seconds < 3, f'{answer.status} after {answer.seconds:.1f} s: {answer.body}')
    finally:
        harness.kubectl('delete', 'namespace', 'tight', '--wait=false')


def test_a_child_of_somebody_else_is_left_alone():
    apply({'apiVersion': 'v1', 'kind': 'Service', 'metadata': {'name': 'taken', 'namespace': SHOP},
           'spec': {'ports': [{'port': 80}], 'selector': {'app': 'other'}}})
    apply(harness.function_manifest('taken', 'shop.so:handle_user_request', http={}))
    try:
        until('NotOwned', 30, lambda: harness.condition('taken')[:2] == ('False', 'NotOwned'))
        expect('taken' in harness.condition('taken')[2], harness.condition('taken'))
        service = harness.api.get(f'/api/v1/namespaces/{SHOP}/services/taken')
        expect(service['spec'].get('type') == 'ClusterIP' and not service['metadata'].get('ownerReferences'), service)
    finally:
        harness.kubectl('delete', 'fn', 'taken', '-n', SHOP)
    expect(harness.api.get(f'/api/v1/namespaces/{SHOP}/services/taken'), 'it was deleted with the Function')
    harness.kubectl('delete', 'svc', 'taken', '-n', SHOP)


def test_a_failed_generation_recovers_when_mended():
    name = 'mended'
    apply(harness.function_manifest(name, 'shop.so:no_such_handler', http={}))
    try:
        until('HandlerLoadFailed', 30, lambda: harness.condition(name)[1] == 'HandlerLoadFailed')
        harness.patch_function(name, {'handler': 'shop.so:handle_user_request'})
        harness.wait_ready(name, seconds=60)
    finally:
        harness.kubectl('delete', 'fn', name, '-n', SHOP)
