#include <string.h>

#include "runtime/base/clock.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"
#include "runtime/base/yaml.h"
#include "runtime/tests/support_test.h"

static void assert_yields(const char *yaml, const char *json)
{
    struct err err = ERR_INIT;
    CLEANUP_JSON cJSON *tree = NULL;
    assert_ok(yaml_document_parse(yaml, strlen(yaml), &tree, &err));
    CLEANUP_FREE char *text = json_print_dup(tree);
    assert_string_equal(text, json);
}

static void assert_refused(const char *yaml, const char *message)
{
    struct err err = ERR_INIT;
    cJSON *tree = NULL;
    assert_fails(yaml_document_parse(yaml, strlen(yaml), &tree, &err), ERR_INVALID);
    assert_null(tree);
    if (!strstr(err.msg, message)) {
        fail_msg("\"%s\" lacks \"%s\"", err.msg, message);
    }
}

static void reads_a_manifest(void **state)
{
    (void)state;
    assert_yields(
        "apiVersion: cicada.dev/v1\n"
        "kind: Function # a comment\n"
        "metadata:\n"
        "  name: create-order\n"
        "  labels: {app: shop, \"quoted\": 'single'}\n"
        "spec:\n"
        "  replicas: 3\n"
        "  args:\n"
        "  - one\n"
        "  - - nested\n"
        "  text: |\n"
        "    line 1\n"
        "    line 2\n"
        "  folded: >-\n"
        "    a\n"
        "    b\n",
        "{\"apiVersion\":\"cicada.dev/"
        "v1\",\"kind\":\"Function\",\"metadata\":{\"name\":\"create-order\",\"labels\":"
        "{\"app\":\"shop\",\"quoted\":\"single\"}},\"spec\":{\"replicas\":3,\"args\":[\"one\",[\"nested\"]],"
        "\"text\":\"line 1\\nline 2\\n\",\"folded\":\"a b\"}}");
}

static void json_is_yaml(void **state)
{
    (void)state;
    assert_yields("{\"a\": [1, 2.5, true, null, \"x\\u00e9\"], \"b\": {}}",
                  "{\"a\":[1,2.5,true,null,\"x\xC3\xA9\"],\"b\":{}}");
}

/* YAML 1.2 core schema: none of the surprises of 1.1. */
static void resolves_plain_scalars(void **state)
{
    (void)state;
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"~", "null"},
        {"null", "null"},
        {"Null", "null"},
        {"NULL", "null"},
        {"nUll", "\"nUll\""},
        {"true", "true"},
        {"True", "true"},
        {"TRUE", "true"},
        {"tRue", "\"tRue\""},
        {"false", "false"},
        {"yes", "\"yes\""},
        {"no", "\"no\""},
        {"on", "\"on\""},
        {"off", "\"off\""},
        {"y", "\"y\""},
        {"0", "0"},
        {"-0", "0"},
        {"+12", "12"},
        {"-12", "-12"},
        {"0777", "777"},
        {"0o17", "15"},
        {"0o18", "\"0o18\""},
        {"0x1F", "31"},
        {"0xfG", "\"0xfG\""},
        {"0x", "\"0x\""},
        {"-0x1", "\"-0x1\""},
        {"0b11", "\"0b11\""},
        {"1_000", "\"1_000\""},
        {"1.5", "1.5"},
        {".5", "0.5"},
        {"5.", "5"},
        {".", "\".\""},
        {"1e3", "1000"},
        {"1.e3", "1000"},
        {"1e", "\"1e\""},
        {"1e+", "\"1e+\""},
        {"e3", "\"e3\""},
        {"+", "\"+\""},
        {"1.2.3", "\"1.2.3\""},
        {"12:30:45", "\"12:30:45\""},
        {"2001-12-14", "\"2001-12-14\""},
        {"9007199254740992", "9007199254740992"},
        {"1 2", "\"1 2\""},
        {"inf", "\"inf\""},
        {"NaN", "\"NaN\""},
        {"1Gi", "\"1Gi\""},
        {"=", "\"=\""},
        {"'1'", "\"1\""},
        {"\"true\"", "\"true\""},
        {"''", "\"\""},
        {"'~'", "\"~\""},
        {"!!str 1", "\"1\""},
        {"! 1", "\"1\""},
        {"!!int \"7\"", "7"},
        {"!!float 7", "7"},
        {"!!bool 'true'", "true"},
        {"!!null ''", "null"},
        {"!!map {a: 1}", "{\"a\":1}"},
        {"!!seq [1]", "[1]"},
        {"|\n 1\n", "\"1\\n\""},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        assert_yields(cases[i].in, cases[i].out);
    }
    assert_yields("a:\nb: ~\nc: ''\n", "{\"a\":null,\"b\":null,\"c\":\"\"}");
}

