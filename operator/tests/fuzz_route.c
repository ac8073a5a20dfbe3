/* The input is "<i or p><host>\n<target>". What is found lies within the input and adds up; what is internal is never found from
 * outside; a second look finds the same. */
#include "operator/gateway/function_state.h"
#include "operator/gateway/route.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"

static struct route_table *make_table(void)
{
    static const char *const specs[] = {
        "{\"metadata\":{\"namespace\":\"a\",\"name\":\"b\"},\"spec\":{\"handler\":\"f.so:f\",\"http\":{"
        "\"hosts\":[\"a.b\",\"*.a.b\"],"
        "\"path\":\"/a\"}}}",
        "{\"metadata\":{\"namespace\":\"a\",\"name\":\"c\"},\"spec\":{\"handler\":\"f.so:f\",\"http\":{"
        "\"hosts\":[\"a.b\"]}}}",
        "{\"metadata\":{\"namespace\":\"a\",\"name\":\"d\"},\"spec\":{\"handler\":\"f.so:f\",\"http\":{"
        "\"hosts\":[\"a.b\"],"
        "\"path\":\"/a/b\"}}}",
        "{\"metadata\":{\"namespace\":\"n\",\"name\":\"secret\"},\"spec\":{\"handler\":\"f.so:f\"}}",
    };
    struct route_function functions[ARRAY_SIZE(specs)];
    for (size_t i = 0; i < ARRAY_SIZE(specs); i++) {
        struct err err = ERR_INIT;
        CLEANUP_JSON cJSON *tree = NULL;
        struct function_spec *spec;
        if (json_parse(specs[i], strlen(specs[i]), JSON_DEPTH_MAX, &tree, &err) < 0 ||
            function_spec_parse(tree, &spec, &err) < 0) {
            abort();
        }
        functions[i] = (struct route_function){.function = function_state_new(spec->namespace, spec->name),
                                               .spec = spec};
    }
    struct route_table *table = route_table_new(functions, ARRAY_SIZE(functions), "d", "cluster.local");
    for (size_t i = 0; i < ARRAY_SIZE(functions); i++) {
        function_state_unref(functions[i].function);
        function_spec_unref(functions[i].spec);
    }
    return table;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct route_table *table;
    if (!table) {
        table = make_table();
    }
    if (size < 1) {
        return 0;
    }
    CLEANUP_FREE char *text = xmemdup(data, size); /* exact, so that a read beyond the end is seen */
    const char *newline = memchr(text, '\n', size);
    const char *end = text + size;
    struct h1_slice host = {text + 1, newline && newline > text ? (size_t)(newline - text) - 1 : 0};
    struct h1_slice target = {newline ? newline + 1 : end, newline ? (size_t)(end - newline) - 1 : 0};
    bool internal = text[0] == 'i';
    struct route_match match = {0}, again = {0};
    enum route_result result = route_table_match(table, internal, host, target, &match);
    if (result != route_table_match(table, internal, host, target, &again) ||
        match.function != again.function) {
        abort();
    }
    if (result != ROUTE_FOUND) {
        return 0;
    }
    if (match.prefix.at != target.at || match.rest.at != target.at + match.prefix.len ||
        match.prefix.len + match.rest.len != target.len || (!internal && !match.spec->has_http)) {
        abort();
    }
    if (match.prefix.len > 0 && match.rest.len > 0 && match.rest.at[0] != '/' && match.rest.at[0] != '?') {
        abort(); /* a prefix ends with an element */
    }
    return 0;
}
