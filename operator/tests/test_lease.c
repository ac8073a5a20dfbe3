#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>

#include <cmocka.h>

#include "operator/controller/controller.h"
#include "runtime/base/clock.h"
#include "runtime/base/json.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"

#define PATIENCE_MS 5000

/* One Lease as a server keeps it, with resourceVersion as precondition. */
struct lease_server {
    struct kube_transport transport;
    pthread_mutex_t mu;
    cJSON *lease;      /* guarded by mu; NULL: absent */
    int64_t version;   /* guarded by mu */
    bool is_down;      /* guarded by mu; nothing answers, each call takes its whole time limit */
    bool is_forgetful; /* guarded by mu; writes are done, but their answers are lost */
    int writes, reads; /* guarded by mu */
};

static void answer(struct http_client_response *ret, int status, const char *text)
{
    *ret = (struct http_client_response){.status = status};
    strbuf_init(&ret->body, 1 << 20);
    strbuf_append_str(&ret->body, text);
}

static void answer_lease(struct lease_server *server, struct http_client_response *ret)
{
    CLEANUP_FREE char *text = json_print_dup(server->lease);
    answer(ret, 200, text);
}

static void store(struct lease_server *server, cJSON *lease /* taken */)
{
    CLEANUP_FREE char *version = xasprintf("%d", (int)++server->version);
    cJSON *metadata = cJSON_GetObjectItemCaseSensitive(lease, "metadata");
    cJSON_DeleteItemFromObjectCaseSensitive(metadata, "resourceVersion");
    json_add_string(metadata, "resourceVersion", version);
    cJSON_Delete(server->lease);
    server->lease = lease;
}

static const char *version_of(const cJSON *lease)
{
    return json_string(json_object(lease, "metadata"), "resourceVersion");
}

static void serve(struct lease_server *server, const struct http_client_request *request,
                  struct http_client_response *ret)
{
    bool is_get = strcmp(request->method, "GET") == 0;
    *(is_get ? &server->reads : &server->writes) += 1;
    if (is_get) {
        if (server->lease)
            answer_lease(server, ret);
        else
            answer(ret, 404, "{\"reason\":\"NotFound\"}");
        return;
    }
    cJSON *lease = NULL;
    struct err err = ERR_INIT;
    if (json_parse(request->body, request->body_len, JSON_DEPTH_MAX, &lease, &err) != 0) {
        answer(ret, 400, "{}");
        return;
    }
    bool is_post = strcmp(request->method, "POST") == 0;
    bool fits = is_post
                    ? !server->lease
                    : server->lease && str_equal_or_both_null(version_of(lease), version_of(server->lease));
    if (fits) {
        store(server, lease);
        answer_lease(server, ret);
    } else {
        cJSON_Delete(lease);
        answer(ret, 409, is_post ? "{\"reason\":\"AlreadyExists\"}" : "{\"reason\":\"Conflict\"}");
    }
}

static int server_request(struct kube_transport *self, const struct http_client_request *request,
                          struct http_client_response *ret, struct err *err)
{
    struct lease_server *server = container_of(self, struct lease_server, transport);
    pthread_mutex_lock(&server->mu);
    bool is_down = server->is_down;
    bool loses_answer = server->is_forgetful && strcmp(request->method, "GET") != 0;
    if (!is_down)
        serve(server, request, ret);
    pthread_mutex_unlock(&server->mu);
    if (!is_down && !loses_answer)
        return 0;
    if (!is_down)
        http_client_response_release(ret);
    struct timespec pause = {.tv_sec = request->timeout_ms / 1000,
                             .tv_nsec = request->timeout_ms % 1000 * 1000000};
    nanosleep(&pause, NULL);
    return err_set(err, ERR_TIMEOUT, "no answer");
}

static void server_free(struct kube_transport *self)
{
    (void)self;
}

static const struct kube_transport_ops server_ops = {.request = server_request, .free = server_free};

/* One that wants the lease. */
struct candidate {
    struct kube_client *client;
    struct lease *lease;
    atomic_int elected, lost;
    atomic_llong lost_ms;
    atomic_bool was_leader_when_lost;
};

struct fixture {
    struct lease_server server;
    struct candidate a, b;
};

static void on_elected(void *arg)
{
    struct candidate *candidate = arg;
    atomic_fetch_add(&candidate->elected, 1);
}

