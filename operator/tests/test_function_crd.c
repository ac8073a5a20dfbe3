/* The CustomResourceDefinition and the C code agree: numbers at their limits, choices, patterns, defaults. */
#include <regex.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "operator/tests/support_function.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"

static cJSON *load_crd(void)
{
    CLEANUP_FREE char *text = support_read("crds/cicada.dev_functions.yaml");
    return support_yaml(text);
}

static const cJSON *spec_schema(const cJSON *crd)
{
    const cJSON *version = cJSON_GetArrayItem(json_array(json_object(crd, "spec"), "versions"), 0);
    return json_path(version, "schema", "openAPIV3Schema", "properties", "spec", NULL);
}

static const cJSON *schema_at(const cJSON *crd, const char *path)
{
    const cJSON *node = spec_schema(crd);
    while (*path) {
        size_t len = strcspn(path, ".");
        CLEANUP_FREE char *name = xstrndup(path, len);
        node = strcmp(name, "items") == 0 ? json_object(node, "items")
                                          : json_object(json_object(node, "properties"), name);
        path += len + (path[len] == '.' ? 1 : 0);
    }
    assert_non_null(node);
    return node;
}

/* A Function whose spec has `value` at path ("scaling.maxReplicas"), and whatever that needs around it. */
static bool is_accepted(const char *path, cJSON *value /* taken */, struct err *err)
{
    CLEANUP_JSON cJSON *function = support_function(
        strncmp(path, "database.owner", 14) == 0
            ? "{database: {secretRef: {name: a}, ownerSecretRef: {name: a}}}"
        : strncmp(path, "database", 8) == 0 || strcmp(path, "http.idempotency") == 0
            ? "{database: {secretRef: {name: a}}}"
        : strncmp(path, "output", 6) == 0 ? "{database: {secretRef: {name: a}}}"
        : strcmp(path, "result") == 0 || strcmp(path, "sql") == 0 || strncmp(path, "parameters", 10) == 0
            ? "{sql: a, database: {secretRef: {name: a}}}"
        /* So that the limit of one field is not hidden by a rule about two. */
        : strcmp(path, "scaling.minReplicas") == 0 || strcmp(path, "scaling.initialReplicas") == 0 ||
                strcmp(path, "scaling.activationReplicas") == 0
            ? "{scaling: {maxReplicas: 1000}}"
        : strcmp(path, "template.terminationGracePeriodSeconds") == 0 ? "{drainSeconds: 1}"
                                                                      : "{}");
    cJSON *holder = cJSON_GetObjectItemCaseSensitive(function, "spec");
    const char *dot;
    while ((dot = strchr(path, '.')) != NULL) {
        CLEANUP_FREE char *name = xstrndup(path, (size_t)(dot - path));
        cJSON *next = cJSON_GetObjectItemCaseSensitive(holder, name);
        holder = next ? next : json_add_object(holder, name);
        path = dot + 1;
    }
    cJSON_DeleteItemFromObjectCaseSensitive(holder, path);
    cJSON_AddItemToObject(holder, path, value);
    CLEANUP_SPEC struct function_spec *spec = NULL;
    return function_spec_parse(function, &spec, err) == 0;
}

static void expect_number(const char *path, double number, bool fine)
{
    struct err err = ERR_INIT;
    if (is_accepted(path, cJSON_CreateNumber(number), &err) != fine) {
        fail_msg("%s: %.0f is %s: %s", path, number, fine ? "refused" : "accepted", err.msg);
    }
}

static int check_numbers(const cJSON *schema, const char *path)
{
    const char *type = json_string(schema, "type");
    int count = 0;
    if (type && strcmp(type, "integer") == 0) {
        const cJSON *min = json_get(schema, "minimum"), *max = json_get(schema, "maximum");
        if (min && max) {
            expect_number(path, min->valuedouble, true);
            expect_number(path, max->valuedouble, true);
            expect_number(path, min->valuedouble - 1, false);
            expect_number(path, max->valuedouble + 1, false);
            count++;
        }
    }
    const cJSON *property;
    cJSON_ArrayForEach(property, json_object(schema, "properties"))
    {
        CLEANUP_FREE char *below = xasprintf("%s%s%s", path, path[0] ? "." : "", property->string);
        count += check_numbers(property, below);
    }
    return count;
}

