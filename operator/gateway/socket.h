/* socket.h - connecting without blocking.
 *
 * Threads: no state.
 */
#ifndef CICADA_GATEWAY_SOCKET_H
#define CICADA_GATEWAY_SOCKET_H

#include <netinet/in.h>

#include "runtime/base/err.h"

/* A TCP socket (nonblocking, no delay) on its way to address; writable when the outcome is known. */
int socket_connect(const struct sockaddr_in *address, int *ret_fd, struct err *err) MUST_CHECK;
/* The outcome: 0, or an errno. A socket that met itself (a port of the ephemeral range that nobody listens on, on this
 * machine: TCP allows that) counts as refused. */
int socket_connect_result(int fd);

#endif
