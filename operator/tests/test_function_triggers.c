/* Triggers and the output of a Function: what is taken, what is refused, what the CRD and CICADA_SPEC have of it. */
#include <string.h>

#include "operator/function/function_runtime_spec.h"
#include "operator/function/function_schema.h"
#include "operator/tests/support_function.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"
#include "runtime/tests/support_test.h"

#define DATABASE "database: {secretRef: {name: a}}"

static struct function_spec *spec_with(const char *triggers)
{
    CLEANUP_FREE char *yaml = xasprintf("{" DATABASE ", triggers: %s}", triggers);
    return support_spec(yaml);
}

static char *runtime_spec(const struct function_spec *spec, const char *member)
{
    CLEANUP_JSON cJSON *tree = function_runtime_spec_build(spec);
    const cJSON *item = json_get(tree, member);
    return item ? json_print_dup(item) : xstrdup("-");
}

static void takes_a_queue(void **state)
{
    (void)state;
    CLEANUP_SPEC struct function_spec *spec = spec_with("[{name: payments, queue: {name: Payments.v2}}]");
    assert_int_equal(spec->trigger_count, 1);
    const struct function_trigger *trigger = &spec->triggers[0];
    assert_string_equal(trigger->name, "payments");
    assert_int_equal(trigger->source, TRIGGER_QUEUE);
    assert_string_equal(trigger->queue, "Payments.v2");
    assert_null(trigger->table);
    assert_null(trigger->cron);
    assert_int_equal(trigger->batch_size, 1);
    assert_int_equal(trigger->max_attempts, 20);
    assert_int_equal(trigger->backoff_seconds, 2);
    assert_int_equal(trigger->max_backoff_seconds, 3600);
    assert_false(trigger->ordered);
    assert_int_equal(spec->event_concurrency, 4); /* the pool's size */
    assert_null(spec->output_queue);
    assert_null(spec->owner_secret);
    CLEANUP_FREE char *told = runtime_spec(spec, "triggers");
    assert_string_equal(told, "[{\"name\":\"payments\",\"queue\":{\"name\":\"Payments.v2\"}}]");
    CLEANUP_FREE char *concurrency = runtime_spec(spec, "eventConcurrency");
    assert_string_equal(concurrency, "-");
}

static void takes_a_table(void **state)
{
    (void)state;
    CLEANUP_SPEC struct function_spec *spec =
        spec_with("[{name: paid, table: {name: 'public.\"Order\"', operations: [UPDATE, INSERT], "
                  "columns: [status, Total], when: \"NEW.status = 'paid'\"}, delivery: {ordered: true}}]");
    const struct function_trigger *trigger = &spec->triggers[0];
    assert_int_equal(trigger->source, TRIGGER_TABLE);
    assert_null(trigger->queue);
    assert_string_equal(trigger->table, "public.\"Order\"");
    assert_int_equal(trigger->operation_count, 2);
    assert_string_equal(trigger->operations[0], "UPDATE");
    assert_string_equal(trigger->operations[1], "INSERT");
    assert_int_equal(trigger->column_count, 2);
    assert_string_equal(trigger->columns[1], "Total");
    assert_string_equal(trigger->when, "NEW.status = 'paid'");
    assert_true(trigger->ordered);
    CLEANUP_FREE char *told = runtime_spec(spec, "triggers");
    assert_string_equal(told, "[{\"name\":\"paid\",\"delivery\":{\"ordered\":true}}]");
}

static void takes_a_schedule(void **state)
{
    (void)state;
    CLEANUP_SPEC struct function_spec *spec =
        spec_with("[{name: a, schedule: {cron: '0 2 * * *', timeZone: Europe/Berlin, missed: RunAll}},"
                  " {name: b, schedule: {cron: '@daily', missed: Skip}}, {name: c, schedule: {cron: '*/5 * * "
                  "* mon-fri'}}]");
    assert_int_equal(spec->trigger_count, 3);
    assert_int_equal(spec->triggers[0].source, TRIGGER_SCHEDULE);
    assert_string_equal(spec->triggers[0].cron, "0 2 * * *");
    assert_string_equal(spec->triggers[0].time_zone, "Europe/Berlin");
    assert_int_equal(spec->triggers[0].missed, TRIGGER_MISSED_RUN_ALL);
    assert_string_equal(spec->triggers[1].time_zone, "UTC");
    assert_int_equal(spec->triggers[1].missed, TRIGGER_MISSED_SKIP);
    assert_int_equal(spec->triggers[2].missed, TRIGGER_MISSED_RUN_ONCE);
    CLEANUP_FREE char *told = runtime_spec(spec, "triggers");
    assert_string_equal(told, "[{\"name\":\"a\"},{\"name\":\"b\"},{\"name\":\"c\"}]");
}

