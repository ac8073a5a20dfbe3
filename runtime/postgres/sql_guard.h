/* sql_guard.h - what a statement may not do inside an invocation's transaction, told from its text before it is sent.
 *
 * Refused: transaction control (BEGIN, COMMIT, SAVEPOINT...), session state (SET without LOCAL, RESET, DISCARD, PREPARE,
 * EXECUTE, DEALLOCATE, LISTEN, UNLISTEN, LOAD), COPY, and more than one statement in a text. SET LOCAL (but of the
 * transaction's own mode), SET CONSTRAINTS and NOTIFY are fine.
 *
 * The lexer knows what PostgreSQL's does: '', E'', U&'', dollar quotes, quoted identifiers, nested comments, BEGIN ATOMIC
 * bodies. It assumes standard_conforming_strings = on. What functions of the database do inside is not seen: the server
 * refuses COMMIT there too, and a pool closes connections whose reported parameters changed.
 *
 * Threads: no state.
 */
#ifndef CICADA_POSTGRES_SQL_GUARD_H
#define CICADA_POSTGRES_SQL_GUARD_H

#include <stdbool.h>

struct sql_guard_report {
    const char *refusal; /* a literal for people, or NULL: the statement may be sent */
    bool
        changes_session; /* allowed, but leaves something behind: temporary table, session lock, set_config(..., false) */
    bool
        changes_transaction; /* or until its end: SET LOCAL, SET CONSTRAINTS, set_config(), a temporary table, a cursor */
    bool preparable; /* worth preparing: SELECT, INSERT..., not DDL */
    bool
        is_query; /* SELECT, VALUES, TABLE, WITH: what it calls can't control the transaction, unlike CALL and DO */
};

void sql_guard_check(const char *sql, struct sql_guard_report *ret_report);

#endif
