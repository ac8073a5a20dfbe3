/* Database URLs: the same values as libpq reads, nothing that is not allowed, safe defaults. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <postgresql/libpq-fe.h>

#include "runtime/base/mem.h"
#include "runtime/base/text.h"
#include "runtime/postgres/pg_url.h"
#include "runtime/postgres/pg_url_text.h"

static void release_values(char *values[PG_URL_KEY_COUNT])
{
    for (size_t i = 0; i < PG_URL_KEY_COUNT; i++) {
        free(values[i]);
        values[i] = NULL;
    }
}

/* What libpq says about a key; NULL: nothing, or an empty value, which it ignores when it connects. */
static const char *libpq_value(const PQconninfoOption *options, const char *keyword)
{
    for (; options->keyword; options++) {
        if (strcmp(options->keyword, keyword) == 0)
            return options->val && options->val[0] ? options->val : NULL;
    }
    return NULL;
}

/* If we accept a text, libpq accepts it too and reads the same; if libpq refuses it, we do. */
static bool compare_with_libpq(const char *text)
{
    char *values[PG_URL_KEY_COUNT] = {0};
    struct err err = ERR_INIT;
    char *message = NULL;
    bool accepted = pg_url_text_parse(text, values, &err) == 0;
    PQconninfoOption *options = PQconninfoParse(text, &message);
    if (accepted && !options)
        fail_msg("accepted what libpq refuses: %s (%s)", text, message);
    for (size_t i = 0; accepted && i < PG_URL_KEY_COUNT; i++) {
        const char *theirs = libpq_value(options, pg_url_key_name((enum pg_url_key)i));
        if (!str_equal_or_both_null(values[i], theirs))
            fail_msg("%s: %s is %s, libpq says %s", text, pg_url_key_name((enum pg_url_key)i),
                     values[i] ? values[i] : "absent", theirs ? theirs : "absent");
    }
    release_values(values);
    PQfreemem(message);
    PQconninfoFree(options);
    return accepted;
}

static void test_same_as_libpq(void **state)
{
    (void)state;
    static const char *const accepted[] = {
        "postgresql://",
        "postgres://host",
        "postgresql://user@host:5433/db",
        "postgresql://user:pass%20word@host/db?sslmode=require&connect_timeout=7",
        "postgresql://user:p%40ss%3A@[::1]:5432/db",
        "postgresql://a:1,b:2,[fe80::1]:3/db?target_session_attrs=read-write",
        "postgresql://a,b:2/db",
        "postgresql:///db?host=/run/postgresql&user=me",
        "postgresql://%2Frun%2Fpostgresql/db",
        "postgresql://:secret@host",
        "postgresql://user:@host",
        "postgresql://user:pa:ss@host",
        "postgresql://host?ssl=true",
        "postgresql://host/?application_name=a%26b&",
        "postgresql://host/a/b@c",
        "postgresql://host/?user=",
        "postgresql://one/?host=two",
        "host=h port=1 user=u password='a b\\'c\\\\' dbname=d",
        "  host = h   user=''  dbname=a\\ b ",
        "host=h password=a'b'c",
        "hostaddr=127.0.0.1 sslrootcert=/ca.pem sslcert=c sslkey=k channel_binding=require",
        "user=a user=b",
    };
    static const char *const refused[] = {
        "",
        "   ",
        "host",
        "host=h password='open",
        "=x",
        "host h",
        "http://host/db",
        "postgresql:/host",
        "postgresql://u:p@[::1/db",
        "postgresql://[]/db",
        "postgresql://[::1]x/db",
        "postgresql://h?a",
        "postgresql://h?user=a=b",
        "postgresql://h?=b",
        "postgresql://u%zz@h",
        "postgresql://u%0@h",
        "postgresql://u%00@h",
        "postgresql://u%@h",
    };
    for (size_t i = 0; i < ARRAY_SIZE(accepted); i++) {
        if (!compare_with_libpq(accepted[i]))
            fail_msg("refused: %s", accepted[i]);
    }
    for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
        if (compare_with_libpq(refused[i]))
            fail_msg("accepted: %s", refused[i]);
    }
}

