/* test_local_environment.c - what a function's process is started with: variables, Secrets and ConfigMaps, its database, its handler. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "operator/local/environment.h"
#include "operator/local/launch.h"
#include "operator/tests/support_function.h"
#include "operator/tests/support_local.h"
#include "runtime/base/mem.h"
#include "runtime/tests/support_test.h"

#define SHOP       "shop"
#define SETTLED_MS 50 /* a file's time tells it from what it will be next */

static void put(struct data_store *store, enum data_kind kind, const char *name, const char *key,
                const char *value, size_t len)
{
    char key_copy[64], value_copy[64];
    snprintf(key_copy, sizeof key_copy, "%s", key);
    memcpy(value_copy, value, len);
    struct data_entry entries[] = {{.key = key_copy, .value = value_copy, .len = len}};
    data_store_set(store, kind, SHOP, name, &(struct data_object){.entries = entries, .count = 1});
}

static struct data_store *usual_data(void)
{
    struct data_store *store = data_store_new();
    struct data_entry settings[] = {{.key = (char[]){"MODE"}, .value = (char[]){"fast"}, .len = 4},
                                    {.key = (char[]){"not a name"}, .value = (char[]){"x"}, .len = 1},
                                    {.key = (char[]){"1st"}, .value = (char[]){"y"}, .len = 1},
                                    {.key = (char[]){"a.b-c"}, .value = (char[]){"z"}, .len = 1}};
    data_store_set(store, DATA_CONFIG_MAP, SHOP, "settings",
                   &(struct data_object){.entries = settings, .count = ARRAY_SIZE(settings)});
    put(store, DATA_SECRET, "keys", "key", "s3cret", 6);
    put(store, DATA_SECRET, "binary", "key", "a\0b", 3);
    return store;
}

/* NULL: not set. */
static const char *value_of(char *const *variables, const char *name)
{
    size_t len = strlen(name);
    for (; *variables; variables++) {
        if (strncmp(*variables, name, len) == 0 && (*variables)[len] == '=') {
            return *variables + len + 1;
        }
    }
    return NULL;
}

static void expect(const char *spec_yaml, const char *const *names_and_values)
{
    CLEANUP_SPEC struct function_spec *spec = support_spec(spec_yaml);
    struct data_store *data = usual_data();
    struct environment environment;
    struct err err = ERR_INIT;
    const char *reason = "";
    environment_init(&environment);
    assert_ok(environment_add_spec(&environment, spec, data, &reason, &err));
    char **variables = environment_detach(&environment);
    for (size_t i = 0; names_and_values[i]; i += 2) {
        const char *value = value_of(variables, names_and_values[i]);
        if (!value || strcmp(value, names_and_values[i + 1]) != 0) {
            fail_msg("%s is <%s>, not <%s>", names_and_values[i], value ? value : "(not set)",
                     names_and_values[i + 1]);
        }
    }
    environment_free(variables);
    data_store_free(data);
}

static void expect_refused(const char *spec_yaml, const char *reason, const char *text)
{
    CLEANUP_SPEC struct function_spec *spec = support_spec(spec_yaml);
    struct data_store *data = usual_data();
    struct environment environment;
    struct err err = ERR_INIT;
    const char *got = "";
    environment_init(&environment);
    assert_int_equal(environment_add_spec(&environment, spec, data, &got, &err), -1);
    assert_string_equal(got, reason);
    assert_string_equal(err.msg, text);
    environment_free(environment_detach(&environment));
    data_store_free(data);
}

static void test_values(void **state)
{
    (void)state;
    expect("{env: [{name: A, value: one}, {name: B, value: \"$(A) and $(A)\"}, {name: C}]}",
           (const char *const[]){"A", "one", "B", "one and one", "C", "", NULL});
    expect("{env: [{name: A, value: \"$$(A) $(NONE) $(\"}, {name: B, value: \"$$$$(A) 5$\"}]}",
           (const char *const[]){"A", "$(A) $(NONE) $(", "B", "$$(A) 5$", NULL});
    /* Only what is there already counts. */
    expect("{env: [{name: A, value: \"$(B)\"}, {name: B, value: x}]}",
           (const char *const[]){"A", "$(B)", "B", "x", NULL});
}

static void test_references(void **state)
{
    (void)state;
    expect("{env: [{name: A, valueFrom: {secretKeyRef: {name: keys, key: key}}},"
           " {name: B, valueFrom: {configMapKeyRef: {name: settings, key: MODE}}},"
           " {name: C, value: \"$(A)-$(B)\"},"
           " {name: D, valueFrom: {fieldRef: {fieldPath: metadata.name}}},"
           " {name: E, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}},"
           " {name: F, valueFrom: {fieldRef: {fieldPath: status.podIP}}}]}",
           (const char *const[]){"A", "s3cret", "B", "fast", "C", "s3cret-fast", "D", "create-order", "E",
                                 SHOP, "F", "127.0.0.1", NULL});
}

