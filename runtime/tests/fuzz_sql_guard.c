/* The guard reads any text to its end, and white space before a statement does not change what it says. */
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/mem.h"
#include "runtime/base/text.h"
#include "runtime/postgres/sql_guard.h"
#include "runtime/postgres/sql_lexer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_tokens(const char *sql)
{
    const char *end = sql + strlen(sql);
    for (const char *p = sql;;) {
        const char *before = p;
        struct sql_token token = sql_lexer_next(&p);
        if (token.start < before || p != token.start + token.len || p > end)
            abort();
        if (token.kind == SQL_END) {
            if (token.start != end)
                abort();
            return;
        }
        if (token.len == 0)
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CLEANUP_FREE char *sql = xstrndup((const char *)data, size);
    CLEANUP_FREE char *padded = xasprintf(" -- COMMIT\n/* /* ; */ */ %s", sql);
    struct sql_guard_report plain, same;
    check_tokens(sql);
    sql_guard_check(sql, &plain);
    sql_guard_check(padded, &same);
    if (!str_equal_or_both_null(plain.refusal, same.refusal) ||
        plain.changes_session != same.changes_session || plain.preparable != same.preparable)
        abort();
    return 0;
}
