"""Functions of SQL statements, which need no image: read and write by key from zero, rejected SQL, replays, a crash that is contained."""
import time

import harness
from harness import SHOP, apply, call_by_name, expect, http_call, kubectl, order, until


def asleep_and_called(name, *args, **kwargs):
    """The same call at a sleeping function."""
    harness.patch_function(name, {'scaling': {'idleSeconds': 1}})
    harness.wait_ready(name)
    harness.wait_asleep(name)
    return http_call(*args, **kwargs)


def test_an_order_by_key_from_zero():
    made = order(quantity=3).json
    answer = asleep_and_called('get-order', 'GET', f"/order/{made['id']}")
    expect(answer.status == 200, f'{answer.status} {answer.body}')
    print(f"    {answer.seconds * 1e3:.0f} ms, Server-Timing: {answer.headers.get('server-timing')}")
    shown = answer.json
    want = harness.database.shop(f"SELECT row_to_json(o) FROM (SELECT id, user_id, product_id, quantity, total, status, "
                                 f"created_at, settled_at FROM orders WHERE id = {made['id']}) o")
    expect(shown['quantity'] == 3 and answer.body.decode() == want, f'{answer.body!r} is not {want!r}')
    expect(http_call('GET', '/order/999999999').status == 404, 'an unknown order')
    answer = http_call('GET', '/order/abc')
    expect(answer.status == 400, f'{answer.status} {answer.body}')


def test_optional_filters():
    made = order(user=2).json
    rows = http_call('GET', '/reports/orders?user_id=2&within=1%20hour').json
    expect(made['id'] in [r['id'] for r in rows] and {r['user_id'] for r in rows} == {2}, rows[:3])
    expect(http_call('GET', '/reports/orders?status=no-such-status').json == [], 'rows of no status')
    expect(len(http_call('GET', '/reports/orders?limit=1').json) == 1, 'limit')
    # A value stays a value.
    expect(http_call('GET', "/reports/orders?status=x'%20OR%20'1'%3D'1").json == [], 'injection')


def test_a_report_as_csv():
    answer = http_call('GET', '/reports/stock', headers={'Accept': 'text/csv'})
    expect(answer.status == 200 and answer.headers['content-type'].startswith('text/csv'), answer.headers)
    lines = answer.body.decode().split('\r\n')
    expect(lines[0] == 'id,name,stock,ordered' and len(lines) >= 4, lines[:3])


def test_statements_are_one_transaction():
    made = order(quantity=2).json
    stock = int(harness.database.shop('SELECT stock FROM products WHERE id = 1'))
    answer = http_call('POST', '/cancellations', {'order_id': made['id']})
    expect(answer.status == 200 and answer.json['status'] == 'failed', f'{answer.status} {answer.body}')
    expect(int(harness.database.shop('SELECT stock FROM products WHERE id = 1')) == stock + 2, 'stock')
    expect(http_call('POST', '/cancellations', {'order_id': made['id']}).status == 404, 'cancelled twice')
    expect(int(harness.database.shop('SELECT stock FROM products WHERE id = 1')) == stock + 2, 'stock, twice')


def test_rejected_sql_says_where():
    apply(harness.sql_manifest('rejected', 'SELECT id\nFROM public.orders\nWHERE nothing = :id::int'))
    try:
        start = time.monotonic()
        until('SqlRejected', 30, lambda: harness.condition('rejected')[:2] == ('False', 'SqlRejected'))
        message = harness.condition('rejected')[2]
        print(f'    after {time.monotonic() - start:.1f} s: {message}')
        expect('line 3, column 7' in message and 'nothing' in message, message)
        answer = call_by_name('rejected', timeout=30)
        expect(answer.status == 503 and answer.seconds < 3, f'{answer.status} after {answer.seconds:.1f} s: {answer.body}')
        expect(answer.json['code'] == 'SqlRejected', answer.body)
        expect(b'nothing' not in answer.body, 'the answer tells of tables')
        harness.patch_function('rejected', {'sql': 'SELECT :id::int AS id'})
        harness.wait_ready('rejected')
        expect(call_by_name('rejected', path='/?id=7').json == [{'id': 7}], 'mended')
    finally:
        kubectl('delete', 'fn', 'rejected', '-n', SHOP)


def test_a_type_that_nobody_knows():
    apply(harness.sql_manifest('typeless', 'SELECT 1 AS a WHERE :x IS NULL'))
    try:
        until('SqlRejected', 30, lambda: harness.condition('typeless')[:2] == ('False', 'SqlRejected'))
        message = harness.condition('typeless')[2]
        print(f'    {message}')
        expect(':x::' in message and 'line 1, column 21' in message, message)
    finally:
        kubectl('delete', 'fn', 'typeless', '-n', SHOP)


