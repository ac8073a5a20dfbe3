#include "operator/cache/informer.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "operator/queue/thread.h"
#include "operator/tests/support_fake_apiserver.h"
#include "runtime/base/clock.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"

#define PATIENCE_MS 5000

/* The projection: phase only. Objects of phase "Hidden" are left out. */
struct pod {
    struct cached_object object;
    char *phase;
};

struct fixture {
    struct fake_apiserver *server;
    struct stop stop;
    struct kube_client *client;
    struct informer *informer;
    int projected; /* informer's thread, read after join */
    pthread_mutex_t mu;
    pthread_cond_t changed;
    struct strbuf seen; /* guarded by mu; "+a;" added, "a~;" changed, "-a;" deleted, with versions */
};

static void pod_release(struct cached_object *self)
{
    struct pod *pod = container_of(self, struct pod, object);
    cached_object_release_names(self);
    free(pod->phase);
    free(pod);
}

static struct cached_object *project(void *arg, const cJSON *tree)
{
    struct fixture *fixture = arg;
    fixture->projected++;
    const char *phase = json_string(json_object(tree, "status"), "phase");
    if (phase && strcmp(phase, "Hidden") == 0)
        return NULL;
    struct pod *pod = xcalloc(1, sizeof(*pod));
    cached_object_init(&pod->object, tree, pod_release);
    pod->phase = xstrdup_or_null(phase);
    return &pod->object;
}

static void on_change(void *arg, struct cached_object *old, struct cached_object *new)
{
    struct fixture *fixture = arg;
    const struct cached_object *object = new ? new : old;
    /* The handler finds the store as it is after the change. */
    struct cached_object *stored = informer_get(fixture->informer, object->namespace, object->name);
    pthread_mutex_lock(&fixture->mu);
    if (stored != new)
        strbuf_append_str(&fixture->seen, "the store differs;");
    if (old && new)
        strbuf_appendf(&fixture->seen, "%s@%s->%s;", new->name, old->resource_version, new->resource_version);
    else
        strbuf_appendf(&fixture->seen, "%c%s@%s;", new ? '+' : '-', object->name, object->resource_version);
    pthread_cond_broadcast(&fixture->changed);
    pthread_mutex_unlock(&fixture->mu);
    cached_object_unref(stored);
}

