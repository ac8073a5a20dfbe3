"""`cicada-local --validate` and a real cluster judge the same manifests alike: verdict and field."""
import concurrent.futures
import dataclasses
import http.client
import json
import re
import shutil
import threading

import harness
import manifests
from harness import BUILD, ROOT, expect, kubectl, run, until

NAMESPACE = 'validate'
COMBINATIONS = 300
BATCH = 300  # files of one run: --validate shows 1,000 problems at most
FOLDER = BUILD / 'validate'
ALTERNATIVES = {'spec': ('handler', 'sql'), 'spec.triggers': ('queue', 'table', 'schedule')}  # of oneOf
PROGRAM = ROOT / 'build/release/bin/cicada-local'


def plain(field):
    """Without indices, which 1.20 leaves out, and without the entry's key."""
    return re.sub(r'\[[^\]]*\]', '', field or '').lstrip('.').replace('<nil>', '')


def write(made):
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    for index, manifest in enumerate(made):
        (FOLDER / f'{index:05}.yaml').write_text(manifest.text)


def ours(count):
    """By index: [(field, message)] of the errors."""
    told = {index: [] for index in range(count)}
    for start in range(0, count, BATCH):
        paths = [FOLDER / f'{index:05}.yaml' for index in range(start, min(start + BATCH, count))]
        done = run(PROGRAM, '--validate', '--namespace', NAMESPACE, *paths, check=False)
        lines = done.stdout.splitlines()
        expect(done.returncode == (0 if lines[-1].endswith('valid') else 1), f'exit {done.returncode}: {lines[-1]}')
        expect(not any(line.startswith('and ') for line in lines), 'too many problems for one run')
        for line in lines[:-1]:
            match = re.match(r'.*/(\d+)\.yaml:(?:\d+:\d+:)? (?:([\w.\[\]{}/-]+): )?(.*)', line)
            expect(match, f'not understood: {line}')
            told[int(match.group(1))].append((match.group(2) or '', match.group(3)))
    return told


def post(manifest, dry_run=True):
    """(status, answer) of the API server."""
    local = post.local
    if not hasattr(local, 'connection'):
        local.connection = http.client.HTTPConnection('127.0.0.1', harness.api.port, timeout=30)
    path = f'/apis/cicada.dev/v1alpha1/namespaces/{NAMESPACE}/functions' + ('?dryRun=All' if dry_run else '')
    local.connection.request('POST', path, manifest.text.encode(),
                             {'Content-Type': 'application/yaml' if manifest.is_yaml else 'application/json', 'Accept': 'application/json'})
    response = local.connection.getresponse()
    return response.status, json.loads(response.read())


post.local = threading.local()


def servers(made):
    """By index: a Verdict."""
    def ask(manifest):
        status, answer = post(manifest)
        expect(status == 201 or 400 <= status < 500, f'{manifest.title}: {status} {answer}')
        return verdict_of(status, answer, manifest.text)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        return dict(enumerate(pool.map(ask, made)))


@dataclasses.dataclass
class Verdict:
    accepted: bool
    fields: set  # refused ones; none are named when the object could not be decoded
    excused: set  # refused by a flaw of the server


def verdict_of(status, answer, text):
    """What the server says, less what 1.20 says too much (README, "Agreement with the API server")."""
    causes = [(field_of(cause), cause) for cause in (answer.get('details') or {}).get('causes') or []] if status != 201 else []
    fields = {field for field, _ in causes}
    none_fits = {field for field, cause in causes if 'none valid' in cause.get('message', '')}
    for field, cause in causes:
        # Of a oneOf that no alternative fits it also tells why the first of them does not.
        parent, _, name = field.rpartition('.')
        if name in ALTERNATIVES.get(parent, ()) and parent in none_fits and cause['reason'] == 'FieldValueRequired':
            fields.discard(field)
        # Of a spec that is no object, that replicas can't be found in it.
        if field == 'spec.replicas' and any(f == 'spec' and 'must be of type object' in c['message'] for f, c in causes):
            fields.discard(field)
    # An empty text is null to the go-openapi that this server was built with.
    null = {f for f, c in causes if c['message'].endswith('"null"')} if re.search(r': (""|\'\')[,}\]\n]', text) else set()
    return Verdict(status == 201, fields, null)


def field_of(cause):
    """oneOf and anyOf have their field in the message only."""
    named = re.search(r'"([^"]*)" must validate', cause.get('message', ''))
    return plain(named.group(1) if named else cause.get('field'))


