/* The validator of structural schemas, and the CRD's schema that is part of the program. */
#include <string.h>

#include "operator/function/function_schema.h"
#include "operator/tests/support_function.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"
#include "runtime/tests/support_test.h"

static void free_schema_p(struct function_schema **schema)
{
    function_schema_free(*schema);
}

static struct structural_schema *compile(const char *yaml)
{
    struct err err = ERR_INIT;
    CLEANUP_JSON cJSON *tree = support_yaml(yaml);
    struct structural_schema *schema = NULL;
    assert_ok(structural_schema_compile(tree, &schema, &err));
    return schema;
}

/* "path: message" of each, joined by '|'; unknown fields with '?' in front, rules between fields with '&'. */
static char *text_of(const struct schema_problems *problems)
{
    struct strbuf text;
    strbuf_init(&text, 65536);
    for (size_t i = 0; i < problems->count; i++) {
        const struct schema_problem *problem = &problems->items[i];
        strbuf_appendf(&text, "%s%s%s: %s", i ? "|" : "",
                       problem->kind == SCHEMA_UNKNOWN_FIELD ? "?"
                       : problem->kind == SCHEMA_CROSS_FIELD ? "&"
                                                             : "",
                       problem->path, problem->message);
    }
    return strbuf_detach(&text, NULL);
}

static void expect_problems(const struct structural_schema *schema, const char *yaml, const char *expected)
{
    CLEANUP_SCHEMA_PROBLEMS struct schema_problems problems = SCHEMA_PROBLEMS_INIT;
    CLEANUP_JSON cJSON *value = support_yaml(yaml);
    structural_schema_check(schema, value, "", &problems);
    CLEANUP_FREE char *text = text_of(&problems);
    assert_string_equal(text, expected);
}

static void judges_each_keyword(void **state)
{
    (void)state;
    static const char *const cases[][3] = {
        /* schema, value of x, problems */
        {"{type: string}", "1", "x: must be a string"},
        {"{type: integer}", "1.5", "x: must be a whole number"},
        {"{type: integer}", "1.0", ""},
        {"{type: integer}", "1e30", "x: must be a whole number"},
        {"{type: number}", "1.5", ""},
        {"{type: boolean}", "'true'", "x: must be true or false"},
        {"{type: array, items: {type: string}}", "[a, null]", "x[1]: must be a string"},
        {"{type: string}", "null", ""},
        {"{type: string, nullable: true, enum: [a]}", "null", ""},
        {"{type: string, enum: [a, '']}", "b", "x: must be one of a, \"\""},
        {"{type: string, minLength: 1}", "''", "x: must have at least 1 character"},
        {"{type: string, maxLength: 2}", "\xC3\xA4\xC3\xA4", ""},
        {"{type: string, maxLength: 1}", "\xC3\xA4\xC3\xA4", "x: must have at most 1 characters"},
        {"{type: string, pattern: '^a+$'}", "aab", "x: must match ^a+$"},
        {"{type: integer, minimum: 1, maximum: 4294967296}", "0", "x: must be from 1 to 4294967296"},
        {"{type: integer, minimum: 1}", "0", "x: must be at least 1"},
        {"{type: integer, maximum: 1}", "2", "x: must be at most 1"},
        {"{type: array, minItems: 1, items: {type: string}}", "[]", "x: must have at least 1 items"},
        {"{type: array, maxItems: 1, items: {type: string}}", "[a, b]", "x: must have at most 1 items"},
        {"{type: array, x-kubernetes-list-type: set, items: {type: string}}", "[a, b, a]",
         "x[2]: must not be listed twice"},
        {"{type: array, x-kubernetes-list-type: map, x-kubernetes-list-map-keys: [k], items: {type: object, "
         "properties: {k: {type: string}, v: {type: string}}}}",
         "[{k: a, v: b}, {k: b, v: b}, {k: a}]", "x[2]: must not be listed twice"},
        {"{type: object, maxProperties: 1, additionalProperties: {type: string}}", "{a: b, c: null}", ""},
        {"{type: object, maxProperties: 1, additionalProperties: {type: string}}", "{a: b, c: d}",
         "x: must have at most 1 members"},
        {"{type: object, additionalProperties: {type: string}}", "{a: 1}", "x.a: must be a string"},
        {"{type: object, required: [a], properties: {a: {type: string}}}", "{a: null}", "x.a: is required"},
        {"{type: object, properties: {a: {type: string}}}", "{b: 1}", "?x.b: unknown field"},
        {"{type: object}", "{b: null}", "?x.b: unknown field"},
        {"{type: object, x-kubernetes-preserve-unknown-fields: true}", "{b: {c: [1]}}", ""},
        {"{x-kubernetes-int-or-string: true, anyOf: [{type: integer}, {type: string}]}", "1", ""},
        {"{x-kubernetes-int-or-string: true, anyOf: [{type: integer}, {type: string}]}", "true",
         "x: must be a whole number or a string"},
        {"{anyOf: [{type: integer}, {type: boolean}]}", "a", "x: must fit one of the schema's alternatives"},
        {"{not: {required: [a]}, type: object, properties: {a: {type: string}}}", "{a: b}",
         "x: must not have what the schema excludes"},
        {"{type: object, oneOf: [{required: [a]}, {required: [b]}], properties: {a: {type: string}, b: "
         "{type: "
         "string}}}",
         "{a: x, b: null}", ""},
        {"{type: object, oneOf: [{required: [a]}, {required: [b]}], properties: {a: {type: string}, b: "
         "{type: "
         "string}}}",
         "{a: x, b: y}", "x: must have exactly one of a and b"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        CLEANUP_FREE char *yaml = xasprintf("{type: object, properties: {x: %s}}", cases[i][0]);
        CLEANUP_FREE char *value = xasprintf("{x: %s}", cases[i][1]);
        struct structural_schema *schema = compile(yaml);
        expect_problems(schema, value, cases[i][2]);
        structural_schema_free(schema);
    }
}

static void refuses_what_it_does_not_know(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"{type: text}", "type: is not known"},
        {"{properties: {a: {items: {uniqueItems: true}}}}",
         "properties: a: items: uniqueItems: is a keyword"},
        {"{pattern: '('}", "pattern: is no extended"},
        {"{format: email}", "format: is not known"},
        {"{x-kubernetes-list-type: bag}", "x-kubernetes-list-type: is not known"},
        {"{maxLength: -1}", "maxLength: must be a whole number"},
        {"{minimum: a}", "minimum: must be a number"},
        {"{oneOf: []}", "oneOf: must be a list of schemas"},
        {"{required: [1]}", "required: must be a list of names"},
        {"{nullable: 1}", "nullable: must be true or false"},
        {"{additionalProperties: true}", "additionalProperties: must be a schema"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct err err = ERR_INIT;
        CLEANUP_JSON cJSON *tree = support_yaml(cases[i][0]);
        struct structural_schema *schema = NULL;
        assert_fails(structural_schema_compile(tree, &schema, &err), ERR_INVALID);
        if (!strstr(err.msg, cases[i][1])) {
            fail_msg("\"%s\" lacks \"%s\"", err.msg, cases[i][1]);
        }
    }
}