static void test_limits_of_numbers(void **state)
{
    (void)state;
    CLEANUP_JSON cJSON *crd = load_crd();
    assert_int_equal(check_numbers(spec_schema(crd), ""), 22);
}

struct text_field {
    const char *path; /* of the schema; a ".items" is an element, ".items.name" its name */
    const char *fine[6], *bad[8];
};

static const struct text_field text_fields[] = {
    {"image", {"a", "r.example.com:5000/a/b:1.4@sha256:00"}, {"a b", "a\nb", "ä"}},
    {"handler",
     {"shop.so:f", "a/b-1.so:_f1", "_x.so:F"},
     {"shop.so", ".so:f", "../a.so:f", "a/.b.so:f", "/a.so:f", "a//b.so:f", "a.so:1", "a.so:f "}},
    {"parameters.items.name", {"a", "_A1"}, {"1a", "a b", "ä", "a-b"}},
    {"database.secretRef.name", {"a", "a-b.c"}, {"A", "-a", "a_b", "a."}},
    {"database.secretRef.key", {"url", "A.b-c_1"}, {"a/b", "a b"}},
    {"database.ownerSecretRef.name", {"a", "a-b.c"}, {"A", "-a", "a_b", "a."}},
    {"database.ownerSecretRef.key", {"url", "A.b-c_1"}, {"a/b", "a b"}},
    {"output.queue", {"a", "Paid.v2", "a_-b", "cicada"}, {"", "a.", "-a", "a b", "\u00e4", "a/b"}},
    {"http.hosts.items",
     {"a", "a.example.com", "*.example.com", "1.2"},
     {"A.com", "*", "*.", "a.*.b", "a.com.", "-a.com"}},
    {"http.path",
     {"/", "/orders", "/a/b.c", "/.well-known", "/...a"},
     {"a", "/a/", "//", "/.", "/a/..", "/a%20", "/a?b"}},
    {"http.pathTemplate",
     {"/", "/{id}", "/items/{a_1}/x", "/.a/{b}"},
     {"{id}", "/{id}/", "/{1}", "/{}", "/a{id}", "/{id}x", "/..", "/{a-b}"}},
    {"http.ingressClassName", {"nginx", "a.b"}, {"Nginx", "a_b"}},
    {"http.tlsSecretName", {"shop-tls", "a.b"}, {"Shop", "a_b"}},
    {"template.serviceAccountName", {"", "a", "a.b"}, {"A", "a_b"}},
};

/* POSIX has no \. difference that matters here: the patterns keep to what RE2 and ERE share. */
static bool matches(const char *pattern, const char *text)
{
    regex_t regex;
    assert_int_equal(regcomp(&regex, pattern, REG_EXTENDED | REG_NOSUB), 0);
    bool matched = regexec(&regex, text, 0, NULL, 0) == 0;
    regfree(&regex);
    return matched;
}

static void check_text(const cJSON *schema, const char *path, const char *text, bool fine)
{
    bool of_items = strstr(path, ".items") != NULL;
    CLEANUP_FREE char *field =
        xstrndup(path, of_items ? (size_t)(strstr(path, ".items") - path) : strlen(path));
    cJSON *value = cJSON_CreateString(text);
    if (str_ends_with(path, ".items.name")) {
        cJSON *item = cJSON_CreateObject();
        cJSON_AddItemToObject(item, "name", value);
        value = item;
    }
    if (of_items) {
        cJSON *list = cJSON_CreateArray();
        cJSON_AddItemToArray(list, value);
        value = list;
    }
    struct err err = ERR_INIT;
    if (is_accepted(field, value, &err) != fine) {
        fail_msg("%s: \"%s\" is %s by the code: %s", path, text, fine ? "refused" : "accepted", err.msg);
    }
    if (matches(json_string(schema, "pattern"), text) != fine) {
        fail_msg("%s: \"%s\" is %s by the pattern", path, text, fine ? "refused" : "accepted");
    }
}

static void test_patterns_of_texts(void **state)
{
    (void)state;
    CLEANUP_JSON cJSON *crd = load_crd();
    for (size_t i = 0; i < ARRAY_SIZE(text_fields); i++) {
        const struct text_field *field = &text_fields[i];
        const cJSON *schema = schema_at(crd, field->path);
        for (size_t j = 0; j < ARRAY_SIZE(field->fine) && field->fine[j]; j++) {
            check_text(schema, field->path, field->fine[j], true);
        }
        for (size_t j = 0; j < ARRAY_SIZE(field->bad) && field->bad[j]; j++) {
            check_text(schema, field->path, field->bad[j], false);
        }
    }
}

