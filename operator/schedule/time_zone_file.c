/* TZif, for time_zone.h. All lengths are checked before anything is read. */
#include <endian.h>
#include <string.h>

#include "operator/schedule/time_zone_internal.h"

#define HEADER_BYTES   44
#define MAGIC          "TZif"
#define MAGIC_BYTES    4
#define RESERVED_BYTES 15
#define TYPE_BYTES     6
#define TYPES_MAX      256 /* an index of one byte */

/* The order of the file. */
struct counts {
    uint32_t ut_flags, standard_flags, leap_seconds, changes, types, name_bytes;
};

struct header {
    char version; /* '\0' is 1 */
    struct counts counts;
};

struct reader {
    const unsigned char *at;
    size_t left;
};

static const unsigned char *take(struct reader *reader, size_t bytes)
{
    const unsigned char *at = reader->at;
    reader->at += bytes;
    reader->left -= bytes;
    return at;
}

static uint32_t load_u32(const unsigned char *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof(value));
    return be32toh(value);
}

static int64_t load_time(const unsigned char *at, size_t time_bytes)
{
    if (time_bytes == sizeof(uint32_t)) {
        return (int32_t)load_u32(at);
    }
    uint64_t value;
    memcpy(&value, at, sizeof(value));
    return (int64_t)be64toh(value);
}

static int take_header(struct reader *reader, struct header *ret_header, struct err *err)
{
    if (reader->left < HEADER_BYTES || memcmp(reader->at, MAGIC, MAGIC_BYTES) != 0) {
        return err_set(err, ERR_INVALID, "it does not begin as a time zone does");
    }
    (void)take(reader, MAGIC_BYTES);
    struct header header = {.version = (char)*take(reader, 1)};
    if (header.version != '\0' && (header.version < '2' || header.version > '4')) {
        return err_set(err, ERR_INVALID, "its version is none of 1 to 4");
    }
    (void)take(reader, RESERVED_BYTES);
    uint32_t *const counts[] = {&header.counts.ut_flags,     &header.counts.standard_flags,
                                &header.counts.leap_seconds, &header.counts.changes,
                                &header.counts.types,        &header.counts.name_bytes};
    for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
        *counts[i] = load_u32(take(reader, sizeof(uint32_t)));
    }
    *ret_header = header;
    return 0;
}

/* What follows a header, with times of time_bytes. */
static uint64_t block_bytes(const struct counts *counts, size_t time_bytes)
{
    return (uint64_t)counts->changes * (time_bytes + 1) + (uint64_t)counts->types * TYPE_BYTES +
           counts->name_bytes + (uint64_t)counts->leap_seconds * (time_bytes + 4) + counts->standard_flags +
           counts->ut_flags;
}

static int too_short(struct err *err)
{
    return err_set(err, ERR_INVALID, "it is shorter than it says");
}

static int check_counts(const struct counts *counts, struct err *err)
{
    if (counts->leap_seconds > 0) {
        return err_set(err, ERR_INVALID, "it counts leap seconds");
    }
    if (counts->types == 0 || counts->types > TYPES_MAX || counts->name_bytes == 0 ||
        (counts->ut_flags != 0 && counts->ut_flags != counts->types) ||
        (counts->standard_flags != 0 && counts->standard_flags != counts->types)) {
        return err_set(err, ERR_INVALID, "its numbers of parts don't fit each other");
    }
    return 0;
}

/* The offset of each kind of time. */
static int read_types(const struct counts *counts, const unsigned char *types, const unsigned char *names,
                      int32_t ret_offsets_s[TYPES_MAX], struct err *err)
{
    for (uint32_t i = 0; i < counts->types; i++) {
        const unsigned char *type = types + (size_t)i * TYPE_BYTES;
        int32_t offset_s = (int32_t)load_u32(type);
        unsigned char is_summer = type[4], name = type[5];
        if (offset_s <= -TIME_ZONE_OFFSET_MAX_S || offset_s >= TIME_ZONE_OFFSET_MAX_S) {
            return err_set(err, ERR_INVALID, "an offset of it is %d seconds", (int)offset_s);
        }
        if (is_summer > 1 || name >= counts->name_bytes ||
            !memchr(names + name, '\0', counts->name_bytes - name)) {
            return err_set(err, ERR_INVALID, "a kind of its times is malformed");
        }
        ret_offsets_s[i] = offset_s;
    }
    return 0;
}