/* Random texts from the characters that matter. */
static void test_same_as_libpq_at_random(void **state)
{
    (void)state;
    static const char *const pieces[] = {"postgresql://",
                                         "user",
                                         "host",
                                         "=",
                                         "'",
                                         "\\",
                                         " ",
                                         "%41",
                                         "%4",
                                         ":",
                                         "@",
                                         "/",
                                         "?",
                                         "&",
                                         ",",
                                         "[",
                                         "::1",
                                         "]",
                                         "5",
                                         "db",
                                         "password",
                                         "\t",
                                         "ssl",
                                         "\n",
                                         "%%",
                                         "true",
                                         "sslmode"};
    uint64_t seed = 1;
    int accepted = 0;
    for (int round = 0; round < 20000; round++) {
        char text[256] = "";
        size_t len = 0;
        seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
        size_t count = (seed >> 33) % 14;
        for (size_t i = 0; i < count; i++) {
            seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
            len += (size_t)snprintf(text + len, sizeof(text) - len, "%s",
                                    pieces[(seed >> 33) % ARRAY_SIZE(pieces)]);
        }
        accepted += compare_with_libpq(text);
    }
    assert_true(accepted > 100);
}

static const char *param(const struct pg_url_params *params, const char *keyword)
{
    for (size_t i = 0; params->keywords[i]; i++) {
        if (strcmp(params->keywords[i], keyword) == 0)
            return params->values[i];
    }
    return NULL;
}

static struct pg_url *parse(const char *text)
{
    struct pg_url *url;
    struct err err = ERR_INIT;
    if (pg_url_parse(text, &url, &err) < 0)
        fail_msg("%s: %s", text, err.msg);
    return url;
}

static void check_ssl(const char *text, const char *mode)
{
    struct pg_url_params params;
    struct pg_url *url = parse(text);
    pg_url_params(url, 0, "app", &params);
    if (strcmp(param(&params, "sslmode"), mode) != 0)
        fail_msg("%s: sslmode %s, expected %s", text, param(&params, "sslmode"), mode);
    assert_string_equal(param(&params, "gssencmode"), "disable");
    assert_string_equal(param(&params, "client_encoding"), "UTF8");
    pg_url_free(url);
}

static void test_tls_unless_local(void **state)
{
    (void)state;
    check_ssl("postgresql://db.example.com/x", "verify-full");
    check_ssl("postgresql://10.1.2.3/x", "verify-full");
    check_ssl("postgresql://localhost.example.com/x", "verify-full");
    check_ssl("postgresql://[::2]/x", "verify-full");
    check_ssl("host=localhost hostaddr=10.0.0.1", "verify-full");
    check_ssl("postgresql://localhost/x", "disable");
    check_ssl("postgresql://LOCALHOST/x", "disable");
    check_ssl("postgresql://127.8.9.1/x", "disable");
    check_ssl("postgresql://[::1]/x", "disable");
    check_ssl("postgresql:///x?host=/run/pg", "disable");
    check_ssl("postgresql:///x", "disable");
    check_ssl("postgresql://db.example.com/x?sslmode=prefer", "prefer");
    check_ssl("postgresql://localhost/x?sslmode=verify-full", "verify-full");
}

