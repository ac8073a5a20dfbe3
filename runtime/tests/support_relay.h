/* support_relay.h - a TCP relay that a test can cut: how a database goes away and comes back. */
#ifndef CICADA_TESTS_SUPPORT_RELAY_H
#define CICADA_TESTS_SUPPORT_RELAY_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#define RELAY_PAIRS_MAX 32

struct relay {
    int port;        /* where it listens, on 127.0.0.1 */
    int target_port; /* where it leads, likewise */
    int listen_fd;   /* -1: cut */
    int commands[2]; /* a pipe: 'c' cuts, 'r' restores, 'q' ends */
    int pairs[RELAY_PAIRS_MAX][2];
    size_t pair_count;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t obeyed;
    int obeyed_count; /* guarded by mutex */
};

void relay_start(struct relay *relay, int target_port);
void relay_cut(struct relay *relay); /* closes all connections and refuses new ones */
void relay_restore(struct relay *relay);
void relay_stop(struct relay *relay);

#endif
