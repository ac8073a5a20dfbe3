#include "runtime/base/options.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/base/text.h"
#include "runtime/base/version.h"

#define HELP_MAX_BYTES (1u << 20)

static void *field_of(const struct option_spec *spec, void *options)
{
    return (char *)options + spec->offset;
}

static bool parse_bool(const char *text, bool *ret_value)
{
    *ret_value = strcmp(text, "true") == 0 || strcmp(text, "1") == 0;
    return *ret_value || strcmp(text, "false") == 0 || strcmp(text, "0") == 0;
}

/* `source` is what the user wrote: "--port" or "CICADA_PORT". */
static int set_field(const struct option_spec *spec, const char *source, const char *text, void *options,
                     struct err *err)
{
    void *field = field_of(spec, options);
    switch (spec->type) {
    case OPTION_STRING:
        free(*(char **)field);
        *(char **)field = xstrdup(text);
        return 0;
    case OPTION_BOOL:
        if (parse_bool(text, field)) {
            return 0;
        }
        return err_set(err, ERR_INVALID, "%s: must be true or false, not \"%s\"", source,
                       spec->secret ? "***" : text);
    case OPTION_INT64:
        if (parse_int64(text, spec->min, spec->max, field)) {
            return 0;
        }
        return err_set(err, ERR_INVALID, "%s: must be an integer from %" PRId64 " to %" PRId64 ", not \"%s\"",
                       source, spec->min, spec->max, spec->secret ? "***" : text);
    }
    return err_set(err, ERR_INTERNAL, "%s: unknown type", source);
}

static void clear_field(const struct option_spec *spec, void *options)
{
    void *field = field_of(spec, options);
    switch (spec->type) {
    case OPTION_STRING:
        *(char **)field = NULL;
        break;
    case OPTION_BOOL:
        *(bool *)field = false;
        break;
    case OPTION_INT64:
        *(int64_t *)field = 0;
        break;
    }
}

static int set_defaults(const struct option_table *table, void *options, struct err *err)
{
    for (size_t i = 0; i < table->spec_count; i++) {
        const struct option_spec *spec = &table->specs[i];
        if (spec->default_text && set_field(spec, "default", spec->default_text, options, err) < 0) {
            err->code = ERR_INTERNAL;
            return -1;
        }
    }
    return 0;
}

