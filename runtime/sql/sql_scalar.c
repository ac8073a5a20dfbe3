#include "runtime/sql/sql_scalar.h"

#include <assert.h>
#include <string.h>

/* A text in ISO style, cut up. */
struct iso {
    size_t date_len; /* 0: none, the text is infinity or -infinity */
    size_t time_len; /* 0: a date */
    size_t zone_len; /* 0: none; else with the sign */
    bool before_christ;
};

/* The letter after the backslash, or 'u' for \u00XX; 0: stands for itself. */
static char escape_of(unsigned char c)
{
    switch (c) {
    case '"':
    case '\\':
        return (char)c;
    case '\b':
        return 'b';
    case '\f':
        return 'f';
    case '\n':
        return 'n';
    case '\r':
        return 'r';
    case '\t':
        return 't';
    default:
        return c < 0x20 ? 'u' : 0;
    }
}

static void put_escape(unsigned char c, struct strbuf *out)
{
    char letter = escape_of(c);
    if (letter == 'u')
        (void)strbuf_appendf(out, "\\u%04x", c);
    else
        (void)strbuf_append(out, (const char[]){'\\', letter}, 2);
}

/* How many bytes from the start stand for themselves. */
static size_t plain_len(const char *text, size_t len)
{
    size_t i = 0;
    while (i < len && (unsigned char)text[i] >= 0x20 && text[i] != '"' && text[i] != '\\')
        i++;
    return i;
}

void sql_scalar_put_string(const char *text, size_t len, struct strbuf *out)
{
    (void)strbuf_append_char(out, '"');
    for (;;) {
        size_t plain = plain_len(text, len);
        (void)strbuf_append(out, text, plain);
        if (plain == len)
            break;
        put_escape((unsigned char)text[plain], out);
        text += plain + 1;
        len -= plain + 1;
    }
    (void)strbuf_append_char(out, '"');
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static size_t digits(const char *text, size_t len)
{
    size_t i = 0;
    while (i < len && is_digit(text[i]))
        i++;
    return i;
}

static bool equals(const char *text, size_t len, const char *expected)
{
    return len == strlen(expected) && memcmp(text, expected, len) == 0;
}

/* Length of `separator` and two digits, 0 if text does not begin with them. */
static size_t pair(const char *text, size_t len, char separator)
{
    return len >= 3 && text[0] == separator && is_digit(text[1]) && is_digit(text[2]) ? 3 : 0;
}

/* 0: text does not begin with a date. */
static size_t date_len(const char *text, size_t len)
{
    size_t year = digits(text, len);
    if (year < 4 || !pair(text + year, len - year, '-') || !pair(text + year + 3, len - year - 3, '-'))
        return 0;
    return year + 6;
}

/* " 12:34:56.789", 0 if text does not begin so. */
static size_t time_len(const char *text, size_t len)
{
    if (!pair(text, len, ' ') || !pair(text + 3, len - 3, ':') || !pair(text + 6, len - 6, ':'))
        return 0;
    size_t used = 9;
    if (used < len && text[used] == '.') {
        size_t fraction = digits(text + used + 1, len - used - 1);
        used += fraction ? fraction + 1 : 0;
    }
    return used;
}

/* "+01", "-03:30", "+00:53:28", 0 if text does not begin so. */
static size_t zone_len(const char *text, size_t len)
{
    size_t used = pair(text, len, '+') ? 3 : pair(text, len, '-');
    for (int i = 0; used && i < 2; i++)
        used += pair(text + used, len - used, ':');
    return used;
}

static int read_iso(enum sql_type_kind kind, const char *text, size_t len, struct iso *ret_iso)
{
    struct iso iso = {0};
    size_t used;
    *ret_iso = iso;
    if (equals(text, len, "infinity") || equals(text, len, "-infinity"))
        return 0;
    used = iso.date_len = date_len(text, len);
    if (used && kind != SQL_TYPE_DATE)
        used += iso.time_len = time_len(text + used, len - used);
    if (iso.time_len && kind == SQL_TYPE_TIMESTAMPTZ)
        used += iso.zone_len = zone_len(text + used, len - used);
    iso.before_christ = equals(text + used, len - used, " BC");
    if (!iso.date_len || (!iso.time_len && kind != SQL_TYPE_DATE) ||
        (!iso.zone_len && kind == SQL_TYPE_TIMESTAMPTZ) || (used < len && !iso.before_christ))
        return -1;
    *ret_iso = iso;
    return 0;
}

/* JSON has the letter T between date and time, and always the minutes of the zone. */
static int put_time(enum sql_type_kind kind, const char *text, size_t len, struct strbuf *out)
{
    struct iso iso;
    if (read_iso(kind, text, len, &iso) < 0)
        return -1;
    size_t start = out->len;
    (void)strbuf_append_char(out, '"');
    if (kind == SQL_TYPE_TIMESTAMPTZ && iso.zone_len == 3) {
        size_t before = iso.date_len + iso.time_len + iso.zone_len;
        (void)strbuf_append(out, text, before);
        (void)strbuf_append_str(out, ":00");
        (void)strbuf_append(out, text + before, len - before);
    } else {
        (void)strbuf_append(out, text, len);
    }
    if (iso.time_len && !strbuf_failed(out))
        out->buf[start + 1 + iso.date_len] = 'T';
    (void)strbuf_append_char(out, '"');
    return 0;
}

static int put_bool(const char *text, size_t len, struct strbuf *out)
{
    bool truth = equals(text, len, "t");
    if (!truth && !equals(text, len, "f"))
        return -1;
    (void)strbuf_append_str(out, truth ? "true" : "false");
    return 0;
}

/* What the server writes for a number begins with a digit, or it is NaN or an infinity. */
static void put_number(const char *text, size_t len, struct strbuf *out)
{
    size_t sign = len > 0 && text[0] == '-';
    if (sign < len && is_digit(text[sign]))
        (void)strbuf_append(out, text, len);
    else
        sql_scalar_put_string(text, len, out);
}

int sql_scalar_encode(enum sql_type_kind kind, const char *text, size_t len, struct strbuf *out)
{
    switch (kind) {
    case SQL_TYPE_BOOL:
        return put_bool(text, len, out);
    case SQL_TYPE_NUMBER:
        put_number(text, len, out);
        return 0;
    case SQL_TYPE_JSON:
        (void)strbuf_append(out, text, len);
        return 0;
    case SQL_TYPE_DATE:
    case SQL_TYPE_TIMESTAMP:
    case SQL_TYPE_TIMESTAMPTZ:
        return put_time(kind, text, len, out);
    case SQL_TYPE_TEXT:
        sql_scalar_put_string(text, len, out);
        return 0;
    case SQL_TYPE_ARRAY:
    case SQL_TYPE_SERVER:
        break;
    }
    assert(!"arrays and types of the server are no scalars");
    return -1;
}
