#include "operator/kube/kube_list_scanner.h"

#include "operator/kube/kube_object.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"

void kube_list_meta_release(struct kube_list_meta *meta)
{
    free(meta->resource_version);
    free(meta->continue_token);
    *meta = (struct kube_list_meta){0};
}

void kube_list_scanner_init(struct kube_list_scanner *scanner, kube_item_fn *on_item, void *arg)
{
    *scanner = (struct kube_list_scanner){.on_item = on_item, .arg = arg};
    strbuf_init(&scanner->value, KUBE_ITEM_MAX_BYTES);
}

void kube_list_scanner_release(struct kube_list_scanner *scanner)
{
    strbuf_release(&scanner->value);
    kube_list_meta_release(&scanner->meta);
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* How many bytes of data belong to the value that is being read; *ret_ended: it is complete with them. */
static size_t value_extent(struct kube_list_scanner *scanner, const char *data, size_t len, bool *ret_ended)
{
    bool is_scalar = scanner->depth == 0 && !scanner->in_string && scanner->value.len > 0;
    *ret_ended = true;
    for (size_t i = 0; i < len; i++) {
        char c = data[i];
        if (scanner->in_string) {
            if (scanner->escaped)
                scanner->escaped = false;
            else if (c == '\\')
                scanner->escaped = true;
            else if (c == '"') {
                scanner->in_string = false;
                if (scanner->depth == 0)
                    return i + 1;
            }
        } else if (is_scalar) {
            if (c == ',' || c == ']' || c == '}' || c == ':' || is_space(c))
                return i;
        } else if (c == '"') {
            scanner->in_string = true;
        } else if (c == '{' || c == '[') {
            scanner->depth++;
        } else if (c == '}' || c == ']') {
            if (--scanner->depth <= 0)
                return i + 1;
        } else if (scanner->depth == 0) {
            is_scalar = true;
        }
    }
    *ret_ended = false;
    return len;
}

static int end_of_name(struct kube_list_scanner *scanner, struct err *err)
{
    const struct strbuf *name = &scanner->value;
    if (json_check(name->buf, name->len, /* max_depth= */ 1, err) != 0)
        return err_wrap(err, "list");
    if (name->buf[0] != '"')
        return err_set(err, ERR_INVALID, "list: member name expected");
    if (strcmp(name->buf, "\"items\"") == 0)
        scanner->member = KUBE_LIST_MEMBER_ITEMS;
    else if (strcmp(name->buf, "\"metadata\"") == 0)
        scanner->member = KUBE_LIST_MEMBER_METADATA;
    else
        scanner->member = KUBE_LIST_MEMBER_OTHER;
    scanner->state = KUBE_LIST_COLON;
    return 0;
}

static int end_of_member(struct kube_list_scanner *scanner, struct err *err)
{
    CLEANUP_JSON cJSON *value = NULL;
    if (json_parse(scanner->value.buf, scanner->value.len, JSON_DEPTH_MAX, &value, err) != 0)
        return err_wrap(err, "list");
    if (scanner->member == KUBE_LIST_MEMBER_ITEMS && !cJSON_IsNull(value))
        return err_set(err, ERR_INVALID, "list: items is no array");
    if (scanner->member == KUBE_LIST_MEMBER_METADATA) {
        const char *token = json_string(value, "continue");
        kube_list_meta_release(&scanner->meta);
        scanner->meta.resource_version = xstrdup_or_null(json_string(value, "resourceVersion"));
        scanner->meta.continue_token = token && token[0] ? xstrdup(token) : NULL;
    }
    scanner->state = KUBE_LIST_AFTER_VALUE;
    return 0;
}

static int leave_out_item(struct kube_list_scanner *scanner, struct err *err)
{
    CLEANUP_JSON cJSON *stub = kube_object_stub(scanner->value.buf, scanner->value.len, /* member= */ NULL);
    if (!stub)
        return err_wrap(err, "list item");
    err_clear(err);
    scanner->unreadable++;
    scanner->state = KUBE_LIST_AFTER_ITEM;
    return 0;
}

static int end_of_item(struct kube_list_scanner *scanner, struct err *err)
{
    cJSON *object = NULL;
    if (json_parse(scanner->value.buf, scanner->value.len, JSON_DEPTH_MAX, &object, err) != 0)
        return leave_out_item(scanner, err);
    if (!cJSON_IsObject(object)) {
        cJSON_Delete(object);
        return err_set(err, ERR_INVALID, "list: item is no object");
    }
    kube_object_strip(object);
    scanner->state = KUBE_LIST_AFTER_ITEM;
    return scanner->on_item(scanner->arg, object, err);
}

/* A name, a member or an item: collects its text, and acts on it when it is complete. */
static int read_value(struct kube_list_scanner *scanner, const char *data, size_t len, size_t *ret_used,
                      struct err *err)
{
    bool ended;
    *ret_used = value_extent(scanner, data, len, &ended);
    if (strbuf_append(&scanner->value, data, *ret_used) != 0)
        return err_set(err, ERR_TOO_LARGE, "list: value above %u bytes", KUBE_ITEM_MAX_BYTES);
    if (!ended)
        return 0;
    int rc;
    if (scanner->state == KUBE_LIST_NAME)
        rc = end_of_name(scanner, err);
    else if (scanner->state == KUBE_LIST_VALUE)
        rc = end_of_member(scanner, err);
    else
        rc = end_of_item(scanner, err);
    strbuf_clear(&scanner->value);
    scanner->depth = 0;
    return rc;
}

/* A byte between values. False: it may not stand here. */
static bool step(struct kube_list_scanner *scanner, char c)
{
    switch (scanner->state) {
    case KUBE_LIST_START:
        scanner->state = KUBE_LIST_FIRST_NAME;
        return c == '{';
    case KUBE_LIST_FIRST_NAME:
        scanner->state = KUBE_LIST_END;
        return c == '}';
    case KUBE_LIST_COLON:
        scanner->state = KUBE_LIST_VALUE;
        return c == ':';
    case KUBE_LIST_VALUE:
        scanner->state = KUBE_LIST_FIRST_ITEM;
        return c == '[';
    case KUBE_LIST_AFTER_VALUE:
        scanner->state = c == ',' ? KUBE_LIST_NAME : KUBE_LIST_END;
        return c == ',' || c == '}';
    case KUBE_LIST_FIRST_ITEM:
        scanner->state = KUBE_LIST_AFTER_VALUE;
        return c == ']';
    case KUBE_LIST_AFTER_ITEM:
        scanner->state = c == ',' ? KUBE_LIST_ITEM : KUBE_LIST_AFTER_VALUE;
        return c == ',' || c == ']';
    default:
        return false;
    }
}

/* Whether the byte c begins (or goes on with) a value in this state. */
static bool begins_value(struct kube_list_scanner *scanner, char c)
{
    switch (scanner->state) {
    case KUBE_LIST_FIRST_NAME:
        if (c == '"')
            scanner->state = KUBE_LIST_NAME;
        break;
    case KUBE_LIST_FIRST_ITEM:
        if (c != ']')
            scanner->state = KUBE_LIST_ITEM;
        break;
    case KUBE_LIST_VALUE:
        return !(scanner->member == KUBE_LIST_MEMBER_ITEMS && c == '[');
    default:
        break;
    }
    return scanner->state == KUBE_LIST_NAME || scanner->state == KUBE_LIST_ITEM;
}

int kube_list_scanner_feed(struct kube_list_scanner *scanner, const char *data, size_t len, struct err *err)
{
    size_t at = 0;
    while (at < len) {
        char c = data[at];
        bool is_between = scanner->value.len == 0 && is_space(c);
        if (!is_between && (scanner->value.len > 0 || begins_value(scanner, c))) {
            size_t used;
            if (read_value(scanner, data + at, len - at, &used, err) != 0)
                return -1;
            at += used;
            continue;
        }
        if (!is_between && !step(scanner, c))
            return err_set(err, ERR_INVALID, "list: unexpected byte 0x%02x", (unsigned)(unsigned char)c);
        at++;
    }
    return 0;
}

int kube_list_scanner_finish(struct kube_list_scanner *scanner, struct kube_list_meta *ret_meta,
                             struct err *err)
{
    if (scanner->state != KUBE_LIST_END)
        return err_set(err, ERR_UNAVAILABLE, "list: the answer ended in its middle");
    *ret_meta = scanner->meta;
    scanner->meta = (struct kube_list_meta){0};
    return 0;
}
