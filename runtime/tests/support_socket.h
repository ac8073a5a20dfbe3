/* support_socket.h - raw TCP for tests: a client that says exactly what it is told, and a server that misbehaves as told. */
#ifndef CICADA_TESTS_SUPPORT_SOCKET_H
#define CICADA_TESTS_SUPPORT_SOCKET_H

#include <stdbool.h>
#include <stddef.h>

/* Client side, to 127.0.0.1. Failures fail the test. */
int socket_connect(int port);
void socket_send(int fd, const void *data, size_t len);
void socket_send_text(int fd, const char *text);
/* What arrives until the peer closes or timeout_ms passed; the caller frees. *ret_closed: the peer closed (or reset). */
char *socket_read_all(int fd, int timeout_ms, bool *ret_closed);
/* One answer with Content-Length (or without a body), from status line to the end of its body; the caller frees. */
char *socket_read_answer(int fd);
/* connect, send, read until closed (2 s at most), close. */
char *socket_exchange(int port, const char *text);

/* A server of one thread. For each connection, in order, `serve` runs; the connection is closed after it. */
typedef void socket_serve_fn(void *arg, int fd, int connection_number);
struct socket_server;
struct socket_server *socket_server_start(socket_serve_fn *serve, void *arg);
int socket_server_port(const struct socket_server *server);
void socket_server_stop(struct socket_server *server); /* after the running `serve` has returned */
/* For `serve`: reads one request's head and Content-Length body; false if the peer closed before. */
bool socket_read_request(int fd, char *out, size_t size);

#endif
