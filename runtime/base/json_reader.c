#include "runtime/base/json_reader.h"

#include <stdio.h>
#include <string.h>

#include "runtime/base/json_node.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"

/* An open array or object. */
struct frame {
    uint32_t node;
    uint32_t last_child; /* 0: none yet */
};

struct scanner {
    const char *text, *end, *at;
    int max_depth;
    int depth;
    struct frame frames[JSON_READER_DEPTH_MAX];
    struct json_doc *doc;
    const char *name; /* name read for the next value */
    uint32_t name_len;
    struct err *err;
};

static int fail_at(struct scanner *s, const char *at, const char *what)
{
    size_t line = 1;
    const char *line_start = s->text;
    for (const char *p = s->text; p < at; p++) {
        if (*p == '\n') {
            line++;
            line_start = p + 1;
        }
    }
    return err_set(s->err, ERR_INVALID, "line %zu column %zu: %s", line, (size_t)(at - line_start) + 1, what);
}

static int fail(struct scanner *s, const char *what)
{
    return fail_at(s, s->at, s->at == s->end ? "unexpected end of text" : what);
}

static void skip_space(struct scanner *s)
{
    while (s->at < s->end && (*s->at == ' ' || *s->at == '\n' || *s->at == '\t' || *s->at == '\r')) {
        s->at++;
    }
}

static bool read_hex4(struct scanner *s, uint32_t *ret_unit)
{
    if (s->end - s->at < 4) {
        return false;
    }
    uint32_t unit = 0;
    for (int i = 0; i < 4; i++) {
        int digit = hex_digit_value(s->at[i]);
        if (digit < 0) {
            return false;
        }
        unit = unit << 4 | (uint32_t)digit;
    }
    s->at += 4;
    *ret_unit = unit;
    return true;
}

static char *put_utf8(char *out, uint32_t code)
{
    if (code < 0x80) {
        *out++ = (char)code;
    } else if (code < 0x800) {
        *out++ = (char)(0xC0 | code >> 6);
        *out++ = (char)(0x80 | (code & 0x3F));
    } else if (code < 0x10000) {
        *out++ = (char)(0xE0 | code >> 12);
        *out++ = (char)(0x80 | (code >> 6 & 0x3F));
        *out++ = (char)(0x80 | (code & 0x3F));
    } else {
        *out++ = (char)(0xF0 | code >> 18);
        *out++ = (char)(0x80 | (code >> 12 & 0x3F));
        *out++ = (char)(0x80 | (code >> 6 & 0x3F));
        *out++ = (char)(0x80 | (code & 0x3F));
    }
    return out;
}

/* After "\u". */
static int read_unicode_escape(struct scanner *s, const char *escape, char **out)
{
    uint32_t code, low;
    if (!read_hex4(s, &code)) {
        return fail_at(s, escape, "\\u needs four hexadecimal digits");
    }
    if (code == 0) {
        return fail_at(s, escape, "\\u0000 is not allowed");
    }
    if (code >= 0xDC00 && code <= 0xDFFF) {
        return fail_at(s, escape, "lone surrogate");
    }
    if (code >= 0xD800 && code <= 0xDBFF) {
        if (s->end - s->at < 2 || s->at[0] != '\\' || s->at[1] != 'u') {
            return fail_at(s, escape, "lone surrogate");
        }
        s->at += 2;
        if (!read_hex4(s, &low) || low < 0xDC00 || low > 0xDFFF) {
            return fail_at(s, escape, "lone surrogate");
        }
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    }
    *out = put_utf8(*out, code);
    return 0;
}

/* At a backslash. */
static int read_escape(struct scanner *s, char **out)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const char *escape = s->at++;
    if (s->at == s->end) {
        return fail(s, "");
    }
    char c = *s->at++;
    if (c == 'u') {
        return read_unicode_escape(s, escape, out);
    }
    const char *known = c ? strchr(from, c) : NULL;
    if (!known) {
        return fail_at(s, escape, "unknown escape");
    }
    *(*out)++ = to[known - from];
    return 0;
}

/* At the opening quote. The decoded text goes to the arena. */
static int read_string(struct scanner *s, const char **ret_string, uint32_t *ret_len)
{
    char *start = s->doc->arena_end, *out = start;
    s->at++;
    for (;;) {
        const char *run = s->at;
        while (s->at < s->end && *s->at != '"' && *s->at != '\\' && (unsigned char)*s->at >= 0x20 &&
               (unsigned char)*s->at < 0x80) {
            s->at++;
        }
        memcpy(out, run, (size_t)(s->at - run));
        out += s->at - run;
        if (s->at == s->end) {
            return fail(s, "");
        }
        if (*s->at == '"') {
            break;
        }
        if (*s->at == '\\') {
            if (read_escape(s, &out) < 0) {
                return -1;
            }
            continue;
        }
        if ((unsigned char)*s->at < 0x20) {
            return fail(s, "control character in a string");
        }
        size_t sequence = utf8_sequence_len(s->at, (size_t)(s->end - s->at));
        if (sequence == 0) {
            return fail(s, "invalid UTF-8");
        }
        memcpy(out, s->at, sequence);
        out += sequence;
        s->at += sequence;
    }
    s->at++;
    *out = '\0';
    s->doc->arena_end = out + 1;
    *ret_string = start;
    *ret_len = (uint32_t)(out - start);
    return 0;
}