def unknown_by_kubectl(made):
    """By index: the unknown fields that kubectl names."""
    folder = FOLDER / 'kubectl'
    folder.mkdir()
    for index, manifest in enumerate(made):
        if manifest.asks_kubectl:
            shutil.copy(FOLDER / f'{index:05}.yaml', folder)
    done = kubectl('create', '--dry-run=client', '-n', NAMESPACE, '-f', folder, check=False)
    found = {}
    for line in done.stderr.splitlines():
        match = re.search(r'error validating ".*/(\d+)\.yaml"', line)
        if match:
            found[int(match.group(1))] = {
                plain(f'{where}.{name}') for where, name in re.findall(r'ValidationError\(Function\.?([^)]*)\): unknown field "([^"]*)"', line)}
    return found


def wrong_by_operator(made, indices):
    """By index: what the operator says of an object that the server accepted."""
    def create(index):
        status, answer = post(made[index], dry_run=False)
        expect(status == 201, f'{made[index].title}: {status} {answer}')
        return answer['metadata']['name']
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        names = dict(zip(indices, pool.map(create, indices)))

    def told():
        tree = harness.api.get(f'/apis/cicada.dev/v1alpha1/namespaces/{NAMESPACE}/functions')
        by_name = {item['metadata']['name']: item.get('status', {}).get('conditions', []) for item in tree['items']}
        messages = {}
        for index, name in names.items():
            valid = next((c for c in by_name[name] if c['type'] == 'ConfigurationValid'), None)
            if not valid:
                return None
            messages[index] = valid['message'] if valid['reason'] == 'InvalidSpec' else f"accepted: {valid['reason']}"
        return messages
    return until('the operator judges', 60, told)


def differences(made, told, server, kubectl_says):
    """Texts of the disagreements, and the indices that only the operator can judge."""
    wrong, rules = [], []
    for index, manifest in enumerate(made):
        unknown = {plain(field) for field, message in told[index] if message == 'unknown field'}
        fields = {plain(field) for field, message in told[index] if message != 'unknown field'}
        if manifest.asks_kubectl and unknown != kubectl_says.get(index, set()):
            wrong.append(f'{manifest.title}: unknown to kubectl {kubectl_says.get(index)}, to us {unknown}')
        verdict = server[index]
        excused = verdict.excused - fields
        if verdict.accepted and fields:
            rules.append(index)
        elif verdict.fields - excused != fields if verdict.fields else verdict.accepted == bool(fields):
            wrong.append(f'{manifest.title}: the server says {verdict.fields or verdict.accepted}, we say {told[index]}: {manifest.text[:300]!r}')
    return wrong, rules


def repository_manifests():
    for path in sorted([*(ROOT / 'functions/shop/manifests').glob('*.yaml'), *(ROOT / 'functions/template').glob('*.yaml')]):
        yield manifests.Manifest(str(path.relative_to(ROOT)), path.read_text(), is_yaml=True)


def test_the_validator_judges_as_a_cluster_does():
    crd = harness.api.get('/apis/apiextensions.k8s.io/v1/customresourcedefinitions/functions.cicada.dev')
    made = manifests.Maker(crd).all(COMBINATIONS) + list(repository_manifests())
    write(made)
    kubectl('create', 'namespace', NAMESPACE, check=False)
    try:
        told, server = ours(len(made)), servers(made)
        accepted = sum(verdict.accepted for verdict in server.values())
        wrong, rules = differences(made, told, server, unknown_by_kubectl(made))
        (BUILD / 'validate.txt').write_text('\n'.join(wrong) + '\n')
        for index, message in wrong_by_operator(made, rules).items():
            fields = {plain(field) for field, _ in told[index]}
            if plain(message.split(': ')[0].split(' ')[0]) not in fields:
                wrong.append(f'{made[index].title}: the operator says "{message}", we say {told[index]}')
        print(f'    {len(made)} manifests: {accepted} accepted by the server, {len(rules)} of them refused by the operator')
        (BUILD / 'validate.txt').write_text('\n'.join(wrong) + '\n')
        expect(not wrong, f'{len(wrong)} disagreements, all in build/e2e/validate.txt: ' + '\n'.join(wrong[:5]))
        expect(len(made) >= 500 and accepted >= 100 and len(rules) >= 15, 'too few manifests to show anything')
    finally:
        kubectl('delete', 'namespace', NAMESPACE, '--wait=false')
