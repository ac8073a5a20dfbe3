#include "runtime/postgres/pg_statements.h"

#include <string.h>

#include "runtime/base/mem.h"

static void entry_release(struct pg_statement *entry)
{
    free(entry->sql);
    *entry = (struct pg_statement){0};
}

void pg_statements_clear(struct pg_statements *statements)
{
    for (size_t i = 0; i < PG_STATEMENTS_MAX; i++)
        entry_release(&statements->entries[i]);
}

unsigned pg_statements_find(struct pg_statements *statements, const char *sql)
{
    size_t len = strlen(sql);
    for (size_t i = 0; i < PG_STATEMENTS_MAX; i++) {
        struct pg_statement *entry = &statements->entries[i];
        if (entry->sql && entry->len == len && memcmp(entry->sql, sql, len) == 0) {
            entry->last_used = ++statements->uses;
            return entry->number;
        }
    }
    return 0;
}

unsigned pg_statements_add(struct pg_statements *statements, const char *sql, unsigned *ret_evicted)
{
    struct pg_statement *oldest = &statements->entries[0];
    for (size_t i = 1; i < PG_STATEMENTS_MAX && oldest->sql; i++) {
        struct pg_statement *entry = &statements->entries[i];
        if (!entry->sql || entry->last_used < oldest->last_used)
            oldest = entry;
    }
    *ret_evicted = oldest->number;
    entry_release(oldest);
    *oldest = (struct pg_statement){
        .len = strlen(sql),
        .last_used = ++statements->uses,
        .sql = xstrdup(sql),
        .number = ++statements->last_number,
    };
    return oldest->number;
}

void pg_statements_remove(struct pg_statements *statements, unsigned number)
{
    for (size_t i = 0; i < PG_STATEMENTS_MAX; i++) {
        if (statements->entries[i].sql && statements->entries[i].number == number)
            entry_release(&statements->entries[i]);
    }
}

void pg_statement_name(char kind, unsigned number, char ret_name[PG_STATEMENTS_NAME_SIZE])
{
    char digits[10]; /* the last one first */
    size_t count = 0;
    do {
        digits[count++] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    *ret_name++ = kind;
    while (count > 0)
        *ret_name++ = digits[--count];
    *ret_name = '\0';
}
