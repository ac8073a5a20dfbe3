"""The main job: apply the shop, call it from zero, orders are rows, wrong requests write nothing, and it goes back to zero."""
import concurrent.futures
import re
import time

import harness
from harness import HOST, ROOT, SHOP, always, apply, call_by_name, essential, expect, http_call, kubectl, order, until

MANIFESTS = ROOT / 'functions' / 'shop' / 'manifests'


def shop_functions():
    """The shop's own Function manifests, with the image of this run."""
    text = []
    for path in sorted(MANIFESTS.glob('*.yaml')):
        content = path.read_text()
        if re.search(r'^kind: Function$', content, re.M):
            text.append(re.sub(r'image: \S+', f"image: {harness.image('cicada-shop')}", content))
    return '\n---\n'.join(text)


@always
@essential
def test_apply_makes_the_functions_ready():
    start = time.monotonic()
    apply(shop_functions(), SHOP)
    kubectl('wait', '--for=condition=Ready', 'fn', '--all', '-n', SHOP, '--timeout=60s')
    print(f'    apply until Ready: {time.monotonic() - start:.1f} s')
    harness.patch_function('create-order', {'scaling': {'idleSeconds': 1}})
    harness.patch_function('settle-payment', {'scaling': {'idleSeconds': 1}})
    harness.wait_ready('create-order')


def test_get_fn_shows_the_columns():
    table = kubectl('get', 'fn', '-n', SHOP)
    print('    ' + table.replace('\n', '\n    ').rstrip())
    expect(table.split()[:6] == ['NAME', 'URL', 'READY', 'REASON', 'REPLICAS', 'AGE'], table)
    row = next(line for line in table.splitlines() if line.startswith('create-order'))
    expect(f'http://{HOST}/orders' in row and ' True ' in row, row)
    expect('DESIRED' in kubectl('get', 'functions', '-n', SHOP, '-o', 'wide'), 'no DESIRED column')
    expect('create-order' in kubectl('get', 'all', '-n', SHOP), 'not in category all')


def test_children_are_as_the_contract_says():
    api = harness.api
    deployment = api.get(f'/apis/apps/v1/namespaces/{SHOP}/deployments/create-order')
    owner = deployment['metadata']['ownerReferences'][0]
    expect(owner['kind'] == 'Function' and owner['controller'], owner)
    pod = deployment['spec']['template']['spec']
    expect(not pod.get('volumes'), f"volumes: {pod.get('volumes')}")
    expect(pod['automountServiceAccountToken'] is False and pod['enableServiceLinks'] is False, pod)
    container = pod['containers'][0]
    expect(container['securityContext']['readOnlyRootFilesystem'] is True, container)
    expect(deployment['spec']['revisionHistoryLimit'] == 1, deployment['spec'])
    fields = [m for m in deployment['metadata']['managedFields'] if m['manager'] == 'cicada-operator' and m['operation'] == 'Apply']
    expect(fields and 'f:replicas' not in fields[0]['fieldsV1']['f:spec'], 'an apply names replicas')
    service = api.get(f'/api/v1/namespaces/{SHOP}/services/create-order')
    expect(service['spec']['type'] == 'ExternalName', service['spec'])
    expect(service['spec']['externalName'] == f'cicada-gateway-internal.{harness.SYSTEM}.svc.cluster.local', service['spec'])
    ingress = api.get(f'/apis/networking.k8s.io/v1/namespaces/{SHOP}/ingresses/create-order')
    expect(ingress['spec']['ingressClassName'] == 'cicada', ingress['spec'])
    until('the Ingress has its address', 10, lambda: (api.get(
        f'/apis/networking.k8s.io/v1/namespaces/{SHOP}/ingresses/create-order')['status'].get('loadBalancer') or {}).get('ingress'))