static void tells_the_runtime_what_is_not_its_default(void **state)
{
    (void)state;
    CLEANUP_SPEC struct function_spec *spec = support_spec(
        "{" DATABASE
        ", eventConcurrency: 9, output: {queue: shipped}, triggers: [{name: a, queue: {name: q}, "
        "delivery: {batchSize: 1000, maxAttempts: 3, backoffSeconds: 3600, maxBackoffSeconds: 86400}}]}");
    assert_int_equal(spec->event_concurrency, 9);
    assert_string_equal(spec->output_queue, "shipped");
    CLEANUP_FREE char *triggers = runtime_spec(spec, "triggers");
    assert_string_equal(triggers,
                        "[{\"name\":\"a\",\"queue\":{\"name\":\"q\"},\"delivery\":{\"batchSize\":1000,"
                        "\"maxAttempts\":3,\"backoffSeconds\":3600,\"maxBackoffSeconds\":86400}}]");
    CLEANUP_FREE char *concurrency = runtime_spec(spec, "eventConcurrency");
    assert_string_equal(concurrency, "9");
    CLEANUP_FREE char *output = runtime_spec(spec, "output");
    assert_string_equal(output, "{\"queue\":\"shipped\"}");
}

/* So no pod is rolled by it. */
static void does_not_tell_it_the_rest(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {
        {"[{name: a, table: {name: public.a, operations: [INSERT]}}]",
         "[{name: a, table: {name: public.b, operations: [UPDATE], columns: [c], when: 'true'}}]"},
        {"[{name: a, schedule: {cron: '@daily'}}]",
         "[{name: a, schedule: {cron: '@hourly', timeZone: Europe/Berlin, missed: Skip}, delivery: "
         "{batchSize: 1}}]"},
        {"[]", "null"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
        CLEANUP_SPEC struct function_spec *a = spec_with(pairs[i][0]), *b = spec_with(pairs[i][1]);
        CLEANUP_JSON cJSON *told_a = function_runtime_spec_build(a), *told_b = function_runtime_spec_build(b);
        assert_true(cJSON_Compare(told_a, told_b, true));
    }
}

static void takes_an_owner(void **state)
{
    (void)state;
    CLEANUP_SPEC struct function_spec *spec =
        support_spec("{database: {secretRef: {name: a}, ownerSecretRef: {name: b}}}");
    assert_string_equal(spec->owner_secret, "b");
    assert_string_equal(spec->owner_key, "url");
    CLEANUP_SPEC struct function_spec *other =
        support_spec("{database: {secretRef: {name: a}, ownerSecretRef: {name: b, key: owner}}}");
    assert_string_equal(other->owner_key, "owner");
}

static void needs_a_database(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"{triggers: [{name: a, queue: {name: q}}]}", "spec: triggers need database"},
        {"{output: {queue: q}}", "spec: output needs database"},
        {"{handler: null, sql: SELECT 1, result: None, output: {queue: q}, " DATABASE "}",
         "spec: output needs an answer, and result None has none"},
        {"{output: {}, " DATABASE "}", "spec.output.queue: is required"},
        {"{output: {queue: cicada.a}, " DATABASE "}", "spec.output.queue: queues that begin with"},
        {"{database: {secretRef: {name: a}, ownerSecretRef: {}}}",
         "spec.database.ownerSecretRef.name: is required"},
        {"{database: {ownerSecretRef: {name: a}}}", "spec.database.secretRef.name: is required"},
        {"{eventConcurrency: 251}", "spec.eventConcurrency: must be from 1 to 250"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        CLEANUP_JSON cJSON *function = support_function(cases[i][0]);
        struct function_spec *spec = NULL;
        struct err err = ERR_INIT;
        assert_fails(function_spec_parse(function, &spec, &err), ERR_INVALID);
        if (strncmp(err.msg, cases[i][1], strlen(cases[i][1])) != 0) {
            fail_msg("%s: \"%s\", not \"%s\"", cases[i][0], err.msg, cases[i][1]);
        }
    }
    CLEANUP_SPEC struct function_spec *none = support_spec("{triggers: []}");
    assert_int_equal(none->trigger_count, 0);
}

