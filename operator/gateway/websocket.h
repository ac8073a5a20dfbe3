/* websocket.h - whether a request asks for a WebSocket (RFC 6455 4.2.1), and whether an answer grants it.
 *
 * The gateway is an intermediary: it looks at what decides over the connection, and leaves frames, subprotocols, extensions and
 * the proof of the key (Sec-WebSocket-Accept) to the two ends.
 *
 * Threads: none of its own.
 */
#ifndef CICADA_GATEWAY_WEBSOCKET_H
#define CICADA_GATEWAY_WEBSOCKET_H

#include "operator/gateway/h1_head.h"

enum websocket_wish {
    WEBSOCKET_NOT_ASKED, /* an ordinary request: what it says of upgrades is not passed on */
    WEBSOCKET_ASKED,
    WEBSOCKET_MALFORMED, /* no key or two, one that is none, a body */
    WEBSOCKET_OTHER_VERSION,
};

enum websocket_wish websocket_wish(const struct h1_head *request);
/* Of an answer with status 101. */
bool websocket_granted(const struct h1_head *answer);

#endif
