#include "operator/tests/support_schedule.h"

#include <endian.h>
#include <string.h>

#include "runtime/base/text.h"
#include "runtime/tests/support_test.h"

struct time_zone *zone_named(const char *name)
{
    struct err err = ERR_INIT;
    struct time_zone *zone = NULL;
    assert_ok(time_zone_load(TIME_ZONE_DIRECTORY, name, &zone, &err));
    return zone;
}

struct time_zone *zone_of_rule(const char *rule)
{
    struct err err = ERR_INIT;
    struct time_zone *zone = NULL;
    CLEANUP_FREE char *footer = xasprintf("\n%s\n", rule);
    const struct tzif tzif = {.version = '3', .kind_count = 1, .footer = footer};
    unsigned char data[TZIF_MAX_BYTES];
    assert_ok(time_zone_parse(data, tzif_write(&tzif, data), &zone, &err));
    return zone;
}

int64_t instant(const char *rfc3339)
{
    int64_t wall_ms = 0;
    if (!parse_rfc3339(rfc3339, &wall_ms)) {
        fail_msg("%s is no time", rfc3339);
    }
    return wall_ms / 1000;
}

struct cron cron_of(const char *text)
{
    struct err err = ERR_INIT;
    struct cron cron = {0};
    if (cron_parse(text, &cron, &err) < 0) {
        fail_msg("%s: %s", text, err.msg);
    }
    return cron;
}

uint64_t pseudo_random(uint64_t *state)
{
    *state = *state * 6364136223846793005U + 1442695040888963407U;
    return *state >> 33;
}

static unsigned char *put(unsigned char *at, uint64_t value, size_t bytes)
{
    uint64_t big = htobe64(value);
    memcpy(at, (unsigned char *)&big + sizeof(big) - bytes, bytes);
    return at + bytes;
}

/* A header and what it counts. */
static unsigned char *put_block(unsigned char *at, const struct tzif *tzif, char version, size_t time_bytes)
{
    memcpy(at, "TZif", 4);
    at[4] = (unsigned char)(version == '1' ? '\0' : version);
    memset(at + 5, 0, 15);
    at += 20;
    const uint32_t counts[] = {0, 0, tzif->leap_count, tzif->time_count, tzif->kind_count, 4};
    for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
        at = put(at, counts[i], 4);
    }
    for (uint32_t i = 0; i < tzif->time_count; i++) {
        at = put(at, (uint64_t)tzif->times[i], time_bytes);
    }
    memcpy(at, tzif->kinds, tzif->time_count);
    at += tzif->time_count;
    for (uint32_t i = 0; i < tzif->kind_count; i++) {
        at = put(put(at, (uint32_t)tzif->offsets[i], 4), 0, 2);
    }
    memcpy(at, "ABC", 4);
    memset(at + 4, 0, tzif->leap_count * (time_bytes + 4));
    return at + 4 + tzif->leap_count * (time_bytes + 4);
}

size_t tzif_write(const struct tzif *tzif, unsigned char out[TZIF_MAX_BYTES])
{
    if (tzif->version == '1') {
        return (size_t)(put_block(out, tzif, '1', 4) - out);
    }
    static const struct tzif nothing = {.kind_count = 1};
    unsigned char *at = put_block(out, &nothing, tzif->version, 4);
    at = put_block(at, tzif, tzif->second ? tzif->second : tzif->version, 8);
    const char *footer = tzif->footer ? tzif->footer : "";
    memcpy(at, footer, strlen(footer));
    return (size_t)(at - out) + strlen(footer);
}
