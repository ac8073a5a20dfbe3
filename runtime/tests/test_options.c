#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/mem.h"
#include "runtime/base/options.h"
#include "runtime/base/text.h"
#include "runtime/base/version.h"
#include "runtime/tests/support_test.h"

struct settings {
    char *listen, *password, *note;
    bool verbose;
    int64_t port, limit;
};

static const struct option_spec specs[] = {
    {.name = "listen",
     .env = "CICADA_TEST_LISTEN",
     .type = OPTION_STRING,
     .offset = offsetof(struct settings, listen),
     .default_text = "0.0.0.0",
     .help =
         "Address to listen on, with a sentence that is long enough to be broken into two lines of help."},
    {.name = "port",
     .env = "CICADA_TEST_PORT",
     .type = OPTION_INT64,
     .offset = offsetof(struct settings, port),
     .default_text = "8080",
     .min = 1,
     .max = 65535,
     .help = "Port | number <n>."},
    {.name = "verbose",
     .env = "CICADA_TEST_VERBOSE",
     .type = OPTION_BOOL,
     .offset = offsetof(struct settings, verbose),
     .help = "Says more."},
    {.name = "limit",
     .type = OPTION_INT64,
     .offset = offsetof(struct settings, limit),
     .min = 0,
     .max = INT64_MAX,
     .help = "A limit."},
    {.name = "note", .type = OPTION_STRING, .offset = offsetof(struct settings, note), .help = "A note."},
    {.env = "CICADA_TEST_PASSWORD",
     .type = OPTION_STRING,
     .offset = offsetof(struct settings, password),
     .secret = true,
     .help = "The password."},
};

static const struct option_table table = {
    .program = "prog", .summary = "Does something.", .specs = specs, .spec_count = ARRAY_SIZE(specs)};
static const struct option_table table_with_arguments = {
    .program = "prog", .arguments = "FILE...", .specs = specs, .spec_count = ARRAY_SIZE(specs)};

static int clear_environment(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(specs); i++) {
        if (specs[i].env) {
            unsetenv(specs[i].env);
        }
    }
    return 0;
}

/* Arguments from one text, separated by spaces; valid until the next call. */
static char **split(const char *arguments, int *ret_argc)
{
    static char text[1024];
    static char *argv[32] = {text};
    int argc = 1;
    snprintf(text, sizeof(text), "%s", arguments);
    for (char *p = text; *p; argc++) {
        argv[argc] = p;
        p += strcspn(p, " ");
        if (*p) {
            *p++ = '\0';
        }
    }
    *ret_argc = argc;
    return argv;
}

/* Fills settings. */
static int parse(const struct option_table *which, const char *arguments, struct settings *settings,
                 enum options_result *ret_result, int *ret_first, struct err *err)
{
    int argc;
    char **argv = split(arguments, &argc);
    memset(settings, 0x5A, sizeof(*settings)); /* the caller initialises nothing */
    return options_parse(which, argc, argv, settings, ret_result, ret_first, err);
}

static struct settings parsed(const char *arguments)
{
    struct err err = ERR_INIT;
    struct settings settings;
    enum options_result result;
    int first;
    assert_ok(parse(&table, arguments, &settings, &result, &first, &err));
    assert_int_equal(result, OPTIONS_RUN);
    return settings;
}

static void refused(const char *arguments, const char *message)
{
    struct err err = ERR_INIT;
    struct settings settings;
    enum options_result result;
    int first;
    assert_fails(parse(&table, arguments, &settings, &result, &first, &err), ERR_INVALID);
    assert_string_equal(err.msg, message);
    assert_null(settings.listen);
}

static void begins_with_defaults(void **state)
{
    (void)state;
    struct settings settings = parsed("");
    assert_string_equal(settings.listen, "0.0.0.0");
    assert_int_equal(settings.port, 8080);
    assert_false(settings.verbose);
    assert_int_equal(settings.limit, 0);
    assert_null(settings.note);
    assert_null(settings.password);
    options_release(&table, &settings);
    assert_null(settings.listen);
}