/* A value for `path` whose last member is a text of that length. */
static cJSON *text_value(const char *path, size_t len)
{
    CLEANUP_FREE char *text = xcalloc(len + 1, 1);
    memset(text, 'a', len);
    const char *items = strstr(path, ".items.");
    if (!items) {
        return cJSON_CreateString(text);
    }
    cJSON *list = cJSON_CreateArray(), *item = json_append_object(list);
    json_add_string(item, "name", "a");
    cJSON_DeleteItemFromObjectCaseSensitive(item, items + strlen(".items."));
    json_add_string(item, items + strlen(".items."), text);
    return list;
}

static void test_lengths_of_texts(void **state)
{
    (void)state;
    CLEANUP_JSON cJSON *crd = load_crd();
    static const char *const paths[] = {"image", "sql", "parameters.items.name", "parameters.items.default"};
    for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
        const char *items = strstr(paths[i], ".items.");
        CLEANUP_FREE char *field = xstrndup(paths[i], items ? (size_t)(items - paths[i]) : strlen(paths[i]));
        struct err err = ERR_INIT;
        size_t max = (size_t)json_int64(schema_at(crd, paths[i]), "maxLength", 0);
        assert_true(max > 0);
        assert_true(is_accepted(field, text_value(paths[i], max), &err));
        assert_false(is_accepted(field, text_value(paths[i], max + 1), &err));
    }
}

static cJSON *many_parameters(int count)
{
    cJSON *list = cJSON_CreateArray();
    for (int i = 0; i < count; i++) {
        CLEANUP_FREE char *name = xasprintf("p%d", i);
        json_add_string(json_append_object(list), "name", name);
    }
    return list;
}

static void test_number_of_parameters(void **state)
{
    (void)state;
    CLEANUP_JSON cJSON *crd = load_crd();
    struct err err = ERR_INIT;
    int max = (int)json_int64(schema_at(crd, "parameters"), "maxItems", 0);
    assert_true(max > 0);
    assert_true(is_accepted("parameters", many_parameters(max), &err));
    assert_false(is_accepted("parameters", many_parameters(max + 1), &err));
}

/* oneOf of the schema: what the code says of handler and sql is in test_function_spec.c. */
static void test_handler_or_sql(void **state)
{
    (void)state;
    CLEANUP_JSON cJSON *crd = load_crd();
    CLEANUP_FREE char *one_of = json_print_dup(json_array(spec_schema(crd), "oneOf"));
    assert_string_equal(one_of, "[{\"required\":[\"handler\"]},{\"required\":[\"sql\"]}]");
}

static void test_choices(void **state)
{
    (void)state;
    CLEANUP_JSON cJSON *crd = load_crd();
    const cJSON *choice;
    struct err err = ERR_INIT;
    static const char *const paths[] = {"database.isolation", "database.pooler", "http.idempotency",
                                        "result"};
    for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
        int count = 0;
        cJSON_ArrayForEach(choice, json_array(schema_at(crd, paths[i]), "enum"))
        {
            assert_true(is_accepted(paths[i], cJSON_Duplicate(choice, true), &err));
            count++;
        }
        assert_true(count > 1);
        assert_false(is_accepted(paths[i], cJSON_CreateString("Other"), &err));
    }
    CLEANUP_JSON cJSON *all = cJSON_Duplicate(json_array(schema_at(crd, "http.methods.items"), "enum"), true);
    assert_int_equal(cJSON_GetArraySize(all), 7);
    assert_true(is_accepted("http.methods", cJSON_Duplicate(all, true), &err));
}

/* Every default that the schema gives is the value that the code takes where there is none. */
static void collect_defaults(const cJSON *schema, cJSON *out)
{
    const cJSON *property;
    cJSON_ArrayForEach(property, json_object(schema, "properties"))
    {
        const cJSON *value = json_get(property, "default");
        const char *type = json_string(property, "type");
        if (type && strcmp(type, "object") == 0 && json_get(property, "properties")) {
            collect_defaults(property, json_add_object(out, property->string));
        } else if (value) {
            json_add_copy(out, property->string, value);
        }
    }
}