static int skip_digits(struct scanner *s)
{
    const char *start = s->at;
    while (s->at < s->end && *s->at >= '0' && *s->at <= '9') {
        s->at++;
    }
    return s->at > start ? 0 : fail(s, "a digit is missing in a number");
}

static int read_number(struct scanner *s)
{
    if (*s->at == '-') {
        s->at++;
    }
    if (s->at < s->end && *s->at == '0') {
        s->at++;
        if (s->at < s->end && *s->at >= '0' && *s->at <= '9') {
            return fail(s, "a number must not begin with 0");
        }
    } else if (skip_digits(s) < 0) {
        return -1;
    }
    if (s->at < s->end && *s->at == '.') {
        s->at++;
        if (skip_digits(s) < 0) {
            return -1;
        }
    }
    if (s->at < s->end && (*s->at == 'e' || *s->at == 'E')) {
        s->at++;
        if (s->at < s->end && (*s->at == '+' || *s->at == '-')) {
            s->at++;
        }
        if (skip_digits(s) < 0) {
            return -1;
        }
    }
    return 0;
}

static int read_literal(struct scanner *s, const char *literal)
{
    size_t len = strlen(literal);
    if ((size_t)(s->end - s->at) < len || memcmp(s->at, literal, len) != 0) {
        return fail_at(s, s->at, "unknown word");
    }
    s->at += len;
    return 0;
}

/* NULL: too many. */
static struct json_node *add_node(struct scanner *s)
{
    struct json_doc *doc = s->doc;
    if (doc->count == JSON_READER_NODES_MAX) {
        err_set(s->err, ERR_TOO_LARGE, "more than %d values", JSON_READER_NODES_MAX);
        return NULL;
    }
    if (doc->count == doc->alloc) {
        doc->alloc *= 2;
        doc->nodes = xreallocarray(doc->nodes, doc->alloc, sizeof(struct json_node));
    }
    uint32_t index = (uint32_t)doc->count++;
    struct json_node *node = &doc->nodes[index];
    *node = (struct json_node){.raw = s->at, .name = s->name, .name_len = s->name_len};
    s->name = NULL;
    s->name_len = 0;
    if (s->depth > 0) {
        struct frame *frame = &s->frames[s->depth - 1];
        doc->nodes[frame->node].count++;
        if (frame->last_child > 0) {
            doc->nodes[frame->last_child].next = index - frame->last_child;
        }
        frame->last_child = index;
    }
    return node;
}

/* A scalar, or the opening of an array or object, which becomes the top frame. */
static int read_value(struct scanner *s)
{
    if (s->at == s->end) {
        return fail(s, "");
    }
    struct json_node *node = add_node(s);
    if (!node) {
        return -1;
    }
    int result;
    switch (*s->at) {
    case '{':
    case '[':
        if (s->depth == s->max_depth) {
            return fail(s, "nested too deeply");
        }
        node->type = *s->at == '{' ? JSON_OBJECT : JSON_ARRAY;
        s->frames[s->depth++] = (struct frame){.node = (uint32_t)(node - s->doc->nodes)};
        s->at++;
        return 0;
    case '"':
        node->type = JSON_STRING;
        result = read_string(s, &node->string, &node->string_len);
        break;
    case 't':
        node->type = JSON_TRUE;
        result = read_literal(s, "true");
        break;
    case 'f':
        node->type = JSON_FALSE;
        result = read_literal(s, "false");
        break;
    case 'n':
        node->type = JSON_NULL;
        result = read_literal(s, "null");
        break;
    default:
        if (*s->at != '-' && (*s->at < '0' || *s->at > '9')) {
            return fail(s, "a value is expected");
        }
        node->type = JSON_NUMBER;
        result = read_number(s);
        break;
    }
    node->raw_len = (uint32_t)(s->at - node->raw);
    return result;
}

static bool same_name(const struct json_node *a, const struct json_node *b)
{
    return a->name_len == b->name_len && memcmp(a->name, b->name, a->name_len) == 0;
}

struct member {
    const struct json_node *node;
};