def test_from_zero_an_order_is_a_row():
    harness.wait_asleep('create-order')
    stock = int(harness.database.shop('SELECT stock FROM products WHERE id = 1'))
    answer = order(quantity=2)
    expect(answer.status == 201, f'{answer.status} {answer.body}')
    print(f"    {answer.seconds * 1e3:.0f} ms, Server-Timing: {answer.headers.get('server-timing')}")
    print(f'    {answer.body.decode()}')
    made = answer.json
    row = harness.database.shop(f"SELECT user_id, product_id, quantity, status FROM orders WHERE id = {int(made['id'])}")
    expect(row == '1|1|2|pending', f'row: {row!r}')
    expect(int(harness.database.shop('SELECT stock FROM products WHERE id = 1')) == stock - 2, 'stock was not taken')
    expect({'decide', 'start', 'probe', 'handler'} <= set(answer.server_timing), answer.headers.get('server-timing'))
    expect(answer.headers.get('x-request-id'), 'no X-Request-Id')


def test_other_routes_reach_it_too():
    """Without DNS, by the functions' domain, and from inside the cluster."""
    body = {'user_id': 1, 'product_id': 1, 'quantity': 1}
    expect(call_by_name('create-order', 'POST', '', body).status == 201, '/fn/ route')
    expect(http_call('POST', '/', body, host=f'create-order.shop.{harness.DOMAIN}').status == 201, 'domain route')
    service = harness.api.get(f'/api/v1/namespaces/{harness.SYSTEM}/services/cicada-gateway-internal')
    internal = (service['spec']['clusterIP'], 80)
    expect(http_call('POST', '/', body, host='create-order.shop', address=internal).status == 201, 'internal route')
    answer = http_call('POST', '/', body, host='create-order', address=internal)
    expect(answer.status == 404 and b'create-order.' in answer.body, f'{answer.status} {answer.body}')
    expect(http_call('POST', '/', body, host='create-order.shop').status == 404, 'an internal name is served outside')
    answer = http_call('GET', '/orders')
    expect(answer.status == 405 and 'POST' in answer.headers.get('allow', ''), f'{answer.status} {answer.headers}')


def test_wrong_requests_get_the_right_4xx_and_write_nothing():
    def rows():
        return harness.database.shop('SELECT count(*), coalesce(sum(quantity), 0) FROM orders'), harness.database.shop(
            'SELECT string_agg(id || \':\' || stock, \',\' ORDER BY id) FROM products')
    before = rows()
    cases = [({'user_id': 1, 'product_id': 1, 'quantity': 1000000}, {409}, 'more than the stock'),
             ({'user_id': 1, 'product_id': 999999, 'quantity': 1}, {404, 422}, 'unknown product'),
             ({'user_id': 999999, 'product_id': 1, 'quantity': 1}, {404, 422}, 'unknown user'),
             ({'user_id': 1, 'product_id': 1, 'quantity': 0}, {422}, 'quantity 0'),
             ({'user_id': 1, 'product_id': 1}, {400, 422}, 'missing field'),
             ('{"user_id": 1, ', {400}, 'malformed JSON'),
             ('{"user_id":1,"user_id":2,"product_id":1,"quantity":1}', {400}, 'duplicate name')]
    for body, statuses, what in cases:
        answer = http_call('POST', '/orders', body)
        expect(answer.status in statuses, f'{what}: {answer.status} {answer.body}')
        expect('problem+json' in answer.headers.get('content-type', ''), f'{what}: {answer.headers}')
        expect(answer.json.get('code') and answer.json.get('title'), f'{what}: {answer.body}')
        print(f"    {what}: {answer.status} {answer.json['code']}")
    expect(rows() == before, f'something was written: {before} -> {rows()}')


def test_a_payment_settles_an_order():
    made = order().json
    pay = lambda status: http_call('POST', '/payments', {'order_id': made['id'], 'payment_status': status})
    answer = pay('paid')
    expect(200 <= answer.status < 300, f'{answer.status} {answer.body}')
    expect(harness.database.shop(f"SELECT status FROM orders WHERE id = {made['id']}") == 'paid', 'not paid')
    expect(pay('failed').status == 409, 'settled twice')
    expect(pay('perhaps').status in (400, 422), 'unknown payment status')


