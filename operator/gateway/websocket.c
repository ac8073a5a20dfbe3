#include "operator/gateway/websocket.h"

#define WEBSOCKET_KEY_BYTES  24 /* 16 bytes in base64 */
#define WEBSOCKET_KEY_DIGITS 22

static bool is_key(struct h1_slice value)
{
    if (value.len != WEBSOCKET_KEY_BYTES) {
        return false;
    }
    for (size_t i = 0; i < WEBSOCKET_KEY_DIGITS; i++) {
        unsigned char c = (unsigned char)value.at[i];
        bool digit = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '+' ||
                     c == '/';
        if (!digit) {
            return false;
        }
    }
    return value.at[WEBSOCKET_KEY_DIGITS] == '=' && value.at[WEBSOCKET_KEY_DIGITS + 1] == '=';
}

enum websocket_wish websocket_wish(const struct h1_head *request)
{
    if (!request->upgrade_websocket || !request->connection_upgrade || request->minor == 0 ||
        request->method != H1_METHOD_GET) {
        return WEBSOCKET_NOT_ASKED;
    }
    int keys = 0, versions = 0;
    bool good_key = true, good_version = true;
    for (size_t i = 0; i < request->header_count; i++) {
        const struct h1_header *header = &request->headers[i];
        if (h1_slice_equal_nocase(header->name, "Sec-WebSocket-Key")) {
            keys++;
            good_key &= is_key(header->value) && !header->listed;
        } else if (h1_slice_equal_nocase(header->name, "Sec-WebSocket-Version")) {
            versions++;
            good_version &= h1_slice_equal_nocase(header->value, "13") && !header->listed;
        }
    }
    if (keys != 1 || !good_key || versions > 1 || request->framing != H1_BODY_NONE) {
        return WEBSOCKET_MALFORMED;
    }
    return versions == 1 && good_version ? WEBSOCKET_ASKED : WEBSOCKET_OTHER_VERSION;
}

bool websocket_granted(const struct h1_head *answer)
{
    return answer->upgrade_websocket && answer->connection_upgrade;
}