static void test_defaults_and_hosts(void **state)
{
    (void)state;
    struct pg_url_params params;
    struct pg_url *url = parse("postgresql://u:p@a:1,b/db?connect_timeout=7");
    assert_int_equal(pg_url_host_count(url), 2);
    assert_int_equal(pg_url_connect_timeout_ms(url, 1), 7000);
    pg_url_params(url, 0, "cicada shop/f", &params);
    assert_string_equal(param(&params, "host"), "a");
    assert_string_equal(param(&params, "port"), "1");
    assert_string_equal(param(&params, "password"), "p");
    assert_string_equal(param(&params, "application_name"), "cicada shop/f");
    assert_string_equal(param(&params, "keepalives_idle"), "30");
    assert_string_equal(param(&params, "keepalives_interval"), "10");
    assert_string_equal(param(&params, "keepalives_count"), "3");
    assert_non_null(param(&params, "tcp_user_timeout"));
    pg_url_params(url, 1, "x", &params);
    assert_string_equal(param(&params, "host"), "b");
    assert_string_equal(param(&params, "port"), "5432");
    pg_url_free(url);

    url = parse("dbname=x application_name=mine");
    assert_int_equal(pg_url_connect_timeout_ms(url, 1), 1);
    pg_url_params(url, 0, "other", &params);
    assert_string_equal(param(&params, "host"), "/var/run/postgresql");
    assert_string_equal(param(&params, "application_name"), "mine");
    pg_url_free(url);
}

static void test_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *text, *word;
    } cases[] = {
        {"postgresql://h/d?options=-c%20x", "options"},
        {"service=prod", "service"},
        {"host=h passfile=/etc/shadow", "passfile"},
        {"host=h krbsrvname=x", "krbsrvname"},
        {"host=h replication=database", "replication"},
        {"host=h sslmode=maybe", "sslmode"},
        {"host=h target_session_attrs=prefer-standby", "target_session_attrs"},
        {"host=h channel_binding=x", "channel_binding"},
        {"host=h connect_timeout=-1", "connect_timeout"},
        {"host=h connect_timeout=soon", "connect_timeout"},
        {"host=h port=0", "port"},
        {"host=h port=65536", "port"},
        {"host=h port=5432x", "port"},
        {"host=a,b port=1,2,3", "port"},
        {"host=a,b hostaddr=127.0.0.1", "hostaddr"},
        {"postgresql://a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q/d", "hosts"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct pg_url *url;
        struct err err = ERR_INIT;
        if (pg_url_parse(cases[i].text, &url, &err) == 0)
            fail_msg("accepted: %s", cases[i].text);
        assert_int_equal(err.code, ERR_INVALID);
        if (!strstr(err.msg, cases[i].word))
            fail_msg("%s: %s", cases[i].text, err.msg);
    }
}

static void test_messages_hold_no_value(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "postgresql://u:s3cret/x@h/d?x", "postgresql://h/d?s3cret",       "s3cret",
        "host=h password=x s3cret!=1",   "postgresql://h:s3cret/d",       "postgresql://u:s3cret%zz@h",
        "host=h password='s3cret",       "postgresql://h?S3cret=1",       "host=h sslmode=s3cret",
        "postgres ://u:s3cret@h",        "host=h connect_timeout=s3cret",
    };
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        struct pg_url *url;
        struct err err = ERR_INIT;
        if (pg_url_parse(texts[i], &url, &err) == 0)
            fail_msg("accepted: %s", texts[i]);
        if (strcasestr(err.msg, "s3cret"))
            fail_msg("%s: %s", texts[i], err.msg);
    }
    char *longer = xmalloc(PG_URL_MAX_BYTES + 2);
    memset(longer, 'a', PG_URL_MAX_BYTES + 1);
    longer[PG_URL_MAX_BYTES + 1] = '\0';
    struct pg_url *url;
    struct err err = ERR_INIT;
    assert_int_equal(pg_url_parse(longer, &url, &err), -1);
    free(longer);
    pg_url_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_as_libpq),    cmocka_unit_test(test_same_as_libpq_at_random),
        cmocka_unit_test(test_tls_unless_local), cmocka_unit_test(test_defaults_and_hosts),
        cmocka_unit_test(test_refused_by_name),  cmocka_unit_test(test_messages_hold_no_value),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
