/* options.h - flags and environment of a program from one table.
 *
 * The table feeds the environment, the flags, --help, the Markdown reference (--help=markdown), and the start-up log (secrets masked).
 * Order: default, then environment, then flags. Flags are --name=value or --name value; booleans also --name. They may stand before,
 * between and after positional arguments, up to "--"; "-" is an argument.
 */
#ifndef CICADA_BASE_OPTIONS_H
#define CICADA_BASE_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/err.h"
#include "runtime/base/strbuf.h"

enum option_type {
    OPTION_STRING, /* char *, owned by the options struct */
    OPTION_BOOL,   /* bool */
    OPTION_INT64,  /* int64_t within [min, max] */
};

struct option_spec {
    const char *name; /* "listen" for --listen; NULL: environment only */
    const char *env;  /* "CICADA_LISTEN"; NULL: flag only */
    enum option_type type;
    size_t offset;            /* offsetof(struct x_options, field) */
    const char *default_text; /* NULL: string stays NULL, number 0, bool false */
    int64_t min, max;         /* OPTION_INT64 */
    bool secret;              /* never shown */
    const char *help;         /* one sentence */
};

struct option_table {
    const char *program;
    const char *summary;   /* for --help */
    const char *arguments; /* "[FILE...]" or NULL: positional arguments are refused */
    const struct option_spec *specs;
    size_t spec_count;
};

enum options_result { OPTIONS_RUN, OPTIONS_EXIT }; /* EXIT: a help or the version was printed */

/* argv[0] is skipped. Positional arguments are moved to the end of argv, in their order, over flags that were taken;
 * *ret_first_argument: index of the first of them (argc if none). Environment through getenv(). */
int options_parse(const struct option_table *table, int argc, char **argv, void *options,
                  enum options_result *ret_result, int *ret_first_argument, struct err *err) MUST_CHECK;
void options_release(const struct option_table *table, void *options); /* frees strings */
void options_help(const struct option_table *table, struct strbuf *out);
void options_markdown(const struct option_table *table, struct strbuf *out);
void options_log(const struct option_table *table, const void *options);

#endif
