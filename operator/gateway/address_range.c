#include "operator/gateway/address_range.h"

#include <arpa/inet.h>
#include <string.h>

#include "runtime/base/text.h"

bool address_range_parse(const char *text, size_t len, struct address_range *ret_range)
{
    const char *slash = memchr(text, '/', len);
    size_t address_len = slash ? (size_t)(slash - text) : len;
    char address_text[INET_ADDRSTRLEN];
    struct in_addr address;
    int64_t bits = 32;
    if (address_len >= sizeof(address_text) ||
        (slash && !parse_int64_n(slash + 1, len - address_len - 1, 0, 32, &bits))) {
        return false;
    }
    memcpy(address_text, text, address_len);
    address_text[address_len] = '\0';
    if (inet_pton(AF_INET, address_text, &address) != 1) {
        return false;
    }
    uint32_t mask = bits == 0 ? 0 : UINT32_MAX << (32 - bits);
    *ret_range = (struct address_range){ntohl(address.s_addr) & mask, mask};
    return true;
}

bool address_ranges_have(const struct address_range *ranges, size_t count, struct in_addr address)
{
    for (size_t i = 0; i < count; i++) {
        if ((ntohl(address.s_addr) & ranges[i].mask) == ranges[i].network) {
            return true;
        }
    }
    return false;
}

int address_ranges_parse(const char *text, struct address_range ranges[ADDRESS_RANGES_MAX], size_t *ret_count,
                         struct err *err)
{
    size_t count = 0;
    while (*text) {
        size_t skip = strspn(text, " "), len = strcspn(text + skip, ",");
        const char *item = text + skip;
        text = item + len + (item[len] == ',' ? 1 : 0);
        while (len > 0 && item[len - 1] == ' ') {
            len--;
        }
        if (count == ADDRESS_RANGES_MAX) {
            return err_set(err, ERR_TOO_LARGE, "more than %d ranges", ADDRESS_RANGES_MAX);
        }
        if (!address_range_parse(item, len, &ranges[count++])) {
            return err_set(err, ERR_INVALID, "\"%.*s\" is no range of IPv4 addresses", (int)len, item);
        }
    }
    *ret_count = count;
    return 0;
}