static void on_lost(void *arg)
{
    struct candidate *candidate = arg;
    atomic_store(&candidate->was_leader_when_lost, lease_is_leader(candidate->lease));
    atomic_store(&candidate->lost_ms, clock_monotonic_ms());
    atomic_fetch_add(&candidate->lost, 1);
}

static void candidate_init(struct candidate *candidate, struct lease_server *server, const char *identity)
{
    struct lease_settings settings = {
        .namespace = "cicada-system",
        .name = "cicada-operator",
        .identity = identity,
        .duration_ms = 1000,
        .renew_deadline_ms = 600,
        .retry_ms = 50,
        .on_elected = on_elected,
        .on_lost = on_lost,
        .arg = candidate,
    };
    candidate->client = kube_client_new_with_transport(&server->transport);
    candidate->lease = lease_new(candidate->client, &settings);
}

static void candidate_release(struct candidate *candidate)
{
    lease_stop(candidate->lease, /* release= */ false);
    lease_free(candidate->lease);
    kube_client_free(candidate->client);
}

static int setup(void **state)
{
    struct fixture *fixture = xcalloc(1, sizeof(*fixture));
    fixture->server.transport.ops = &server_ops;
    pthread_mutex_init(&fixture->server.mu, NULL);
    candidate_init(&fixture->a, &fixture->server, "a");
    candidate_init(&fixture->b, &fixture->server, "b");
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    candidate_release(&fixture->a);
    candidate_release(&fixture->b);
    cJSON_Delete(fixture->server.lease);
    pthread_mutex_destroy(&fixture->server.mu);
    free(fixture);
    return 0;
}

static void sleep_ms(int64_t ms)
{
    struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    nanosleep(&pause, NULL);
}

static void wait_for(atomic_int *counter, int value)
{
    int64_t until_ms = clock_monotonic_ms() + PATIENCE_MS;
    while (atomic_load(counter) < value && clock_monotonic_ms() < until_ms)
        sleep_ms(1);
    assert_int_equal(atomic_load(counter), value);
}

static void wait_for_leader(const struct candidate *candidate, bool is_leader)
{
    int64_t until_ms = clock_monotonic_ms() + PATIENCE_MS;
    while (lease_is_leader(candidate->lease) != is_leader && clock_monotonic_ms() < until_ms)
        sleep_ms(1);
    assert_int_equal(lease_is_leader(candidate->lease), is_leader);
}

static cJSON *spec_copy(struct lease_server *server)
{
    pthread_mutex_lock(&server->mu);
    cJSON *spec = cJSON_Duplicate(json_object(server->lease, "spec"), true);
    pthread_mutex_unlock(&server->mu);
    return spec;
}

static void put_lease(struct lease_server *server, const char *text)
{
    cJSON *lease = NULL;
    struct err err = ERR_INIT;
    assert_int_equal(json_parse(text, strlen(text), JSON_DEPTH_MAX, &lease, &err), 0);
    pthread_mutex_lock(&server->mu);
    store(server, lease);
    pthread_mutex_unlock(&server->mu);
}

static void set_down(struct lease_server *server, bool is_down)
{
    pthread_mutex_lock(&server->mu);
    server->is_down = is_down;
    pthread_mutex_unlock(&server->mu);
}

static void test_the_first_creates_it_and_renews(void **state)
{
    struct fixture *fixture = *state;
    assert_false(lease_is_leader(fixture->a.lease));
    lease_start(fixture->a.lease);
    wait_for(&fixture->a.elected, 1);
    assert_true(lease_is_leader(fixture->a.lease));
    CLEANUP_JSON cJSON *first = spec_copy(&fixture->server);
    assert_string_equal(json_string(first, "holderIdentity"), "a");
    assert_int_equal(json_int64(first, "leaseDurationSeconds", 0), 1);
    assert_int_equal(json_int64(first, "leaseTransitions", -1), 0);
    const char *renewed = json_string(first, "renewTime");
    int64_t ignored;
    assert_true(parse_rfc3339(renewed, &ignored));
    assert_int_equal(strlen(renewed), strlen("2026-11-22T10:40:48.123456Z"));
    sleep_ms(300);
    CLEANUP_JSON cJSON *later = spec_copy(&fixture->server);
    assert_string_equal(json_string(later, "acquireTime"), json_string(first, "acquireTime"));
    assert_string_not_equal(json_string(later, "renewTime"), renewed);
    assert_int_equal(json_int64(later, "leaseTransitions", -1), 0);
    pthread_mutex_lock(&fixture->server.mu);
    assert_int_equal(fixture->server.reads, 1); /* a renewal is one write */
    assert_in_range(fixture->server.writes, 3, 10);
    pthread_mutex_unlock(&fixture->server.mu);
    assert_int_equal(atomic_load(&fixture->a.lost), 0);
}