#define QUEUE    "queue: {name: q}"
#define TABLE(m) "[{name: a, table: {" m "}}]"
#define CRON(m)  "[{name: a, schedule: {" m "}}]"

/* of the schema: what an API server says; of the code, which has rules that a schema has not. "": it has nothing against it. */
static const struct refusal {
    const char *triggers, *schema, *code;
} refusals[] = {
    {"{}", "spec.triggers: must be a list", "spec.triggers: must be a list"},
    {"[1]", "spec.triggers[0]: must be an object", "spec.triggers[0]: must be an object"},
    {"[{" QUEUE "}]", "spec.triggers[0].name: is required", "spec.triggers[0].name: is required"},
    {"[{name: A, " QUEUE "}]", "spec.triggers[0].name: must be at most 63 lower case",
     "spec.triggers[0].name: must be at most 63 lower case"},
    {"[{name: a}]", "spec.triggers[0]: must have exactly one of queue, table and schedule",
     "spec.triggers[0]: must have exactly one of queue, table and schedule"},
    {"[{name: a, " QUEUE ", schedule: {cron: '@daily'}}]", "spec.triggers[0]: must have exactly one of",
     "spec.triggers[0]: must have exactly one of"},
    {"[{name: a, " QUEUE "}, {name: a, queue: {name: r}}]", "spec.triggers[1]: must not be listed twice",
     "spec.triggers[1]: must not be listed twice"},
    {"[{name: a, " QUEUE "}, {name: b, " QUEUE "}]", "",
     "spec.triggers[1].queue.name: is that of trigger a; a queue has one consumer"},
    {"[{name: a, queue: {}}]", "spec.triggers[0].queue.name: is required",
     "spec.triggers[0].queue.name: is required"},
    {"[{name: a, queue: {name: a/b}}]", "spec.triggers[0].queue.name: must be 1 to 63 letters",
     "spec.triggers[0].queue.name: must be 1 to 63 letters"},
    {"[{name: a, queue: {name: cicada.a}}]", "", "spec.triggers[0].queue.name: queues that begin with"},
    {"[{name: a, queue: q}]", "spec.triggers[0].queue: must be an object",
     "spec.triggers[0].queue: must be an object"},
    {TABLE("operations: [INSERT]"), "spec.triggers[0].table.name: is required",
     "spec.triggers[0].table.name: is required"},
    {TABLE("name: orders, operations: [INSERT]"), "spec.triggers[0].table.name: must be schema.table",
     "spec.triggers[0].table.name: must be schema.table"},
    {TABLE("name: public.a"), "spec.triggers[0].table.operations: is required",
     "spec.triggers[0].table.operations: must have at least 1 items"},
    {TABLE("name: public.a, operations: []"), "spec.triggers[0].table.operations: must have at least 1 items",
     "spec.triggers[0].table.operations: must have at least 1 items"},
    {TABLE("name: public.a, operations: [insert]"), "spec.triggers[0].table.operations[0]: must be one of",
     "spec.triggers[0].table.operations[0]: must be one of INSERT"},
    {TABLE("name: public.a, operations: [INSERT, INSERT]"),
     "spec.triggers[0].table.operations[1]: must not be listed twice",
     "spec.triggers[0].table.operations[1]: must not be listed twice"},
    {TABLE("name: public.a, operations: [INSERT], columns: [b]"), "",
     "spec.triggers[0].table.columns: belong to UPDATE"},
    {TABLE("name: public.a, operations: [UPDATE], columns: ['']"), "spec.triggers[0].table.columns[0]: must",
     "spec.triggers[0].table.columns[0]: must be 1 to 63 bytes"},
    {TABLE("name: public.a, operations: [UPDATE], when: ''"), "spec.triggers[0].table.when: must",
     "spec.triggers[0].table.when: must be 1 to 4096 bytes"},
    {CRON("timeZone: UTC"), "spec.triggers[0].schedule.cron: is required",
     "spec.triggers[0].schedule.cron: is required"},
    {CRON("cron: '* * * *'"), "spec.triggers[0].schedule.cron: must be five fields",
     "spec.triggers[0].schedule.cron: column 8, "},
    {CRON("cron: '0 25 * * *'"), "", "spec.triggers[0].schedule.cron: column 3, "},
    {CRON("cron: '0 0 31 2 *'"), "", "spec.triggers[0].schedule.cron: column 5, "},
    {CRON("cron: '@reboot'"), "", "spec.triggers[0].schedule.cron: @reboot is no time"},
    {CRON("cron: '@daily', timeZone: ../UTC"), "spec.triggers[0].schedule.timeZone: must be the name of",
     "spec.triggers[0].schedule.timeZone: must be the name of a time zone"},
    {CRON("cron: '@daily', timeZone: localtime"), "",
     "spec.triggers[0].schedule.timeZone: must be the name of a time zone"},
    {CRON("cron: '@daily', missed: All"), "spec.triggers[0].schedule.missed: must be one of",
     "spec.triggers[0].schedule.missed: must be one of Skip, RunOnce, RunAll"},
    {"[{name: a, " QUEUE ", delivery: {batchSize: 0}}]", "spec.triggers[0].delivery.batchSize: must be from",
     "spec.triggers[0].delivery.batchSize: must be from 1 to 1000"},
    {"[{name: a, " QUEUE ", delivery: {maxAttempts: 1001}}]", "spec.triggers[0].delivery.maxAttempts: must",
     "spec.triggers[0].delivery.maxAttempts: must be from 1 to 1000"},
    {"[{name: a, " QUEUE ", delivery: {backoffSeconds: 1.5}}]",
     "spec.triggers[0].delivery.backoffSeconds: must be a whole number",
     "spec.triggers[0].delivery.backoffSeconds: must be a whole number"},
    {"[{name: a, " QUEUE ", delivery: {backoffSeconds: 3601}}]",
     "spec.triggers[0].delivery.backoffSeconds: must be from 1 to 3600",
     "spec.triggers[0].delivery.backoffSeconds: must be from 1 to 3600"},
    {"[{name: a, " QUEUE ", delivery: {maxBackoffSeconds: 86401}}]",
     "spec.triggers[0].delivery.maxBackoffSeconds: must be from 1 to 86400",
     "spec.triggers[0].delivery.maxBackoffSeconds: must be from 1 to 86400"},
    {"[{name: a, " QUEUE ", delivery: {backoffSeconds: 3, maxBackoffSeconds: 2}}]", "",
     "spec.triggers[0].delivery.backoffSeconds: must not be above maxBackoffSeconds (2)"},
    {"[{name: a, " QUEUE ", delivery: {ordered: 1}}]", "spec.triggers[0].delivery.ordered: must be true or",
     "spec.triggers[0].delivery.ordered: must be true or false"},
};

