#include "runtime/host/accept.h"

#include <ctype.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

#include "runtime/base/text.h"

#define WEIGHT_MAX 1000

enum exactness { NO_MATCH, ANY_TYPE, ANY_SUBTYPE, EXACT };

static enum exactness match(const char *range, size_t len, const char *type)
{
    size_t major = strcspn(type, "/") + 1;

    if (ascii_equal_nocase(range, len, type))
        return EXACT;
    if (len == major + 1 && range[major] == '*' && strncasecmp(range, type, major) == 0)
        return ANY_SUBTYPE;
    return ascii_equal_nocase(range, len, "*/*") ? ANY_TYPE : NO_MATCH;
}

/* "0.125": thousandths; what is no weight counts as 1. */
static int weight_of(const char *text, size_t len)
{
    int weight = 0, place = 100;

    if (len == 0 || (text[0] != '0' && text[0] != '1'))
        return WEIGHT_MAX;
    if (text[0] == '1')
        return WEIGHT_MAX;
    for (size_t i = 2; i < len && isdigit((unsigned char)text[i]) && place > 0; i++, place /= 10)
        weight += (text[i] - '0') * place;
    return weight;
}

static size_t trimmed(const char *text, size_t len)
{
    while (len > 0 && (text[len - 1] == ' ' || text[len - 1] == '\t'))
        len--;
    return len;
}

/* The parameter q of one element "type/subtype;a=b;q=0.5". */
static int element_weight(const char *element, size_t len)
{
    const char *end = element + len;

    for (const char *p = memchr(element, ';', len); p != NULL; p = memchr(p, ';', (size_t)(end - p))) {
        p++;
        while (p < end && (*p == ' ' || *p == '\t'))
            p++;
        if (end - p >= 2 && (*p == 'q' || *p == 'Q') && p[1] == '=')
            return weight_of(p + 2, (size_t)(end - p) - 2);
    }
    return WEIGHT_MAX;
}

/* The most exact range that fits a type decides; of equals the greater weight. */
static void note(int *weight, int *exactness, enum exactness match, int element)
{
    if (match == NO_MATCH || (int)match < *exactness)
        return;
    if ((int)match > *exactness || element > *weight)
        *weight = element;
    *exactness = (int)match;
}

static void read_element(struct accept_view *view, const char *element, size_t len)
{
    const char *semicolon = memchr(element, ';', len);
    size_t range_len = trimmed(element, semicolon ? (size_t)(semicolon - element) : len);
    int weight = element_weight(element, len);

    note(&view->csv, &view->csv_exactness, match(element, range_len, "text/csv"), weight);
    note(&view->json, &view->json_exactness, match(element, range_len, "application/json"), weight);
}

void accept_read(struct accept_view *view, const char *header)
{
    while (*header != '\0') {
        size_t len;

        header += strspn(header, " \t,");
        len = strcspn(header, ",");
        if (len > 0)
            read_element(view, header, len);
        header += len;
    }
}

bool accept_wants_csv(const struct accept_view *view)
{
    return view->csv_exactness >= ANY_SUBTYPE && view->csv > view->json;
}
