/* Secrets that Functions name, against a fake API server: which are read, when, and what reaches the core. */
#include "operator/tests/test_kube_catalog_fixture.h"

#define SHOP_TLS "GET /api/v1/namespaces/shop/secrets/shop-tls"
#define EVENTS   "POST /api/v1/namespaces/shop/events "
#define REPEAT   "PATCH /api/v1/namespaces/shop/events/"
#define GOOD     "Z29vZA==" /* good */
#define BETTER   "Z29vZDI=" /* good2 */
#define BAD      "YmFk"     /* bad */
#define KEY      "a2V5"     /* key */

static struct kube_certificates *start(struct fixture *fixture, struct metrics *metrics,
                                       struct event_recorder **ret_recorder)
{
    *ret_recorder = event_recorder_new(fixture->client, "cicada-gateway", /* metrics= */ NULL);
    event_recorder_start(*ret_recorder);
    struct kube_certificates *certificates = kube_certificates_new(
        fixture->client, &fixture->gateway, *ret_recorder, metrics, /* reread_ms= */ 40);
    kube_certificates_start(certificates);
    return certificates;
}

static void end(struct fixture *fixture, struct kube_certificates *certificates,
                struct event_recorder *recorder, struct metrics *metrics)
{
    stop_set(&fixture->stop);
    kube_certificates_stop(certificates);
    event_recorder_stop(recorder);
    kube_certificates_free(certificates);
    event_recorder_free(recorder);
    metrics_free(metrics);
    fixture_free(fixture);
}

/* What the Function named before, and names now. */
static void named(struct kube_certificates *certificates, const char *function, const char *before,
                  const char *now)
{
    char namespace[] = "shop";
    CLEANUP_FREE char *name = xstrdup(function), *uid = xasprintf("uid-%s", function);
    struct cached_object object = {.namespace = namespace, .name = name, .uid = uid};
    kube_certificates_named(certificates, &object, before, now);
}

static void answer_secret(struct fixture *fixture, const char *type, const char *data, int times)
{
    CLEANUP_FREE char *body =
        xasprintf("{\"kind\":\"Secret\",\"metadata\":{\"name\":\"shop-tls\"},\"type\":\"%s\","
                  "\"data\":{%s}}",
                  type, data);
    fake_apiserver_answer(fixture->server,
                          &(struct fake_answer){.match = SHOP_TLS, .body = body, .times = times});
}

static void answer_pair(struct fixture *fixture, const char *chain, int times)
{
    CLEANUP_FREE char *data = xasprintf("\"tls.crt\":\"%s\",\"tls.key\":\"" KEY "\"", chain);
    answer_secret(fixture, "kubernetes.io/tls", data, times);
}

static double problem(struct metrics *metrics, const char *reason)
{
    CLEANUP_STRBUF struct strbuf out;
    strbuf_init(&out, 1 << 20);
    assert_int_equal(metrics_render(metrics, &out), 0);
    CLEANUP_FREE char *line = xasprintf(
        "cicada_gateway_tls_secret_problem{namespace=\"shop\",secret=\"shop-tls\",reason=\"%s\"} 1\n",
        reason);
    return strstr(out.buf, line) != NULL;
}

static void await_problem(struct metrics *metrics, const char *reason, bool there)
{
    int64_t deadline_ms = clock_monotonic_ms() + WAIT_MS;
    while (problem(metrics, reason) != there) {
        assert_true(clock_monotonic_ms() < deadline_ms);
        pause_ms(2);
    }
}

static void a_renewed_one_is_found(void **state)
{
    (void)state;
    struct fixture *fixture = fixture_new();
    struct metrics *metrics = metrics_new();
    struct event_recorder *recorder;
    struct kube_certificates *certificates = start(fixture, metrics, &recorder);
    assert_true(kube_certificates_settled(certificates));
    answer_pair(fixture, GOOD, 3);
    answer_pair(fixture, BETTER, -1);
    named(certificates, "f", NULL, "shop-tls");
    await_record(&fixture->gateway, "certificate shop/shop-tls good key");
    await_record(&fixture->gateway, "certificate shop/shop-tls good2 key");
    assert_true(kube_certificates_settled(certificates));
    end(fixture, certificates, recorder, metrics);
}