static int compare_members(const void *left, const void *right)
{
    const struct json_node *a = ((const struct member *)left)->node,
                           *b = ((const struct member *)right)->node;
    if (a->name_len != b->name_len) {
        return a->name_len < b->name_len ? -1 : 1;
    }
    int order = memcmp(a->name, b->name, a->name_len);
    return order != 0 ? order : a < b ? -1 : a > b;
}

static int fail_duplicate(struct scanner *s, const struct json_node *node)
{
    char what[160];
    snprintf(what, sizeof(what), "duplicate name \"%.100s\"", node->name);
    return fail_at(s, node->raw, what);
}

/* Sorting and not hashing: the names are the client's, who could make them collide. */
static int check_duplicates(struct scanner *s, const struct json_node *object)
{
    const size_t few = 8;
    if (object->count <= few) {
        for (const struct json_node *a = json_node_first(object); a; a = json_node_next(a)) {
            for (const struct json_node *b = json_node_next(a); b; b = json_node_next(b)) {
                if (same_name(a, b)) {
                    return fail_duplicate(s, b);
                }
            }
        }
        return 0;
    }
    CLEANUP_FREE struct member *members = xreallocarray(NULL, object->count, sizeof(struct member));
    size_t count = 0;
    for (const struct json_node *member = json_node_first(object); member; member = json_node_next(member)) {
        members[count++].node = member;
    }
    qsort(members, count, sizeof(struct member), compare_members);
    for (size_t i = 1; i < count; i++) {
        if (same_name(members[i - 1].node, members[i].node)) {
            return fail_duplicate(s, members[i].node);
        }
    }
    return 0;
}

static int close_frame(struct scanner *s)
{
    struct json_node *node = &s->doc->nodes[s->frames[--s->depth].node];
    s->at++;
    node->raw_len = (uint32_t)(s->at - node->raw);
    return node->type == JSON_OBJECT ? check_duplicates(s, node) : 0;
}

/* In an object, before a value: the name and the colon. */
static int read_name(struct scanner *s)
{
    if (s->at == s->end || *s->at != '"') {
        return fail(s, "a name in quotes is expected");
    }
    if (read_string(s, &s->name, &s->name_len) < 0) {
        return -1;
    }
    skip_space(s);
    if (s->at == s->end || *s->at != ':') {
        return fail(s, "':' is expected");
    }
    s->at++;
    skip_space(s);
    return 0;
}

/* Inside the top frame: the next member or element, or its end. */
static int read_in_frame(struct scanner *s)
{
    const struct frame *frame = &s->frames[s->depth - 1];
    bool object = s->doc->nodes[frame->node].type == JSON_OBJECT;
    if (s->at < s->end && *s->at == (object ? '}' : ']')) {
        return close_frame(s);
    }
    if (frame->last_child > 0) {
        if (s->at == s->end || *s->at != ',') {
            return fail(s, object ? "',' or '}' is expected" : "',' or ']' is expected");
        }
        s->at++;
        skip_space(s);
    }
    if (object && read_name(s) < 0) {
        return -1;
    }
    return read_value(s);
}

static int scan(struct scanner *s)
{
    skip_space(s);
    if (read_value(s) < 0) {
        return -1;
    }
    while (s->depth > 0) {
        skip_space(s);
        if (read_in_frame(s) < 0) {
            return -1;
        }
    }
    skip_space(s);
    return s->at == s->end ? 0 : fail(s, "text after the end of the value");
}

int json_reader_parse(const char *text, size_t len, int max_depth, struct json_doc **ret_doc, struct err *err)
{
    if (len > JSON_READER_BYTES_MAX) {
        return err_set(err, ERR_TOO_LARGE, "JSON text larger than %u bytes", JSON_READER_BYTES_MAX);
    }
    struct json_doc *doc = xmalloc(sizeof(*doc) + len + 1);
    doc->count = 0;
    doc->alloc = 8 + (len / 16 < 4096 ? len / 16 : 4096);
    doc->nodes = xreallocarray(NULL, doc->alloc, sizeof(struct json_node));
    doc->arena_end = doc->arena;
    struct scanner scanner;
    scanner.text = scanner.at = text;
    scanner.end = text + len;
    scanner.max_depth = max_depth < JSON_READER_DEPTH_MAX ? max_depth : JSON_READER_DEPTH_MAX;
    scanner.depth = 0;
    scanner.doc = doc;
    scanner.name = NULL;
    scanner.name_len = 0;
    scanner.err = err;
    if (scan(&scanner) < 0) {
        json_doc_free(doc);
        return -1;
    }
    *ret_doc = doc;
    return 0;
}

void json_doc_free(struct json_doc *doc)
{
    if (doc) {
        free(doc->nodes);
        free(doc);
    }
}
