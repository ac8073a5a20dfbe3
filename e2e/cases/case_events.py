"""Events wake functions: from a queue, from a table's rows, from a clock; what deletion leaves in the database; what the status says."""
import contextlib
import json
import re
import time

import harness
from harness import SHOP, SYSTEM, apply, expect, kubectl, until

SEEN = "INSERT INTO public.seen (by, event) VALUES ('{}', :_event::jsonb)"


def event_function(name, triggers, namespace=SHOP, **spec):
    """Writes down each event that it is given, in the event's own transaction."""
    manifest = harness.sql_manifest(name, SEEN.format(name), namespace=namespace, result='None', triggers=triggers,
                                    **{'scaling': {'idleSeconds': 1}, **spec})
    del manifest['spec']['http']
    return manifest


def seen(name):
    rows = harness.database.shop(f"SELECT event FROM public.seen WHERE by = '{name}' ORDER BY id")
    return [json.loads(line) for line in rows.splitlines()]


def triggers_on(table):
    return harness.database.shop(f"SELECT tgname FROM pg_trigger WHERE tgrelid = 'public.{table}'::regclass AND NOT tgisinternal").split()


def enqueue(queue, payload):
    """As the application does: in a transaction of its own role."""
    harness.database.shop(f"SET ROLE shop; SELECT cicada.enqueue('{queue}', '{json.dumps(payload)}')")


def status_of(name, namespace=SHOP):
    return (harness.function(name, namespace) or {}).get('status', {})


@contextlib.contextmanager
def functions(*manifests):
    """Applied, Ready and asleep; deleted afterwards, which takes their finalizers to go."""
    for manifest in manifests:
        apply(manifest)
    try:
        for manifest in manifests:
            harness.wait_ready(manifest['metadata']['name'])
            harness.wait_asleep(manifest['metadata']['name'], gone=False)
        yield
    finally:
        kubectl('delete', 'fn', '-n', SHOP, '--timeout=60s', *[m['metadata']['name'] for m in manifests])


@harness.always
def test_tables_of_the_cases():
    harness.database.shop("""SET ROLE shop;
        CREATE TABLE IF NOT EXISTS public.seen (id bigserial PRIMARY KEY, by text, event jsonb, at timestamptz DEFAULT clock_timestamp());
        CREATE TABLE IF NOT EXISTS public.parcels (id bigserial PRIMARY KEY, status text, weight int);
        RESET ROLE;
        CREATE TABLE IF NOT EXISTS public.ledger (id bigserial PRIMARY KEY, amount int);
        TRUNCATE public.seen""")


def expect_installed(name):
    expect(harness.condition(name, 'TriggersReady')[:2] == ('True', 'Installed'), harness.condition(name, 'TriggersReady'))
    expect('cicada.dev/triggers' in harness.function(name)['metadata']['finalizers'], 'no finalizer')


def test_a_queue_and_a_clock_wake_sleeping_functions():
    held = "SELECT queue, consumer FROM cicada.queue_stats() WHERE consumer IS NOT NULL OR queue LIKE 'cicada.%' ORDER BY queue"
    before = harness.database.shop(held)  # the shop has queues, too
    with functions(event_function('on-payment', [{'name': 'bookings', 'queue': {'name': 'bookings'}}]),
                   event_function('on-minute', [{'name': 'minutely', 'schedule': {'cron': '* * * * *', 'timeZone': 'Europe/Berlin'}}])):
        expect_installed('on-payment')
        expect_installed('on-minute')
        start = time.monotonic()
        enqueue('bookings', {'order': 7})
        event = until('the effect of the event', 30, lambda: seen('on-payment'), 0.02)[0]
        print(f'    enqueue: its effect is there after {(time.monotonic() - start) * 1e3:.0f} ms, from zero')
        expect(event['type'] == 'cicada.dev.message' and event['data'] == {'order': 7}, event)

        event = until('a tick of the clock', 90, lambda: seen('on-minute'))[0]
        expect(event['type'] == 'cicada.dev.tick' and re.fullmatch(r'\d{4}-.*:00Z', event['data']['tick']), event)
        late = float(harness.database.shop("SELECT extract(epoch FROM at - (event->'data'->>'tick')::timestamptz) FROM public.seen "
                                           "WHERE by = 'on-minute' ORDER BY id LIMIT 1"))
        print(f'    a tick: its effect is there {late:.1f} s after the minute, from zero')
        until('the next run in the status', 30, lambda: 'nextRun' in status_of('on-minute')['triggers'][0])
        expect(len(seen('on-payment')) == 1, 'the event has its effect once')
        harness.wait_asleep('on-payment', gone=False)
    expect(harness.database.shop(held) == before, harness.database.shop(held))


def test_a_changed_row_wakes_a_sleeping_function():
    with functions(event_function('on-parcel', [{'name': 'sent', 'table': {'name': 'public.parcels', 'operations': ['UPDATE'], 'columns': ['status'],
                                                                           'when': "NEW.status = 'sent'"}}])):
        expect_installed('on-parcel')
        expect(len(triggers_on('parcels')) > 0, 'no trigger on the table')
        start = time.monotonic()
        harness.database.shop("SET ROLE shop; INSERT INTO public.parcels (status, weight) VALUES ('packed', 1), ('packed', 2);"
                              "UPDATE public.parcels SET status = 'sent' WHERE weight = 2; UPDATE public.parcels SET weight = 3 WHERE weight = 1")
        event = until('the change of the row', 30, lambda: seen('on-parcel'), 0.02)[0]
        print(f'    a changed row: after {(time.monotonic() - start) * 1e3:.0f} ms, from zero')
        expect(event['type'] == 'cicada.dev.row.update' and event['data']['new']['status'] == 'sent', event)
        expect(event['data']['old']['status'] == 'packed' and event['data']['new']['weight'] == 2, event)
        harness.wait_asleep('on-parcel', gone=False)
        expect(len(seen('on-parcel')) == 1, 'the event has its effect once')
    expect(triggers_on('parcels') == [], triggers_on('parcels'))


