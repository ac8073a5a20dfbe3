#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/json.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"
#include "runtime/tests/support_test.h"

static char path[] = "/tmp/cicada-test-log-XXXXXX";
static int log_fd, saved_stderr;

/* Standard error goes to a file during each test. */
static int capture(void **state)
{
    (void)state;
    fflush(stderr);
    memcpy(path + sizeof(path) - 7, "XXXXXX", 6);
    log_fd = mkstemp(path);
    saved_stderr = dup(STDERR_FILENO);
    dup2(log_fd, STDERR_FILENO);
    log_set_level(LOG_INFO);
    log_set_component(NULL);
    log_scope_clear();
    return 0;
}

static int release(void **state)
{
    (void)state;
    dup2(saved_stderr, STDERR_FILENO);
    close(saved_stderr);
    close(log_fd);
    unlink(path);
    return 0;
}

static char *logged(void)
{
    struct err err = ERR_INIT;
    char *text;
    assert_ok(file_read(path, 4 << 20, &text, NULL, &err));
    return text;
}

static cJSON *only_line(void)
{
    struct err err = ERR_INIT;
    CLEANUP_FREE char *text = logged();
    char *end = strchr(text, '\n');
    assert_non_null(end);
    assert_string_equal(end, "\n");
    cJSON *line;
    assert_ok(json_parse(text, strlen(text), 4, &line, &err));
    return line;
}

static void writes_one_line_of_json(void **state)
{
    (void)state;
    log_set_component("gateway");
    log_scope_set("shop/create-order", "req-1");
    errno = EAGAIN;
    log_warn("it took %d ms: \"%s\"", 5, "a\nb\xFF");
    assert_int_equal(errno, EAGAIN);
    CLEANUP_JSON cJSON *line = only_line();
    assert_string_equal(json_string(line, "level"), "warn");
    assert_string_equal(json_string(line, "component"), "gateway");
    assert_string_equal(json_string(line, "object"), "shop/create-order");
    assert_string_equal(json_string(line, "requestId"), "req-1");
    assert_string_equal(json_string(line, "message"), "it took 5 ms: \"a\nb\xEF\xBF\xBD\"");
    int64_t time_ms;
    assert_true(parse_rfc3339(json_string(line, "time"), &time_ms));
}

static void leaves_out_what_is_not_set(void **state)
{
    (void)state;
    log_scope_set(NULL, "only");
    log_scope_set("object", NULL);
    log_info("x");
    CLEANUP_JSON cJSON *line = only_line();
    assert_null(json_get(line, "component"));
    assert_null(json_get(line, "requestId"));
    assert_string_equal(json_string(line, "object"), "object");
    assert_int_equal(cJSON_GetArraySize(line), 4);
}

static void filters_by_level(void **state)
{
    (void)state;
    assert_false(log_enabled(LOG_DEBUG));
    log_debug("no %d", 1);
    log_write(LOG_DEBUG, "no");
    log_set_level(LOG_ERROR);
    log_info("no");
    log_warn("no");
    log_error("yes");
    CLEANUP_JSON cJSON *line = only_line();
    assert_string_equal(json_string(line, "message"), "yes");
    enum log_level level;
    assert_true(log_level_parse("debug", &level));
    assert_int_equal(level, LOG_DEBUG);
    assert_true(log_level_parse("warn", &level));
    assert_int_equal(level, LOG_WARN);
    assert_false(log_level_parse("WARN", &level));
    assert_false(log_level_parse("", &level));
}

/* Characters of several widths, at every offset: the line keeps its limit, stays JSON, and says that it was cut. */
static void cuts_long_messages(void **state)
{
    (void)state;
    static const char *const units[] = {"x", "\"", "\n", "\xE2\x82\xAC", "\x01", "\xFF"};
    for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
        for (size_t lead = 0; lead < 7; lead++) {
            struct err err = ERR_INIT;
            CLEANUP_STRBUF struct strbuf message;
            strbuf_init(&message, 1 << 20);
            strbuf_append(&message, "       ", lead);
            while (message.len < 2 * LOG_LINE_MAX_BYTES) {
                strbuf_append_str(&message, units[i]);
            }
            assert_int_equal(ftruncate(log_fd, 0), 0);
            lseek(log_fd, 0, SEEK_SET);
            log_info("%s", message.buf);
            CLEANUP_FREE char *text = logged();
            assert_in_range(strlen(text), LOG_LINE_MAX_BYTES - 200, LOG_LINE_MAX_BYTES);
            CLEANUP_JSON cJSON *line = NULL;
            assert_ok(json_parse(text, strlen(text), 4, &line, &err));
            assert_true(str_ends_with(json_string(line, "message"), "\xE2\x80\xA6"));
        }
    }
}

