#include "runtime/http/problem.h"

#include <string.h>

#include "runtime/http/http_server.h"

static void append_member(struct strbuf *out, const char *name, const char *value)
{
    if (!value) {
        return;
    }
    strbuf_appendf(out, ",\"%s\":", name);
    strbuf_append_json_string(out, value, strlen(value));
}

void problem_print(const struct problem *problem, const char *request_id, struct strbuf *out)
{
    strbuf_append_str(out, "{\"type\":\"about:blank\"");
    append_member(out, "title", http_status_text(problem->status));
    strbuf_appendf(out, ",\"status\":%d", problem->status);
    append_member(out, "code", problem->code);
    append_member(out, "detail", problem->detail);
    append_member(out, "component", problem->component);
    append_member(out, "requestId", request_id);
    strbuf_append_str(out, "}\n");
}
