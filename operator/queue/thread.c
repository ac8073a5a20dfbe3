#include "operator/queue/thread.h"

#include <unistd.h>

#include "runtime/base/stacked_thread.h"

/* Virtual; only pages that are touched count. TLS handshakes and JSON of 64 levels fit several times, also with sanitizers. */
#define STACK_BYTES    (512u << 10)
#define NAME_MAX_BYTES 15

pthread_t thread_start(const char *name, void *(*run)(void *arg), void *arg)
{
    pthread_t thread;
    int rc = stacked_thread_start(&thread, STACK_BYTES, run, arg);
    if (rc != 0) {
        dprintf(STDERR_FILENO, "cannot start thread %s: %s\n", name, strerror(rc));
        abort();
    }
    char short_name[NAME_MAX_BYTES + 1];
    snprintf(short_name, sizeof(short_name), "%s", name);
    pthread_setname_np(thread, short_name);
    return thread;
}