static int count_leaves(const cJSON *tree)
{
    int count = 0;
    const cJSON *member;
    cJSON_ArrayForEach(member, tree)
    {
        count += cJSON_IsObject(member) && member->child ? count_leaves(member) : !cJSON_IsObject(member);
    }
    return count;
}

static void expect_same(const struct function_spec *a, const struct function_spec *b)
{
    assert_int_equal(a->timeout_seconds, b->timeout_seconds);
    assert_int_equal(a->idle_timeout_seconds, b->idle_timeout_seconds);
    assert_int_equal(a->hold_seconds, b->hold_seconds);
    assert_int_equal(a->queue_depth, b->queue_depth);
    assert_int_equal(a->concurrency, b->concurrency);
    assert_int_equal(a->drain_seconds, b->drain_seconds);
    assert_int_equal(a->body_bytes, b->body_bytes);
    assert_int_equal(a->response_bytes, b->response_bytes);
    assert_int_equal(a->hold_bytes, b->hold_bytes);
    assert_int_equal(a->replicas, b->replicas);
    assert_int_equal(a->min_replicas, b->min_replicas);
    assert_int_equal(a->max_replicas, b->max_replicas);
    assert_int_equal(a->initial_replicas, b->initial_replicas);
    assert_int_equal(a->activation_replicas, b->activation_replicas);
    assert_int_equal(a->target_utilization, b->target_utilization);
    assert_int_equal(a->idle_seconds, b->idle_seconds);
    assert_int_equal(a->window_seconds, b->window_seconds);
    assert_int_equal(a->scale_down_delay_seconds, b->scale_down_delay_seconds);
    assert_int_equal(a->success_status, b->success_status);
    assert_int_equal(a->database_pool_size, b->database_pool_size);
    assert_int_equal(a->database_isolation, b->database_isolation);
    assert_int_equal(a->database_pooler_transaction, b->database_pooler_transaction);
    assert_int_equal(a->database_retryable, b->database_retryable);
    assert_int_equal(a->idempotency, b->idempotency);
    assert_int_equal(a->event_concurrency, b->event_concurrency);
    assert_string_equal(a->database_key, b->database_key);
    assert_string_equal(a->owner_key, b->owner_key);
    assert_string_equal(a->path, b->path);
    assert_string_equal(a->ingress_class_name, b->ingress_class_name);
}

static void test_defaults(void **state)
{
    (void)state;
    CLEANUP_JSON cJSON *crd = load_crd();
    CLEANUP_JSON cJSON *filled = cJSON_CreateObject();
    collect_defaults(spec_schema(crd), filled);
    assert_int_equal(count_leaves(filled), 25); /* another one: compare it below, too */
    CLEANUP_JSON cJSON *patch = support_yaml("{database: {secretRef: {name: a}, ownerSecretRef: {name: a}}, "
                                             "env: null, template: null, output: null}");
    support_merge(filled, patch);
    CLEANUP_FREE char *text = json_print_dup(filled);
    CLEANUP_SPEC struct function_spec *by_schema = support_spec(text);
    CLEANUP_SPEC struct function_spec *by_code =
        support_spec("{database: {secretRef: {name: a}, ownerSecretRef: {name: a}}, http: {}}");
    expect_same(by_schema, by_code);
}

/* What users see is explained, and nothing is accepted and then ignored. */
static void check_node(const cJSON *schema, const char *path)
{
    bool top = strchr(path, '.') == NULL;
    if (path[0] && !json_string(schema, "description")) {
        fail_msg("spec.%s has no description", path);
    }
    if (top && json_get(schema, "x-kubernetes-preserve-unknown-fields")) {
        fail_msg("spec.%s keeps unknown fields", path);
    }
    const cJSON *property;
    cJSON_ArrayForEach(property, json_object(schema, "properties"))
    {
        CLEANUP_FREE char *below = xasprintf("%s%s%s", path, path[0] ? "." : "", property->string);
        check_node(property, below);
    }
    const cJSON *items = json_object(schema, "items");
    cJSON_ArrayForEach(property, json_object(items, "properties"))
    {
        CLEANUP_FREE char *below = xasprintf("%s[].%s", path, property->string);
        check_node(property, below);
    }
}

static void test_every_field_is_described(void **state)
{
    (void)state;
    CLEANUP_JSON cJSON *crd = load_crd();
    check_node(spec_schema(crd), "");
}