static void names_are_always_strings(void **state)
{
    (void)state;
    assert_yields("1: a\ntrue: b\n1.5: c\n\"~\": d\n? e\n: f\n",
                  "{\"1\":\"a\",\"true\":\"b\",\"1.5\":\"c\",\"~\":\"d\",\"e\":\"f\"}");
    assert_refused("~: a\n", "line 1 column 1: a name is expected, not null");
    assert_refused("{? : b}", "a name is expected, not null");
    assert_refused("? [a]\n: b\n", "line 1 column 3: a name must be a string");
    assert_refused("? {a: 1}\n: b\n", "a name must be a string");
    assert_refused("!!int 1: b\n", "a name must be a string");
}

static void refuses_what_json_lacks(void **state)
{
    (void)state;
    assert_refused("a: &x 1\n", "line 1 column 4: anchors and aliases are not supported");
    assert_refused("a: &x {b: 1}\n", "anchors and aliases");
    assert_refused("&x a: 1\n", "anchors and aliases");
    assert_refused("- &x [1]\n- *x\n", "line 1 column 3: anchors and aliases");
    assert_refused("<<: {a: 1}\n", "line 1 column 1: merge keys");
    assert_refused("a: !custom 1\n", "only the tags of the core schema");
    assert_refused("a: !!binary aGk=\n", "only the tags of the core schema");
    assert_refused("a: !!set {b}\n", "only the tags of the core schema");
    assert_refused("a: !!map [1]\n", "only the tags of the core schema");
    assert_refused("!!int x\n", "line 1 column 1: the value does not fit its tag");
    assert_refused("!!int 1.5\n", "the value does not fit its tag");
    assert_refused("!!bool 1\n", "the value does not fit its tag");
    assert_refused("!!null 1\n", "the value does not fit its tag");
    assert_refused(".inf\n", "infinity and NaN");
    assert_refused("-.Inf\n", "infinity and NaN");
    assert_refused("[.nan]\n", "line 1 column 2: infinity and NaN");
    assert_refused("1e999\n", "out of range");
    assert_refused("\"a\\0b\"\n", "\\0 is not allowed");
    assert_refused("\"a\\0b\": 1\n", "\\0 is not allowed");
}

static void refuses_duplicate_names(void **state)
{
    (void)state;
    assert_refused("a: 1\nb: 2\n'a': 3\n", "line 3 column 1: duplicate name \"a\"");
    assert_refused("x:\n  a: 1\n  b:\n    c: 1\n  a: 2\n", "line 5 column 3: duplicate name \"a\"");
    assert_refused("{a: {a: 1}, b: [{a: 1, a: 2}]}", "line 1 column 24: duplicate name \"a\"");
    assert_yields("a: {a: {a: 1}}\n", "{\"a\":{\"a\":{\"a\":1}}}");
}

static void says_where_the_syntax_is_wrong(void **state)
{
    (void)state;
    assert_refused("a: [1\nb: 2\n", "line 2 column ");
    assert_refused("a:\n\t- b\n", "line 2 column 1:");
    assert_refused("a: 'x\n", "line ");
    assert_refused("a: b: c\n", "line 1 column 5:");
    assert_refused("a\xFF: 1\n", "line 1 column ");
    assert_refused("%YAML 1.3\n---\na: 1\n", "line 1 column 1:");
}