static void drops_nulls(void **state)
{
    (void)state;
    struct structural_schema *schema = compile(
        "{type: object, properties: {a: {type: string}, b: {type: string, nullable: true}, m: {type: object, "
        "additionalProperties: {type: string}}, l: {type: array, items: {type: object, properties: "
        "{a: {type: string}}}}, k: {type: object, x-kubernetes-preserve-unknown-fields: true}}}");
    CLEANUP_JSON cJSON *value =
        support_yaml("{a: null, b: null, m: {a: null, b: c}, l: [{a: null}], k: {x: null}}");
    structural_schema_drop_nulls(schema, value);
    CLEANUP_FREE char *text = json_print_dup(value);
    assert_string_equal(text, "{\"b\":null,\"m\":{\"b\":\"c\"},\"l\":[{}],\"k\":{\"x\":null}}");
    structural_schema_free(schema);
}

/* The CRD compiles: it has no keyword that is not judged. */
static struct function_schema *the_schema(void)
{
    struct err err = ERR_INIT;
    struct function_schema *schema = NULL;
    assert_ok(function_schema_new(&schema, &err));
    return schema;
}

static void expect_function(const char *yaml, const char *expected)
{
    CLEANUP(free_schema_p) struct function_schema *schema = the_schema();
    CLEANUP_SCHEMA_PROBLEMS struct schema_problems problems = SCHEMA_PROBLEMS_INIT;
    CLEANUP_JSON cJSON *object = support_yaml(yaml);
    CLEANUP_SPEC struct function_spec *spec = NULL;
    function_schema_check(schema, object, &problems, &spec);
    CLEANUP_FREE char *text = text_of(&problems);
    assert_string_equal(text, expected);
    assert_true((spec != NULL) == (problems.count == 0));
}

#define FUNCTION(spec)                                                                                       \
    "{apiVersion: cicada.dev/v1alpha1, kind: Function, metadata: {name: a, namespace: b}, spec: " spec "}"

