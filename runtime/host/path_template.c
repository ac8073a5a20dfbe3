#include "runtime/host/path_template.h"

#include <ctype.h>
#include <string.h>

#include "runtime/host/url.h"

/* The element at *cursor (which stands on '/'), and moves *cursor behind it. False: no more elements. */
static bool next_element(const char **cursor, const char **ret_text, size_t *ret_len)
{
    if (**cursor != '/' || (*cursor)[1] == '\0')
        return false;
    *ret_text = *cursor + 1;
    *ret_len = strcspn(*ret_text, "/");
    *cursor = *ret_text + *ret_len;
    return true;
}

static bool is_parameter(const char *text, size_t len)
{
    return len >= 2 && text[0] == '{' && text[len - 1] == '}';
}

static int check_element(const char *text, size_t len, struct err *err)
{
    if (len == 0)
        return err_set(err, ERR_INVALID, "has an empty element");
    if (!is_parameter(text, len)) {
        if (memchr(text, '{', len) != NULL || memchr(text, '}', len) != NULL)
            return err_set(err, ERR_INVALID, "\"%.*s\": a parameter must be a whole element, {name}",
                           (int)len, text);
        return 0;
    }
    for (size_t i = 1; i < len - 1; i++)
        if (!isalnum((unsigned char)text[i]) && text[i] != '_')
            return err_set(err, ERR_INVALID, "\"%.*s\" is no parameter name", (int)len, text);
    if (len == 2 || isdigit((unsigned char)text[1]))
        return err_set(err, ERR_INVALID, "\"%.*s\" is no parameter name", (int)len, text);
    return 0;
}

int path_template_check(const char *template, struct err *err)
{
    const char *cursor = template;
    const char *text;
    const char *names[PATH_TEMPLATE_PARAMETERS_MAX];
    size_t name_lens[PATH_TEMPLATE_PARAMETERS_MAX];
    size_t len, count = 0;

    if (template[0] != '/')
        return err_set(err, ERR_INVALID, "must begin with '/'");
    if (strlen(template) > PATH_TEMPLATE_MAX_BYTES)
        return err_set(err, ERR_INVALID, "is longer than %d bytes", PATH_TEMPLATE_MAX_BYTES);
    while (next_element(&cursor, &text, &len)) {
        if (check_element(text, len, err) != 0)
            return -1;
        if (!is_parameter(text, len))
            continue;
        if (count == PATH_TEMPLATE_PARAMETERS_MAX)
            return err_set(err, ERR_INVALID, "has more than %d parameters", PATH_TEMPLATE_PARAMETERS_MAX);
        for (size_t i = 0; i < count; i++)
            if (name_lens[i] == len && memcmp(names[i], text, len) == 0)
                return err_set(err, ERR_INVALID, "has %.*s twice", (int)len, text);
        names[count] = text;
        name_lens[count++] = len;
    }
    return 0;
}

int path_template_match(const char *template, const char *raw_path, struct arena *arena, bool *ret_matched,
                        struct field_list *ret_parameters, struct err *err)
{
    struct field_list list = {arena_alloc(arena, PATH_TEMPLATE_PARAMETERS_MAX * sizeof(struct field)), 0};
    const char *expected, *text, *decoded;
    size_t expected_len, len;

    *ret_matched = false;
    while (next_element(&template, &expected, &expected_len)) {
        if (!next_element(&raw_path, &text, &len) || len == 0)
            return 0;
        if (url_decode(arena, text, len, false, &decoded, err) != 0)
            return err_wrap(err, "path");
        if (is_parameter(expected, expected_len)) {
            list.fields[list.count].name = arena_strndup(arena, expected + 1, expected_len - 2);
            list.fields[list.count++].value = decoded;
        } else if (strlen(decoded) != expected_len || memcmp(decoded, expected, expected_len) != 0) {
            return 0;
        }
    }
    if (next_element(&raw_path, &text, &len))
        return 0;
    *ret_matched = true;
    *ret_parameters = list;
    return 0;
}
