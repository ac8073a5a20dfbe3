/* support_gateway.h - a gateway's announcement port for tests: remembers what it is told, answers as it was told to. */
#ifndef CICADA_TESTS_SUPPORT_GATEWAY_H
#define CICADA_TESTS_SUPPORT_GATEWAY_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#define FAKE_GATEWAY_STATUSES_MAX 8
#define FAKE_GATEWAY_TEXT_SIZE    8192

struct fake_gateway {
    int listen_fd;
    int port;
    pthread_t thread;
    int stop_pipe[2];
    pthread_mutex_t mutex;
    int statuses
        [FAKE_GATEWAY_STATUSES_MAX]; /* one after another; the last non-zero one stays. 0 first: hangs up */
    atomic_int gateways;             /* how many it says there are; 0: nothing */
    int next;                        /* guarded by mutex, as all below */
    int announcements, goodbyes;
    char text[FAKE_GATEWAY_TEXT_SIZE]; /* all requests, as received */
};

/* address: "127.0.0.2", say; port 0: any. */
void fake_gateway_start(struct fake_gateway *gateway, const char *address, int port, const int *statuses,
                        int count);
void fake_gateway_stop(struct fake_gateway *gateway);
int fake_gateway_announcements(struct fake_gateway *gateway);
int fake_gateway_goodbyes(struct fake_gateway *gateway);
/* For wait_until(). */
bool fake_gateway_was_announced(void *gateway);

#endif
