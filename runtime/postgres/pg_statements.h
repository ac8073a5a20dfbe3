/* pg_statements.h - the prepared statements of one connection, by SQL text; the least recently used one makes room.
 *
 * Names are numbers that a connection never uses twice, so that a name left over on the server can't clash.
 *
 * Threads: none of its own; belongs to its connection.
 */
#ifndef CICADA_POSTGRES_PG_STATEMENTS_H
#define CICADA_POSTGRES_PG_STATEMENTS_H

#include <stddef.h>
#include <stdint.h>

#define PG_STATEMENTS_MAX         64
#define PG_STATEMENTS_NAME_SIZE   16
#define PG_STATEMENT_CACHED_BYTES 16384 /* longer texts are not kept */

struct pg_statement {
    uint64_t last_used;
    size_t len; /* of sql: few have the same, so that it does for a hash */
    char *sql;  /* NULL: free slot */
    unsigned number;
};

struct pg_statements {
    struct pg_statement entries[PG_STATEMENTS_MAX];
    unsigned last_number;
    uint64_t uses;
};

void pg_statements_clear(struct pg_statements *statements); /* also to release */

/* The number of the statement, or 0. */
unsigned pg_statements_find(struct pg_statements *statements, const char *sql);
/* Takes a new number for it. *ret_evicted: the number to deallocate on the server, or 0. */
unsigned pg_statements_add(struct pg_statements *statements, const char *sql, unsigned *ret_evicted);
void pg_statements_remove(struct pg_statements *statements, unsigned number);

/* "c12": kind 'c' is for the statements of this list. */
void pg_statement_name(char kind, unsigned number, char ret_name[PG_STATEMENTS_NAME_SIZE]);

#endif
