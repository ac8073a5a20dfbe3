/* A request is three lines (path template, target, type) and a body: whatever they are, it is refused or can be read whole, and
 * what was decoded is UTF-8. CICADA_SPEC takes the same bytes: it is refused with a message, or all its limits hold. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/base/text.h"
#include "runtime/host/context.h"
#include "runtime/host/path_template.h"
#include "runtime/host/request.h"
#include "runtime/host/spec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static void check_fields(const struct field_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        require(is_valid_utf8(list->fields[i].name, strlen(list->fields[i].name)) &&
                is_valid_utf8(list->fields[i].value, strlen(list->fields[i].value)));
}

static void walk(struct cicada_json json)
{
    int64_t integer;
    double number;
    size_t len;

    (void)cicada_json_int64(json, &integer);
    (void)cicada_json_double(json, &number);
    if (cicada_json_string(json, &len) != NULL)
        require(is_valid_utf8(cicada_json_string(json, NULL), len));
    for (json = cicada_json_first(json); cicada_json_type(json) != CICADA_JSON_ABSENT;
         json = cicada_json_next(json))
        walk(json);
}

static void check_request(const char *template, char *target, const char *type, const char *body)
{
    struct http_header header = {"Content-Type", type};
    char *query = strchr(target, '?');
    struct request_source source = {.method = "POST",
                                    .raw_path = target,
                                    .headers = &header,
                                    .header_count = 1,
                                    .body = body,
                                    .body_len = strlen(body)};
    struct cicada_request request;
    struct arena arena;
    struct err err = ERR_INIT;
    bool matched;

    if (query != NULL) {
        *query = '\0';
        source.query = query + 1;
    }
    arena_init(&arena);
    if (request_init(&request, &sdk_calls, &arena, &source, &err) == 0)
        check_fields(&request.query);
    if (path_template_check(template, &err) == 0 &&
        path_template_match(template, target, &arena, &matched, &request.parameters, &err) == 0 && matched)
        check_fields(&request.parameters);
    if (request_parse_declared_json(&request, &err) == 0)
        walk(cicada_request_json(&request));
    request_release(&request);
    arena_release(&arena);
}

/* It stays below the function folder. */
static void check_file(const char *file)
{
    for (;; file++) {
        size_t len = strcspn(file, "/");

        require(len > 0 && file[0] != '.');
        file += len;
        if (*file == '\0')
            break;
    }
}

static void check_sql(const struct function_spec *spec)
{
    require(spec->has_database && strlen(spec->sql) <= SPEC_SQL_MAX_BYTES);
    require(spec->parameter_count <= SPEC_PARAMETERS_MAX);
    for (size_t i = 0; i < spec->parameter_count; i++) {
        const char *name = spec->parameters[i].name;
        require(name[0] != '\0' && strlen(name) <= SPEC_NAME_MAX_BYTES);
    }
}

static void check_spec(const char *text, size_t len)
{
    struct function_spec spec;
    struct err err = ERR_INIT;

    if (spec_parse(text, len, &spec, &err) != 0) {
        require(err.msg[0] != '\0');
        return;
    }
    require((spec.handler_file != NULL) != (spec.sql != NULL));
    if (spec.sql != NULL)
        check_sql(&spec);
    else
        check_file(spec.handler_file);
    require(spec.concurrency >= 1 && spec.concurrency <= SPEC_CONCURRENCY_MAX && spec.timeout_ms >= 1000);
    require(spec.pool_size >= 1 && spec.pool_size <= SPEC_POOL_MAX);
    require(spec.idempotency == IDEMPOTENCY_NONE || spec.has_database);
    spec_release(&spec);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CLEANUP_FREE char *text = xstrndup((const char *)data, size);
    char *lines[4] = {text, text + strlen(text), text + strlen(text), text + strlen(text)};

    check_spec(text, strlen(text));
    for (int i = 1; i < 4; i++) {
        char *end = strchr(lines[i - 1], '\n');
        if (end == NULL)
            break;
        *end = '\0';
        lines[i] = end + 1;
    }
    check_request(lines[0], lines[1], lines[2], lines[3]);
    return 0;
}
