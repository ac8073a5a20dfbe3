#include "runtime/host/idempotency_key.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "runtime/base/mem.h"
#include "runtime/base/text.h"

#define HEADER    "Idempotency-Key"
#define PARTS_MAX 5 /* of a digest */

static const char token_characters[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-.^_`|~:/";

struct key_writer {
    char *key;
    size_t len;
};

/* False: too long. */
static bool put(struct key_writer *writer, char c)
{
    if (writer->len == IDEMPOTENCY_KEY_MAX_BYTES)
        return false;
    writer->key[writer->len++] = c;
    return true;
}

static int too_long(struct err *err)
{
    return err_set(err, ERR_INVALID, HEADER ": longer than %d bytes", IDEMPOTENCY_KEY_MAX_BYTES);
}

/* After the first quote. *ret_end: behind the last one. */
static int parse_string(const char *at, struct key_writer *writer, const char **ret_end, struct err *err)
{
    for (; *at != '"'; at++) {
        if (*at == '\0')
            return err_set(err, ERR_INVALID, HEADER ": the closing quote is missing");
        if (*at == '\\' && *++at != '"' && *at != '\\')
            return err_set(err, ERR_INVALID, HEADER ": a backslash may only stand before \" and \\");
        if (*at < ' ' || *at > '~')
            return err_set(err, ERR_INVALID, HEADER ": has a character that is not printable ASCII");
        if (!put(writer, *at))
            return too_long(err);
    }
    *ret_end = at + 1;
    return 0;
}

static int parse_token(const char *at, struct key_writer *writer, const char **ret_end, struct err *err)
{
    size_t len = strspn(at, token_characters);

    for (size_t i = 0; i < len; i++)
        if (!put(writer, at[i]))
            return too_long(err);
    *ret_end = at + len;
    return 0;
}

int idempotency_key_parse(const char *value, char ret_key[IDEMPOTENCY_KEY_MAX_BYTES + 1], struct err *err)
{
    struct key_writer writer = {.key = ret_key};
    const char *end = value;
    int rc;

    value += strspn(value, " ");
    rc = *value == '"' ? parse_string(value + 1, &writer, &end, err) : parse_token(value, &writer, &end, err);
    if (rc != 0)
        return -1;
    if (end[strspn(end, " ")] != '\0')
        return err_set(err, ERR_INVALID, HEADER ": must be one string in quotes");
    if (writer.len == 0)
        return err_set(err, ERR_INVALID, HEADER ": is empty");
    ret_key[writer.len] = '\0';
    return 0;
}

int idempotency_key_find(const struct cicada_request *request, const char **ret_value, struct err *err)
{
    *ret_value = NULL;
    for (size_t i = 0; i < request->headers.count; i++) {
        if (!http_name_is(request->headers.fields[i].name, HEADER))
            continue;
        if (*ret_value != NULL)
            return err_set(err, ERR_INVALID, HEADER ": is there more than once");
        *ret_value = request->headers.fields[i].value;
    }
    return 0;
}

struct part {
    const char *data;
    size_t len;
};

/* The digest of the parts' digests. */
static int digest(const struct part *parts, size_t count, unsigned char ret_digest[PG_SHA256_BYTES],
                  struct err *err)
{
    unsigned char digests[PARTS_MAX][PG_SHA256_BYTES];

    for (size_t i = 0; i < count; i++)
        if (!pg_sha256(parts[i].data, parts[i].len, digests[i]))
            return err_set(err, ERR_UNAVAILABLE, "libpq is here without libcrypto, which has SHA-256");
    if (!pg_sha256(digests, count * PG_SHA256_BYTES, ret_digest))
        return err_set(err, ERR_UNAVAILABLE, "SHA-256 failed");
    return 0;
}

int idempotency_event_key(const struct cloud_event *event, char ret_key[IDEMPOTENCY_KEY_MAX_BYTES + 1],
                          struct err *err)
{
    static const char prefix[] = "event\t";
    const struct part parts[] = {
        {event->source, strlen(event->source)},
        {event->id, strlen(event->id)},
    };
    unsigned char whole[PG_SHA256_BYTES];
    char *hex = ret_key + strlen(prefix);

    if (digest(parts, ARRAY_SIZE(parts), whole, err) != 0)
        return -1;
    memcpy(ret_key, prefix, strlen(prefix));
    hex_encode(hex, whole, sizeof(whole));
    hex[2 * sizeof(whole)] = '\0';
    return 0;
}

int idempotency_fingerprint(const struct cicada_request *request, bool with_body,
                            char ret_fingerprint[IDEMPOTENCY_FINGERPRINT_SIZE], struct err *err)
{
    const char *authorization = request_header(request, "Authorization");
    const struct part parts[PARTS_MAX] = {
        {request->method, strlen(request->method)},
        {request->raw_path, strlen(request->raw_path)},
        {request->raw_query, strlen(request->raw_query)},
        {request->body, with_body ? request->body_len : 0},
        {authorization ? authorization : "", authorization ? strlen(authorization) : 0},
    };
    unsigned char whole[PG_SHA256_BYTES];

    if (digest(parts, ARRAY_SIZE(parts), whole, err) != 0)
        return -1;
    ret_fingerprint[0] = '\\';
    ret_fingerprint[1] = 'x';
    hex_encode(ret_fingerprint + 2, whole, sizeof(whole));
    ret_fingerprint[IDEMPOTENCY_FINGERPRINT_SIZE - 1] = '\0';
    return 0;
}
