#include "runtime/host/trace_context.h"

#include <endian.h>
#include <stdatomic.h>
#include <string.h>
#include <strings.h>

#include "runtime/base/text.h"

/* version-traceid-spanid-flags */
#define TRACE_ID_AT  3
#define SPAN_ID_AT   36
#define FLAGS_AT     53
#define PARENT_BYTES (TRACEPARENT_SIZE - 1)
#define SAMPLED      1

void trace_ids_init(struct trace_ids *ids)
{
    ids->seed = random_u64();
    atomic_init(&ids->count, 0);
}

/* splitmix64: what it makes of different numbers differs. */
static uint64_t mix(uint64_t value)
{
    value += 0x9E3779B97F4A7C15ULL;
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9ULL;
    value = (value ^ (value >> 27)) * 0x94D049BB133111EBULL;
    return value ^ (value >> 31);
}

uint64_t trace_ids_next(struct trace_ids *ids)
{
    uint64_t id;

    do
        id = mix(ids->seed + atomic_fetch_add_explicit(&ids->count, 1, memory_order_relaxed));
    while (id == 0);
    return id;
}

const char *trace_context_parent(const struct http_header *headers, size_t count)
{
    const char *parent = NULL;

    for (size_t i = 0; i < count; i++) {
        if (!http_name_is(headers[i].name, "traceparent"))
            continue;
        if (parent != NULL)
            return NULL;
        parent = headers[i].value;
    }
    return parent;
}

/* Lower case only, as the standard says. */
static bool is_hex(const char *text, size_t len, bool *ret_zero)
{
    *ret_zero = true;
    for (size_t i = 0; i < len; i++) {
        if (!((text[i] >= '0' && text[i] <= '9') || (text[i] >= 'a' && text[i] <= 'f')))
            return false;
        if (text[i] != '0')
            *ret_zero = false;
    }
    return true;
}

/* The first 55 bytes of *ret_at are what version 00 says. */
static bool is_valid(const char *parent, const char **ret_at)
{
    const char *at = parent + strspn(parent, " \t");
    size_t len = strlen(at);
    bool is_version_00, zero_trace, zero_span, zero_flags;

    while (len > 0 && (at[len - 1] == ' ' || at[len - 1] == '\t'))
        len--;
    if (len < PARENT_BYTES || at[2] != '-' || at[SPAN_ID_AT - 1] != '-' || at[FLAGS_AT - 1] != '-')
        return false;
    if (!is_hex(at, 2, &is_version_00) || !is_hex(at + TRACE_ID_AT, 32, &zero_trace) ||
        !is_hex(at + SPAN_ID_AT, 16, &zero_span) || !is_hex(at + FLAGS_AT, 2, &zero_flags))
        return false;
    if (zero_trace || zero_span || strncmp(at, "ff", 2) == 0)
        return false;
    *ret_at = at;
    return len == PARENT_BYTES || (!is_version_00 && at[PARENT_BYTES] == '-');
}

/* Of what is_valid() has found. */
static const char *flags_of(const char *at)
{
    bool sampled = (hex_digit_value(at[FLAGS_AT + 1]) & SAMPLED) != 0;

    return sampled ? "-01" : "-00";
}

/* 16 digits, no NUL. */
static void write_hex(char *out, uint64_t value)
{
    uint64_t big_endian = htobe64(value);

    hex_encode(out, &big_endian, sizeof(big_endian));
}

void trace_context_begin(struct trace_context *context, struct trace_ids *ids, const char *parent)
{
    char *out = context->traceparent;
    const char *at, *flags = "-00";

    memcpy(out, "00-", TRACE_ID_AT);
    context->continued = parent != NULL && is_valid(parent, &at);
    if (context->continued) {
        memcpy(out + TRACE_ID_AT, at + TRACE_ID_AT, 32);
        flags = flags_of(at);
    } else {
        write_hex(out + TRACE_ID_AT, trace_ids_next(ids));
        write_hex(out + TRACE_ID_AT + 16, trace_ids_next(ids));
    }
    context->span_id = trace_ids_next(ids);
    out[SPAN_ID_AT - 1] = '-';
    write_hex(out + SPAN_ID_AT, context->span_id);
    memcpy(out + FLAGS_AT - 1, flags, 4);
    memcpy(context->trace_id, out + TRACE_ID_AT, 32);
    context->trace_id[32] = '\0';
}

bool trace_context_read(const char *parent, char ret_traceparent[TRACEPARENT_SIZE])
{
    const char *at;

    if (!is_valid(parent, &at))
        return false;
    memcpy(ret_traceparent, "00", 2);
    memcpy(ret_traceparent + 2, at + 2, FLAGS_AT - 3);
    memcpy(ret_traceparent + FLAGS_AT - 1, flags_of(at), 4);
    return true;
}
