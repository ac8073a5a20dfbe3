/* live_table.h - the table of Functions below the lines of a terminal: state, replicas, requests, events that wait, p50,
 * p99, last cold start, and what it is called by.
 *
 * Threads: the loop's.
 */
#ifndef CICADA_LOCAL_LIVE_TABLE_H
#define CICADA_LOCAL_LIVE_TABLE_H

#include "operator/local/fleet.h"

#define LIVE_TABLE_URLS_SAID 20 /* Functions whose URL is said at the start */

struct live_table;
/* All borrowed. Nothing is shown if the console has no table. */
struct live_table *live_table_new(struct loop *loop, struct console *console, struct fleet *fleet,
                                  struct gateway *gateway);
void live_table_free(struct live_table *table); /* NULL is fine */

/* One row, cut at columns; for tests. figures: NULL if the gateway has none. */
void live_table_row(const struct fleet_row *row, const struct gateway_function_figures *figures, int port,
                    int columns, struct strbuf *out);

#endif
