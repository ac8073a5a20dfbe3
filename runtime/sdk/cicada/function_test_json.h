/* SPDX-License-Identifier: Apache-2.0
 *
 * cicada/function_test_json.h - part of cicada/function_test.h, which includes it: JSON texts and values.
 */
#ifndef CICADA_FUNCTION_TEST_JSON_H
#define CICADA_FUNCTION_TEST_JSON_H

/* ---- JSON ---------------------------------------------------------------------------------------------------------- */

struct ct_reader {
    struct cicada_test *test;
    const char *at;
    int depth;
};

CT_FN void ct_skip(struct ct_reader *reader)
{
    reader->at += strspn(reader->at, " \t\r\n");
}
CT_FN unsigned ct_hex(const char *at)
{
    char digits[5] = {at[0], at[0] ? at[1] : 0, at[0] && at[1] ? at[2] : 0,
                      at[0] && at[1] && at[2] ? at[3] : 0, 0};
    char *end;
    unsigned long value = strtoul(digits, &end, 16);

    return end == digits + 4 && isxdigit((unsigned char)digits[0]) ? (unsigned)value
                                                                   : 0; /* \u0000 is refused too */
}
CT_FN char *ct_utf8(char *out, unsigned code)
{
    if (code < 0x80) {
        *out++ = (char)code;
    } else if (code < 0x800) {
        *out++ = (char)(0xC0 | code >> 6);
        *out++ = (char)(0x80 | (code & 63));
    } else {
        *out++ = (char)(code < 0x10000 ? 0xE0 | code >> 12 : 0xF0 | code >> 18);
        if (code >= 0x10000)
            *out++ = (char)(0x80 | (code >> 12 & 63));
        *out++ = (char)(0x80 | (code >> 6 & 63));
        *out++ = (char)(0x80 | (code & 63));
    }
    return out;
}
/* One \escape; NULL: malformed. */
CT_FN char *ct_escape(struct ct_reader *reader, char *out)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const char *found = *reader->at ? strchr(from, *reader->at) : NULL;
    unsigned code;

    if (found != NULL) {
        reader->at++;
        *out = to[found - from];
        return out + 1;
    }
    if (*reader->at != 'u' || (code = ct_hex(reader->at + 1)) == 0)
        return NULL;
    reader->at += 5;
    if (code >= 0xD800 && code < 0xE000) {
        unsigned low =
            code < 0xDC00 && reader->at[0] == '\\' && reader->at[1] == 'u' ? ct_hex(reader->at + 2) : 0;
        if (low < 0xDC00 || low > 0xDFFF)
            return NULL;
        reader->at += 6;
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    }
    return ct_utf8(out, code);
}
CT_FN const char *ct_read_string(struct ct_reader *reader, size_t *ret_len)
{
    char *text = (char *)ct_alloc(reader->test, strlen(reader->at) + 1), *out = text;

    for (reader->at++; *reader->at != '"';) {
        if ((unsigned char)*reader->at < 0x20)
            return NULL;
        if (*reader->at != '\\')
            *out++ = *reader->at++;
        else if (reader->at++, (out = ct_escape(reader, out)) == NULL)
            return NULL;
    }
    reader->at++;
    *ret_len = (size_t)(out - text);
    return text;
}
CT_FN bool ct_digits(struct ct_reader *reader)
{
    size_t count = strspn(reader->at, "0123456789");

    reader->at += count;
    return count > 0;
}
CT_FN bool ct_read_number(struct ct_reader *reader)
{
    reader->at += *reader->at == '-';
    if (*reader->at == '0')
        reader->at++;
    else if (!ct_digits(reader))
        return false;
    if (*reader->at == '.' && (reader->at++, !ct_digits(reader)))
        return false;
    if (*reader->at != 'e' && *reader->at != 'E')
        return true;
    reader->at++;
    reader->at += *reader->at == '+' || *reader->at == '-';
    return ct_digits(reader);
}
CT_FN struct cicada_json_node *ct_read_value(struct ct_reader *reader);
CT_FN bool ct_read_members(struct ct_reader *reader, struct cicada_json_node *parent)
{
    struct cicada_json_node **link = &parent->first;
    bool object = parent->type == CICADA_JSON_OBJECT;
    char close = object ? '}' : ']';

    reader->at++;
    ct_skip(reader);
    if (*reader->at == close)
        return reader->at++, true;
    for (;;) {
        const char *name = NULL;
        size_t name_len = 0;
        if (object) {
            if (*reader->at != '"' || (name = ct_read_string(reader, &name_len)) == NULL)
                return false;
            ct_skip(reader);
            if (*reader->at++ != ':')
                return false;
        }
        if ((*link = ct_read_value(reader)) == NULL)
            return false;
        (*link)->name = name;
        (*link)->name_len = name_len;
        link = &(*link)->next;
        ct_skip(reader);
        if (*reader->at == close)
            return reader->at++, true;
        if (*reader->at++ != ',')
            return false;
        ct_skip(reader);
    }
}
CT_FN bool ct_read_into(struct ct_reader *reader, struct cicada_json_node *node)
{
    static const struct {
        const char *text;
        int type;
    } words[] = {{"null", CICADA_JSON_NULL}, {"true", CICADA_JSON_BOOL}, {"false", CICADA_JSON_BOOL}};

    for (size_t i = 0; i < 3; i++)
        if (strncmp(reader->at, words[i].text, strlen(words[i].text)) == 0) {
            node->type = words[i].type;
            reader->at += strlen(words[i].text);
            return true;
        }
    node->type = *reader->at == '{'   ? CICADA_JSON_OBJECT
                 : *reader->at == '[' ? CICADA_JSON_ARRAY
                 : *reader->at == '"' ? CICADA_JSON_STRING
                                      : CICADA_JSON_NUMBER;
    if (node->type == CICADA_JSON_NUMBER)
        return ct_read_number(reader);
    if (node->type == CICADA_JSON_STRING)
        return (node->text = ct_read_string(reader, &node->text_len)) != NULL;
    return ct_read_members(reader, node);
}
CT_FN struct cicada_json_node *ct_read_value(struct ct_reader *reader)
{
    struct cicada_json_node *node = (struct cicada_json_node *)ct_alloc(reader->test, sizeof(*node));
    bool ok;

    ct_skip(reader);
    node->raw = reader->at;
    ok = ++reader->depth <= CT_DEPTH_MAX && ct_read_into(reader, node);
    reader->depth--;
    node->raw_len = (size_t)(reader->at - node->raw);
    return ok ? node : NULL;
}
/* NULL: it is no JSON. */
CT_FN struct cicada_json_node *ct_parse(struct cicada_test *test, const char *text)
{
    struct ct_reader reader = {test, text, 0};
    struct cicada_json_node *node = ct_read_value(&reader);

    ct_skip(&reader);
    return node != NULL && *reader.at == '\0' ? node : NULL;
}

