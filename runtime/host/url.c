#include "runtime/host/url.h"

#include <string.h>

#include "runtime/base/text.h"

int url_decode(struct arena *arena, const char *text, size_t len, bool plus_is_space,
               const char **ret_decoded, struct err *err)
{
    char *out = arena_alloc(arena, len + 1); /* decoding never grows */
    size_t out_len = 0;

    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (c == '%') {
            int high = i + 1 < len ? hex_digit_value(text[i + 1]) : -1;
            int low = i + 2 < len ? hex_digit_value(text[i + 2]) : -1;
            if (high < 0 || low < 0)
                return err_set(err, ERR_INVALID, "'%%' is not followed by two hexadecimal digits");
            c = (char)(high * 16 + low);
            i += 2;
        } else if (c == '+' && plus_is_space) {
            c = ' ';
        }
        if (c == '\0')
            return err_set(err, ERR_INVALID, "a NUL character is not allowed");
        out[out_len++] = c;
    }
    out[out_len] = '\0';
    if (!is_valid_utf8(out, out_len))
        return err_set(err, ERR_INVALID, "the decoded text is not UTF-8");
    *ret_decoded = out;
    return 0;
}

static int parse_piece(struct arena *arena, const char *piece, size_t len, struct field *field,
                       struct err *err)
{
    const char *equals = memchr(piece, '=', len);
    size_t name_len = equals ? (size_t)(equals - piece) : len;

    field->value = "";
    if (url_decode(arena, piece, name_len, true, &field->name, err) != 0)
        return -1;
    if (equals == NULL)
        return 0;
    return url_decode(arena, equals + 1, len - name_len - 1, true, &field->value, err);
}

int url_query_parse(struct arena *arena, const char *query, struct field_list *ret_fields, struct err *err)
{
    struct field_list list = {NULL, 0};
    size_t pieces = 1;

    ret_fields->fields = NULL;
    ret_fields->count = 0;
    if (query == NULL || *query == '\0')
        return 0;
    for (const char *p = query; *p != '\0'; p++)
        pieces += *p == '&';
    if (pieces > URL_QUERY_FIELDS_MAX)
        return err_set(err, ERR_INVALID, "the query has more than %d parameters", URL_QUERY_FIELDS_MAX);

    list.fields = arena_alloc(arena, pieces * sizeof(*list.fields));
    for (const char *p = query;; p++) {
        size_t len = strcspn(p, "&");
        if (len > 0) {
            if (parse_piece(arena, p, len, &list.fields[list.count], err) != 0)
                return err_wrap(err, "query");
            list.count++;
        }
        p += len;
        if (*p == '\0')
            break;
    }
    *ret_fields = list;
    return 0;
}