static void long_scopes_are_cut(void **state)
{
    (void)state;
    char name[4000];
    memset(name, 'n', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    log_scope_set(name, name);
    log_info("x");
    CLEANUP_JSON cJSON *line = only_line();
    assert_in_range(strlen(json_string(line, "object")), 253, 300);
    assert_string_equal(json_string(line, "message"), "x");
}

static void trace_ids_are_of_one_scope(void **state)
{
    (void)state;
    log_scope_set("object", "r");
    log_scope_set_trace("0af7651916cd43dd8448eb211c80319c");
    log_info("x");
    CLEANUP_JSON cJSON *line = only_line();
    assert_string_equal(json_string(line, "traceId"), "0af7651916cd43dd8448eb211c80319c");
    assert_int_equal(ftruncate(log_fd, 0), 0);
    lseek(log_fd, 0, SEEK_SET);
    log_scope_set("object", "s");
    log_info("x");
    CLEANUP_JSON cJSON *next = only_line();
    assert_null(json_get(next, "traceId"));
}

static void lines_have_members(void **state)
{
    (void)state;
    struct log_members members;
    log_members_init(&members);
    log_members_string(&members, "path", "/a\"b\n\xFF", 100);
    log_members_string(&members, "none", NULL, 100);
    log_members_string(&members, "long", "\xE2\x82\xAC\xE2\x82\xAC\xE2\x82\xAC\xE2\x82\xAC", 13);
    log_members_int64(&members, "status", -5);
    log_members_ms(&members, "durationMs", 1002003);
    log_members_ms(&members, "waitedMs", 4);
    log_members_bool(&members, "reused", true);
    log_write_members(LOG_DEBUG, &members, "no");
    log_write_members(LOG_INFO, &members, "a request");
    CLEANUP_FREE char *text = logged();
    assert_non_null(strstr(text, "\"level\":\"info\",\"path\":\"/a\\\"b\\n\xEF\xBF\xBD\","
                                 "\"long\":\"\xE2\x82\xAC\xE2\x82\xAC\xE2\x80\xA6\",\"status\":-5,"
                                 "\"durationMs\":1002.003,\"waitedMs\":0.004,\"reused\":true,"
                                 "\"message\":\"a request\"}\n"));
    CLEANUP_JSON cJSON *line = only_line();
    assert_string_equal(json_string(line, "message"), "a request");
}

/* The longest scope, members up to their limit, a long message: still one line of JSON within the limit. */
static void members_are_bounded(void **state)
{
    (void)state;
    char name[LOG_LINE_MAX_BYTES];
    memset(name, 1, sizeof(name) - 1); /* six bytes each as JSON */
    name[sizeof(name) - 1] = '\0';
    struct log_members members;
    log_members_init(&members);
    log_members_string(&members, "first", name, LOG_MEMBERS_MAX_BYTES / 2);
    log_members_string(&members, "second", name, LOG_MEMBERS_MAX_BYTES / 2);
    log_members_int64(&members, "third", 3);
    log_scope_set(name, name);
    log_write_members(LOG_INFO, &members, name);
    CLEANUP_FREE char *text = logged();
    assert_in_range(strlen(text), LOG_LINE_MAX_BYTES - 10, LOG_LINE_MAX_BYTES);
    CLEANUP_JSON cJSON *line = only_line();
    assert_true(str_ends_with(json_string(line, "first"), "\x01\xE2\x80\xA6"));
    assert_null(json_get(line, "second"));
    assert_null(json_get(line, "third"));
    assert_true(str_ends_with(json_string(line, "message"), "\x01\xE2\x80\xA6"));
}

static void *log_many(void *arg)
{
    log_scope_set(arg, NULL);
    for (int i = 0; i < 200; i++) {
        log_info("from %s", (const char *)arg);
    }
    return NULL;
}

static void scopes_belong_to_threads(void **state)
{
    (void)state;
    static char names[4][2] = {"a", "b", "c", "d"};
    pthread_t threads[4];
    int append = fcntl(STDERR_FILENO, F_GETFL);
    fcntl(STDERR_FILENO, F_SETFL, append | O_APPEND);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, log_many, names[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
    }
    struct err err = ERR_INIT;
    CLEANUP_FREE char *text = logged();
    int count = 0;
    for (char *line = text, *end; (end = strchr(line, '\n')) != NULL; line = end + 1, count++) {
        CLEANUP_JSON cJSON *tree = NULL;
        assert_ok(json_parse(line, (size_t)(end - line), 4, &tree, &err));
        const char *message = json_string(tree, "message"), *object = json_string(tree, "object");
        assert_string_equal(message + strlen("from "), object);
    }
    assert_int_equal(count, 800);
}

struct heard {
    enum log_level level;
    char object[64], message[64];
    int lines;
};

static void hear(void *arg, enum log_level level, const char *object, const char *message)
{
    struct heard *heard = arg;
    heard->level = level;
    snprintf(heard->object, sizeof heard->object, "%s", object);
    snprintf(heard->message, sizeof heard->message, "%s", message);
    heard->lines++;
}

static void a_sink_gets_what_people_read(void **state)
{
    (void)state;
    struct heard heard = {.lines = 0};
    log_set_sink(hear, &heard);
    log_scope_set("shop/orders", NULL);
    log_warn("%d left", 3);
    log_debug("not at this level");
    log_scope_clear();
    log_set_sink(NULL, NULL);
    assert_int_equal(heard.lines, 1);
    assert_int_equal(heard.level, LOG_WARN);
    assert_string_equal(log_level_name(heard.level), "warn");
    assert_string_equal(heard.object, "shop/orders");
    assert_string_equal(heard.message, "3 left");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(writes_one_line_of_json, capture, release),
        cmocka_unit_test_setup_teardown(leaves_out_what_is_not_set, capture, release),
        cmocka_unit_test_setup_teardown(filters_by_level, capture, release),
        cmocka_unit_test_setup_teardown(cuts_long_messages, capture, release),
        cmocka_unit_test_setup_teardown(long_scopes_are_cut, capture, release),
        cmocka_unit_test_setup_teardown(trace_ids_are_of_one_scope, capture, release),
        cmocka_unit_test_setup_teardown(lines_have_members, capture, release),
        cmocka_unit_test_setup_teardown(members_are_bounded, capture, release),
        cmocka_unit_test_setup_teardown(scopes_belong_to_threads, capture, release),
        cmocka_unit_test(a_sink_gets_what_people_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