static void judges_functions(void **state)
{
    (void)state;
    expect_function(FUNCTION("{handler: a.so:f}"), "");
    expect_function(FUNCTION("{handler: a.so:f, env: null, template: {labels: {a: null}}}"), "");
    expect_function(FUNCTION("{}"), "spec: must have exactly one of handler and sql");
    expect_function(
        FUNCTION("{handler: a.so:f, http: {path: orders, foo: {a: 1}}, replicas: -1}"),
        "?spec.http.foo: unknown field|spec.http.path: must begin with '/'|spec.replicas: must be "
        "from 0 to 1000");
    expect_function(
        FUNCTION("{handler: a.so:f, env: [{name: a}, {name: '1'}, {name: a}]}"),
        "spec.env[1].name: must be 1 to 253 letters, digits, '-', '_' and '.', and not begin with a "
        "digit|spec.env[2]: must not be listed twice");
    expect_function(FUNCTION("{sql: SELECT 1}"), "&spec: sql needs database");
    expect_function(FUNCTION("{handler: a.so:f, env: [{name: POD_X}]}"),
                    "&spec.env[0]: POD_X: is reserved (CICADA_*, POD_* and DATABASE_URL are set by Cicada)");
    expect_function(FUNCTION("{handler: a.so:f, x: 1, scaling: {minReplicas: 11}}"),
                    "?spec.x: unknown field|&spec.scaling.minReplicas: must not be above maxReplicas (10)");
    expect_function("{apiVersion: a, kind: b, status: {any: 1}, spec: {handler: a.so:f}}",
                    "metadata.name: is required");
    expect_function(
        "{metadata: {name: a_b, namespace: A, labels: {a b: c, d: '-'}, annotations: {A/b: '', x/: ''}, "
        "foo: 1}, spec: {handler: a.so:f}, top: 1}",
        "?metadata.foo: unknown field|?top: unknown field|metadata.name: must be at most 253 lower "
        "case letters, digits, '-' and '.', with a letter or digit at both ends of each "
        "part|metadata.namespace: must be a namespace's name|metadata.labels: \"a b\": must be a name, "
        "with a DNS name and '/' in front if any|metadata.labels: \"-\": must be at most 63 letters, "
        "digits, '-', '_' and '.', with a letter or digit at both ends|metadata.annotations: \"x/\": "
        "must be a name, with a DNS name and '/' in front if any");
    expect_function(
        "{metadata: {name: 1a, namespace: b}, spec: {handler: a.so:f}}",
        "&metadata.name: must be at most 63 lower case letters, digits and '-', begin with a letter "
        "and end with a letter or digit");
}

static void knows_the_node_at_fault(void **state)
{
    (void)state;
    CLEANUP(free_schema_p) struct function_schema *schema = the_schema();
    CLEANUP_SCHEMA_PROBLEMS struct schema_problems problems = SCHEMA_PROBLEMS_INIT;
    CLEANUP_JSON cJSON *object =
        support_yaml(FUNCTION("{handler: a.so:f, template: {labels: {cicada.dev/a.b: c}}}"));
    struct function_spec *spec = NULL;
    function_schema_check(schema, object, &problems, &spec);
    assert_int_equal(problems.count, 1);
    assert_int_equal(problems.items[0].kind, SCHEMA_CROSS_FIELD);
    assert_ptr_equal(problems.items[0].node,
                     json_path(object, "spec", "template", "labels", "cicada.dev/a.b", NULL));
}

static void the_number_of_problems_is_bounded(void **state)
{
    (void)state;
    CLEANUP(free_schema_p) struct function_schema *schema = the_schema();
    CLEANUP_SCHEMA_PROBLEMS struct schema_problems problems = SCHEMA_PROBLEMS_INIT;
    CLEANUP_JSON cJSON *object = support_yaml(FUNCTION("{handler: a.so:f}"));
    cJSON *list = json_add_array(cJSON_GetObjectItemCaseSensitive(object, "spec"), "env");
    for (int i = 0; i < 5000; i++) {
        json_append_string(list, "x");
    }
    struct function_spec *spec = NULL;
    function_schema_check(schema, object, &problems, &spec);
    assert_int_equal(problems.count, SCHEMA_PROBLEMS_MAX);
    assert_int_equal(problems.left_out, 5001 - SCHEMA_PROBLEMS_MAX);
    assert_null(spec);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(judges_each_keyword),
        cmocka_unit_test(refuses_what_it_does_not_know),
        cmocka_unit_test(drops_nulls),
        cmocka_unit_test(judges_functions),
        cmocka_unit_test(knows_the_node_at_fault),
        cmocka_unit_test(the_number_of_problems_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
