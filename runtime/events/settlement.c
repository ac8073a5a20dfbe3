#include "runtime/events/settlement.h"

#include <assert.h>
#include <inttypes.h>

#include "runtime/base/mem.h"

#define NUMBER_SIZE 24
#define ONE         "cicada.event_settle($1, $2, $3)"
#define MANY        "cicada.event_settle_many($1, $2, $3)"

void settlement_init(struct settlement *settlement)
{
    *settlement = (struct settlement){0};
    for (size_t i = 0; i < SETTLEMENT_PARAMS; i++)
        strbuf_init(&settlement->texts[i], SETTLEMENT_MAX * NUMBER_SIZE);
}

void settlement_release(struct settlement *settlement)
{
    for (size_t i = 0; i < SETTLEMENT_PARAMS; i++)
        strbuf_release(&settlement->texts[i]);
}

void settlement_clear(struct settlement *settlement)
{
    settlement->count = 0;
    for (size_t i = 0; i < SETTLEMENT_PARAMS; i++)
        strbuf_clear(&settlement->texts[i]);
}

void settlement_add(struct settlement *settlement, const struct event_lease *lease)
{
    const int64_t numbers[SETTLEMENT_PARAMS] = {lease->slot, lease->id, lease->epoch};

    assert(settlement->count < SETTLEMENT_MAX);
    for (size_t i = 0; i < SETTLEMENT_PARAMS; i++)
        strbuf_appendf(&settlement->texts[i], "%c%" PRId64, settlement->count == 0 ? '{' : ',', numbers[i]);
    settlement->count++;
}

const char *settlement_write(struct settlement *settlement)
{
    for (size_t i = 0; i < SETTLEMENT_PARAMS; i++) {
        settlement->params[i] = settlement->texts[i].buf + 1; /* of one, without the brace */
        if (settlement->count == 1)
            continue;
        strbuf_append_char(&settlement->texts[i], '}');
        settlement->params[i] = settlement->texts[i].buf;
    }
    return settlement->count == 1 ? ONE : MANY;
}

const char *settlement_sql(const struct settlement *settlement)
{
    return settlement->count == 1 ? "SELECT " ONE : "SELECT " MANY;
}
