/* The header Idempotency-Key, and the fingerprint of a request. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/host/context.h"
#include "runtime/host/idempotency_key.h"

static void expect_key(const char *value, const char *key)
{
    char found[IDEMPOTENCY_KEY_MAX_BYTES + 1];
    struct err err = ERR_INIT;

    if (idempotency_key_parse(value, found, &err) != 0)
        fail_msg("<%s>: %s", value, err.msg);
    assert_string_equal(found, key);
}

static void expect_malformed(const char *value, const char *text)
{
    char found[IDEMPOTENCY_KEY_MAX_BYTES + 1];
    struct err err = ERR_INIT;

    if (idempotency_key_parse(value, found, &err) == 0)
        fail_msg("<%s> is not refused: <%s>", value, found);
    assert_int_equal(err.code, ERR_INVALID);
    if (strstr(err.msg, text) == NULL)
        fail_msg("<%s>: expected <%s>, found <%s>", value, text, err.msg);
}

static void test_strings_and_tokens(void **state)
{
    (void)state;
    expect_key("\"8e03978e-40d5-43e8-bc93-6894a57f9324\"", "8e03978e-40d5-43e8-bc93-6894a57f9324");
    expect_key("8e03978e-40d5-43e8-bc93-6894a57f9324", "8e03978e-40d5-43e8-bc93-6894a57f9324");
    expect_key("\"a b,c;d=\"", "a b,c;d=");
    expect_key("\"a\\\"b\\\\c\"", "a\"b\\c");
    expect_key("order:17/3", "order:17/3");
    expect_key("  \"k\" ", "k");
    expect_key("\" \"", " ");
}

static void test_malformed_ones_are_refused(void **state)
{
    (void)state;
    expect_malformed("", "is empty");
    expect_malformed("\"\"", "is empty");
    expect_malformed("\"abc", "closing quote");
    expect_malformed("\"", "closing quote");
    expect_malformed("\"abc\\", "backslash");
    expect_malformed("\"a\\n\"", "backslash");
    expect_malformed("\"k\";v=1", "one string in quotes");
    expect_malformed("\"a\", \"b\"", "one string in quotes");
    expect_malformed("a b", "one string in quotes");
    expect_malformed("a,b", "one string in quotes");
    expect_malformed("abc==", "one string in quotes");
    expect_malformed("\"caf\xc3\xa9\"", "printable ASCII");
    expect_malformed("\"a\tb\"", "printable ASCII");
    expect_malformed("\"a\x7f\"", "printable ASCII");
    expect_malformed("caf\xc3\xa9", "one string in quotes");
}

static void test_length_is_limited(void **state)
{
    char longest[IDEMPOTENCY_KEY_MAX_BYTES + 4], found[IDEMPOTENCY_KEY_MAX_BYTES + 1];
    struct err err = ERR_INIT;

    (void)state;
    memset(longest, 'k', sizeof(longest));
    longest[IDEMPOTENCY_KEY_MAX_BYTES] = '\0';
    expect_key(longest, longest);
    longest[IDEMPOTENCY_KEY_MAX_BYTES] = 'k';
    longest[IDEMPOTENCY_KEY_MAX_BYTES + 1] = '\0';
    expect_malformed(longest, "longer than 255 bytes");
    /* In quotes the quotes do not count, nor do backslashes that only escape. */
    longest[0] = longest[IDEMPOTENCY_KEY_MAX_BYTES + 1] = '"';
    longest[IDEMPOTENCY_KEY_MAX_BYTES + 2] = '\0';
    assert_int_equal(idempotency_key_parse(longest, found, &err), 0);
    assert_int_equal(strlen(found), IDEMPOTENCY_KEY_MAX_BYTES);
    memmove(longest + 1, longest, IDEMPOTENCY_KEY_MAX_BYTES + 3);
    longest[1] = '\\';
    longest[2] = '"';
    assert_int_equal(idempotency_key_parse(longest, found, &err), 0);
    assert_int_equal(strlen(found), IDEMPOTENCY_KEY_MAX_BYTES);
}

static const struct http_header no_authorization[] = {{"Content-Type", "text/plain"}, {"X-Other", "1"}};
static const struct http_header alice[] = {{"Content-Type", "text/plain"}, {"authorization", "Bearer alice"}};
static const struct http_header bob[] = {{"Content-Type", "text/plain"}, {"authorization", "Bearer bob"}};

static const struct request_source base = {"POST", "/orders", "a=1", alice, 2, "body", 4};

