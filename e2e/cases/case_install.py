"""helm install: the control plane is Ready, the resource is there and strict."""
import json
import os
import time

import harness
from harness import ROOT, SHOP, SYSTEM, always, api, apply, essential, expect, kubectl, run, until  # noqa: F401

CHART = ROOT / 'charts' / 'cicada'
NODE_PORT = 30080


def helm_values():
    return ['--set', f'image.repository={harness.IMAGE_PREFIX}cicada', '--set', f'image.tag={harness.IMAGE_TAG}',
            '--set', f'runtimeImage.repository={harness.IMAGE_PREFIX}cicada-runtime', '--set',
            f'runtimeImage.tag={harness.IMAGE_TAG}',
            '--set', f'gateway.domain={harness.DOMAIN}', '--set', 'gateway.service.type=NodePort',
            '--set', f'gateway.service.nodePort={NODE_PORT}', '--set', f'gateway.publishAddresses={{{node_address()}}}']


def node_address():
    node = harness.api.get('/api/v1/nodes')['items'][0]
    return next(a['address'] for a in node['status']['addresses'] if a['type'] == 'InternalIP')


@always
@essential
def test_helm_install_brings_operator_and_gateway_ready():
    start = time.monotonic()
    if os.environ.get('E2E_REUSE') == 'true':
        run('helm', 'upgrade', '--install', 'cicada', CHART, '-n', SYSTEM, '--create-namespace', '--wait', '--timeout', '90s',
            *helm_values())
    else:
        run('helm', 'install', 'cicada', CHART, '-n', SYSTEM, '--create-namespace', '--wait', '--timeout', '90s', *helm_values())
    for component in ('operator', 'gateway'):
        ready = [p for p in harness.component_pods(component) if harness.pod_is_ready(p)]
        expect(len(ready) == 2, f'{component}: {len(ready)} pods ready, 2 wanted')
    print(f'    helm install --wait: {time.monotonic() - start:.1f} s')
    harness.gateway_address = (node_address(), NODE_PORT)
    until('the gateway answers', 20, lambda: harness.http_call('GET', '/', host='nobody.example.com').status == 404)


@always
@essential
def test_shop_database():
    db = harness.database
    if not db.admin("SELECT 1 FROM pg_database WHERE datname = 'shop'"):
        db.admin("CREATE ROLE shop LOGIN PASSWORD 'shop-e2e-secret'")
        db.admin('CREATE DATABASE shop OWNER shop')
    schema = (ROOT / 'functions/shop/schema.sql').read_text()
    seed = (ROOT / 'functions/shop/seed.sql').read_text()
    db.shop('SET ROLE shop;\n' + schema + seed)
    expect(int(db.shop('SELECT count(*) FROM products')) > 0, 'no products')
    kubectl('create', 'namespace', SHOP, check=False)
    secret = {'apiVersion': 'v1', 'kind': 'Secret', 'metadata': {'name': 'shop-db', 'namespace': SHOP},
              'stringData': {'url': db.url('shop', 'shop', 'shop-e2e-secret')}}
    apply(secret)


def test_unknown_fields_are_refused_by_kubectl_and_pruned_by_the_server():
    manifest = harness.function_manifest('strict', 'shop.so:handle_user_request', replicas=0)
    manifest['spec']['retryable'] = True
    manifest['spec']['scaling'] = {'minReplica': 1}
    done = apply(manifest, check=False)
    expect(done.returncode != 0, 'kubectl accepted unknown fields')
    expect('minReplica' in done.stderr, f'kubectl does not name the field: {done.stderr}')
    kubectl('apply', '--validate=false', '-f', '-', stdin=json.dumps(manifest))
    try:
        spec = harness.function('strict')['spec']
        expect('retryable' not in spec and 'minReplica' not in spec['scaling'], f'not pruned: {spec}')
        expect(spec['scaling']['maxReplicas'] == 10 and spec['timeoutSeconds'] == 30, f'no defaults: {spec}')
    finally:
        kubectl('delete', 'fn', 'strict', '-n', SHOP)


def test_limits_of_the_schema_are_enforced():
    for field, value in (('concurrency', 0), ('concurrency', 251), ('queueDepth', -1), ('timeoutSeconds', 0),
                         ('handler', '../x.so:f'), ('result', 'row'), ('parameters', [{'default': 'x'}]),
                         ('parameters', [{'name': '1x'}]), ('http', {'path': 'orders'}), ('http', {'idempotency': 'Yes'}),
                         ('database', {'secretRef': {'name': 'a'}, 'pooler': 'Session'}), ('scaling', {'maxReplicas': 0})):
        manifest = harness.function_manifest('limits', 'shop.so:handle_user_request')
        manifest['spec'][field] = value
        done = apply(manifest, check=False)
        if done.returncode == 0:
            kubectl('delete', 'fn', 'limits', '-n', SHOP)
        expect(done.returncode != 0 and field in done.stderr, f'{field}={value!r} was accepted, or the error does not name it: '
               f'{done.stdout}{done.stderr}')


def test_rules_between_fields():
    """The schema itself demands one of handler and sql; what CEL says from 1.25 on, the operator says in the status."""
    base = harness.function_manifest('rules', 'shop.so:handle_user_request')
    for change in ({'sql': 'SELECT 1'}, {'handler': None}):
        manifest = {**base, 'spec': {k: v for k, v in {**base['spec'], **change}.items() if v is not None}}
        done = apply(manifest, check=False)
        expect(done.returncode != 0 and 'oneOf' in done.stderr, f'{change}: {done.stdout}{done.stderr}')
    for change, message in (({'result': 'Row'}, 'result and parameters belong to sql'),
                            ({'handler': None, 'database': None, 'sql': 'SELECT 1'}, 'sql needs database'),
                            ({'database': None, 'http': {'idempotency': 'Optional'}}, 'http.idempotency needs database')):
        manifest = {**base, 'spec': {k: v for k, v in {**base['spec'], **change}.items() if v is not None}}
        done = apply(manifest, check=False)
        if done.returncode != 0:  # CEL
            expect(message in done.stderr, f'{change}: {done.stderr}')
            continue
        try:
            until('InvalidSpec', 10, lambda: harness.condition('rules')[1] == 'InvalidSpec')
            expect(message in harness.condition('rules')[2], harness.condition('rules'))
        finally:
            kubectl('delete', 'fn', 'rules', '-n', SHOP)


def test_explain_describes_every_field():
    text = kubectl('explain', 'functions.spec', '--recursive')
    for field in ('handler', 'sql', 'idempotency', 'secretRef', 'idleSeconds', 'pathTemplate', 'topologySpreadConstraints'):
        expect(field in text, f'kubectl explain lacks {field}')
    def walk(schema, path):
        if 'properties' in schema:
            for name, child in schema['properties'].items():
                expect(child.get('description'), f'{path}.{name} has no description')
                walk(child, f'{path}.{name}')
        if 'items' in schema:
            walk(schema['items'], path + '[]')
    crd = harness.api.get('/apis/apiextensions.k8s.io/v1/customresourcedefinitions/functions.cicada.dev')
    walk(crd['spec']['versions'][0]['schema']['openAPIV3Schema']['properties']['spec'], 'spec')