static int take_block(struct reader *reader, const struct counts *counts, size_t time_bytes,
                      struct time_zone *zone, struct err *err)
{
    int32_t offsets_s[TYPES_MAX] = {0};
    uint64_t bytes = block_bytes(counts, time_bytes);
    if (bytes > reader->left) {
        return too_short(err);
    }
    if (check_counts(counts, err) < 0) {
        return -1;
    }
    const unsigned char *times = take(reader, (size_t)bytes);
    const unsigned char *indexes = times + counts->changes * time_bytes;
    const unsigned char *types = indexes + counts->changes;
    const unsigned char *names = types + (size_t)counts->types * TYPE_BYTES;
    if (read_types(counts, types, names, offsets_s, err) < 0) {
        return -1;
    }
    zone->first_offset_s = offsets_s[0];
    zone->changes = xcalloc(counts->changes + 1, sizeof(*zone->changes));
    for (size_t i = 0; i < counts->changes; i++) {
        int64_t at_s = load_time(times + i * time_bytes, time_bytes);
        if ((i > 0 && at_s <= zone->changes[i - 1].at_s) || indexes[i] >= counts->types) {
            return err_set(err, ERR_INVALID, "its change %zu is out of order or of no kind", i + 1);
        }
        zone->changes[i] = (struct time_zone_change){at_s, offsets_s[indexes[i]]};
    }
    zone->change_count = counts->changes;
    return 0;
}

/* Between two line feeds; may be empty. */
static int take_footer(struct reader *reader, struct time_zone *zone, struct err *err)
{
    const char *text = (const char *)reader->at;
    if (reader->left < 2 || text[0] != '\n' || text[reader->left - 1] != '\n') {
        return err_set(err, ERR_INVALID, "its last line is missing or has no end");
    }
    zone->has_rule = reader->left > 2;
    return zone->has_rule ? time_zone_rule_parse(text + 1, reader->left - 2, &zone->rule, err) : 0;
}

/* From version 2 on all comes twice, first with times of 32 bits for old readers. */
static int read_file(struct reader *reader, struct time_zone *zone, struct err *err)
{
    struct header header = {0}, second = {0};
    if (take_header(reader, &header, err) < 0) {
        return -1;
    }
    if (header.version == '\0') {
        return take_block(reader, &header.counts, sizeof(int32_t), zone, err);
    }
    uint64_t bytes = block_bytes(&header.counts, sizeof(int32_t));
    if (bytes > reader->left) {
        return too_short(err);
    }
    (void)take(reader, (size_t)bytes);
    if (take_header(reader, &second, err) < 0) {
        return -1;
    }
    if (second.version != header.version) {
        return err_set(err, ERR_INVALID, "its two headers differ");
    }
    if (take_block(reader, &second.counts, sizeof(int64_t), zone, err) < 0) {
        return -1;
    }
    return take_footer(reader, zone, err);
}

int time_zone_parse(const void *data, size_t len, struct time_zone **ret_zone, struct err *err)
{
    if (len > TIME_ZONE_FILE_MAX_BYTES) {
        return err_set(err, ERR_TOO_LARGE, "it is larger than %d bytes", TIME_ZONE_FILE_MAX_BYTES);
    }
    CLEANUP_TIME_ZONE struct time_zone *zone = xcalloc(1, sizeof(*zone));
    struct reader reader = {data, len};
    if (read_file(&reader, zone, err) < 0) {
        return -1;
    }
    *ret_zone = steal_ptr(&zone);
    return 0;
}

void time_zone_free(struct time_zone *zone)
{
    if (zone) {
        free(zone->changes);
        free(zone);
    }
}