static int setup(void **state)
{
    struct fixture *fixture = xcalloc(1, sizeof(*fixture));
    fixture->server = fake_apiserver_start();
    stop_init(&fixture->stop);
    pthread_mutex_init(&fixture->mu, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&fixture->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    strbuf_init(&fixture->seen, 1 << 20);
    fixture->client =
        fake_apiserver_client(fixture->server, /* token_file= */ NULL, /* clock= */ NULL, &fixture->stop);
    struct informer_settings settings = {.resource = &kube_pods,
                                         .namespace = "shop",
                                         .label_selector = "a=b",
                                         .max_backoff_ms = 10,
                                         .project = project,
                                         .on_change = on_change,
                                         .arg = fixture};
    fixture->informer = informer_new(fixture->client, &settings);
    *state = fixture;
    return 0;
}

static void end(struct fixture *fixture)
{
    stop_set(&fixture->stop);
    informer_join(fixture->informer);
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    end(fixture);
    informer_free(fixture->informer);
    kube_client_free(fixture->client);
    fake_apiserver_stop(fixture->server);
    strbuf_release(&fixture->seen);
    pthread_cond_destroy(&fixture->changed);
    pthread_mutex_destroy(&fixture->mu);
    stop_release(&fixture->stop);
    free(fixture);
    return 0;
}

static void expect_seen(struct fixture *fixture, const char *expected)
{
    int64_t until_ms = clock_monotonic_ms() + PATIENCE_MS;
    struct timespec until = {.tv_sec = until_ms / 1000, .tv_nsec = until_ms % 1000 * 1000000};
    pthread_mutex_lock(&fixture->mu);
    int rc = 0;
    while (fixture->seen.len < strlen(expected) && rc == 0)
        rc = pthread_cond_timedwait(&fixture->changed, &fixture->mu, &until);
    char *seen = xstrdup(fixture->seen.buf);
    pthread_mutex_unlock(&fixture->mu);
    assert_string_equal(seen, expected);
    free(seen);
}

#define LIST_OF "GET /api/v1/namespaces/shop/pods?labelSelector=a%3Db&limit=500"
#define FIRST   LIST_OF " "
#define WATCH   "watch=true"
#define WATCH_OF(version)                                                                                    \
    "GET /api/v1/namespaces/shop/pods?labelSelector=a%3Db&resourceVersion=" version                          \
    "&watch=true&allowWatchBookmarks=true&timeoutSeconds="
#define POD(name, uid, version)                                                                              \
    "{\"metadata\":{\"namespace\":\"shop\",\"name\":\"" name "\",\"uid\":\"" uid                             \
    "\",\"resourceVersion\":\"" version "\",\"managedFields\":[{}]},\"status\":{\"phase\":\"Running\"}}"
#define HIDDEN(name, uid, version)                                                                           \
    "{\"metadata\":{\"namespace\":\"shop\",\"name\":\"" name "\",\"uid\":\"" uid                             \
    "\",\"resourceVersion\":\"" version "\"},\"status\":{\"phase\":\"Hidden\"}}"
#define LIST(version, items)                                                                                 \
    "{\"kind\":\"PodList\",\"metadata\":{\"resourceVersion\":\"" version "\"},\"items\":[" items "]}"
#define PAGE(version, next, items)                                                                           \
    "{\"metadata\":{\"resourceVersion\":\"" version "\",\"continue\":\"" next "\"},\"items\":[" items "]}"
#define EVENT(type, object) "{\"type\":\"" type "\",\"object\":" object "}\n"
#define BOOKMARK(version)   EVENT("BOOKMARK", "{\"metadata\":{\"resourceVersion\":\"" version "\"}}")
#define EXPIRED                                                                                              \
    EVENT("ERROR", "{\"kind\":\"Status\",\"code\":410,\"reason\":\"Expired\",\"message\":\"too old\"}")

static void answer(struct fixture *fixture, const char *match, const char *body)
{
    fake_apiserver_answer(fixture->server, &(struct fake_answer){.match = match, .body = body});
}

static void answer_watch(struct fixture *fixture, const char *match, const char *body,
                         enum fake_ending ending)
{
    fake_apiserver_answer(
        fixture->server,
        &(struct fake_answer){.match = match, .body = body, .chunk_bytes = 7, .ending = ending});
}

static void start(struct fixture *fixture)
{
    informer_start(fixture->informer, &fixture->stop);
}

static void start_synced(struct fixture *fixture)
{
    start(fixture);
    assert_true(informer_wait_synced(fixture->informer, &fixture->stop, PATIENCE_MS));
}

static void expect_requests(struct fixture *fixture, const char *match, int count)
{
    if (!fake_apiserver_wait(fixture->server, match, count, PATIENCE_MS))
        fail_msg("%s: %d of %d", match, fake_apiserver_count(fixture->server, match), count);
}

static void test_list_then_watch(void **state)
{
    struct fixture *fixture = *state;
    answer(fixture, FIRST,
           LIST("10", POD("a", "u1", "1") "," POD("b", "u2", "2") "," HIDDEN("h", "u3", "3")));
    answer_watch(fixture, WATCH_OF("10"),
                 EVENT("MODIFIED", POD("a", "u1", "11")) EVENT("ADDED", POD("c", "u4", "12"))
                     EVENT("DELETED", POD("b", "u2", "13")),
                 FAKE_END_HANG);
    assert_false(informer_synced(fixture->informer));
    assert_false(informer_wait_synced(fixture->informer, &fixture->stop, 10));
    start_synced(fixture);
    expect_seen(fixture, "+a@1;+b@2;a@1->11;+c@12;-b@2;");
    assert_int_equal(informer_count(fixture->informer), 2);
    struct cached_object *object = informer_get(fixture->informer, "shop", "a");
    assert_string_equal(container_of(object, struct pod, object)->phase, "Running");
    assert_string_equal(object->uid, "u1");
    cached_object_unref(object);
    assert_null(informer_get(fixture->informer, "shop", "b"));
    assert_null(informer_get(fixture->informer, "", "a"));
    assert_in_range(informer_silence_ms(fixture->informer), 0, PATIENCE_MS);
    struct err err = ERR_INIT;
    assert_false(informer_failing(fixture->informer, &err));
}

static void test_a_reference_outlives_the_object(void **state)
{
    struct fixture *fixture = *state;
    answer(fixture, FIRST, LIST("10", POD("a", "u1", "1")));
    start_synced(fixture);
    struct cached_object *object = informer_get(fixture->informer, "shop", "a");
    expect_requests(fixture, WATCH, 1);
    while (fake_apiserver_push(fixture->server, WATCH, EVENT("DELETED", POD("a", "u1", "11"))) == 0)
        sched_yield();
    expect_seen(fixture, "+a@1;-a@1;");
    assert_string_equal(object->name, "a");
    cached_object_unref(object);
}

static void test_pages(void **state)
{
    struct fixture *fixture = *state;
    answer(fixture, FIRST, PAGE("10", "t1", POD("a", "u1", "1")));
    answer(fixture, LIST_OF "&continue=t1 ", PAGE("10", "t2", POD("b", "u2", "2")));
    answer(fixture, LIST_OF "&continue=t2 ", PAGE("10", "", POD("c", "u3", "3")));
    start_synced(fixture);
    expect_seen(fixture, "+a@1;+b@2;+c@3;");
    expect_requests(fixture, WATCH_OF("10"), 1);
}

static void test_an_expired_page_starts_over(void **state)
{
    struct fixture *fixture = *state;
    answer(fixture, FIRST, PAGE("10", "t1", POD("a", "u1", "1") "," POD("x", "u9", "1")));
    fake_apiserver_answer(
        fixture->server,
        &(struct fake_answer){.match = LIST_OF "&continue=t1 ", .status = 410, .body = "{}"});
    answer(fixture, FIRST, PAGE("20", "t2", POD("a", "u1", "1")));
    answer(fixture, LIST_OF "&continue=t2 ", PAGE("20", "", POD("b", "u2", "12")));
    start_synced(fixture);
    expect_seen(fixture, "+a@1;+x@1;+b@12;-x@1;");
    expect_requests(fixture, WATCH_OF("20"), 1);
}

static void test_a_clean_end_resumes(void **state)
{
    struct fixture *fixture = *state;
    answer(fixture, FIRST, LIST("10", ""));
    answer_watch(fixture, WATCH_OF("10"), EVENT("ADDED", POD("a", "u1", "11")), FAKE_END_CLEAN);
    answer_watch(fixture, WATCH_OF("11"), BOOKMARK("15"), FAKE_END_CLEAN);
    answer_watch(fixture, WATCH_OF("15"), EVENT("MODIFIED", POD("a", "u1", "16")), FAKE_END_HANG);
    start_synced(fixture);
    expect_seen(fixture, "+a@11;a@11->16;");
    assert_int_equal(fake_apiserver_count(fixture->server, LIST_OF), 1);
}

static void test_a_broken_watch_resumes(void **state)
{
    struct fixture *fixture = *state;
    answer(fixture, FIRST, LIST("10", ""));
    answer_watch(fixture, WATCH_OF("10"), EVENT("ADDED", POD("a", "u1", "11")), FAKE_END_RESET);
    answer_watch(fixture, WATCH, EVENT("ADDED", POD("b", "u2", "12")) "{\"type\":\"ADD", FAKE_END_HALF);
    answer_watch(fixture, WATCH_OF("12"), EVENT("MODIFIED", POD("b", "u2", "13")) "not json\n",
                 FAKE_END_HANG);
    answer_watch(fixture, WATCH_OF("13"), EVENT("MODIFIED", POD("b", "u2", "14")), FAKE_END_HANG);
    start_synced(fixture);
    /* The reset may throw away bytes that were on their way; nothing after it depends on that event. */
    expect_requests(fixture, WATCH_OF("13"), 1);
    int64_t until_ms = clock_monotonic_ms() + PATIENCE_MS;
    struct cached_object *object = NULL;
    while (clock_monotonic_ms() < until_ms && !(object && strcmp(object->resource_version, "14") == 0)) {
        cached_object_unref(object);
        object = informer_get(fixture->informer, "shop", "b");
    }
    assert_string_equal(object ? object->resource_version : "", "14");
    cached_object_unref(object);
    assert_int_equal(fake_apiserver_count(fixture->server, LIST_OF), 1);
}

static void test_expiry_relists_and_makes_up_for_what_was_missed(void **state)
{
    struct fixture *fixture = *state;
    answer(fixture, FIRST,
           LIST("10", POD("a", "u1", "1") "," POD("b", "u2", "2") "," POD("c", "u3", "3") "," POD(
                          "d", "u4", "4") "," POD("h", "u7", "4")));
    answer_watch(fixture, WATCH_OF("10"), EXPIRED, FAKE_END_HANG);
    answer(fixture, FIRST,
           LIST("20", POD("a", "u1", "1") "," POD("b", "u2", "12") "," POD("c", "u5", "13") "," POD(
                          "e", "u6", "14") "," HIDDEN("h", "u7", "15")));
    start_synced(fixture);
    expect_seen(fixture, "+a@1;+b@2;+c@3;+d@4;+h@4;b@2->12;-c@3;+c@13;+e@14;-h@4;-d@4;");
    expect_requests(fixture, WATCH_OF("20"), 1);
    end(fixture);
    assert_int_equal(fixture->projected, 5 + 4); /* the unchanged one was not looked at again */
}

static void test_expiry_by_status_relists(void **state)
{
    struct fixture *fixture = *state;
    answer(fixture, FIRST, LIST("10", POD("a", "u1", "1")));
    fake_apiserver_answer(
        fixture->server,
        &(struct fake_answer){.match = WATCH, .status = 410, .body = "{\"reason\":\"Gone\"}"});
    answer(fixture, FIRST, LIST("20", ""));
    start_synced(fixture);
    expect_seen(fixture, "+a@1;-a@1;");
    expect_requests(fixture, WATCH_OF("20"), 1);
}

static void test_bookmarks_alone_move_the_version(void **state)
{
    struct fixture *fixture = *state;
    answer(fixture, FIRST, LIST("10", ""));
    answer_watch(fixture, WATCH_OF("10"), BOOKMARK("11") BOOKMARK("12"), FAKE_END_CLEAN);
    start_synced(fixture);
    expect_requests(fixture, WATCH_OF("12"), 1);
    expect_seen(fixture, "");
}

static void test_another_uid_under_the_same_name(void **state)
{
    struct fixture *fixture = *state;
    answer(fixture, FIRST, LIST("10", POD("a", "u1", "1")));
    answer_watch(fixture, WATCH_OF("10"),
                 EVENT("MODIFIED", POD("a", "u2", "11")) EVENT("MODIFIED", POD("a", "u2", "11"))
                     EVENT("MODIFIED", HIDDEN("a", "u2", "12")) EVENT("MODIFIED", POD("a", "u2", "13")),
                 FAKE_END_HANG);
    start_synced(fixture);
    expect_seen(fixture, "+a@1;-a@1;+a@11;-a@11;+a@13;");
}

static void test_throttling_is_obeyed(void **state)
{
    struct fixture *fixture = *state;
    fake_apiserver_answer(
        fixture->server,
        &(struct fake_answer){.match = FIRST, .status = 429, .headers = "Retry-After: 1\r\n"});
    answer(fixture, FIRST, LIST("10", POD("a", "u1", "1")));
    int64_t started_ms = clock_monotonic_ms();
    start_synced(fixture);
    assert_in_range(clock_monotonic_ms() - started_ms, 1000, PATIENCE_MS);
}

static void test_failures_are_told_and_tried_again(void **state)
{
    struct fixture *fixture = *state;
    fake_apiserver_answer(
        fixture->server,
        &(struct fake_answer){.match = FIRST,
                              .status = 403,
                              .body = "{\"reason\":\"Forbidden\",\"message\":\"pods is forbidden\"}",
                              .times = -1});
    start(fixture);
    expect_requests(fixture, FIRST, 3);
    assert_false(informer_synced(fixture->informer));
    struct err err = ERR_INIT;
    assert_true(informer_failing(fixture->informer, &err));
    assert_int_equal(err.code, ERR_FORBIDDEN);
    assert_string_equal(err.msg, "pods is forbidden");
    answer(fixture, FIRST, LIST("10", ""));
    fake_apiserver_forget(fixture->server, FIRST);
    answer(fixture, FIRST, LIST("10", ""));
    assert_true(informer_wait_synced(fixture->informer, &fixture->stop, PATIENCE_MS));
    expect_requests(fixture, WATCH, 1);
    assert_false(informer_failing(fixture->informer, &err));
}

static void test_half_a_list_is_no_list(void **state)
{
    struct fixture *fixture = *state;
    answer(fixture, FIRST, LIST("10", POD("a", "u1", "1") "," POD("b", "u2", "2")));
    answer_watch(fixture, WATCH_OF("10"), EXPIRED, FAKE_END_HANG);
    fake_apiserver_answer(
        fixture->server,
        &(struct fake_answer){
            .match = FIRST,
            .body = "{\"metadata\":{\"resourceVersion\":\"20\"},\"items\":[" POD("a", "u1", "12") ",",
            .chunk_bytes = 50,
            .ending = FAKE_END_HALF});
    answer(fixture, FIRST, LIST("30", POD("a", "u1", "12") "," POD("b", "u2", "2")));
    start_synced(fixture);
    expect_requests(fixture, WATCH_OF("30"), 1);
    expect_seen(fixture, "+a@1;+b@2;a@1->12;");
}

static void test_stop_ends_it_at_once(void **state)
{
    struct fixture *fixture = *state;
    answer(fixture, FIRST, LIST("10", ""));
    start_synced(fixture);
    expect_requests(fixture, WATCH, 1);
    int64_t started_ms = clock_monotonic_ms();
    end(fixture);
    assert_in_range(clock_monotonic_ms() - started_ms, 0, 1000);
    assert_true(informer_wait_synced(fixture->informer, &fixture->stop, 0)); /* what was synced stays so */
}

/* ---- many threads ---- */

#define READERS 7
#define EVENTS  300

struct readers {
    struct fixture *fixture;
    atomic_bool end;
    atomic_int hits;
};

static void count_running(void *arg, struct cached_object *object)
{
    *(int *)arg += strcmp(container_of(object, struct pod, object)->phase, "Running") == 0;
}

static void *read_all(void *arg)
{
    struct readers *readers = arg;
    while (!atomic_load(&readers->end)) {
        int running = 0;
        informer_each(readers->fixture->informer, count_running, &running);
        struct cached_object *object = informer_get(readers->fixture->informer, "shop", "a");
        if (object && strcmp(object->name, "a") == 0)
            atomic_fetch_add(&readers->hits, 1);
        (void)informer_count(readers->fixture->informer);
        (void)informer_silence_ms(readers->fixture->informer);
        cached_object_unref(object);
    }
    return NULL;
}

static void test_eight_threads(void **state)
{
    struct fixture *fixture = *state;
    answer(fixture, FIRST, LIST("10", POD("a", "u1", "1")));
    start_synced(fixture);
    struct readers readers = {.fixture = fixture};
    pthread_t threads[READERS];
    for (int i = 0; i < READERS; i++)
        threads[i] = thread_start("reader", read_all, &readers);
    expect_requests(fixture, WATCH, 1);
    for (int i = 0; i < EVENTS; i++) {
        CLEANUP_FREE char *text =
            xasprintf(EVENT("ADDED", POD("p", "u%d", "%d")) EVENT("MODIFIED", POD("a", "u1", "%d"))
                          EVENT("DELETED", POD("p", "u%d", "%d")),
                      i, 100 + 3 * i, 101 + 3 * i, i, 102 + 3 * i);
        while (fake_apiserver_push(fixture->server, WATCH, text) == 0)
            sched_yield();
    }
    int64_t until_ms = clock_monotonic_ms() + PATIENCE_MS;
    CLEANUP_FREE char *last = xasprintf("-p@%d;", 100 + 3 * (EVENTS - 1));
    for (bool done = false; !done && clock_monotonic_ms() < until_ms;) {
        pthread_mutex_lock(&fixture->mu);
        done = strstr(fixture->seen.buf, last) != NULL;
        pthread_mutex_unlock(&fixture->mu);
        sched_yield();
    }
    atomic_store(&readers.end, true);
    for (int i = 0; i < READERS; i++)
        pthread_join(threads[i], NULL);
    assert_true(atomic_load(&readers.hits) > 0);
    assert_non_null(strstr(fixture->seen.buf, last));
    assert_int_equal(informer_count(fixture->informer), 1);
}

int main(void)
{
    http_client_global_init();
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_list_then_watch),
        TEST(test_a_reference_outlives_the_object),
        TEST(test_pages),
        TEST(test_an_expired_page_starts_over),
        TEST(test_a_clean_end_resumes),
        TEST(test_a_broken_watch_resumes),
        TEST(test_expiry_relists_and_makes_up_for_what_was_missed),
        TEST(test_expiry_by_status_relists),
        TEST(test_bookmarks_alone_move_the_version),
        TEST(test_another_uid_under_the_same_name),
        TEST(test_throttling_is_obeyed),
        TEST(test_failures_are_told_and_tried_again),
        TEST(test_half_a_list_is_no_list),
        TEST(test_stop_ends_it_at_once),
        TEST(test_eight_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
