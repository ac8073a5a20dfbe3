/* bare_civetweb.c - bare_civetweb PORT THREADS BODY: CivetWeb answering every request with BODY by one mg_write().
 *
 * What is left when everything that the runtime adds is taken away: no admission, no deadlines, no copy of the request, no
 * thread of one's own for the handler. Its settings are the runtime's. Ends with SIGTERM.
 */
#include <civetweb.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

static char answer[4096];
static int answer_bytes;

static int on_begin_request(struct mg_connection *connection)
{
    mg_write(connection, answer, (size_t)answer_bytes);
    return 200; /* handled */
}

int main(int argc, char **argv)
{
    struct mg_callbacks callbacks;
    struct mg_context *context;
    sigset_t signals;
    int signal_number;
    char listen[64];

    if (argc != 4) {
        fprintf(stderr, "usage: bare_civetweb PORT THREADS BODY\n");
        return 2;
    }
    snprintf(listen, sizeof(listen), "127.0.0.1:%s", argv[1]);
    const char *options[] = {
        "listening_ports",
        listen,
        "num_threads",
        argv[2],
        "enable_keep_alive",
        "yes",
        "keep_alive_timeout_ms",
        "60000",
        "tcp_nodelay",
        "1",
        "connection_queue",
        "512",
        "listen_backlog",
        "1024",
        "decode_url",
        "no",
        NULL,
    };
    answer_bytes = snprintf(answer, sizeof(answer),
                            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: keep-alive\r\n"
                            "Content-Length: %zu\r\n\r\n%s",
                            strlen(argv[3]), argv[3]);
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    memset(&callbacks, 0, sizeof(callbacks));
    callbacks.begin_request = on_begin_request;
    mg_init_library(0);
    context = mg_start(&callbacks, NULL, options);
    if (context == NULL) {
        fprintf(stderr, "bare_civetweb: cannot listen on %s\n", listen);
        return 1;
    }
    sigwait(&signals, &signal_number);
    return 0; /* exit ends the threads */
}
