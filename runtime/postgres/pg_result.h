/* pg_result.h - results from inside: each is in the list of its transaction until it is freed. */
#ifndef CICADA_POSTGRES_PG_RESULT_H
#define CICADA_POSTGRES_PG_RESULT_H

#include "runtime/postgres/postgres.h"
#include "runtime/postgres/pq_api.h"

struct pg_result {
    PGresult *rows;
    struct pg_result *next, **link; /* *link == this */
};

/* Takes ownership of `rows` and puts the result at the front of the list. */
struct pg_result *pg_result_new(PGresult *rows, struct pg_result **list);

#endif
