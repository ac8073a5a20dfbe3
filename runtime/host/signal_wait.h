/* signal_wait.h - waiting for signals that are blocked in every thread. */
#ifndef CICADA_HOST_SIGNAL_WAIT_H
#define CICADA_HOST_SIGNAL_WAIT_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

/* The signal, or 0 after `timeout_ms`. */
int signal_await(const sigset_t *signals, int64_t timeout_ms);
/* True: a signal came before `fd` became readable. */
bool signal_comes_before(const sigset_t *signals, int fd, int *ret_signal);

#endif
