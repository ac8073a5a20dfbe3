/* settlement.h - the last statement of a transaction in which events were worked on: these are done, if it commits.
 *
 * Threads: none of its own.
 */
#ifndef CICADA_EVENTS_SETTLEMENT_H
#define CICADA_EVENTS_SETTLEMENT_H

#include <stddef.h>

#include "runtime/base/strbuf.h"
#include "runtime/events/event.h"

#define SETTLEMENT_MAX    1000 /* events */
#define SETTLEMENT_PARAMS 3

#define EVENT_LOST_SQLSTATE "ZC001"

struct settlement {
    struct strbuf texts[SETTLEMENT_PARAMS];
    const char *params[SETTLEMENT_PARAMS]; /* once written */
    size_t count;
};

void settlement_init(struct settlement *settlement);
void settlement_release(struct settlement *settlement);
void settlement_clear(struct settlement *settlement);
void settlement_add(struct settlement *settlement, const struct event_lease *lease);
/* At least one was added. The call that settles them, with SETTLEMENT_PARAMS parameters in settlement->params until the next
 * settlement_add(). It fails with EVENT_LOST_SQLSTATE if one of them is lost. */
const char *settlement_write(struct settlement *settlement);
/* The same as a statement, once it was written. */
const char *settlement_sql(const struct settlement *settlement);

#endif