def test_an_event_settles_an_order():
    """From zero, all three: the queue's function settles, the row that it changes wakes the next one, whose answer wakes the last."""
    made = order(product=2).json
    for name in ('settle-payment', 'ship-order', 'tell-customer'):
        harness.patch_function(name, {'scaling': {'idleSeconds': 1}})
    harness.wait_ready('ship-order')
    harness.wait_ready('tell-customer')
    harness.wait_asleep('settle-payment')
    shipped = f"SELECT o.status, m.recipient FROM orders o LEFT JOIN mails m ON m.order_id = o.id WHERE o.id = {int(made['id'])}"
    start = time.monotonic()
    harness.database.shop(f"SELECT cicada.enqueue('payments', jsonb_build_object('order_id', {int(made['id'])}, 'payment_status', 'paid'))")
    until('it is paid', 30, lambda: harness.database.shop(shipped).startswith('paid'))
    paid = time.monotonic()
    until('its customer is told', 30, lambda: harness.database.shop(shipped) == 'paid|ada@example.com')
    print(f'    enqueue until paid {paid - start:.2f} s, until the customer is told {time.monotonic() - start:.2f} s')
    expect(harness.database.shop(f"SELECT count(*) FROM shipments WHERE order_id = {int(made['id'])}") == '1', 'not shipped once')


def test_a_repeated_checkout_orders_once():
    """The key is new with each run; the cluster and its database may not be."""
    body = {'user_id': 1, 'items': [{'product_id': 1, 'quantity': 1}, {'product_id': 2, 'quantity': 6}]}
    count = lambda: int(harness.database.shop('SELECT count(*) FROM orders'))
    before = count()
    key = {'Idempotency-Key': f'"checkout-{time.time_ns()}"'}
    answers = [http_call('POST', '/checkouts', body, headers=key) for _ in range(2)]
    expect([a.status for a in answers] == [201, 201], [(a.status, a.body) for a in answers])
    expect([o['product_id'] for o in answers[0].json] == [1, 2] and answers[1].body == answers[0].body, [a.body for a in answers])
    expect([a.headers.get('idempotency-replayed') for a in answers] == [None, 'true'], [a.headers for a in answers])
    expect(count() - before == 2, f'{count() - before} orders for two items asked for twice')
    expect(http_call('POST', '/checkouts', body).status == 400, 'no key')


def test_idle_goes_to_zero_and_wakes_again():
    for _ in range(2):
        expect(order().status == 201, 'no order')
        start = time.monotonic()
        harness.wait_asleep('create-order', seconds=30)
        print(f'    at zero {time.monotonic() - start:.1f} s after the answer')
    until('status shows it', 10, lambda: harness.condition('create-order', 'Active')[0] == 'False')
    ready = harness.condition('create-order')
    expect(ready[0] == 'True', f'asleep must stay Ready: {ready}')


def test_two_hundred_at_once_at_a_sleeping_function():
    harness.wait_asleep('create-order')
    before = int(harness.database.shop('SELECT count(*) FROM orders'))
    with concurrent.futures.ThreadPoolExecutor(200) as pool:
        answers = list(pool.map(lambda _: order(product=2), range(200)))
    statuses = {s: sum(a.status == s for a in answers) for s in {a.status for a in answers}}
    seconds = [a.seconds for a in answers]
    print(f'    {statuses}, {harness.summary(seconds)}')
    expect(statuses == {201: 200}, f'{statuses}: {next((a.body for a in answers if a.status != 201), b"")}')
    expect(len({a.json['id'] for a in answers}) == 200, 'an order was answered twice')
    made = int(harness.database.shop('SELECT count(*) FROM orders')) - before
    expect(made == 200, f'{made} rows for 200 requests')
