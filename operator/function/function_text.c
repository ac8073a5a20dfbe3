#include "operator/function/function_text.h"

#include <stdbool.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/base/text.h"

#define SQL_NAME_CHARS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_$"

static bool is_lower(char c)
{
    return c >= 'a' && c <= 'z';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_alnum(char c)
{
    return is_lower(c) || (c >= 'A' && c <= 'Z') || is_digit(c);
}

static bool is_one_of(char c, const char *set)
{
    return c != '\0' && strchr(set, c) != NULL;
}

static size_t identifier_len(const char *text)
{
    size_t len = 0;
    if (is_digit(text[0])) {
        return 0;
    }
    while (is_alnum(text[len]) || text[len] == '_') {
        len++;
    }
    return len;
}

const char *function_text_check_name(const char *text)
{
    if (!is_lower(text[0]) || !is_dns_label(text)) {
        return "must be at most 63 lower case letters, digits and '-', begin with a letter and end with a "
               "letter or digit";
    }
    return NULL;
}

const char *function_text_check_image(const char *text)
{
    if (text[0] == '\0' || strlen(text) > FUNCTION_IMAGE_MAX) {
        return "must be 1 to 1024 characters";
    }
    for (const char *c = text; *c; c++) {
        if (!is_alnum(*c) && !is_one_of(*c, "._/:@-")) {
            return "must be an image reference, such as registry.example.com/shop:1.4";
        }
    }
    return NULL;
}

/* Path elements of letters, digits, '.', '_' and '-' that do not begin with '.', so that none leads out of the folder. */
const char *function_text_check_handler(const char *text)
{
    static const char why[] = "must be <file>.so:<symbol>, the file relative to the function folder";
    const char *colon = strchr(text, ':');
    size_t file_len = colon ? (size_t)(colon - text) : 0;
    if (file_len < 4 || strlen(text) > FUNCTION_HANDLER_MAX || memcmp(colon - 3, ".so", 3) != 0) {
        return why;
    }
    bool element_start = true;
    for (const char *c = text; c < colon; c++) {
        if (element_start ? !is_alnum(*c) && *c != '_' : !is_alnum(*c) && !is_one_of(*c, "._-/")) {
            return why;
        }
        element_start = *c == '/';
    }
    size_t symbol_len = identifier_len(colon + 1);
    return symbol_len > 0 && colon[1 + symbol_len] == '\0' ? NULL : why;
}

const char *function_text_check_parameter(const char *text)
{
    size_t len = identifier_len(text);
    return len > 0 && text[len] == '\0' && len <= FUNCTION_PARAM_MAX
               ? NULL
               : "name must be 1 to 63 letters, digits and '_', not beginning with a digit";
}

const char *function_text_check_sql(const char *text)
{
    return text[0] != '\0' && strlen(text) <= FUNCTION_SQL_MAX ? NULL : "must be 1 to 65536 bytes";
}

const char *function_text_check_host(const char *text)
{
    const char *name = str_starts_with(text, "*.") ? text + 2 : text;
    if (strlen(text) > FUNCTION_HOST_MAX || !is_dns_subdomain(name)) {
        return "must be a lower case DNS name, with \"*.\" in front for every name below it";
    }
    return NULL;
}

/* One element of a path, up to '/' or the end: at least one character that is no dot, so that "." and ".." are out.
 * Percent-encoding is out, too: one spelling per path. Returns its length, 0 if it is refused. */
static size_t path_element_len(const char *text)
{
    size_t len = 0;
    bool only_dots = true;
    while (is_alnum(text[len]) || is_one_of(text[len], "._~!$&'()*+,;=:@-")) {
        only_dots = only_dots && text[len] == '.';
        len++;
    }
    return only_dots ? 0 : len;
}

const char *function_text_check_path(const char *text)
{
    static const char why[] = "must be \"/\", or elements that each begin with '/' and hold letters, digits "
                              "and ._~!$&'()*+,;=:@- only";
    if (text[0] != '/') {
        return "must begin with '/'";
    }
    if (strlen(text) > FUNCTION_PATH_MAX) {
        return "must be at most 256 characters";
    }
    const char *at = text;
    while (text[1] != '\0' && *at == '/') {
        size_t len = path_element_len(at + 1);
        if (len == 0) {
            return why;
        }
        at += 1 + len;
    }
    return text[1] == '\0' || *at == '\0' ? NULL : why;
}

/* Whether the parameter at `name` was named before in the template. */
static bool is_repeated_parameter(const char *text, const char *name, size_t len)
{
    for (const char *at = strchr(text, '{'); at && at + 1 < name; at = strchr(at + 1, '{')) {
        if (identifier_len(at + 1) == len && memcmp(at + 1, name, len) == 0) {
            return true;
        }
    }
    return false;
}

const char *function_text_check_path_template(const char *text)
{
    static const char why[] = "must be \"/\", or elements that are a path element or a {name}";
    if (text[0] != '/') {
        return "must begin with '/'";
    }
    if (strlen(text) > FUNCTION_PATH_MAX) {
        return "must be at most 256 characters";
    }
    if (text[1] == '\0') {
        return NULL;
    }
    const char *at = text;
    while (*at == '/') {
        at++;
        bool parameter = *at == '{';
        size_t len = parameter ? identifier_len(at + 1) : path_element_len(at);
        if (len == 0 || (parameter && at[1 + len] != '}')) {
            return why;
        }
        if (parameter && is_repeated_parameter(text, at + 1, len)) {
            return "must not name a parameter twice";
        }
        at += parameter ? len + 2 : len;
    }
    return *at == '\0' ? NULL : why;
}

const char *function_text_check_method(const char *text)
{
    static const char *const methods[] = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"};
    for (size_t i = 0; i < ARRAY_SIZE(methods); i++) {
        if (strcmp(text, methods[i]) == 0) {
            return NULL;
        }
    }
    return "must be one of GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
}

const char *function_text_check_subdomain(const char *text)
{
    return is_dns_subdomain(text) ? NULL : "must be a name of lower case letters, digits, '-' and '.'";
}

const char *function_text_check_data_key(const char *text)
{
    size_t len = 0;
    while (is_alnum(text[len]) || is_one_of(text[len], "._-")) {
        len++;
    }
    return len > 0 && len <= 253 && text[len] == '\0' ? NULL
                                                      : "must be 1 to 253 letters, digits, '-', '_' and '.'";
}

const char *function_text_check_trigger(const char *text)
{
    return is_dns_label(text)
               ? NULL
               : "must be at most 63 lower case letters, digits and '-', with a letter or digit at both ends";
}

/* As cicada.create_queue() has it. */
const char *function_text_check_queue(const char *text)
{
    size_t len = 0;
    while (is_alnum(text[len]) || is_one_of(text[len], "._-")) {
        len++;
    }
    if (len == 0 || len > FUNCTION_QUEUE_MAX || text[len] != '\0' || !is_alnum(text[0]) ||
        !is_alnum(text[len - 1])) {
        return "must be 1 to 63 letters, digits, '.', '_' and '-', with a letter or digit at both ends";
    }
    return str_starts_with(text, "cicada.") ? "queues that begin with \"cicada.\" are Cicada's own" : NULL;
}

/* An SQL name at the beginning of text: its length, 0 if there is none. */
static size_t sql_name_len(const char *text)
{
    if (text[0] != '"') {
        size_t len = is_digit(text[0]) || text[0] == '$' ? 0 : strspn(text, SQL_NAME_CHARS);
        return len;
    }
    size_t len = 1;
    while (text[len] && (text[len] != '"' || text[len + 1] == '"')) {
        len += text[len] == '"' ? 2 : 1;
    }
    return text[len] == '"' && len > 1 ? len + 1 : 0;
}

const char *function_text_check_table(const char *text)
{
    size_t schema = sql_name_len(text);
    size_t table = schema > 0 && text[schema] == '.' ? sql_name_len(text + schema + 1) : 0;
    if (table == 0 || text[schema + 1 + table] != '\0' || strlen(text) > FUNCTION_TABLE_MAX) {
        return "must be schema.table, each a name of letters, digits, '_' and '$' or anything in double "
               "quotes";
    }
    return NULL;
}

const char *function_text_check_column(const char *text)
{
    return text[0] != '\0' && strlen(text) <= FUNCTION_COLUMN_MAX ? NULL : "must be 1 to 63 bytes";
}

const char *function_text_check_when(const char *text)
{
    return text[0] != '\0' && strlen(text) <= FUNCTION_WHEN_MAX ? NULL : "must be 1 to 4096 bytes";
}

const char *function_text_check_operation(const char *text)
{
    static const char *const operations[] = {"INSERT", "UPDATE", "DELETE", "TRUNCATE"};
    for (size_t i = 0; i < ARRAY_SIZE(operations); i++) {
        if (strcmp(text, operations[i]) == 0) {
            return NULL;
        }
    }
    return "must be one of INSERT, UPDATE, DELETE, TRUNCATE";
}

/* What of the runtime's settings is the author's to choose. */
static bool is_setting_of_authors(const char *text)
{
    static const char *const names[] = {"CICADA_LOG_LEVEL", "CICADA_ACCESS_LOG", "CICADA_SLOW_STATEMENT_MS"};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        if (strcmp(text, names[i]) == 0) {
            return true;
        }
    }
    return false;
}

const char *function_text_check_env_name(const char *text)
{
    size_t len = 0;
    while (is_alnum(text[len]) || is_one_of(text[len], "._-")) {
        len++;
    }
    if (len == 0 || len > 253 || text[len] != '\0' || is_digit(text[0])) {
        return "must be 1 to 253 letters, digits, '-', '_' and '.', and not begin with a digit";
    }
    if (is_setting_of_authors(text)) {
        return NULL;
    }
    if (str_starts_with(text, "CICADA_") || str_starts_with(text, "POD_") ||
        strcmp(text, "DATABASE_URL") == 0) {
        return "is reserved (CICADA_*, POD_* and DATABASE_URL are set by Cicada)";
    }
    return NULL;
}
