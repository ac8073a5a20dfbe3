#include "operator/queue/thread.h"

#include <unistd.h>

/* Virtual; only pages that are touched count. TLS handshakes and JSON of 64 levels fit several times, also with sanitizers. */
#define STACK_BYTES    (512u << 10)
#define NAME_MAX_BYTES 15

pthread_t thread_start(const char *name, void *(*run)(void *arg), void *arg)
{
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    pthread_t thread;
    int rc = pthread_create(&thread, &attributes, run, arg);
    pthread_attr_destroy(&attributes);
    if (rc != 0) {
        dprintf(STDERR_FILENO, "cannot start thread %s: %s\n", name, strerror(rc));
        abort();
    }
    char short_name[NAME_MAX_BYTES + 1];
    snprintf(short_name, sizeof(short_name), "%s", name);
    pthread_setname_np(thread, short_name);
    return thread;
}
