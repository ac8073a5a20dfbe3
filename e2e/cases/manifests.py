"""Valid and invalid manifests of Functions, made from the CRD's own schema: what case_validate.py compares verdicts on.

For every field of the schema: each limit from both sides, every wrong type, null, choices, patterns, missing members, duplicates and
unknown fields; then combinations of two of these, metadata, and what YAML makes of unquoted words. Nothing here knows a field by
name but what a rule between fields demands (`around`).
"""
import copy
import dataclasses
import json
import random
import re

HANDLER = {'handler': 'a.so:f'}
WITH_DATABASE = {**HANDLER, 'database': {'secretRef': {'name': 'a'}}}
SOURCES = {'queue': {'name': 'a'}, 'table': {'name': 'a.a', 'operations': ['UPDATE']}, 'schedule': {'cron': '@daily'}}
SQL = {'sql': 'SELECT 1', 'database': {'secretRef': {'name': 'a'}}}
WRONG_TYPES = ({}, [], 'x', '', '1', 'true', 0, 1, -1, 1.5, True, False, None, [None], {'x': 1})
TEXTS = ('', ' ', 'a', 'A', 'a b', 'a\n', '\na', 'ä', '日本', 'a/b', '/', '/a', '/a/', '//', '/a/{b}', '/{b}/{b}', '/..', '/%20', 'a.b', 'a_b', '-a', 'a-',
         '.a', '..', 'a.so:f', 'a.so', '../a.so:f', 'a.so:1', 'x/y.so:_f', '1', '1a', '_a', '$a', '*', '*.', '*.a.b', 'a.*', 'A.b', 'a:1', 'a@b', 'GET',
         'get', 'CICADA_X', 'DATABASE_URL', 'CICADA_LOG_LEVEL')
SAMPLES = ('a', 'a.so:f', '/', 'GET', 'a.a', '@daily')


@dataclasses.dataclass
class Manifest:
    title: str
    text: str  # JSON, or YAML where it says so
    is_yaml: bool = False
    asks_kubectl: bool = False  # about unknown fields


def sample(schema):
    """The smallest value that the schema takes."""
    kind = schema.get('type')
    if 'enum' in schema:
        return schema['enum'][0]
    if schema.get('x-kubernetes-int-or-string'):
        return 1
    if kind == 'object':
        one_of = schema['oneOf'][0]['required'] if 'oneOf' in schema else []
        return {name: sample(schema['properties'][name]) for name in schema.get('required', []) + one_of}
    if kind == 'array':
        return [sample(schema['items'])] * schema.get('minItems', 0)
    if kind == 'string':
        return next(s for s in SAMPLES if re.search(schema.get('pattern', ''), s))
    if kind in ('integer', 'number'):
        return schema.get('minimum', 1)
    return False


def long_text(schema, length):
    """Of that length, as near to the pattern as it gets."""
    pattern = schema.get('pattern', '')
    for head, unit, tail in (('', 'a', ''), ('', 'A', ''), ('/', 'a', ''), ('', 'a', '.so:f'), ('ä', 'ä', 'ä')):
        text = head + unit * (length - len(head) - len(tail)) + tail
        if len(text) == length and re.search(pattern, text):
            return text
    return 'a' * length


def distinct(schema, count):
    """`count` items, no two with the same key."""
    items = [copy.deepcopy(sample(schema['items'])) for _ in range(count)]
    for index, item in enumerate(items):
        for key in schema.get('x-kubernetes-list-map-keys', []):
            item[key] = f'n{index}'
        if isinstance(item, dict) and 'queue' in item:
            item['queue']['name'] = f'n{index}'  # no two triggers have the same
        if schema.get('x-kubernetes-list-type') == 'set' and isinstance(item, str) and 'enum' not in schema['items']:
            items[index] = f'n{index}'
    return items