static void test_one_of_two_leads(void **state)
{
    struct fixture *fixture = *state;
    lease_start(fixture->a.lease);
    lease_start(fixture->b.lease);
    sleep_ms(300);
    assert_int_equal(atomic_load(&fixture->a.elected) + atomic_load(&fixture->b.elected), 1);
    assert_int_equal(lease_is_leader(fixture->a.lease) + lease_is_leader(fixture->b.lease), 1);
    assert_int_equal(atomic_load(&fixture->a.lost) + atomic_load(&fixture->b.lost), 0);
}

static void test_release_hands_over_at_once(void **state)
{
    struct fixture *fixture = *state;
    lease_start(fixture->a.lease);
    wait_for(&fixture->a.elected, 1);
    lease_start(fixture->b.lease);
    sleep_ms(100);
    lease_stop(fixture->a.lease, /* release= */ true);
    int64_t released_ms = clock_monotonic_ms();
    assert_false(lease_is_leader(fixture->a.lease));
    wait_for(&fixture->b.elected, 1);
    assert_in_range(clock_monotonic_ms() - released_ms, 0, 500);
    CLEANUP_JSON cJSON *spec = spec_copy(&fixture->server);
    assert_string_equal(json_string(spec, "holderIdentity"), "b");
    assert_int_equal(json_int64(spec, "leaseTransitions", -1), 1);
    assert_int_equal(atomic_load(&fixture->a.lost), 0);
}

static void test_without_release_it_runs_out(void **state)
{
    struct fixture *fixture = *state;
    lease_start(fixture->a.lease);
    wait_for(&fixture->a.elected, 1);
    lease_start(fixture->b.lease);
    sleep_ms(100);
    lease_stop(fixture->a.lease, /* release= */ false);
    int64_t stopped_ms = clock_monotonic_ms();
    wait_for(&fixture->b.elected, 1);
    assert_in_range(clock_monotonic_ms() - stopped_ms, 850, 2000);
}

#define FOREIGN(renewed)                                                                                     \
    "{\"metadata\":{\"name\":\"cicada-operator\",\"labels\":{\"x\":\"y\"}},\"spec\":{\"holderIdentity\":"    \
    "\"z\","                                                                                                 \
    "\"leaseDurationSeconds\":1,\"leaseTransitions\":7,\"strategy\":\"s\",\"renewTime\":\"" renewed "\"}}"

static void test_only_local_observation_counts(void **state)
{
    struct fixture *fixture = *state;
    /* Its clock says that it ran out years ago. That it has not been renewed must be seen here. */
    put_lease(&fixture->server, FOREIGN("2001-01-01T00:00:00.000000Z"));
    int64_t started_ms = clock_monotonic_ms();
    lease_start(fixture->a.lease);
    sleep_ms(600);
    assert_int_equal(atomic_load(&fixture->a.elected), 0);
    put_lease(&fixture->server, FOREIGN("2001-01-01T00:00:01.000000Z"));
    wait_for(&fixture->a.elected, 1);
    assert_in_range(clock_monotonic_ms() - started_ms, 1550, 3000);
    CLEANUP_JSON cJSON *spec = spec_copy(&fixture->server);
    assert_int_equal(json_int64(spec, "leaseTransitions", -1), 8);
    assert_string_equal(json_string(spec, "strategy"), "s"); /* what others keep there stays */
    pthread_mutex_lock(&fixture->server.mu);
    assert_non_null(json_path(fixture->server.lease, "metadata", "labels", "x", NULL));
    pthread_mutex_unlock(&fixture->server.mu);
}

static void test_a_silent_server_costs_the_lease_in_time(void **state)
{
    struct fixture *fixture = *state;
    lease_start(fixture->a.lease);
    wait_for(&fixture->a.elected, 1);
    sleep_ms(100);
    int64_t down_ms = clock_monotonic_ms();
    set_down(&fixture->server, true);
    wait_for(&fixture->a.lost, 1);
    /* 600 ms after the last renewal, which was at most 50 ms and a call before. */
    assert_in_range(atomic_load(&fixture->a.lost_ms) - down_ms, 450, 900);
    assert_false(atomic_load(&fixture->a.was_leader_when_lost));
    assert_false(lease_is_leader(fixture->a.lease));
}