/* An empty variable counts as not set: manifests often carry such. Flags that were given win. */
static int set_from_environment(const struct option_table *table, const bool *given, void *options,
                                struct err *err)
{
    for (size_t i = 0; i < table->spec_count; i++) {
        const struct option_spec *spec = &table->specs[i];
        const char *text = spec->env && !given[i] ? getenv(spec->env) : NULL;
        if (text && *text && set_field(spec, spec->env, text, options, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static const struct option_spec *find_flag(const struct option_table *table, const char *name, size_t len)
{
    for (size_t i = 0; i < table->spec_count; i++) {
        const char *candidate = table->specs[i].name;
        if (candidate && strlen(candidate) == len && memcmp(candidate, name, len) == 0) {
            return &table->specs[i];
        }
    }
    return NULL;
}

/* What is being parsed. */
struct arguments {
    const struct option_table *table;
    int argc;
    char **argv;
    int at;          /* index of the next argument */
    char **operands; /* arguments that are no flags, so far */
    int operand_count;
    bool *given; /* for each spec: a flag set it */
    void *options;
};

/* The argument at args->at is a flag. */
static int take_flag(struct arguments *args, struct err *err)
{
    const char *flag = args->argv[args->at++];
    size_t len = strcspn(flag, "=");
    const struct option_spec *spec =
        str_starts_with(flag, "--") ? find_flag(args->table, flag + 2, len - 2) : NULL;
    if (!spec) {
        return err_set(err, ERR_INVALID, "unknown flag %.*s; see --help", (int)(len < 200 ? len : 200), flag);
    }
    char source[128];
    snprintf(source, sizeof(source), "--%s", spec->name);
    const char *text = "true";
    if (flag[len] == '=') {
        text = flag + len + 1;
    } else if (spec->type != OPTION_BOOL) {
        if (args->at == args->argc) {
            return err_set(err, ERR_INVALID, "%s: a value is missing", source);
        }
        text = args->argv[args->at++];
    }
    args->given[spec - args->table->specs] = true;
    return set_field(spec, source, text, args->options, err);
}

static void print_help(const struct option_table *table,
                       void (*print)(const struct option_table *, struct strbuf *))
{
    CLEANUP_STRBUF struct strbuf out;
    strbuf_init(&out, HELP_MAX_BYTES);
    print(table, &out);
    fputs(out.buf, stdout);
}

/* Whether the flag asks for something to be printed instead of a run; it is then done. */
static bool take_help(const struct option_table *table, const char *flag)
{
    if (strcmp(flag, "--help") == 0 || strcmp(flag, "-h") == 0) {
        print_help(table, options_help);
    } else if (strcmp(flag, "--help=markdown") == 0) {
        print_help(table, options_markdown);
    } else if (strcmp(flag, "--version") == 0) {
        printf("%s %s\n", table->program, CICADA_VERSION);
    } else {
        return false;
    }
    return true;
}

static int take_operand(struct arguments *args, struct err *err)
{
    char *operand = args->argv[args->at++];
    if (!args->table->arguments) {
        return err_set(err, ERR_INVALID, "unexpected argument \"%.200s\"; see --help", operand);
    }
    args->operands[args->operand_count++] = operand;
    return 0;
}

/* Flags and operands in any order; after "--" there are operands only, and "-" is one. */
static int take_arguments(struct arguments *args, enum options_result *ret_result, struct err *err)
{
    bool flags_are_over = false;
    while (args->at < args->argc) {
        const char *argument = args->argv[args->at];
        bool is_flag = !flags_are_over && argument[0] == '-' && argument[1] != '\0';
        if (is_flag && strcmp(argument, "--") == 0) {
            flags_are_over = true;
            args->at++;
        } else if (is_flag && take_help(args->table, argument)) {
            *ret_result = OPTIONS_EXIT;
            return 0;
        } else if ((is_flag ? take_flag(args, err) : take_operand(args, err)) < 0) {
            return -1;
        }
    }
    *ret_result = OPTIONS_RUN;
    return 0;
}

int options_parse(const struct option_table *table, int argc, char **argv, void *options,
                  enum options_result *ret_result, int *ret_first_argument, struct err *err)
{
    CLEANUP_FREE bool *given = xcalloc(table->spec_count, sizeof(bool));
    CLEANUP_FREE char **operands = xcalloc((size_t)argc + 1, sizeof(char *));
    struct arguments args = {.table = table,
                             .argc = argc,
                             .argv = argv,
                             .at = 1,
                             .operands = operands,
                             .given = given,
                             .options = options};
    enum options_result result = OPTIONS_RUN;
    for (size_t i = 0; i < table->spec_count; i++) {
        clear_field(&table->specs[i], options);
    }
    if (set_defaults(table, options, err) < 0 || take_arguments(&args, &result, err) < 0 ||
        (result == OPTIONS_RUN && set_from_environment(table, given, options, err) < 0)) {
        options_release(table, options);
        return -1;
    }
    *ret_result = result;
    *ret_first_argument = argc - args.operand_count;
    memcpy(argv + *ret_first_argument, operands, (size_t)args.operand_count * sizeof(char *));
    return 0;
}

void options_release(const struct option_table *table, void *options)
{
    for (size_t i = 0; i < table->spec_count; i++) {
        if (table->specs[i].type == OPTION_STRING) {
            char **field = field_of(&table->specs[i], options);
            free(*field);
            *field = NULL;
        }
    }
}
