#include "operator/local/callers.h"

#include "runtime/base/mem.h"
#include "runtime/base/strbuf.h"

#define TEXT_MAX_BYTES 16384

static void append_trigger(struct strbuf *out, const struct function_trigger *trigger)
{
    strbuf_append_str(out, out->len > 0 ? ", " : "");
    switch (trigger->source) {
    case TRIGGER_QUEUE:
        strbuf_appendf(out, "queue %s", trigger->queue);
        break;
    case TRIGGER_TABLE:
        strbuf_appendf(out, "changes of %s", trigger->table);
        break;
    case TRIGGER_SCHEDULE:
        strbuf_appendf(out, "schedule %s %s", trigger->cron, trigger->time_zone);
        break;
    }
}

char *callers_text(const struct function_spec *spec, int port)
{
    struct strbuf text;
    strbuf_init(&text, TEXT_MAX_BYTES);
    if (spec->has_http) {
        strbuf_appendf(&text, "http://127.0.0.1:%d/fn/%s/%s/", port, spec->namespace, spec->name);
    }
    for (size_t i = 0; i < spec->trigger_count; i++) {
        append_trigger(&text, &spec->triggers[i]);
    }
    return strbuf_detach(&text, NULL);
}