static void expect_start(const char *triggers, const char *said, const char *expected)
{
    if (strncmp(said, expected, strlen(expected)) != 0) {
        fail_msg("%s: \"%s\", not \"%s\"", triggers, said, expected);
    }
}

static cJSON *function_with(const char *triggers)
{
    CLEANUP_FREE char *yaml = xasprintf("{" DATABASE ", triggers: %s}", triggers);
    return support_function(yaml);
}

static void refusals_name_the_field(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(refusals); i++) {
        CLEANUP_JSON cJSON *function = function_with(refusals[i].triggers);
        struct function_spec *spec = NULL;
        struct err err = ERR_INIT;
        if (function_spec_parse(function, &spec, &err) == 0) {
            function_spec_unref(spec);
            fail_msg("accepted: %s", refusals[i].triggers);
        }
        assert_int_equal(err.code, ERR_INVALID);
        expect_start(refusals[i].triggers, err.msg, refusals[i].code);
    }
}

static void the_schema_refuses_what_it_can(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct function_schema *schema = NULL;
    assert_ok(function_schema_new(&schema, &err));
    for (size_t i = 0; i < ARRAY_SIZE(refusals); i++) {
        CLEANUP_SCHEMA_PROBLEMS struct schema_problems problems = SCHEMA_PROBLEMS_INIT;
        CLEANUP_JSON cJSON *function = function_with(refusals[i].triggers);
        struct function_spec *spec = NULL;
        function_schema_check(schema, function, &problems, &spec);
        assert_int_equal(problems.count, 1);
        assert_null(spec);
        const struct schema_problem *problem = &problems.items[0];
        bool by_schema = refusals[i].schema[0] != '\0';
        if ((problem->kind == SCHEMA_INVALID) != by_schema) {
            fail_msg("%s: kind %d: %s", refusals[i].triggers, problem->kind, problem->message);
        }
        CLEANUP_FREE char *said = xasprintf("%s: %s", problem->path, problem->message);
        expect_start(refusals[i].triggers, said, by_schema ? refusals[i].schema : refusals[i].code);
    }
    function_schema_free(schema);
}