def test_the_backlog_is_shown_and_not_waited_on_with_a_pinned_zero():
    with functions(event_function('on-hold', [{'name': 'held', 'queue': {'name': 'held'}}])):
        harness.patch_function('on-hold', {'replicas': 0})
        until('switched off', 30, lambda: harness.condition('on-hold', 'Active')[1] == 'ScaledToZeroByUser')
        until('its pod is gone, which still takes events', 60, lambda: not harness.function_pods('on-hold'))
        for number in range(3):
            enqueue('held', {'n': number})
        until(f'the backlog in the status, with {len(seen("on-hold"))} of 3 done', 30, lambda: status_of('on-hold').get('backlog') == 3)
        table = kubectl('get', 'fn', 'on-hold', '-n', SHOP, '-o', 'wide')
        column = table.splitlines()[0].index('BACKLOG')
        expect(table.splitlines()[1][column:].split()[0] == '3', table)
        print(f'    {table}')
        expect(harness.deployment_replicas('on-hold') == 0 and not seen('on-hold'), 'a function that is switched off was woken')
        harness.patch_function('on-hold', {'replicas': None})
        until('all of it is done', 30, lambda: len(seen('on-hold')) == 3)
        until('none is left in the status', 40, lambda: status_of('on-hold').get('backlog') == 0)


def test_conditions_say_who_has_to_do_what():
    first = event_function('first', [{'name': 'mine', 'queue': {'name': 'wanted'}}])
    second = event_function('second', [{'name': 'mine-too', 'queue': {'name': 'wanted'}}])
    stranger = event_function('stranger', [{'name': 'booked', 'table': {'name': 'public.ledger', 'operations': ['INSERT']}}])
    with functions(first):
        try:
            for manifest, reason, mentions in ((second, 'QueueConflict', ('wanted', 'first')), (stranger, 'NotTableOwner', ('ledger',))):
                name = manifest['metadata']['name']
                apply(manifest)
                until(f'{name}: {reason}', 40, lambda: harness.condition(name, 'TriggersReady')[:2] == ('False', reason))
                until(f'{name}: Ready tells so', 40, lambda: harness.condition(name)[:2] == ('False', reason))
                message = harness.condition(name)[2]
                print(f'    {reason}: {message}')
                expect(all(text in message for text in mentions), message)
                expect(reason in kubectl('get', 'events', '-n', SHOP, '--field-selector', f'involvedObject.name={name}'), 'no Event')
            expect(harness.condition('first', 'TriggersReady')[0] == 'True', 'the first one keeps its queue')
        finally:
            kubectl('delete', 'fn', 'second', 'stranger', '-n', SHOP, '--timeout=60s')


def test_a_namespace_goes_with_its_triggers():
    kubectl('create', 'namespace', 'parting', check=False)
    secret = harness.api.get(f'/api/v1/namespaces/{SHOP}/secrets/shop-db')
    apply({'apiVersion': 'v1', 'kind': 'Secret', 'metadata': {'name': 'shop-db', 'namespace': 'parting'}, 'data': secret['data']})
    apply(event_function('parting', [{'name': 'sent', 'table': {'name': 'public.parcels', 'operations': ['INSERT']}}], namespace='parting'))
    harness.wait_ready('parting', namespace='parting')
    expect(len(triggers_on('parcels')) > 0, 'no trigger on the table')
    start = time.monotonic()
    kubectl('delete', 'namespace', 'parting', '--timeout=90s')
    print(f'    the namespace was gone after {time.monotonic() - start:.1f} s')
    expect(triggers_on('parcels') == [], triggers_on('parcels'))


def test_consumers_need_no_operator():
    with functions(event_function('sleepy', [{'name': 'sleepy', 'queue': {'name': 'sleepy'}}])):
        apply(event_function('steady', [{'name': 'steady', 'queue': {'name': 'steady'}}], scaling={'minReplicas': 1}))
        harness.wait_ready('steady')
        kubectl('scale', 'deployment', 'cicada-operator', '-n', SYSTEM, '--replicas=0')
        try:
            until('no operator', 60, lambda: not harness.component_pods('operator'))
            for number in range(20):
                enqueue('steady', {'n': number})
            enqueue('sleepy', {'n': 0})
            until('a running function works on', 30, lambda: len(seen('steady')) == 20)
        finally:
            kubectl('scale', 'deployment', 'cicada-operator', '-n', SYSTEM, '--replicas=2')
            kubectl('rollout', 'status', 'deployment/cicada-operator', '-n', SYSTEM, '--timeout=90s')
        until('what waited meanwhile', 60, lambda: len(seen('sleepy')) == 1)
        kubectl('delete', 'fn', 'steady', '-n', SHOP, '--timeout=60s')


def test_the_operator_stays_small():
    for pod in harness.component_pods('operator'):
        process = harness.pod_process(pod['metadata']['name'])
        if process:
            with open(f'/proc/{process}/smaps_rollup') as rollup:
                pss = int(re.search(r'^Pss: +(\d+) kB', rollup.read(), re.M).group(1))
            print(f'    {pod["metadata"]["name"]}: {pss / 1e3:.1f} MB PSS')
            expect(pss < 40000, f'{pss} kB')