CT_FN int32_t ct_json_type(const struct cicada_json_node *node)
{
    return node->type;
}
CT_FN const struct cicada_json_node *ct_json_first(const struct cicada_json_node *node)
{
    return node->first;
}
CT_FN const struct cicada_json_node *ct_json_next(const struct cicada_json_node *node)
{
    return node->next;
}
CT_FN const struct cicada_json_node *ct_json_member(const struct cicada_json_node *node, const char *name)
{
    const struct cicada_json_node *at = node->type == CICADA_JSON_OBJECT ? node->first : NULL;

    while (at != NULL && strcmp(at->name, name) != 0)
        at = at->next;
    return at;
}
CT_FN size_t ct_json_count(const struct cicada_json_node *node)
{
    size_t count = 0;

    for (const struct cicada_json_node *at = node->first; at != NULL; at = at->next)
        count++;
    return count;
}
CT_FN const char *ct_with_len(const char *text, size_t len, size_t *ret_len)
{
    if (ret_len != NULL)
        *ret_len = text ? len : 0;
    return text;
}
CT_FN const char *ct_json_name(const struct cicada_json_node *node, size_t *ret_len)
{
    return ct_with_len(node->name, node->name_len, ret_len);
}
CT_FN const char *ct_json_string(const struct cicada_json_node *node, size_t *ret_len)
{
    return ct_with_len(node->text, node->text_len, ret_len);
}
CT_FN const char *ct_json_raw(const struct cicada_json_node *node, size_t *ret_len)
{
    return ct_with_len(node->raw, node->raw_len, ret_len);
}
CT_FN bool ct_json_double(const struct cicada_json_node *node, double *ret_value)
{
    double value = node->type == CICADA_JSON_NUMBER ? strtod(node->raw, NULL) : INFINITY;

    if (!isfinite(value))
        return false;
    *ret_value = value;
    return true;
}
CT_FN bool ct_json_int64(const struct cicada_json_node *node, int64_t *ret_value)
{
    long double value = node->type == CICADA_JSON_NUMBER ? strtold(node->raw, NULL) : 0.5L;

    if (value != floorl(value) || value < -9223372036854775808.0L || value >= 9223372036854775808.0L)
        return false;
    *ret_value = (int64_t)value;
    return true;
}
CT_FN bool ct_json_bool(const struct cicada_json_node *node, bool *ret_value)
{
    if (node->type != CICADA_JSON_BOOL)
        return false;
    *ret_value = *node->raw == 't';
    return true;
}

#endif
