/* The cases of the W3C's own test suite for `traceparent`, and the ids. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/host/trace_context.h"
#include "runtime/tests/support_test.h"

#define TRACE "4bf92f3577b34da6a3ce929d0e0e4736"
#define SPAN  "00f067aa0ba902b7"

static struct trace_context begun(const char *parent)
{
    struct trace_ids ids;
    struct trace_context context;

    trace_ids_init(&ids);
    trace_context_begin(&context, &ids, parent);
    return context;
}

static void continues_what_is_valid(void **state)
{
    static const struct {
        const char *parent, *flags;
    } cases[] = {
        {"00-" TRACE "-" SPAN "-01", "-01"},
        {"00-" TRACE "-" SPAN "-00", "-00"},
        {"00-" TRACE "-" SPAN "-09", "-01"}, /* only the flag that 00 knows is passed on */
        {"00-" TRACE "-" SPAN "-fe", "-00"},
        {" \t00-" TRACE "-" SPAN "-01\t ", "-01"},
        {"cc-" TRACE "-" SPAN "-01", "-01"}, /* a later version */
        {"cc-" TRACE "-" SPAN "-01-what-the-future-will-be-like", "-01"},
        {"01-" TRACE "-" SPAN "-01-", "-01"},
        {"fe-" TRACE "-" SPAN "-00", "-00"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct trace_context context = begun(cases[i].parent);
        char own[17];
        if (!context.continued)
            fail_msg("not continued: %s", cases[i].parent);
        assert_string_equal(context.trace_id, TRACE);
        assert_int_equal(strlen(context.traceparent), 55);
        assert_memory_equal(context.traceparent, "00-" TRACE "-", 36);
        assert_memory_not_equal(context.traceparent + 36, SPAN, 16);
        snprintf(own, sizeof(own), "%016llx", (unsigned long long)context.span_id);
        assert_memory_equal(context.traceparent + 36, own, 16);
        assert_string_equal(context.traceparent + 52, cases[i].flags);
        assert_true(trace_context_read(cases[i].parent, context.traceparent));
        assert_memory_equal(context.traceparent, "00-" TRACE "-" SPAN "-", 53);
        assert_string_equal(context.traceparent + 52, cases[i].flags);
    }
}

static void replaces_what_is_not(void **state)
{
    static const char *const parents[] = {
        NULL,
        "",
        "00",
        "00-",
        "ff-" TRACE "-" SPAN "-01",
        ".0-" TRACE "-" SPAN "-01",
        "0.-" TRACE "-" SPAN "-01",
        "0-" TRACE "-" SPAN "-01",
        "000-" TRACE "-" SPAN "-01",
        "00-00000000000000000000000000000000-" SPAN "-01",
        "00-.bf92f3577b34da6a3ce929d0e0e4736-" SPAN "-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-" SPAN "-01",
        "00-" TRACE "0-" SPAN "-01",
        "00-bf92f3577b34da6a3ce929d0e0e4736-" SPAN "-01",
        "00-" TRACE "-0000000000000000-01",
        "00-" TRACE "-.0f067aa0ba902b7-01",
        "00-" TRACE "-0" SPAN "-01",
        "00-" TRACE "-0f067aa0ba902b7-01",
        "00-" TRACE "-" SPAN "-.0",
        "00-" TRACE "-" SPAN "-0.",
        "00-" TRACE "-" SPAN "-1",
        "00-" TRACE "-" SPAN "-001",
        "00-" TRACE "-" SPAN "-",
        "00-" TRACE "-" SPAN,
        "00-" TRACE "-" SPAN "-01-",
        "00-" TRACE "-" SPAN "-01-what-the-future-will-be-like",
        "cc-" TRACE "-" SPAN "-01.what-the-future-will-not-be-like",
        "00-" TRACE "_" SPAN "-01",
        "00-" TRACE "-" SPAN "_01",
        "00_" TRACE "-" SPAN "-01",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(parents); i++) {
        struct trace_context context = begun(parents[i]), again;
        if (context.continued)
            fail_msg("continued: %s", parents[i]);
        assert_int_equal(strlen(context.traceparent), 55);
        assert_null(strstr(context.traceparent, TRACE));
        assert_string_equal(context.traceparent + 52, "-00");
        assert_memory_equal(context.traceparent + 3, context.trace_id, 32);
        again = begun(context.traceparent); /* what we start is valid */
        assert_true(again.continued);
        assert_string_equal(again.trace_id, context.trace_id);
        assert_false(parents[i] != NULL && trace_context_read(parents[i], again.traceparent));
    }
}

static void several_parents_are_none(void **state)
{
    static const struct http_header headers[] = {
        {"Host", "x"}, {"TraceParent", "one"}, {"tracestate", "a=b"}, {"traceparent", "two"}};

    (void)state;
    assert_string_equal(trace_context_parent(headers, 3), "one");
    assert_null(trace_context_parent(headers, 4));
    assert_null(trace_context_parent(headers, 1));
    assert_null(trace_context_parent(NULL, 0));
}

#define THREADS 4
#define EACH    20000

struct share {
    struct trace_ids *ids;
    uint64_t *out;
};

static void *draw(void *arg)
{
    struct share *share = arg;

    for (size_t i = 0; i < EACH; i++)
        share->out[i] = trace_ids_next(share->ids);
    return NULL;
}

static int compare(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return left < right ? -1 : left > right;
}

static void ids_differ(void **state)
{
    struct trace_ids ids;
    struct share shares[THREADS];
    pthread_t threads[THREADS];
    uint64_t *all = xcalloc(THREADS * EACH, sizeof(*all));
    size_t high = 0;

    (void)state;
    trace_ids_init(&ids);
    for (size_t i = 0; i < THREADS; i++) {
        shares[i] = (struct share){&ids, all + i * EACH};
        assert_int_equal(pthread_create(&threads[i], NULL, draw, &shares[i]), 0);
    }
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    qsort(all, (size_t)THREADS * EACH, sizeof(*all), compare);
    assert_true(all[0] != 0);
    for (size_t i = 1; i < THREADS * EACH; i++) {
        assert_true(all[i] != all[i - 1]);
        high += all[i] >> 63;
    }
    assert_in_range(high, THREADS * EACH / 2 - 1500,
                    THREADS * EACH / 2 + 1500); /* sampling relies on it; 10 sigma */
    free(all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(continues_what_is_valid),
        cmocka_unit_test(replaces_what_is_not),
        cmocka_unit_test(several_parents_are_none),
        cmocka_unit_test(ids_differ),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