/* What the schema's pattern takes and what the code takes is the same, but for what only the code can tell. */
static const struct text {
    const char *field, *text;
    bool by_schema, by_code;
} texts[] = {
    {"table.name", "public.orders", true, true},
    {"table.name", "_a.b$1", true, true},
    {"table.name", "\"a.b\".\"c\"\"d\"", true, true},
    {"table.name", "\"\xC3\xA4\".\"O r\"", true, true},
    {"table.name", "public.\"\"", false, false},
    {"table.name", "public.\"a", false, false},
    {"table.name", "public.a\"b\"", false, false},
    {"table.name", "public.\"a\"b", false, false},
    {"table.name", "public.\"a\"\"", false, false},
    {"table.name", "a", false, false},
    {"table.name", "a.b.c", false, false},
    {"table.name", ".a", false, false},
    {"table.name", "a.", false, false},
    {"table.name", "1a.b", false, false},
    {"table.name", "a.$b", false, false},
    {"table.name", "a. b", false, false},
    {"table.name", "a.b ", false, false},
    {"table.name", "a.\xC3\xA4", false, false},
    {"queue.name", "a", true, true},
    {"queue.name", "A.b-c_1", true, true},
    {"queue.name", "cicada", true, true},
    {"queue.name", "cicada.a", true, false},
    {"queue.name", "a.", false, false},
    {"queue.name", "_a", false, false},
    {"queue.name", "a b", false, false},
    {"schedule.cron", "0 2 * * *", true, true},
    {"schedule.cron", "\t0-59/2,3 */4  1,2 jan-dec SUN ", true, true},
    {"schedule.cron", "@Daily", true, true},
    {"schedule.cron", " @yearly\t", true, true},
    {"schedule.cron", "@never", true, false},
    {"schedule.cron", "0 2 * * * x", false, false},
    {"schedule.cron", "0 2 * *", false, false},
    {"schedule.cron", "0 2 * * ?", false, false},
    {"schedule.cron", "0 2 * *\n*", false, false},
    {"schedule.timeZone", "Europe/Berlin", true, true},
    {"schedule.timeZone", "Etc/GMT+1", true, true},
    {"schedule.timeZone", "America/Argentina/Buenos_Aires", true, true},
    {"schedule.timeZone", "posixrules", true, false},
    {"schedule.timeZone", "/UTC", false, false},
    {"schedule.timeZone", "a//b", false, false},
    {"schedule.timeZone", "a/", false, false},
    {"schedule.timeZone", "a.b", false, false},
};

static const char *triggers_with(const struct text *text, char *buffer, size_t size)
{
    CLEANUP_JSON cJSON *trigger =
        support_yaml(text->field[0] == 't'                       ? "{name: a, table: {operations: [INSERT]}}"
                     : text->field[0] == 'q'                     ? "{name: a, queue: {}}"
                     : strcmp(text->field, "schedule.cron") == 0 ? "{name: a, schedule: {}}"
                                                                 : "{name: a, schedule: {cron: '@daily'}}");
    CLEANUP_FREE char *source = xstrndup(text->field, strcspn(text->field, "."));
    json_add_string(cJSON_GetObjectItemCaseSensitive(trigger, source), strchr(text->field, '.') + 1,
                    text->text);
    CLEANUP_FREE char *json = json_print_dup(trigger);
    snprintf(buffer, size, "[%s]", json);
    return buffer;
}

static void texts_are_judged_alike(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct function_schema *schema = NULL;
    assert_ok(function_schema_new(&schema, &err));
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        CLEANUP_SCHEMA_PROBLEMS struct schema_problems problems = SCHEMA_PROBLEMS_INIT;
        char triggers[512];
        CLEANUP_JSON cJSON *function = function_with(triggers_with(&texts[i], triggers, sizeof triggers));
        CLEANUP_SPEC struct function_spec *spec = NULL, *parsed = NULL;
        function_schema_check(schema, function, &problems, &spec);
        bool refused_by_schema = problems.count > 0 && problems.items[0].kind == SCHEMA_INVALID;
        bool taken = function_spec_parse(function, &parsed, &err) == 0;
        if (refused_by_schema == texts[i].by_schema || taken != texts[i].by_code) {
            fail_msg("%s \"%s\": %s, %s", texts[i].field, texts[i].text,
                     refused_by_schema ? problems.items[0].message : "taken by the schema",
                     taken ? "taken by the code" : err.msg);
        }
    }
    function_schema_free(schema);
}