def values(schema):
    """(what it is, value) to try for a node of the schema; its children are tried by themselves."""
    for value in WRONG_TYPES:
        yield f'is {json.dumps(value)}', value
    for value in schema.get('enum', []):
        yield f'is {value!r}', value
        yield f'is {value.lower()!r}', value.lower()
    for bound in ('minimum', 'maximum'):
        if bound in schema:
            # 1.20 takes a number for whole that is off by less than a part in 10^9.
            for offset in (-1, -0.5, 0, 1) if abs(schema[bound]) < 10 ** 6 else (-1, 0, 1):
                yield f'{bound} {offset:+}', schema[bound] + offset
    if schema.get('type') in ('integer', 'number'):
        yield 'as a float', float(schema.get('minimum', 1) + 1)
        yield 'huge', 1e30
    if schema.get('type') == 'string':
        for text in TEXTS:
            yield f'is {text!r}', text
        for name in ('minLength', 'maxLength'):
            if name in schema:
                for length in (schema[name] - 1, schema[name], schema[name] + 1):
                    if length > 0:
                        yield f'{length} characters', long_text(schema, length)
                        yield f'{length} characters of two bytes', 'ä' * length
    if schema.get('type') == 'array':
        one = distinct(schema, 1)
        yield 'one item', one
        yield 'the same item twice', one + copy.deepcopy(one)
        yield 'the same item, then another, then the same', distinct(schema, 2) + copy.deepcopy(one)
        yield 'null after an item', one + [None]
        for count in (schema['maxItems'], schema['maxItems'] + 1) if 'maxItems' in schema else ():
            yield f'{count} items', distinct(schema, count)
        for key in schema.get('x-kubernetes-list-map-keys', []):
            yield f'two items without {key}', [{}, {}]
    if schema.get('type') == 'object' and 'properties' in schema:
        filled = {name: sample(child) for name, child in schema['properties'].items()}
        yield 'all members', filled
        yield 'all members are null', {name: None for name in filled}
        for name in schema.get('required', []):
            whole = {k: v for k, v in sample(schema).items()}
            yield f'without {name}', {k: v for k, v in whole.items() if k != name}
            yield f'{name} is null', {**whole, name: None}
    if 'additionalProperties' in schema:
        child = sample(schema['additionalProperties'])
        yield 'a member', {'a': child}
        yield 'a member is null', {'a': None, 'b': child}
        yield 'a member of ours', {'cicada.dev/x': child}
        yield 'the member of ours', {'app.kubernetes.io/managed-by': child}
        for count in (schema['maxProperties'], schema['maxProperties'] + 1):
            yield f'{count} members', {f'n{i}': child for i in range(count)}
            yield f'{count} members, one of them null', {**{f'n{i}': child for i in range(count - 1)}, 'last': None}


def nodes(schema, path=()):
    """(path, schema) of every node. 'x[]' is an element of x, 'x{}' a member of a map."""
    yield path, schema
    for name, child in schema.get('properties', {}).items():
        yield from nodes(child, path + (name,))
    if 'items' in schema:
        yield from nodes(schema['items'], path + ('[]',))
    if 'additionalProperties' in schema:
        yield from nodes(schema['additionalProperties'], path + ('{}',))


def around(path):
    """A spec in which no rule between fields hides what is tried at the path."""
    head, name = path[0] if path else '', '.'.join(path)
    if head in ('sql', 'result', 'parameters'):
        return SQL
    if name in ('scaling.minReplicas', 'scaling.initialReplicas', 'scaling.activationReplicas'):
        return {**HANDLER, 'scaling': {'maxReplicas': 1000}}
    if name == 'scaling.maxReplicas':
        return {**HANDLER, 'scaling': {'initialReplicas': 0}}
    if name == 'template.terminationGracePeriodSeconds':
        return {**HANDLER, 'drainSeconds': 1}
    if head == 'triggers':
        source = path[2] if path[2:] and path[2] in SOURCES else 'queue'
        return {**WITH_DATABASE, 'triggers': [{'name': 'a', source: copy.deepcopy(SOURCES[source])}]} if path[1:] else WITH_DATABASE
    if head in ('http', 'output'):
        return {**HANDLER, 'database': {'secretRef': {'name': 'a'}}}
    if head == 'envFrom' and not name.startswith(('envFrom.[].configMapRef', 'envFrom.[].secretRef')):
        return {**HANDLER, 'envFrom': [{'secretRef': {'name': 'a'}}]}
    return HANDLER


