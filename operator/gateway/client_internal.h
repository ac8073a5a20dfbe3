/* client_internal.h - what the parts of a client's connection share: client_conn.c (states, events, handshake, endings) and client_input.c
 * (from bytes to a request that an exchange takes).
 */
#ifndef CICADA_GATEWAY_CLIENT_INTERNAL_H
#define CICADA_GATEWAY_CLIENT_INTERNAL_H

#include "operator/gateway/client_conn.h"

/* Sets the state's deadline, too. */
void client_set_state(struct client_conn *client, enum client_state state);

/* ---- client_input.c ---- */
/* The socket is readable, and no request is worked on. */
void client_input_read(struct client_conn *client);
void client_input_keep(struct client_conn *client, const char *data, size_t len);
void client_input_drop(struct client_conn *client);
/* What is kept is looked at in one of the loop's next turns: a hundred pipelined requests must not recurse. */
void client_input_resume_soon(struct client_conn *client);
void client_input_resume(struct loop_post *post); /* client->resume.run */

#endif