static void test_env_from(void **state)
{
    (void)state;
    expect("{envFrom: [{configMapRef: {name: settings}}, {prefix: P_, secretRef: {name: keys}}],"
           " env: [{name: X, value: \"$(MODE)\"}]}",
           (const char *const[]){"MODE", "fast", "P_key", "s3cret", "a.b-c", "z", "X", "fast", NULL});
    expect("{envFrom: [{configMapRef: {name: settings}}], env: [{name: MODE, value: slow}]}",
           (const char *const[]){"MODE", "slow", NULL});
    /* A prefix makes a name of what is none. */
    expect("{envFrom: [{prefix: N, configMapRef: {name: settings}}]}",
           (const char *const[]){"N1st", "y", NULL});
}

static void test_optional(void **state)
{
    (void)state;
    expect("{env: [{name: A, valueFrom: {secretKeyRef: {name: none, key: k, optional: true}}},"
           " {name: B, valueFrom: {secretKeyRef: {name: keys, key: none, optional: true}}},"
           " {name: C, valueFrom: {configMapKeyRef: {name: none, key: k, optional: true}}}, {name: D, value: "
           "d}],"
           " envFrom: [{secretRef: {name: none, optional: true}}, {configMapRef: {name: none, optional: "
           "true}}]}",
           (const char *const[]){"D", "d", NULL});
}

static void test_missing(void **state)
{
    (void)state;
    expect_refused("{env: [{name: A, valueFrom: {secretKeyRef: {name: none, key: k}}}]}", "SecretMissing",
                   "secret \"none\" is in no manifest");
    expect_refused("{env: [{name: A, valueFrom: {secretKeyRef: {name: keys, key: none}}}]}", "SecretMissing",
                   "secret \"keys\" has no key \"none\"");
    expect_refused("{env: [{name: A, valueFrom: {configMapKeyRef: {name: keys, key: key}}}]}",
                   "SecretMissing", "config map \"keys\" is in no manifest");
    expect_refused("{envFrom: [{secretRef: {name: none}}]}", "SecretMissing",
                   "secret \"none\" is in no manifest");
    expect_refused("{env: [{name: A, valueFrom: {secretKeyRef: {name: binary, key: key}}}]}", "InvalidSpec",
                   "variable A: has a NUL, or is above 131072 bytes");
    expect_refused("{env: [{name: A, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}]}", "InvalidSpec",
                   "variable A: the field \"spec.nodeName\" is not known outside of a cluster");
    expect_refused("{env: [{name: A, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}]}", "InvalidSpec",
                   "variable A: such a source is not known outside of a cluster");
}

static void test_set_replaces(void **state)
{
    (void)state;
    struct environment environment;
    environment_init(&environment);
    environment_set(&environment, "AB", "1");
    environment_set(&environment, "A", "2");
    environment_set(&environment, "A", "3");
    environment_set(&environment, "C", NULL);
    assert_int_equal(environment.count, 2);
    char **variables = environment_detach(&environment);
    assert_string_equal(variables[0], "AB=1");
    assert_string_equal(variables[1], "A=3");
    assert_null(variables[2]);
    environment_free(variables);
    environment_free(NULL);
}

/* ---- data_store ---- */

static void test_data_store(void **state)
{
    (void)state;
    struct data_store *store = data_store_new();
    put(store, DATA_SECRET, "a", "k", "one", 3);
    put(store, DATA_CONFIG_MAP, "a", "k", "two", 3);
    put(store, DATA_SECRET, "a", "k2", "three", 5); /* replaces */
    const struct data_object *secret = data_store_get(store, DATA_SECRET, SHOP, "a");
    assert_null(data_object_entry(secret, "k"));
    assert_string_equal(data_object_entry(secret, "k2")->value, "three");
    assert_string_equal(data_object_entry(data_store_get(store, DATA_CONFIG_MAP, SHOP, "a"), "k")->value,
                        "two");
    assert_null(data_store_get(store, DATA_SECRET, "other", "a"));
    assert_null(data_object_entry(NULL, "k"));
    data_store_clear(store);
    assert_null(data_store_get(store, DATA_SECRET, SHOP, "a"));
    data_store_free(store);
    data_store_free(NULL);
}

/* ---- launch ---- */

static struct launch *launch_ok(const struct launch_sources *sources, const char *spec_yaml)
{
    CLEANUP_SPEC struct function_spec *spec = support_spec(spec_yaml);
    struct launch *launch;
    struct launch_failure failure = {.reason = ""};
    if (launch_new(sources, spec, /* before= */ NULL, &launch, &failure) < 0) {
        fail_msg("%s: %s", failure.reason, failure.err.msg);
    }
    return launch;
}