static const cJSON *trigger_schema(const cJSON *crd, const char *part)
{
    const cJSON *version = cJSON_GetArrayItem(json_array(json_object(crd, "spec"), "versions"), 0);
    const cJSON *spec = json_path(version, "schema", "openAPIV3Schema", "properties", "spec", NULL);
    const cJSON *item = json_path(spec, "properties", "triggers", "items", NULL);
    return json_object(json_path(item, "properties", part, NULL), "properties");
}

static bool takes_delivery(const char *name, int64_t number)
{
    /* So that the limit of one is not hidden by the rule about two. */
    const char *other =
        strcmp(name, "maxBackoffSeconds") == 0 ? "backoffSeconds: 1" : "maxBackoffSeconds: 86400";
    CLEANUP_FREE char *triggers =
        xasprintf("[{name: a, " QUEUE ", delivery: {%s, %s: %lld}}]", other, name, (long long)number);
    CLEANUP_JSON cJSON *function = function_with(triggers);
    CLEANUP_SPEC struct function_spec *spec = NULL;
    struct err err = ERR_INIT;
    return function_spec_parse(function, &spec, &err) == 0;
}

static void limits_and_defaults_are_the_schemas(void **state)
{
    (void)state;
    CLEANUP_FREE char *text = support_read("crds/cicada.dev_functions.yaml");
    CLEANUP_JSON cJSON *crd = support_yaml(text), *delivery = cJSON_CreateObject();
    const cJSON *property;
    int count = 0;
    cJSON_ArrayForEach(property, trigger_schema(crd, "delivery"))
    {
        json_add_copy(delivery, property->string, json_get(property, "default"));
        if (json_get(property, "maximum")) {
            int64_t min = json_int64(property, "minimum", 0), max = json_int64(property, "maximum", 0);
            assert_true(takes_delivery(property->string, min) && takes_delivery(property->string, max));
            assert_false(takes_delivery(property->string, min - 1) ||
                         takes_delivery(property->string, max + 1));
            count++;
        }
    }
    assert_int_equal(count, 4);
    CLEANUP_FREE char *given = json_print_dup(delivery);
    CLEANUP_FREE char *triggers = xasprintf("[{name: a, " QUEUE ", delivery: %s}]", given);
    CLEANUP_SPEC struct function_spec *spec = spec_with(triggers);
    CLEANUP_FREE char *told = runtime_spec(spec, "triggers");
    assert_string_equal(told, "[{\"name\":\"a\",\"queue\":{\"name\":\"q\"}}]");
    const cJSON *schedule = trigger_schema(crd, "schedule");
    assert_string_equal(json_string(json_object(schedule, "missed"), "default"), "RunOnce");
    assert_string_equal(json_string(json_object(schedule, "timeZone"), "default"), "UTC");
}

static cJSON *many(int count)
{
    cJSON *list = cJSON_CreateArray();
    for (int i = 0; i < count; i++) {
        CLEANUP_FREE char *name = xasprintf("t%d", i);
        cJSON *item = json_append_object(list);
        json_add_string(item, "name", name);
        json_add_string(json_add_object(item, "queue"), "name", name);
    }
    return list;
}

static void sixteen_are_enough(void **state)
{
    (void)state;
    for (int count = FUNCTION_TRIGGERS_MAX; count <= FUNCTION_TRIGGERS_MAX + 1; count++) {
        CLEANUP_JSON cJSON *function = support_function("{" DATABASE "}");
        cJSON_AddItemToObject(cJSON_GetObjectItemCaseSensitive(function, "spec"), "triggers", many(count));
        CLEANUP_SPEC struct function_spec *spec = NULL;
        struct err err = ERR_INIT;
        assert_int_equal(function_spec_parse(function, &spec, &err), count > FUNCTION_TRIGGERS_MAX ? -1 : 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_a_queue),
        cmocka_unit_test(takes_a_table),
        cmocka_unit_test(takes_a_schedule),
        cmocka_unit_test(tells_the_runtime_what_is_not_its_default),
        cmocka_unit_test(does_not_tell_it_the_rest),
        cmocka_unit_test(takes_an_owner),
        cmocka_unit_test(needs_a_database),
        cmocka_unit_test(refusals_name_the_field),
        cmocka_unit_test(the_schema_refuses_what_it_can),
        cmocka_unit_test(texts_are_judged_alike),
        cmocka_unit_test(limits_and_defaults_are_the_schemas),
        cmocka_unit_test(sixteen_are_enough),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
