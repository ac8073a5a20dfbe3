#include "operator/kube/yaml_safe.h"

#include <stdint.h>

/* The code point to escape at the start of text, with its length in bytes; 0: none. */
static unsigned unsafe_at(const unsigned char *text, size_t len, size_t *ret_len)
{
    *ret_len = 1;
    if (text[0] == 0x7f)
        return 0x7f;
    if (len >= 2 && text[0] == 0xc2 && text[1] <= 0x9f) {
        *ret_len = 2;
        return text[1];
    }
    if (len < 3 || text[0] < 0xe2)
        return 0;
    unsigned code = (text[0] & 0x0fu) << 12 | (text[1] & 0x3fu) << 6 | (text[2] & 0x3fu);
    bool is_three_bytes = text[0] < 0xf0;
    *ret_len = 3;
    return is_three_bytes && (code == 0x2028 || code == 0x2029 || code == 0xfeff || code >= 0xfffe) ? code
                                                                                                    : 0;
}

int yaml_safe_from_json(const char *json, size_t len, struct strbuf *out)
{
    const unsigned char *text = (const unsigned char *)json;
    size_t copied = 0;
    for (size_t i = 0; i < len;) {
        size_t bytes = 1;
        unsigned code = text[i] < 0x7f ? 0 : unsafe_at(text + i, len - i, &bytes);
        if (code != 0) {
            strbuf_append(out, json + copied, i - copied);
            strbuf_appendf(out, "\\u%04x", code);
            i += bytes;
            copied = i;
        } else {
            i++;
        }
    }
    strbuf_append(out, json + copied, len - copied);
    return strbuf_failed(out) ? -1 : 0;
}