/* The cell between two bars; empty if there is none. */
static char *cell(const char *row, int index)
{
    for (int i = 0; row && i <= index; i++) {
        row = strchr(row, '|');
        row = row ? row + 1 : NULL;
    }
    size_t len = row ? strcspn(row, "|\n") : 0;
    return xstrndup(row ? row : "", len);
}

/* The row of a field in crds/README.md has its limits and its default. */
static void check_reference(const cJSON *schema, const char *path, const char *reference)
{
    CLEANUP_FREE char *begin = xasprintf("\n| `%s` |", path);
    const char *row = strstr(reference, begin);
    if (!row) {
        fail_msg("crds/README.md has no row of %s", path);
    }
    CLEANUP_FREE char *values = cell(row + 1, 1), *shown = cell(row + 1, 2);
    const cJSON *value = json_get(schema, "default");
    CLEANUP_FREE char *number = value && !cJSON_IsString(value) ? json_print_dup(value) : NULL;
    CLEANUP_FREE char *expected =
        value ? xasprintf(" `%s` ", number ? number : value->valuestring) : xstrdup(" \u2013 ");
    if (strcmp(shown, expected) != 0) {
        fail_msg("crds/README.md: default of %s: \"%s\", expected \"%s\"", path, shown, expected);
    }
    if (json_get(schema, "maximum")) {
        CLEANUP_FREE char *range = xasprintf(" %lld to %lld ", (long long)json_int64(schema, "minimum", -1),
                                             (long long)json_int64(schema, "maximum", -1));
        assert_string_equal(values, range);
    }
    const cJSON *choice;
    cJSON_ArrayForEach(choice, json_array(schema, "enum"))
    {
        assert_non_null(strstr(values, choice->valuestring));
    }
}

static int check_references(const cJSON *schema, const char *path, const char *reference)
{
    static const char *const as_in_pods[] = {"env", "envFrom", "template.resources"};
    int count = 0;
    for (size_t i = 0; i < ARRAY_SIZE(as_in_pods); i++) {
        if (strcmp(path, as_in_pods[i]) == 0) {
            return 0;
        }
    }
    const cJSON *properties = json_object(schema, "properties"), *property;
    if (!properties) {
        properties = json_object(json_object(schema, "items"), "properties");
    }
    cJSON_ArrayForEach(property, properties)
    {
        CLEANUP_FREE char *below = xasprintf("%s%s%s", path, path[0] ? "." : "", property->string);
        if (strncmp(path, "template.", strlen("template.")) != 0) { /* deeper is Kubernetes' own */
            check_reference(property, below, reference);
            count += 1 + check_references(property, below, reference);
        }
    }
    return count;
}

static void test_the_reference_is_complete(void **state)
{
    (void)state;
    CLEANUP_JSON cJSON *crd = load_crd();
    CLEANUP_FREE char *reference = support_read("crds/README.md");
    int rows = 0; /* none is of a field that is no more */
    for (const char *at = reference; (at = strstr(at, "\n| `")) != NULL; at++) {
        rows++;
    }
    assert_true(rows > 50);
    assert_int_equal(check_references(spec_schema(crd), "", reference), rows);
}

/* The chart's generator puts each rule where its path leads. */
static void test_cel_rules_have_a_place(void **state)
{
    (void)state;
    CLEANUP_JSON cJSON *crd = load_crd();
    CLEANUP_FREE char *text = support_read("crds/cel-rules.yaml");
    CLEANUP_JSON cJSON *tree = support_yaml(text);
    const cJSON *rule;
    int count = 0;
    cJSON_ArrayForEach(rule, json_array(tree, "rules"))
    {
        const char *path = json_string(rule, "path");
        assert_non_null(path);
        assert_non_null(json_string(rule, "rule"));
        assert_non_null(json_string(rule, "message"));
        if (str_starts_with(path, "spec.")) {
            (void)schema_at(crd, path + strlen("spec."));
        } else {
            assert_true(path[0] == '\0' || strcmp(path, "spec") == 0);
        }
        count++;
    }
    assert_true(count > 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_limits_of_numbers),
        cmocka_unit_test(test_patterns_of_texts),
        cmocka_unit_test(test_lengths_of_texts),
        cmocka_unit_test(test_number_of_parameters),
        cmocka_unit_test(test_handler_or_sql),
        cmocka_unit_test(test_choices),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_every_field_is_described),
        cmocka_unit_test(test_the_reference_is_complete),
        cmocka_unit_test(test_cel_rules_have_a_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