static void test_a_short_outage_costs_nothing(void **state)
{
    struct fixture *fixture = *state;
    lease_start(fixture->a.lease);
    wait_for(&fixture->a.elected, 1);
    for (int i = 0; i < 2; i++) {
        set_down(&fixture->server, true);
        sleep_ms(80);
        set_down(&fixture->server, false);
        sleep_ms(500);
    }
    assert_true(lease_is_leader(fixture->a.lease));
    assert_int_equal(atomic_load(&fixture->a.lost), 0);
}

static void test_taken_by_force(void **state)
{
    struct fixture *fixture = *state;
    lease_start(fixture->a.lease);
    wait_for(&fixture->a.elected, 1);
    put_lease(&fixture->server, FOREIGN("2026-11-22T10:40:48.123456Z"));
    wait_for(&fixture->a.lost, 1);
    assert_false(atomic_load(&fixture->a.was_leader_when_lost));
    CLEANUP_JSON cJSON *spec = spec_copy(&fixture->server);
    assert_string_equal(json_string(spec, "holderIdentity"), "z");
}

static void test_others_may_touch_or_delete_it(void **state)
{
    struct fixture *fixture = *state;
    lease_start(fixture->a.lease);
    wait_for(&fixture->a.elected, 1);
    pthread_mutex_lock(&fixture->server.mu);
    store(&fixture->server, cJSON_Duplicate(fixture->server.lease, true)); /* only its version changes */
    pthread_mutex_unlock(&fixture->server.mu);
    sleep_ms(200);
    pthread_mutex_lock(&fixture->server.mu);
    cJSON_Delete(steal_ptr(&fixture->server.lease));
    pthread_mutex_unlock(&fixture->server.mu);
    sleep_ms(200);
    assert_true(lease_is_leader(fixture->a.lease));
    assert_int_equal(atomic_load(&fixture->a.lost), 0);
    CLEANUP_JSON cJSON *spec = spec_copy(&fixture->server);
    assert_string_equal(json_string(spec, "holderIdentity"), "a");
}

static void test_a_write_whose_answer_was_lost(void **state)
{
    struct fixture *fixture = *state;
    fixture->server.is_forgetful = true;
    lease_start(fixture->a.lease);
    sleep_ms(300);
    assert_int_equal(atomic_load(&fixture->a.elected), 0);
    pthread_mutex_lock(&fixture->server.mu);
    fixture->server.is_forgetful = false;
    pthread_mutex_unlock(&fixture->server.mu);
    int64_t well_ms = clock_monotonic_ms();
    wait_for(&fixture->a.elected, 1); /* it is ours by name: no waiting until it runs out */
    assert_in_range(clock_monotonic_ms() - well_ms, 0, 800);
}

static void test_stop_while_waiting(void **state)
{
    struct fixture *fixture = *state;
    put_lease(&fixture->server, FOREIGN("2026-11-22T10:40:48.123456Z"));
    lease_start(fixture->a.lease);
    sleep_ms(50);
    int64_t started_ms = clock_monotonic_ms();
    lease_stop(fixture->a.lease, /* release= */ true);
    assert_in_range(clock_monotonic_ms() - started_ms, 0, 300);
    assert_int_equal(atomic_load(&fixture->a.elected), 0);
    CLEANUP_JSON cJSON *spec = spec_copy(&fixture->server);
    assert_string_equal(json_string(spec, "holderIdentity"), "z");
    wait_for_leader(&fixture->a, false);
}

int main(void)
{
    log_set_level(LOG_ERROR);
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_the_first_creates_it_and_renews),
        TEST(test_one_of_two_leads),
        TEST(test_release_hands_over_at_once),
        TEST(test_without_release_it_runs_out),
        TEST(test_only_local_observation_counts),
        TEST(test_a_silent_server_costs_the_lease_in_time),
        TEST(test_a_short_outage_costs_nothing),
        TEST(test_taken_by_force),
        TEST(test_others_may_touch_or_delete_it),
        TEST(test_a_write_whose_answer_was_lost),
        TEST(test_stop_while_waiting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
