#include "runtime/postgres/pg_url_text.h"

#include <ctype.h>
#include <stdbool.h>

#include "runtime/base/mem.h"
#include "runtime/base/strbuf.h"
#include "runtime/base/text.h"
#include "runtime/postgres/pg_url.h"

static const char *const key_names[PG_URL_KEY_COUNT] = {
    [PG_URL_HOST] = "host",
    [PG_URL_HOSTADDR] = "hostaddr",
    [PG_URL_PORT] = "port",
    [PG_URL_DBNAME] = "dbname",
    [PG_URL_USER] = "user",
    [PG_URL_PASSWORD] = "password",
    [PG_URL_SSLMODE] = "sslmode",
    [PG_URL_SSLROOTCERT] = "sslrootcert",
    [PG_URL_SSLCERT] = "sslcert",
    [PG_URL_SSLKEY] = "sslkey",
    [PG_URL_APPLICATION_NAME] = "application_name",
    [PG_URL_CONNECT_TIMEOUT] = "connect_timeout",
    [PG_URL_TARGET_SESSION_ATTRS] = "target_session_attrs",
    [PG_URL_CHANNEL_BINDING] = "channel_binding",
};

const char *pg_url_key_name(enum pg_url_key key)
{
    return key_names[key];
}

static void set_value(char *values[], enum pg_url_key key, const char *value)
{
    free(values[key]);
    /* libpq takes an empty value for an absent one. */
    values[key] = value[0] ? xstrdup(value) : NULL;
}

/* A key is shown in a message only if it looks like one: a URL cut in the wrong place may hold the password. */
static bool is_showable(const char *key)
{
    size_t len = strspn(key, "abcdefghijklmnopqrstuvwxyz_");
    return len > 0 && len <= 32 && key[len] == '\0';
}

static int set_named(char *values[], const char *name, const char *value, struct err *err)
{
    for (enum pg_url_key key = 0; key < PG_URL_KEY_COUNT; key++) {
        if (strcmp(name, key_names[key]) == 0) {
            set_value(values, key, value);
            return 0;
        }
    }
    if (!is_showable(name))
        return err_set(err, ERR_INVALID, "database URL: a key that is none");
    return err_set(err, ERR_INVALID, "database URL: key %s is not allowed", name);
}

/* ---- key=value ---- */

static const char *skip_spaces(const char *p)
{
    while (isspace((unsigned char)*p))
        p++;
    return p;
}

/* Reads a value, quoted or not, with backslash escapes. */
static int read_value(const char **p, struct strbuf *ret_value, struct err *err)
{
    const char *s = *p;
    bool quoted = *s == '\'';
    if (quoted)
        s++;
    while (*s && (quoted ? *s != '\'' : !isspace((unsigned char)*s))) {
        if (*s == '\\' && *++s == '\0')
            break;
        (void)strbuf_append_char(ret_value, *s++);
    }
    if (quoted && *s++ != '\'')
        return err_set(err, ERR_INVALID, "database URL: a quoted value has no end");
    *p = s;
    return 0;
}

static int parse_pairs(const char *text, char *values[], struct err *err)
{
    CLEANUP_STRBUF struct strbuf value;
    strbuf_init(&value, PG_URL_MAX_BYTES);
    for (const char *p = skip_spaces(text); *p; p = skip_spaces(p)) {
        const char *name_start = p;
        while (*p && *p != '=' && !isspace((unsigned char)*p))
            p++;
        CLEANUP_FREE char *name = xstrndup(name_start, (size_t)(p - name_start));
        p = skip_spaces(p);
        if (*p != '=')
            return err_set(err, ERR_INVALID, "database URL: neither a URI nor key=value pairs");
        p = skip_spaces(p + 1);
        strbuf_clear(&value);
        if (read_value(&p, &value, err) < 0 || set_named(values, name, value.buf, err) < 0)
            return -1;
    }
    return 0;
}

/* ---- URI ---- */

/* Percent-decoded copy of [start, end), or NULL with err filled. */
static char *decode(const char *start, const char *end, struct err *err)
{
    char *text = xmalloc((size_t)(end - start) + 1), *out = text;
    for (const char *p = start; p < end; p++) {
        if (*p != '%') {
            *out++ = *p;
            continue;
        }
        bool complete = end - p > 2;
        int high = complete ? hex_digit_value(p[1]) : -1, low = complete ? hex_digit_value(p[2]) : -1;
        if (high < 0 || low < 0 || (high == 0 && low == 0)) {
            free(text);
            (void)err_set(err, ERR_INVALID, "database URL: a wrong percent escape");
            return NULL;
        }
        *out++ = (char)(high * 16 + low);
        p += 2;
    }
    *out = '\0';
    return text;
}