static void splits_documents(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    static const struct {
        const char *yaml, *json;
    } cases[] = {
        {"", "[]"},
        {"# only a comment\n", "[]"},
        {"---\n---\n...\n", "[]"},
        {"a: 1\n---\nb: 2\n", "[{\"a\":1},{\"b\":2}]"},
        {"---\na: 1\n---\n# nothing\n---\n- 2\n...\n", "[{\"a\":1},[2]]"},
        {"---\nnull\n", "[null]"},
        {"--- ''\n", "[\"\"]"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        CLEANUP_JSON cJSON *documents = NULL;
        assert_ok(yaml_documents_parse(cases[i].yaml, strlen(cases[i].yaml), &documents, &err));
        CLEANUP_FREE char *text = json_print_dup(documents);
        assert_string_equal(text, cases[i].json);
    }
    assert_refused("", "one YAML document is expected, not 0");
    assert_refused("a: 1\n---\nb: 1\n", "one YAML document is expected, not 2");
}

static char *repeated(const char *unit, size_t count)
{
    size_t len = strlen(unit);
    char *text = xmalloc(len * count + 1);
    for (size_t i = 0; i < count; i++) {
        memcpy(text + i * len, unit, len);
    }
    text[len * count] = '\0';
    return text;
}

static void limits_depth_and_size(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    int64_t start = clock_monotonic_ms();
    CLEANUP_FREE char *open64 = repeated("[", JSON_DEPTH_MAX);
    CLEANUP_FREE char *close64 = repeated("]", JSON_DEPTH_MAX);
    CLEANUP_FREE char *fits = xasprintf("%s%s", open64, close64);
    assert_yields(fits, fits);
    CLEANUP_FREE char *flow = repeated("[", 200000);
    assert_refused(flow, "line 1 column 65: nested too deeply");
    CLEANUP_FREE char *maps = repeated("{a: ", 200000);
    assert_refused(maps, "nested too deeply");
    CLEANUP_FREE char *block = repeated("- ", 200000);
    assert_refused(block, "nested too deeply");
    CLEANUP_FREE char *large = repeated("- a\n", YAML_MAX_BYTES / 4 + 1);
    cJSON *documents = NULL;
    assert_fails(yaml_documents_parse(large, strlen(large), &documents, &err), ERR_TOO_LARGE);
    assert_true(clock_monotonic_ms() - start < 3000);
}

static void many_names_take_little_time(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    CLEANUP_STRBUF struct strbuf text;
    strbuf_init(&text, YAML_MAX_BYTES);
    for (int i = 0; i < 50000; i++) {
        strbuf_appendf(&text, "name%d: %d\n", i, i);
    }
    int64_t start = clock_monotonic_ms();
    CLEANUP_JSON cJSON *tree = NULL;
    assert_ok(yaml_document_parse(text.buf, text.len, &tree, &err));
    assert_int_equal(cJSON_GetArraySize(tree), 50000);
    assert_true(clock_monotonic_ms() - start < 5000);
}

static const cJSON *first(const cJSON *documents)
{
    return cJSON_GetArrayItem(documents, 0);
}

static void expect_mark(const struct yaml_marks *marks, const cJSON *node, size_t line, size_t column)
{
    const struct yaml_mark *mark = yaml_marks_find(marks, node);
    assert_non_null(mark);
    assert_int_equal(mark->line, line);
    assert_int_equal(mark->column, column);
}

static void knows_where_nodes_stand(void **state)
{
    (void)state;
    static const char text[] = "a: 1\nb:\n  - x\n  - {\xC3\xA9: 2, c: [3]}\n---\nplain\n";
    struct err err = ERR_INIT;
    struct yaml_mark where;
    CLEANUP_JSON cJSON *documents = NULL;
    CLEANUP_YAML_MARKS struct yaml_marks *marks = NULL;
    assert_ok(yaml_documents_read(text, strlen(text), YAML_DIALECT_CORE, &documents, &marks, &where, &err));
    const cJSON *b = json_get(first(documents), "b"), *inner = cJSON_GetArrayItem(b, 1);
    expect_mark(marks, first(documents), 1, 1);
    expect_mark(marks, json_get(first(documents), "a"), 1, 1);
    expect_mark(marks, b, 2, 1);
    expect_mark(marks, cJSON_GetArrayItem(b, 0), 3, 5);
    expect_mark(marks, inner, 4, 5);
    expect_mark(marks, json_get(inner, "c"), 4, 12); /* characters, not bytes */
    expect_mark(marks, json_array(inner, "c")->child, 4, 16);
    expect_mark(marks, cJSON_GetArrayItem(documents, 1), 6, 1);
    assert_null(yaml_marks_find(marks, documents));
    assert_null(yaml_marks_find(NULL, documents));
}

static void tells_where_the_error_is(void **state)
{
    (void)state;
    static const char text[] = "a: 1\nb: *x\n";
    struct err err = ERR_INIT;
    struct yaml_mark where = {0, 0};
    cJSON *documents = NULL;
    struct yaml_marks *marks = NULL;
    assert_fails(yaml_documents_read(text, strlen(text), YAML_DIALECT_CORE, &documents, &marks, &where, &err),
                 ERR_INVALID);
    assert_int_equal(where.line, 2);
    assert_int_equal(where.column, 4);
    assert_string_equal(err.msg, "anchors and aliases are not supported");
    assert_null(documents);
    assert_null(marks);
    CLEANUP_FREE char *large = xcalloc(YAML_MAX_BYTES + 2, 1);
    memset(large, ' ', YAML_MAX_BYTES + 1);
    assert_fails(
        yaml_documents_read(large, YAML_MAX_BYTES + 1, YAML_DIALECT_CORE, &documents, &marks, &where, &err),
        ERR_TOO_LARGE);
    assert_int_equal(where.line, 0);
}

/* What kubectl makes of each; taken down from kubectl 1.35 (annotate --local -o json). */
static void reads_as_kubectl_does(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"no", "false"},
        {"y", "true"},
        {"N", "false"},
        {"on", "true"},
        {"Off", "false"},
        {"nO", "\"nO\""},
        {"1e3", "1000"},
        {"1e+3", "1000"},
        {"017", "15"},
        {"0o17", "15"},
        {"0b11", "3"},
        {"-0x10", "-16"},
        {"0X1F", "31"},
        {"1_000", "1000"},
        {"1_0.5", "10.5"},
        {"\"1\"", "\"1\""},
        {"'no'", "\"no\""},
        {"~", "null"},
        {"1.", "1"},
        {".5", "0.5"},
        {"-.5", "-0.5"},
        {"0o8", "\"0o8\""},
        {"08", "8"},
        {"+017", "15"},
        {"-017", "-15"},
        {"_1", "\"_1\""},
        {"0x_1", "1"},
        {"1__0", "10"},
        {"1.0", "1"},
        {"09.5", "9.5"},
        {"1:30", "\"1:30\""},
        {"2001-01-01", "\"2001-01-01\""},
        {"0x1.8p1", "\"0x1.8p1\""},
        {"{no: 1}", "{\"false\":1}"},
        {"{0x10: 1}", "{\"16\":1}"},
        {"{'no': 1}", "{\"no\":1}"},
        {"{1.5: 1}", "{\"1.5\":1}"},
        {"{a_1: 1}", "{\"a_1\":1}"},
        {"0xFFFFFFFFFFFFFFFFF", "\"0xFFFFFFFFFFFFFFFFF\""},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct err err = ERR_INIT;
        struct yaml_mark where;
        CLEANUP_JSON cJSON *documents = NULL;
        CLEANUP_YAML_MARKS struct yaml_marks *marks = NULL;
        assert_ok(yaml_documents_read(cases[i][0], strlen(cases[i][0]), YAML_DIALECT_KUBECTL, &documents,
                                      &marks, &where, &err));
        CLEANUP_FREE char *text = json_print_dup(first(documents));
        assert_string_equal(text, cases[i][1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_a_manifest),
        cmocka_unit_test(json_is_yaml),
        cmocka_unit_test(resolves_plain_scalars),
        cmocka_unit_test(names_are_always_strings),
        cmocka_unit_test(refuses_what_json_lacks),
        cmocka_unit_test(refuses_duplicate_names),
        cmocka_unit_test(says_where_the_syntax_is_wrong),
        cmocka_unit_test(splits_documents),
        cmocka_unit_test(limits_depth_and_size),
        cmocka_unit_test(many_names_take_little_time),
        cmocka_unit_test(knows_where_nodes_stand),
        cmocka_unit_test(tells_where_the_error_is),
        cmocka_unit_test(reads_as_kubectl_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
