/* address_range.h - ranges of IPv4 addresses, as "10.244.3.0/24".
 *
 * Threads: values, no state.
 */
#ifndef CICADA_GATEWAY_ADDRESS_RANGE_H
#define CICADA_GATEWAY_ADDRESS_RANGE_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/err.h"

struct address_range {
    uint32_t network, mask; /* host byte order */
};

/* False: text is none, or one of IPv6. */
bool address_range_parse(const char *text, size_t len, struct address_range *ret_range);
bool address_ranges_have(const struct address_range *ranges, size_t count, struct in_addr address);

#define ADDRESS_RANGES_MAX 64
/* Separated by commas, with spaces around them or not; "" for none. Single addresses are ranges of one. */
int address_ranges_parse(const char *text, struct address_range ranges[ADDRESS_RANGES_MAX], size_t *ret_count,
                         struct err *err) MUST_CHECK;

#endif