static void what_nobody_names_is_forgotten(void **state)
{
    (void)state;
    struct fixture *fixture = fixture_new();
    struct metrics *metrics = metrics_new();
    struct event_recorder *recorder;
    struct kube_certificates *certificates = start(fixture, metrics, &recorder);
    answer_pair(fixture, GOOD, -1);
    named(certificates, "f", NULL, "shop-tls");
    named(certificates, "g", NULL, "shop-tls");
    await_record(&fixture->gateway, "certificate shop/shop-tls good key");
    named(certificates, "f", "shop-tls", "shop-tls");
    named(certificates, "f", "shop-tls", NULL);
    assert_int_equal(recorded(&fixture->gateway, "certificate shop/shop-tls removed"), 0);
    named(certificates, "g", "shop-tls", NULL);
    assert_int_equal(recorded(&fixture->gateway, "certificate shop/shop-tls removed"), 1);
    pause_ms(60); /* a reading that was under way has ended */
    int reads = fake_apiserver_count(fixture->server, SHOP_TLS);
    pause_ms(150);
    assert_int_equal(fake_apiserver_count(fixture->server, SHOP_TLS), reads);
    end(fixture, certificates, recorder, metrics);
}

static void what_is_wrong_is_told_and_repaired(void **state)
{
    (void)state;
    struct fixture *fixture = fixture_new();
    struct metrics *metrics = metrics_new();
    struct event_recorder *recorder;
    struct kube_certificates *certificates = start(fixture, metrics, &recorder);
    named(certificates, "f", NULL, "shop-tls"); /* no answer: 404 */
    await_problem(metrics, "SecretMissing", true);
    assert_true(kube_certificates_settled(certificates));
    static const struct {
        const char *type, *data, *reason;
    } cases[] = {
        {"Opaque", "\"tls.crt\":\"" GOOD "\",\"tls.key\":\"" KEY "\"", "CertificateInvalid"},
        {"kubernetes.io/tls", "\"tls.crt\":\"" GOOD "\"", "SecretMissing"},
        {"kubernetes.io/tls", "\"tls.crt\":\"" BAD "\",\"tls.key\":\"" KEY "\"", "CertificateInvalid"},
        {"kubernetes.io/tls", "\"tls.crt\":\"***\",\"tls.key\":\"" KEY "\"", "CertificateInvalid"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        answer_secret(fixture, cases[i].type, cases[i].data, -1);
        pause_ms(100);
        await_problem(metrics, cases[i].reason, true);
        fake_apiserver_forget(fixture->server, SHOP_TLS);
    }
    fake_apiserver_answer(fixture->server,
                          &(struct fake_answer){.match = SHOP_TLS, .status = 403, .body = "{}", .times = -1});
    await_problem(metrics, "SecretForbidden", true);
    fake_apiserver_forget(fixture->server, SHOP_TLS);
    answer_pair(fixture, GOOD, -1);
    await_problem(metrics, "SecretForbidden", false);
    assert_int_equal(recorded(&fixture->gateway, "certificate shop/shop-tls removed"),
                     0); /* the old one stayed */
    end(fixture, certificates, recorder, metrics);
}

static void await_requests(struct fixture *fixture, const char *match, int count)
{
    if (!fake_apiserver_wait(fixture->server, match, count, WAIT_MS)) {
        fail_msg("%s: %d of %d", match, fake_apiserver_count(fixture->server, match), count);
    }
    int reads = fake_apiserver_count(fixture->server, SHOP_TLS);
    assert_true(fake_apiserver_wait(fixture->server, SHOP_TLS, reads + 3, WAIT_MS));
    assert_int_equal(fake_apiserver_count(fixture->server, match), count); /* it is said once */
}

static void the_owners_are_told(void **state)
{
    (void)state;
    struct fixture *fixture = fixture_new();
    struct metrics *metrics = metrics_new();
    struct event_recorder *recorder;
    struct kube_certificates *certificates = start(fixture, metrics, &recorder);
    fake_apiserver_answer(fixture->server, &(struct fake_answer){.match = EVENTS, .body = "{}", .times = -1});
    fake_apiserver_answer(fixture->server, &(struct fake_answer){.match = REPEAT, .body = "{}", .times = -1});
    named(certificates, "f", NULL, "shop-tls");
    named(certificates, "g", NULL, "shop-tls");
    await_requests(fixture, EVENTS, 2);
    named(certificates, "h", NULL, "shop-tls"); /* it comes later, and hears of it, too */
    await_requests(fixture, EVENTS, 3);
    CLEANUP_FREE char *missing = fake_apiserver_request(fixture->server, EVENTS);
    assert_non_null(strstr(missing, "\"reason\":\"TlsSecretInvalid\""));
    assert_non_null(strstr(missing, "\"type\":\"Warning\""));
    assert_non_null(strstr(missing, "\"message\":\"Secret shop-tls: SecretMissing: "));
    assert_non_null(
        strstr(missing, "\"kind\":\"Function\",\"namespace\":\"shop\",\"name\":\"h\",\"uid\":\"uid-h\""));
    named(certificates, "f", "shop-tls", "shop-tls"); /* changed otherwise */
    await_requests(fixture, EVENTS, 3);
    answer_secret(fixture, "kubernetes.io/tls", "\"tls.crt\":\"" BAD "\"", -1);
    await_requests(fixture, EVENTS, 6);
    CLEANUP_FREE char *without = fake_apiserver_request(fixture->server, EVENTS);
    assert_non_null(strstr(without, "\"message\":\"Secret shop-tls: SecretMissing: it has no tls.key\""));
    assert_null(strstr(without, BAD));
    fake_apiserver_forget(fixture->server, SHOP_TLS);
    answer_pair(fixture, GOOD, -1);
    await_record(&fixture->gateway, "certificate shop/shop-tls good key");
    await_requests(fixture, EVENTS, 6); /* that it can be used is no Event */
    fake_apiserver_forget(fixture->server, SHOP_TLS);
    await_requests(fixture, REPEAT, 3); /* the same as at first */
    assert_int_equal(fake_apiserver_count(fixture->server, EVENTS), 6);
    end(fixture, certificates, recorder, metrics);
}

static void an_api_server_that_is_away_is_no_problem_of_the_secret(void **state)
{
    (void)state;
    struct fixture *fixture = fixture_new();
    struct metrics *metrics = metrics_new();
    struct event_recorder *recorder;
    struct kube_certificates *certificates = start(fixture, metrics, &recorder);
    fake_apiserver_answer(fixture->server,
                          &(struct fake_answer){.match = SHOP_TLS, .status = 503, .body = "{}", .times = 3});
    answer_pair(fixture, GOOD, -1);
    named(certificates, "f", NULL, "shop-tls");
    await_record(&fixture->gateway, "certificate shop/shop-tls good key");
    assert_false(problem(metrics, "SecretMissing") || problem(metrics, "CertificateInvalid"));
    end(fixture, certificates, recorder, metrics);
}

static void one_that_can_not_be_read_stops_nobody(void **state)
{
    (void)state;
    struct fixture *fixture = fixture_new();
    struct metrics *metrics = metrics_new();
    struct event_recorder *recorder;
    struct kube_certificates *certificates = start(fixture, metrics, &recorder);
    fake_apiserver_answer(fixture->server,
                          &(struct fake_answer){.match = SHOP_TLS, .status = 500, .body = "{}", .times = -1});
    named(certificates, "f", NULL, "shop-tls");
    assert_false(kube_certificates_settled(certificates));
    int64_t deadline_ms = clock_monotonic_ms() + WAIT_MS;
    while (!kube_certificates_settled(certificates)) {
        assert_true(clock_monotonic_ms() < deadline_ms);
        pause_ms(2);
    }
    fake_apiserver_forget(fixture->server, SHOP_TLS);
    answer_pair(fixture, GOOD, -1);
    await_record(&fixture->gateway, "certificate shop/shop-tls good key");
    end(fixture, certificates, recorder, metrics);
}

int main(void)
{
    http_client_global_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_renewed_one_is_found),
        cmocka_unit_test(what_nobody_names_is_forgotten),
        cmocka_unit_test(what_is_wrong_is_told_and_repaired),
        cmocka_unit_test(the_owners_are_told),
        cmocka_unit_test(one_that_can_not_be_read_stops_nobody),
        cmocka_unit_test(an_api_server_that_is_away_is_no_problem_of_the_secret),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
