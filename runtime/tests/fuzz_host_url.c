/* Lines: a path template, a path, a query. What is decoded comes back as itself when it is encoded and decoded again, and a
 * path built from a template and its parameters matches that template with these parameters. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/base/strbuf.h"
#include "runtime/base/text.h"
#include "runtime/host/path_template.h"
#include "runtime/host/url.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define TEXT_MAX_BYTES (1u << 20)

static void require(bool holds)
{
    if (!holds)
        abort();
}

static void check_same(const struct field_list *a, const struct field_list *b)
{
    require(a->count == b->count);
    for (size_t i = 0; i < a->count; i++)
        require(strcmp(a->fields[i].name, b->fields[i].name) == 0 &&
                strcmp(a->fields[i].value, b->fields[i].value) == 0);
}

/* Any text without NUL, percent-encoded, is decoded to itself if it is UTF-8, and refused otherwise. */
static void check_decode(struct arena *arena, const char *text)
{
    CLEANUP_STRBUF struct strbuf encoded;
    struct err err = ERR_INIT;
    const char *decoded;
    int failed;

    strbuf_init(&encoded, TEXT_MAX_BYTES);
    require(strbuf_append_percent_encoded(&encoded, text) == 0);
    failed = url_decode(arena, encoded.buf, encoded.len, true, &decoded, &err);
    require(failed == (is_valid_utf8(text, strlen(text)) ? 0 : -1));
    require(failed || strcmp(decoded, text) == 0);
    if (url_decode(arena, text, strlen(text), false, &decoded, &err) == 0)
        require(is_valid_utf8(decoded, strlen(decoded)) && strlen(decoded) <= strlen(text));
    else
        require(err.code == ERR_INVALID && err.msg[0] != '\0');
}

static size_t count_pieces(const char *query)
{
    size_t count = 0;

    for (const char *p = query; *p != '\0'; p++)
        count += *p != '&' && (p == query || p[-1] == '&');
    return count;
}

static void check_query(struct arena *arena, const char *query)
{
    CLEANUP_STRBUF struct strbuf again;
    struct field_list fields, fields_again;
    struct err err = ERR_INIT;

    strbuf_init(&again, TEXT_MAX_BYTES);
    if (url_query_parse(arena, query, &fields, &err) != 0) {
        require(err.code == ERR_INVALID && fields.count == 0);
        return;
    }
    require(fields.count == count_pieces(query) && fields.count <= URL_QUERY_FIELDS_MAX);
    for (size_t i = 0; i < fields.count; i++) {
        (void)strbuf_append_percent_encoded(&again, fields.fields[i].name);
        (void)strbuf_append_char(&again, '=');
        (void)strbuf_append_percent_encoded(&again, fields.fields[i].value);
        (void)strbuf_append_char(&again, '&');
    }
    require(url_query_parse(arena, again.buf, &fields_again, &err) == 0);
    check_same(&fields, &fields_again);
}

/* The template with each parameter's value in its place, all percent-encoded. */
static void put_path(struct strbuf *out, const char *template, const struct field_list *parameters)
{
    size_t next = 0;

    while (*template == '/' && template[1] != '\0') {
        size_t len = strcspn(template + 1, "/");
        CLEANUP_FREE char *literal = xstrndup(template + 1, len);
        const char *element = literal[0] == '{' ? parameters->fields[next++].value : literal;
        (void)strbuf_append_char(out, '/');
        (void)strbuf_append_percent_encoded(out, element);
        template += 1 + len;
    }
    require(next == parameters->count);
}

static void check_path(struct arena *arena, const char *template, const char *path)
{
    CLEANUP_STRBUF struct strbuf again;
    struct field_list parameters = {0}, parameters_again;
    struct err err = ERR_INIT;
    bool matched;

    strbuf_init(&again, TEXT_MAX_BYTES);
    if (path_template_check(template, &err) != 0) {
        require(err.msg[0] != '\0');
        return;
    }
    if (path_template_match(template, path, arena, &matched, &parameters, &err) != 0 || !matched)
        return;
    require(parameters.count <= PATH_TEMPLATE_PARAMETERS_MAX);
    for (size_t i = 0; i < parameters.count; i++)
        require(parameters.fields[i].value[0] != '\0');
    put_path(&again, template, &parameters);
    require(path_template_match(template, again.buf, arena, &matched, &parameters_again, &err) == 0 &&
            matched);
    check_same(&parameters, &parameters_again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CLEANUP_FREE char *text = xstrndup((const char *)data, size);
    char *lines[3] = {text, text + strlen(text), text + strlen(text)};
    struct arena arena;

    for (int i = 1; i < 3; i++) {
        char *end = strchr(lines[i - 1], '\n');
        if (end == NULL)
            break;
        *end = '\0';
        lines[i] = end + 1;
    }
    arena_init(&arena);
    check_path(&arena, lines[0], lines[1]);
    check_decode(&arena, lines[1]);
    check_query(&arena, lines[2]);
    arena_release(&arena);
    return 0;
}