static void launch_fails(const struct launch_sources *sources, const char *spec_yaml, const char *reason)
{
    CLEANUP_SPEC struct function_spec *spec = support_spec(spec_yaml);
    struct launch *launch;
    struct launch_failure failure = {.reason = ""};
    assert_int_equal(launch_new(sources, spec, /* before= */ NULL, &launch, &failure), -1);
    assert_string_equal(failure.reason, reason);
}

static const char *variable(const struct launch *launch, const char *name)
{
    size_t len = strlen(name);
    for (char **each = launch->variables; *each; each++) {
        if (strncmp(*each, name, len) == 0 && (*each)[len] == '=') {
            return *each + len + 1;
        }
    }
    return NULL;
}

#define HANDLER  "{handler: \"f.so:f\"}"
#define DATABASE "{handler: \"f.so:f\", database: {secretRef: {name: db}}}"

static void test_launch_equality(void **state)
{
    (void)state;
    struct local files;
    local_init(&files);
    CLEANUP_FREE char *source = local_path(&files, "functions"), *copies = local_path(&files, "tmp");
    struct launch_sources sources = {
        .handlers = handler_store_new(source, copies), .data = data_store_new(), .log_level = "info"};
    launch_fails(&sources, HANDLER, "HandlerLoadFailed");
    local_write(&files, "functions/f.so", "one");
    poll(NULL, 0, SETTLED_MS);
    struct launch *first = launch_ok(&sources, HANDLER), *same = launch_ok(&sources, HANDLER);
    struct launch *scaled = launch_ok(&sources, "{handler: \"f.so:f\", scaling: {maxReplicas: 3}}");
    struct launch *other = launch_ok(&sources, "{handler: \"f.so:f\", env: [{name: A, value: b}]}");
    assert_true(launch_equal(first, same));
    assert_true(launch_equal(first, scaled)); /* that is not the process' concern */
    assert_false(launch_equal(first, other));
    assert_false(launch_equal(first, NULL));
    assert_true(launch_equal(NULL, NULL));
    local_write(&files, "functions/f.so", "another one");
    struct launch *rebuilt = launch_ok(&sources, HANDLER);
    assert_false(launch_equal(first, rebuilt));
    assert_string_equal(variable(first, "CICADA_FUNCTION_NAME"), "create-order");
    assert_string_equal(variable(first, "CICADA_FUNCTION_NAMESPACE"), SHOP);
    assert_string_equal(variable(first, "CICADA_LOG_LEVEL"), "info");
    assert_null(variable(first, "DATABASE_URL"));
    struct launch *const all[] = {first, same, scaled, other, rebuilt};
    for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
        launch_unref(all[i]);
    }
    handler_store_free(sources.handlers);
    data_store_free(sources.data);
    local_release(&files);
}

/* A Secret of the manifests, else the database that everything uses. */
static void test_launch_database(void **state)
{
    (void)state;
    struct local files;
    local_init(&files);
    local_write(&files, "functions/f.so", "one");
    CLEANUP_FREE char *source = local_path(&files, "functions"), *copies = local_path(&files, "tmp");
    struct launch_sources sources = {
        .handlers = handler_store_new(source, copies), .data = data_store_new(), .log_level = "info"};
    launch_fails(&sources, DATABASE, "SecretMissing");
    sources.database_url = "postgresql://ours";
    struct launch *ours = launch_ok(&sources, DATABASE);
    assert_string_equal(variable(ours, "DATABASE_URL"), "postgresql://ours");
    put(sources.data, DATA_SECRET, "db", "url", "postgresql://theirs", 19);
    struct launch *theirs = launch_ok(&sources, DATABASE);
    assert_string_equal(variable(theirs, "DATABASE_URL"), "postgresql://theirs");
    put(sources.data, DATA_SECRET, "db", "other", "x", 1);
    launch_fails(&sources, DATABASE, "SecretMissing");
    put(sources.data, DATA_SECRET, "db", "url", "a\0b", 3);
    launch_fails(&sources, DATABASE, "InvalidSpec");
    launch_unref(ours);
    launch_unref(theirs);
    handler_store_free(sources.handlers);
    data_store_free(sources.data);
    local_release(&files);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),          cmocka_unit_test(test_references),
        cmocka_unit_test(test_env_from),        cmocka_unit_test(test_optional),
        cmocka_unit_test(test_missing),         cmocka_unit_test(test_set_replaces),
        cmocka_unit_test(test_data_store),      cmocka_unit_test(test_launch_equality),
        cmocka_unit_test(test_launch_database),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
