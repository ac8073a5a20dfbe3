/* support_sql_values.h - tables of generated values of the server's built-in types, for what must hold for all of them.
 *
 * The values are random, but the same in every run (setseed), with the odd ones of each type among them; one in eleven is NULL.
 */
#ifndef CICADA_TESTS_SUPPORT_SQL_VALUES_H
#define CICADA_TESTS_SUPPORT_SQL_VALUES_H

#include <stddef.h>

#define SQL_VALUES_PER_TYPE 44

/* What makes values of a type: an SQL expression over g, 1 to SQL_VALUES_PER_TYPE. */
struct sql_values {
    const char *type; /* as pg_type.typname has it */
    const char *expression;
};

/* Those that no statement can make a value of: only NULL. */
extern const char *const sql_values_impossible[];
extern const size_t sql_values_impossible_count;
extern const struct sql_values sql_values[];
extern const size_t sql_values_count;

/* Creates in `schema`, which must exist, for each type a table with the type's name, (id int, v TYPE), and for types with
 * an array type one named _TYPE with arrays of the same values: empty ones, of one to three dimensions, with other lower bounds. */
void sql_values_create(const char *schema);

#endif