def test_a_repeat_has_its_effects_once():
    """The function's role owns the database, so the schema that keeps the answers is installed with the first start."""
    harness.database.shop('SET ROLE shop; CREATE TABLE IF NOT EXISTS public.payments (id bigserial PRIMARY KEY, amount int)')
    apply(harness.sql_manifest('pay', 'INSERT INTO public.payments (amount) VALUES (:amount) RETURNING id, amount', result='Row',
                               http={'methods': ['POST'], 'successStatus': 201, 'idempotency': 'Required'}))
    try:
        harness.wait_ready('pay')
        key = {'Idempotency-Key': f'"{time.time_ns()}"'}
        answers = [call_by_name('pay', 'POST', body={'amount': 5}, headers=key) for _ in range(3)]
        expect([a.status for a in answers] == [201] * 3, [(a.status, a.body) for a in answers])
        expect(len({a.body for a in answers}) == 1, [a.body for a in answers])
        expect([a.headers.get('idempotency-replayed') for a in answers] == [None, 'true', 'true'], [a.headers for a in answers])
        expect(call_by_name('pay', 'POST', body={'amount': 6}, headers=key).status == 422, 'the same key for something else')
        expect(call_by_name('pay', 'POST', body={'amount': 5}).status == 400, 'no key')
        expect(harness.database.shop('SELECT count(*) FROM payments') == '1', 'rows')
    finally:
        kubectl('delete', 'fn', 'pay', '-n', SHOP)


def test_a_missing_schema_says_what_to_run():
    db = harness.database
    if not db.admin("SELECT 1 FROM pg_database WHERE datname = 'bare'"):
        db.admin("CREATE ROLE clerk LOGIN PASSWORD 'clerk-e2e-secret'")
        db.admin('CREATE DATABASE bare')
    apply({'apiVersion': 'v1', 'kind': 'Secret', 'metadata': {'name': 'bare-db', 'namespace': SHOP},
           'stringData': {'url': db.url('bare', 'clerk', 'clerk-e2e-secret')}})
    apply(harness.sql_manifest('bare', 'SELECT 1 AS one', database={'secretRef': {'name': 'bare-db'}},
                               http={'idempotency': 'Optional'}))
    try:
        until('SchemaMissing', 30, lambda: harness.condition('bare')[:2] == ('False', 'SchemaMissing'))
        message = harness.condition('bare')[2]
        print(f'    {message}')
        expect('--migrate' in message or 'cicada.sql' in message, message)
    finally:
        kubectl('delete', 'fn', 'bare', '-n', SHOP)


def test_a_crash_is_contained_and_explained():
    """The pod stays, the next request is answered; after five crashes the status tells signal, handler and request."""
    name = 'crashing'
    apply(harness.function_manifest(name, 'e2e.so:handle_crash_on_request', image_name='cicada-e2e', http={}))
    try:
        harness.wait_ready(name)
        pod = harness.function_pods(name)[0]['metadata']['name']
        status = call_by_name(name, path='/?crash=true', headers={'X-Request-Id': 'crash-1'}).status
        expect(status == 502, f'{status} for the request that crashed')
        answer = until('an answer again', 10, lambda: (lambda a: a if a.status == 200 else None)(call_by_name(name)))
        expect([p['metadata']['name'] for p in harness.function_pods(name)] == [pod], 'another pod')
        expect(harness.function_pods(name)[0]['status']['containerStatuses'][0]['restartCount'] == 0, 'the container restarted')
        print(f'    answered {answer.seconds * 1e3:.0f} ms later by the same pod')

        def crash_again():
            crash_again.count += 1
            call_by_name(name, path='/?crash=true', headers={'X-Request-Id': f'crash-{crash_again.count}'})
        crash_again.count = 1

        def shown(text):
            return 'handle_crash_on_request' in text and 'SIGILL' in text and 'requests in flight: crash-' in text
        uid = harness.function(name)['metadata']['uid']
        until('an Event of the end', 60, lambda: crash_again() or shown(kubectl(
            'get', 'events', '-n', SHOP, '--field-selector', f'involvedObject.uid={uid},reason=ContainerExited')), 0)
        print(f'    an Event after {crash_again.count} crashes')
        until('ContainerExited', 60, lambda: crash_again() or harness.condition(name)[1] == 'ContainerExited', 0)
        message = harness.condition(name)[2]
        print(f'    {message}')
        expect(shown(message), message)
    finally:
        kubectl('delete', 'fn', name, '-n', SHOP)
