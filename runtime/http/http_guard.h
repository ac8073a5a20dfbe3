/* http_guard.h - deadlines for CivetWeb's socket waits. Internal to runtime/http.
 *
 * CivetWeb restarts its timeout with every byte and looks at its stop flag every 2 s only. Its waits all go through
 * poll(), which http_guard.c defines for the whole program: on a thread where a guard is active, poll() of one socket
 * ends at the guard's deadline (not at the caller's timeout) and as soon as the server stops. On all other threads,
 * and while a handler runs, poll() is the usual one. Deadlines are monotonic and kept to some ms (clock_coarse_ms()).
 *
 * Threads: the guard belongs to the calling thread.
 */
#ifndef CICADA_HTTP_HTTP_GUARD_H
#define CICADA_HTTP_HTTP_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/http/http_crowd.h"

/* For a thread of CivetWeb, from its start on; stop_fd becomes readable when the server stops. Connections that the
 * thread accepts are counted in the crowd, silent ones that it serves give way to it. */
void http_guard_thread_init(int stop_fd, struct http_crowd *crowd);
/* The thread takes a connection. */
void http_guard_taken(void);

/* Until http_guard_end() each wait ends at deadline_ms, as a failure. */
void http_guard_begin(int64_t deadline_ms);
/* The same for waiting for a request: idle_deadline_ms until its first byte, from there first_byte_timeout_ms (0: the deadline
 * stands). */
void http_guard_begin_idle(int64_t idle_deadline_ms, int64_t first_byte_timeout_ms);
void http_guard_end(void);

/* The socket that this thread has last waited for under a guard; -1: none since http_guard_thread_init(). */
int http_guard_socket(void);

/* The least stack of threads that this thread starts from now on; CivetWeb has no option for it. 0: 1 MiB. */
void http_guard_stack_bytes(size_t bytes);

/* Since http_guard_begin(): a wait ended because the deadline had come; the peer was seen closing its side. */
bool http_guard_expired(void);
bool http_guard_peer_closed(void);

#endif
