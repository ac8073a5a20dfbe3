/* The texts that options.h makes from a table: help, Markdown, start-up log. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/options.h"

#define HELP_WIDTH  96
#define HELP_INDENT 6

/* Words wrapped at HELP_WIDTH, each line indented. */
static void append_wrapped(struct strbuf *out, const char *text, size_t indent)
{
    size_t column = 0;
    while (*text) {
        size_t word = strcspn(text, " ");
        if (column > 0 && column + 1 + word > HELP_WIDTH) {
            strbuf_append_char(out, '\n');
            column = 0;
        }
        if (column == 0) {
            strbuf_appendf(out, "%*s", (int)indent, "");
            column = indent;
        } else {
            strbuf_append_char(out, ' ');
            column++;
        }
        strbuf_append(out, text, word);
        column += word;
        text += word;
        text += strspn(text, " ");
    }
    strbuf_append_char(out, '\n');
}

static const char *value_name(const struct option_spec *spec)
{
    return spec->type == OPTION_BOOL ? "BOOL" : spec->type == OPTION_INT64 ? "NUMBER" : "TEXT";
}

/* "1 to 65535"; nothing where a range says nothing. */
static void append_range(const struct option_spec *spec, const char *prefix, struct strbuf *out)
{
    if (spec->type != OPTION_INT64 || (spec->min == INT64_MIN && spec->max == INT64_MAX)) {
        return;
    }
    if (spec->max == INT64_MAX) {
        strbuf_appendf(out, "%sat least %" PRId64, prefix, spec->min);
    } else {
        strbuf_appendf(out, "%s%" PRId64 " to %" PRId64, prefix, spec->min, spec->max);
    }
}

static void append_help_entry(const struct option_spec *spec, struct strbuf *out)
{
    strbuf_append_str(out, "  ");
    if (!spec->name) {
        strbuf_append_str(out, spec->env);
    } else if (spec->type == OPTION_BOOL) {
        strbuf_appendf(out, "--%s", spec->name);
    } else {
        strbuf_appendf(out, "--%s=%s", spec->name, value_name(spec));
    }
    strbuf_append_char(out, '\n');
    append_wrapped(out, spec->help, HELP_INDENT);

    CLEANUP_STRBUF struct strbuf notes;
    strbuf_init(&notes, 4096);
    append_range(spec, ", ", &notes);
    if (spec->default_text && !spec->secret) {
        strbuf_appendf(&notes, ", default %s", *spec->default_text ? spec->default_text : "empty");
    }
    if (spec->name && spec->env) {
        strbuf_appendf(&notes, ", environment %s", spec->env);
    }
    if (notes.len > 0) {
        strbuf_append_char(&notes, ']');
        notes.buf[1] = '[';
        append_wrapped(out, notes.buf + 1, HELP_INDENT);
    }
}

static bool has_entries(const struct option_table *table, bool flags)
{
    for (size_t i = 0; i < table->spec_count; i++) {
        if ((table->specs[i].name != NULL) == flags) {
            return true;
        }
    }
    return false;
}

void options_help(const struct option_table *table, struct strbuf *out)
{
    strbuf_appendf(out, "Usage: %s [flags]%s%s\n", table->program, table->arguments ? " " : "",
                   table->arguments ? table->arguments : "");
    if (table->summary) {
        strbuf_append_char(out, '\n');
        append_wrapped(out, table->summary, 0);
    }
    strbuf_append_str(out, "\nFlags:\n");
    for (size_t i = 0; i < table->spec_count; i++) {
        if (table->specs[i].name) {
            append_help_entry(&table->specs[i], out);
        }
    }
    strbuf_append_str(out, "  --help, --help=markdown\n      Prints this text, or the flags as a table.\n  "
                           "--version\n      Prints the version.\n");
    if (has_entries(table, /* flags= */ false)) {
        strbuf_append_str(out, "\nEnvironment only:\n");
    }
    for (size_t i = 0; i < table->spec_count; i++) {
        if (!table->specs[i].name) {
            append_help_entry(&table->specs[i], out);
        }
    }
}

static void append_cell(struct strbuf *out, const char *text)
{
    for (; *text; text++) {
        strbuf_append_str(out, *text == '|' || *text == '<' ? "\\" : ""); /* columns, HTML */
        strbuf_append_char(out, *text);
    }
}

void options_markdown(const struct option_table *table, struct strbuf *out)
{
    strbuf_append_str(out, "| Flag | Environment | Value | Default | Meaning |\n|---|---|---|---|---|\n");
    for (size_t i = 0; i < table->spec_count; i++) {
        const struct option_spec *spec = &table->specs[i];
        strbuf_append_str(out, "| ");
        if (spec->name) {
            strbuf_appendf(out, "`--%s`", spec->name);
        }
        strbuf_append_str(out, " | ");
        if (spec->env) {
            strbuf_appendf(out, "`%s`", spec->env);
        }
        strbuf_append_str(out, spec->type == OPTION_BOOL    ? " | true or false"
                               : spec->type == OPTION_INT64 ? " | integer"
                                                            : " | text");
        append_range(spec, ", ", out);
        strbuf_append_str(out, " | ");
        if (spec->default_text && *spec->default_text && !spec->secret) {
            strbuf_append_char(out, '`');
            append_cell(out, spec->default_text);
            strbuf_append_char(out, '`');
        }
        strbuf_append_str(out, " | ");
        append_cell(out, spec->help);
        strbuf_append_str(out, " |\n");
    }
}

static void append_value(const struct option_spec *spec, const void *options, struct strbuf *out)
{
    const void *field = (const char *)options + spec->offset;
    if (spec->type == OPTION_BOOL) {
        strbuf_append_str(out, *(const bool *)field ? "true" : "false");
    } else if (spec->type == OPTION_INT64) {
        if (spec->secret) {
            strbuf_append_str(out, "***");
        } else {
            strbuf_appendf(out, "%" PRId64, *(const int64_t *)field);
        }
    } else {
        const char *text = *(char *const *)field;
        if (!text) {
            strbuf_append_str(out, "(none)");
        } else if (spec->secret) {
            strbuf_append_str(out, "***");
        } else {
            strbuf_append_json_string(out, text, strlen(text));
        }
    }
}

void options_log(const struct option_table *table, const void *options)
{
    CLEANUP_STRBUF struct strbuf line;
    strbuf_init(&line, LOG_LINE_MAX_BYTES);
    for (size_t i = 0; i < table->spec_count; i++) {
        const struct option_spec *spec = &table->specs[i];
        strbuf_appendf(&line, " %s=", spec->name ? spec->name : spec->env);
        append_value(spec, options, &line);
    }
    log_info("settings:%s", line.buf);
}
