#include "runtime/host/slow_log.h"

#include "runtime/base/log.h"

#define CODE_MAX_BYTES 64

void slow_log_write(const struct pg_slow_statement *slow)
{
    struct log_members members;

    log_members_init(&members);
    log_members_string(&members, "statement", slow->sql, SLOW_LOG_STATEMENT_MAX_BYTES);
    log_members_ms(&members, "durationMs", slow->took_us);
    log_members_int64(&members, "rows", slow->rows);
    if (slow->error != NULL)
        log_members_string(&members, "code", pg_error_code(slow->error), CODE_MAX_BYTES);
    if (slow->error != NULL && slow->error->sqlstate[0] != '\0')
        log_members_string(&members, "sqlstate", slow->error->sqlstate, CODE_MAX_BYTES);
    log_write_members(LOG_WARN, &members, "slow statement");
}