def put(spec, schema, path, value):
    """A copy of spec with value at the path; what is above it is made as small as the schema allows."""
    if not path:
        return value
    step = path[0]
    if step == '[]':
        holder = copy.deepcopy(spec) if isinstance(spec, list) and spec else distinct(schema, 1)
        holder[0] = put(holder[0], schema['items'], path[1:], value)
        return holder
    holder = copy.deepcopy(spec) if isinstance(spec, dict) else sample(schema)
    if step == '{}':
        holder['a'] = put(None, schema['additionalProperties'], path[1:], value)
    else:
        holder[step] = put(holder.get(step), schema['properties'][step], path[1:], value)
    return holder


def at(spec, path):
    for step in path:
        spec = spec[0] if step == '[]' else spec['a' if step == '{}' else step]
    return spec


class Maker:
    def __init__(self, crd):
        root = crd['spec']['versions'][0]['schema']['openAPIV3Schema']
        self.schema = root['properties']['spec']
        self.made = []
        self.seen = set()

    def add(self, title, function, **flags):
        """A manifest of a whole object; the same one is not taken twice."""
        text = json.dumps(function, sort_keys=True)
        if text in self.seen:
            return
        self.seen.add(text)
        if function.get('metadata', {}) == {}:
            function['metadata'] = {'name': f'v{len(self.made)}'}
        self.made.append(Manifest(title, json.dumps(function, ensure_ascii=False), **flags))

    def add_spec(self, title, spec, **flags):
        self.add(title, {'apiVersion': 'cicada.dev/v1alpha1', 'kind': 'Function', 'metadata': {}, 'spec': spec}, **flags)

    def add_fields(self):
        for path, schema in nodes(self.schema):
            base = around(path)
            for what, value in values(schema):
                if path == ('replicas',) and what == 'as a float':
                    continue  # 1.0 is refused by the scale subresource; kubectl, as we do, reads it as 1
                self.add_spec(f"spec.{'.'.join(path)} {what}", put(base, self.schema, path, value))

    def add_unknown(self):
        for path, schema in nodes(self.schema):
            if schema.get('type') != 'object' or 'additionalProperties' in schema:
                continue
            spec = put(around(path), self.schema, path, sample(schema)) if path else copy.deepcopy(HANDLER)
            for name, value in (('foo', 1), ('nested', {'a': [{}]}), ('Name', 'x')):
                changed = copy.deepcopy(spec)
                at(changed, path)[name] = value
                self.add_spec(f"unknown {name} in spec.{'.'.join(path)}", changed, asks_kubectl=True)
        for name in ('foo', 'Spec'):
            self.add(f'unknown {name} beside spec', {'apiVersion': 'cicada.dev/v1alpha1', 'kind': 'Function', name: {},
                                                     'metadata': {'name': f'top-{name.lower()}'}, 'spec': HANDLER}, asks_kubectl=True)
        self.add('unknown field in metadata', {'apiVersion': 'cicada.dev/v1alpha1', 'kind': 'Function', 'spec': HANDLER,
                                               'metadata': {'name': 'meta-foo', 'foo': 1, 'label': {}}}, asks_kubectl=True)

    def add_metadata(self):
        long = 'a' * 64
        for index, (name, metadata) in enumerate(
                [(t, {}) for t in TEXTS + ('a' * 63, long, 'a' * 253, 'a' * 254, 'a.' * 60 + 'a')] +
                [('x', {'labels': labels}) for labels in
                 ({}, {'a': 'b'}, {'a': ''}, {'': 'b'}, {'a b': 'b'}, {'a/b': 'c'}, {'A/b': 'c'}, {'a/b/c': 'd'}, {'/a': 'b'}, {'a/': 'b'}, {'-a': 'b'},
                  {'a': '-b'}, {'a': 'b-'}, {'a': 'b c'}, {'a': 'x' * 63}, {'a': 'x' * 64}, {'x' * 63: 'a'}, {'x' * 64: 'a'}, {'a': 'ä'}, {'a': 1},
                  {'a': None}, {'a': {}}, {'a b': 'c d'}, [], 'a', None)] +
                [('x', {'annotations': annotations}) for annotations in
                 ({}, {'a': 'any text\n ä'}, {'A.b/c': ''}, {'a b': 'c'}, {'': 'c'}, {'a': 1}, {'a': 'x' * 262144}, {'a': 'x' * 262143}, {'a/b/c': 'd'},
                  {'x' * 64: ''}, [], None)]):
            given = name if name != 'x' else f'm{index}'
            self.add(f'metadata {name!r} {str(metadata)[:80]}', {'apiVersion': 'cicada.dev/v1alpha1', 'kind': 'Function', 'spec': HANDLER,
                                                                 'metadata': {'name': given, **metadata}})
        for metadata in ({'name': 1}, {'name': None}, {'name': {}}, {'labels': {}}):
            self.add(f'metadata is {metadata}', {'apiVersion': 'cicada.dev/v1alpha1', 'kind': 'Function', 'spec': HANDLER, 'metadata': metadata})
        for index, whole in enumerate(({}, {'spec': None}, {'spec': []}, {'spec': 'x'}, {'spec': {}}, {'spec': HANDLER, 'status': {'url': 'x'}})):
            self.add(f'whole {whole}', {'apiVersion': 'cicada.dev/v1alpha1', 'kind': 'Function', 'metadata': {'name': f'whole{index}'}, **whole})

    def add_rules(self):
        """Rules between fields, which a schema without CEL can't tell."""
        for title, spec in (
                ('sql without database', {'sql': 'SELECT 1'}), ('result without sql', {**HANDLER, 'result': 'Row'}),
                ('parameters without sql', {**HANDLER, 'parameters': [{'name': 'a'}]}), ('both', {**SQL, **HANDLER}), ('neither', {}),
                ('idempotency without database', {**HANDLER, 'http': {'idempotency': 'Required'}}),
                ('minReplicas above', {**HANDLER, 'scaling': {'minReplicas': 11}}),
                ('activationReplicas above', {**HANDLER, 'scaling': {'activationReplicas': 11}}),
                ('initialReplicas above', {**HANDLER, 'scaling': {'initialReplicas': 2, 'maxReplicas': 1}}),
                ('grace below drain', {**HANDLER, 'template': {'terminationGracePeriodSeconds': 29}}),
                ('grace below given drain', {**HANDLER, 'drainSeconds': 9, 'template': {'terminationGracePeriodSeconds': 8}}),
                ('reserved variable', {**HANDLER, 'env': [{'name': 'POD_X', 'value': 'a'}]}),
                ('value and valueFrom', {**HANDLER, 'env': [{'name': 'A', 'value': 'a', 'valueFrom': {'fieldRef': {'fieldPath': 'metadata.name'}}}]}),
                ('empty value and valueFrom', {**HANDLER, 'env': [{'name': 'A', 'value': '', 'valueFrom': {'fieldRef': {'fieldPath': 'metadata.name'}}}]}),
                ('two sources', {**HANDLER, 'envFrom': [{'secretRef': {'name': 'a'}, 'configMapRef': {'name': 'b'}}]}),
                ('no source', {**HANDLER, 'envFrom': [{'prefix': 'a'}]}),
                ('reserved label', {**HANDLER, 'template': {'labels': {'cicada.dev/function': 'a'}}}),
                ('reserved annotation', {**HANDLER, 'template': {'annotations': {'cicada.dev/x': 'a'}}}),
                ('long sql as JSON', {**SQL, 'sql': 'SELECT ' + '"' * 65000}),
                ('triggers without database', {**HANDLER, 'triggers': [{'name': 'a', 'queue': {'name': 'a'}}]}),
                ('output without database', {**HANDLER, 'output': {'queue': 'a'}}),
                ('output of no answer', {**SQL, 'result': 'None', 'output': {'queue': 'a'}}),
                ('a queue of ours', {**WITH_DATABASE, 'triggers': [{'name': 'a', 'queue': {'name': 'cicada.a'}}]}),
                ('output to a queue of ours', {**WITH_DATABASE, 'output': {'queue': 'cicada.a'}}),
                ('a queue twice', {**WITH_DATABASE, 'triggers': [{'name': name, 'queue': {'name': 'a'}} for name in 'ab']}),
                ('columns without update', {**WITH_DATABASE, 'triggers': [{'name': 'a', 'table': {
                    'name': 'a.a', 'operations': ['INSERT'], 'columns': ['b']}}]}),
                ('backoff above', {**WITH_DATABASE, 'triggers': [{'name': 'a', 'queue': {'name': 'a'}, 'delivery': {
                    'backoffSeconds': 3, 'maxBackoffSeconds': 2}}]}),
                ('no such hour', {**WITH_DATABASE, 'triggers': [{'name': 'a', 'schedule': {'cron': '0 24 * * *'}}]}),
                ('no zone', {**WITH_DATABASE, 'triggers': [{'name': 'a', 'schedule': {'cron': '@daily', 'timeZone': 'localtime'}}]}),
                ('template repeats a name', {**HANDLER, 'http': {'pathTemplate': '/{a}/{a}'}})):
            self.add_spec(f'rule: {title}', spec)

    def add_combinations(self, count, seed=7):
        """Two changes in one manifest: every problem is told, not the first alone. (Empty texts: see Verdict.excused.)"""
        chance = random.Random(seed)
        changes = [(path, what, value) for path, schema in nodes(self.schema) for what, value in values(schema)
                   if path and value != '' and not (isinstance(value, (list, dict, str)) and len(value) > 70)]
        for _ in range(count):
            (path, what, value), (path2, what2, value2) = chance.sample(changes, 2)
            if path[0] == path2[0]:
                continue
            spec = put({**around(path), **around(path2)}, self.schema, path, value)
            self.add_spec(f"spec.{'.'.join(path)} {what} and spec.{'.'.join(path2)} {what2}", put(spec, self.schema, path2, value2))

    def add_yaml(self):
        words = ('no', 'No', 'nO', 'yes', 'y', 'n', 'on', 'off', 'true', 'True', 'TRUE', 'tRue', '~', 'null', 'Null', '', '1', '"1"', "'yes'", '"no"', '1e1', '1e+1', '1.0',
                 '0x10', '0o17', '017', '08', '0b11', '1_0', '+5', '-0', '.5', '5.', '1:30', '2001-01-01', '12e03', '!!str 5', '!!str no', '|\n      5\n',
                 '>-\n      no\n', '"\\u0061"', '[]', '{}', '5 # five', '=', '1 000', 'x: y'[:1], '0.1e2', '1__0', '0X1F', '99999999999999999999')
        fields = (('timeoutSeconds: {}', 'an integer'), ('image: {}', 'a text'), ('database: {{secretRef: {{name: a}}, retryable: {}}}', 'a truth'),
                  ('template: {{labels: {{a: {}}}}}', 'a label'), ('template: {{resources: {{limits: {{cpu: {}}}}}}}', 'a quantity'),
                  ('env: [{{name: A, value: {}}}]', 'a variable'))
        for field, what in fields:
            for word in words:
                if '\n' in word and '{' in field:
                    continue
                name = f'y{len(self.made)}'
                text = f'apiVersion: cicada.dev/v1alpha1\nkind: Function\nmetadata:\n  name: {name}\nspec:\n  handler: a.so:f\n  {field.format(word)}\n'
                self.made.append(Manifest(f'YAML: {what} is {word!r}', text, is_yaml=True))

    def all(self, combinations):
        self.add_fields()
        self.add_unknown()
        self.add_metadata()
        self.add_rules()
        self.add_combinations(combinations)
        self.add_yaml()
        return self.made