static void environment_then_flags(void **state)
{
    (void)state;
    setenv("CICADA_TEST_LISTEN", "1.1.1.1", 1);
    setenv("CICADA_TEST_PORT", "1", 1);
    setenv("CICADA_TEST_VERBOSE", "true", 1);
    setenv("CICADA_TEST_PASSWORD", "secret", 1);
    struct settings settings = parsed("--port=2 --note a=b --verbose=false --limit 7 --port 3");
    assert_string_equal(settings.listen, "1.1.1.1");
    assert_int_equal(settings.port, 3);
    assert_false(settings.verbose);
    assert_string_equal(settings.note, "a=b");
    assert_int_equal(settings.limit, 7);
    assert_string_equal(settings.password, "secret");
    options_release(&table, &settings);
    setenv("CICADA_TEST_LISTEN", "", 1); /* counts as not set */
    settings = parsed("--note= --verbose");
    assert_string_equal(settings.listen, "0.0.0.0");
    assert_string_equal(settings.note, "");
    assert_true(settings.verbose);
    options_release(&table, &settings);
}

static void errors_name_flag_and_range(void **state)
{
    (void)state;
    refused("--port=0", "--port: must be an integer from 1 to 65535, not \"0\"");
    refused("--port x", "--port: must be an integer from 1 to 65535, not \"x\"");
    refused("--verbose=maybe", "--verbose: must be true or false, not \"maybe\"");
    refused("--note", "--note: a value is missing");
    refused("--nope=1", "unknown flag --nope; see --help");
    refused("-p 1", "unknown flag -p; see --help");
    refused("--=x", "unknown flag --; see --help");
    refused("--por=1", "unknown flag --por; see --help");
    refused("file", "unexpected argument \"file\"; see --help");
    refused("--listen=x --CICADA_TEST_PASSWORD=y", "unknown flag --CICADA_TEST_PASSWORD; see --help");
    setenv("CICADA_TEST_PORT", "65536", 1);
    refused("", "CICADA_TEST_PORT: must be an integer from 1 to 65535, not \"65536\"");
    struct settings settings = parsed("--port=5"); /* a flag hides a bad variable */
    options_release(&table, &settings);
}

/* `arguments` parsed: what is left, separated by spaces, and the port. */
static void expect_arguments(const char *arguments, const char *left, int64_t port)
{
    struct err err = ERR_INIT;
    struct settings settings;
    enum options_result result;
    int first, argc;
    char **argv = split(arguments, &argc);
    assert_ok(options_parse(&table_with_arguments, argc, argv, &settings, &result, &first, &err));
    CLEANUP_STRBUF struct strbuf text;
    strbuf_init(&text, 1024);
    for (int i = first; i < argc; i++) {
        strbuf_appendf(&text, "%s%s", i > first ? " " : "", argv[i]);
    }
    assert_string_equal(text.buf, left);
    assert_int_equal(settings.port, port);
    options_release(&table_with_arguments, &settings);
}

static void takes_flags_and_arguments_in_any_order(void **state)
{
    (void)state;
    expect_arguments("", "", 8080);
    expect_arguments("--port=1", "", 1);
    expect_arguments("--port 1 a b", "a b", 1);
    expect_arguments("a --port=1", "a", 1);
    expect_arguments("a --port 1 b --verbose c", "a b c", 1);
    expect_arguments("a b --port 1", "a b", 1);
    expect_arguments("-- --port", "--port", 8080);
    expect_arguments("a --port=1 -- --port=2 --", "a --port=2 --", 1);
    expect_arguments("-", "-", 8080);
    expect_arguments("- --port=1", "-", 1);
    expect_arguments("--note -- a --port=1", "a", 1); /* the value of --note */
}

static void refuses_arguments_of_programs_without(void **state)
{
    (void)state;
    refused("file --port=1", "unexpected argument \"file\"; see --help");
    refused("--port=1 file", "unexpected argument \"file\"; see --help");
    refused("-- --port=1", "unexpected argument \"--port=1\"; see --help");
    refused("-", "unexpected argument \"-\"; see --help");
}

/* What options_parse() prints on standard output. */
static char *output_of(const char *arguments)
{
    struct err err = ERR_INIT;
    struct settings settings;
    enum options_result result;
    int first;
    char path[] = "/tmp/cicada-test-options-XXXXXX";
    fflush(stdout);
    int saved = dup(STDOUT_FILENO), fd = mkstemp(path);
    dup2(fd, STDOUT_FILENO);
    int status = parse(&table, arguments, &settings, &result, &first, &err);
    fflush(stdout);
    dup2(saved, STDOUT_FILENO);
    close(saved);
    close(fd);
    assert_int_equal(status, 0);
    assert_int_equal(result, OPTIONS_EXIT);
    options_release(&table, &settings);
    char *text;
    assert_ok(file_read(path, 1 << 20, &text, NULL, &err));
    unlink(path);
    return text;
}