static void fingerprint_of(const struct request_source *source, char out[IDEMPOTENCY_FINGERPRINT_SIZE])
{
    struct cicada_request request;
    struct arena arena;
    struct err err = ERR_INIT;

    arena_init(&arena);
    assert_int_equal(request_init(&request, &sdk_calls, &arena, source, &err), 0);
    if (idempotency_fingerprint(&request, /* with_body= */ true, out, &err) != 0)
        fail_msg("%s", err.msg);
    request_release(&request);
    arena_release(&arena);
    assert_int_equal(strlen(out), IDEMPOTENCY_FINGERPRINT_SIZE - 1);
    assert_memory_equal(out, "\\x", 2);
}

static void test_every_part_counts(void **state)
{
    struct request_source others[] = {base, base, base, base, base, base, base, base};
    char first[IDEMPOTENCY_FINGERPRINT_SIZE], other[ARRAY_SIZE(others)][IDEMPOTENCY_FINGERPRINT_SIZE];

    (void)state;
    others[0].method = "PUT";
    others[1].raw_path = "/order";
    others[2].query = "a=2";
    others[3].query = NULL;
    others[4].body = "bodY";
    others[5].headers = bob;
    others[6].headers = no_authorization;
    others[7] = (struct request_source){"POST", "/ordersa", "=1", alice, 2, "body", 4}; /* a byte wanders */
    fingerprint_of(&base, first);
    for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
        fingerprint_of(&others[i], other[i]);
        assert_string_not_equal(first, other[i]);
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(other[i], other[j]);
    }
    fingerprint_of(&base, other[0]);
    assert_string_equal(first, other[0]);
}

/* It is kept for a day in a database that outlives releases: the same request must have the same one tomorrow. Computed by
 * Python's hashlib. */
static void test_fingerprint_is_pinned(void **state)
{
    char found[IDEMPOTENCY_FINGERPRINT_SIZE];

    (void)state;
    fingerprint_of(&base, found);
    assert_string_equal(found, "\\xe42286691e98749e5dc37d3ffc6c4f2f05d4f9a19627da9cb0f121903365ca7d");
}

/* Likewise; no byte can wander from source to id, and no header can have the key. */
static void test_keys_of_events(void **state)
{
    static const struct cloud_event events[] = {
        {.id = "7", .source = "/shop"}, {.id = "p7", .source = "/sho"}, {.id = "/shop", .source = "7"}};
    char keys[ARRAY_SIZE(events)][IDEMPOTENCY_KEY_MAX_BYTES + 1];
    struct err err = ERR_INIT;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(events); i++) {
        if (idempotency_event_key(&events[i], keys[i], &err) != 0)
            fail_msg("%s", err.msg);
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(keys[i], keys[j]);
    }
    assert_string_equal(keys[0], "event\t501e6727cd1cde924748ff6974f0d3c372318b116b32bc5156be11079cceb554");
    expect_malformed(keys[0], "one string in quotes");
}

static void test_other_headers_do_not_count(void **state)
{
    static const struct http_header more[] = {
        {"Authorization", "Bearer alice"}, {"Content-Type", "text/html"}, {"X-Request-Id", "17"}};
    struct request_source same = base;
    char first[IDEMPOTENCY_FINGERPRINT_SIZE], other[IDEMPOTENCY_FINGERPRINT_SIZE];

    (void)state;
    same.headers = more;
    same.header_count = ARRAY_SIZE(more);
    fingerprint_of(&base, first);
    fingerprint_of(&same, other);
    assert_string_equal(first, other);
}

static void test_header_is_found_once(void **state)
{
    static const struct http_header twice[] = {{"idempotency-key", "a"}, {"Idempotency-Key", "a"}};
    struct request_source source = {"POST", "/", NULL, twice, 0, "", 0};
    struct err err = ERR_INIT;

    (void)state;
    for (size_t count = 0; count <= 2; count++) {
        struct cicada_request request;
        struct arena arena;
        const char *value;

        arena_init(&arena);
        source.header_count = count;
        assert_int_equal(request_init(&request, &sdk_calls, &arena, &source, &err), 0);
        assert_int_equal(idempotency_key_find(&request, &value, &err), count == 2 ? -1 : 0);
        if (count == 0)
            assert_null(value);
        else if (count == 1)
            assert_string_equal(value, "a");
        request_release(&request);
        arena_release(&arena);
    }
    assert_non_null(strstr(err.msg, "more than once"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_strings_and_tokens),         cmocka_unit_test(test_malformed_ones_are_refused),
        cmocka_unit_test(test_length_is_limited),          cmocka_unit_test(test_every_part_counts),
        cmocka_unit_test(test_fingerprint_is_pinned),      cmocka_unit_test(test_keys_of_events),
        cmocka_unit_test(test_other_headers_do_not_count), cmocka_unit_test(test_header_is_found_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