static int set_decoded(char *values[], enum pg_url_key key, const char *start, const char *end,
                       struct err *err)
{
    CLEANUP_FREE char *value = decode(start, end, err);
    if (!value)
        return -1;
    set_value(values, key, value);
    return 0;
}

/* "user:password@"; *p moves behind it. There is none if a '/' comes before the '@'. */
static int parse_user(const char **p, char *values[], struct err *err)
{
    const char *start = *p, *end = start + strcspn(start, "@/");
    if (*end != '@')
        return 0;
    const char *user_end = start;
    while (user_end < end && *user_end != ':')
        user_end++;
    if (set_decoded(values, PG_URL_USER, start, user_end, err) < 0)
        return -1;
    if (user_end < end && set_decoded(values, PG_URL_PASSWORD, user_end + 1, end, err) < 0)
        return -1;
    *p = end + 1;
    return 0;
}

/* "host:port,host:port" up to '/', '?' or the end, gathered into lists as the keys host and port hold them. */
static int parse_hosts(const char **p, char *values[], struct err *err)
{
    CLEANUP_STRBUF struct strbuf hosts, ports;
    strbuf_init(&hosts, PG_URL_MAX_BYTES);
    strbuf_init(&ports, PG_URL_MAX_BYTES);
    const char *s = *p;
    for (;;) {
        const char *start = s, *end;
        if (*s == '[') {
            start++;
            end = strchr(start, ']');
            if (!end || end == start)
                return err_set(err, ERR_INVALID, "database URL: a wrong IPv6 address");
            s = end + 1;
            if (*s && !strchr(":/?,", *s))
                return err_set(err, ERR_INVALID, "database URL: a wrong IPv6 address");
        } else {
            s += strcspn(s, ":/?,");
            end = s;
        }
        (void)strbuf_append(&hosts, start, (size_t)(end - start));
        if (*s == ':') {
            start = ++s;
            s += strcspn(s, "/?,");
            (void)strbuf_append(&ports, start, (size_t)(s - start));
        }
        if (*s != ',')
            break;
        s++;
        (void)strbuf_append_char(&hosts, ',');
        (void)strbuf_append_char(&ports, ',');
    }
    *p = s;
    if (set_decoded(values, PG_URL_HOST, hosts.buf, hosts.buf + hosts.len, err) < 0)
        return -1;
    return set_decoded(values, PG_URL_PORT, ports.buf, ports.buf + ports.len, err);
}

static int parse_query(const char *p, char *values[], struct err *err)
{
    while (*p) {
        const char *end = p + strcspn(p, "&"), *equals = p;
        while (equals < end && *equals != '=')
            equals++;
        if (equals == end || memchr(equals + 1, '=', (size_t)(end - equals - 1)))
            return err_set(err, ERR_INVALID, "database URL: a parameter is not key=value");
        CLEANUP_FREE char *name = decode(p, equals, err);
        CLEANUP_FREE char *value = name ? decode(equals + 1, end, err) : NULL;
        if (!value)
            return -1;
        /* JDBC's spelling, which libpq accepts in URIs. */
        bool jdbc = strcmp(name, "ssl") == 0 && strcmp(value, "true") == 0;
        if (set_named(values, jdbc ? "sslmode" : name, jdbc ? "require" : value, err) < 0)
            return -1;
        p = *end ? end + 1 : end;
    }
    return 0;
}

static int parse_uri(const char *p, char *values[], struct err *err)
{
    if (parse_user(&p, values, err) < 0 || parse_hosts(&p, values, err) < 0)
        return -1;
    if (*p == '/') {
        p++;
        const char *end = p + strcspn(p, "?");
        if (set_decoded(values, PG_URL_DBNAME, p, end, err) < 0)
            return -1;
        p = end;
    }
    return *p == '?' ? parse_query(p + 1, values, err) : 0;
}

int pg_url_text_parse(const char *text, char *values[PG_URL_KEY_COUNT], struct err *err)
{
    static const char *const prefixes[] = {"postgresql://", "postgres://"};
    for (size_t i = 0; i < ARRAY_SIZE(prefixes); i++) {
        if (str_starts_with(text, prefixes[i]))
            return parse_uri(text + strlen(prefixes[i]), values, err);
    }
    if (*skip_spaces(text) == '\0')
        return err_set(err, ERR_INVALID, "database URL: empty");
    return parse_pairs(text, values, err);
}