static void prints_help_and_version(void **state)
{
    (void)state;
    CLEANUP_FREE char *version = output_of("--version");
    assert_string_equal(version, "prog " CICADA_VERSION "\n");
    setenv("CICADA_TEST_PORT", "bad", 1); /* help is given nevertheless */
    CLEANUP_FREE char *help = output_of("--port=1 --help");
    CLEANUP_FREE char *short_help = output_of("-h");
    assert_string_equal(help, short_help);
    assert_string_equal(
        help,
        "Usage: prog [flags]\n"
        "\n"
        "Does something.\n"
        "\n"
        "Flags:\n"
        "  --listen=TEXT\n"
        "      Address to listen on, with a sentence that is long enough to be broken into two lines of\n"
        "      help.\n"
        "      [default 0.0.0.0, environment CICADA_TEST_LISTEN]\n"
        "  --port=NUMBER\n"
        "      Port | number <n>.\n"
        "      [1 to 65535, default 8080, environment CICADA_TEST_PORT]\n"
        "  --verbose\n"
        "      Says more.\n"
        "      [environment CICADA_TEST_VERBOSE]\n"
        "  --limit=NUMBER\n"
        "      A limit.\n"
        "      [at least 0]\n"
        "  --note=TEXT\n"
        "      A note.\n"
        "  --help, --help=markdown\n"
        "      Prints this text, or the flags as a table.\n"
        "  --version\n"
        "      Prints the version.\n"
        "\n"
        "Environment only:\n"
        "  CICADA_TEST_PASSWORD\n"
        "      The password.\n");
}

static void writes_markdown(void **state)
{
    (void)state;
    CLEANUP_STRBUF struct strbuf out;
    strbuf_init(&out, 10000);
    options_markdown(&table, &out);
    assert_non_null(strstr(
        out.buf,
        "| `--port` | `CICADA_TEST_PORT` | integer, 1 to 65535 | `8080` | Port \\| number \\<n>. |\n"));
    assert_non_null(
        strstr(out.buf, "| `--verbose` | `CICADA_TEST_VERBOSE` | true or false |  | Says more. |\n"));
    assert_non_null(strstr(out.buf, "|  | `CICADA_TEST_PASSWORD` | text |  | The password. |\n"));
    CLEANUP_FREE char *printed = output_of("--help=markdown");
    assert_string_equal(printed, out.buf);
}

static void logs_settings_without_secrets(void **state)
{
    (void)state;
    setenv("CICADA_TEST_PASSWORD", "hunter2", 1);
    struct settings settings = parsed("--note=n");
    char path[] = "/tmp/cicada-test-options-XXXXXX";
    int saved = dup(STDERR_FILENO), fd = mkstemp(path);
    dup2(fd, STDERR_FILENO);
    options_log(&table, &settings);
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(fd);
    struct err err = ERR_INIT;
    CLEANUP_FREE char *text = NULL;
    assert_ok(file_read(path, 1 << 20, &text, NULL, &err));
    unlink(path);
    assert_null(strstr(text, "hunter2"));
    assert_non_null(strstr(text,
                           "settings: listen=\\\"0.0.0.0\\\" port=8080 verbose=false limit=0 note=\\\"n\\\" "
                           "CICADA_TEST_PASSWORD=***"));
    options_release(&table, &settings);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(begins_with_defaults, clear_environment),
        cmocka_unit_test_setup(environment_then_flags, clear_environment),
        cmocka_unit_test_setup(errors_name_flag_and_range, clear_environment),
        cmocka_unit_test_setup(takes_flags_and_arguments_in_any_order, clear_environment),
        cmocka_unit_test_setup(refuses_arguments_of_programs_without, clear_environment),
        cmocka_unit_test_setup(prints_help_and_version, clear_environment),
        cmocka_unit_test_setup(writes_markdown, clear_environment),
        cmocka_unit_test_setup(logs_settings_without_secrets, clear_environment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
