#include "runtime/base/stacked_thread.h"

int stacked_thread_start(pthread_t *ret_thread, size_t stack_bytes, void *(*run)(void *arg), void *arg)
{
    pthread_attr_t attributes;
    int rc;

    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, stack_bytes);
    rc = pthread_create(ret_thread, &attributes, run, arg);
    pthread_attr_destroy(&attributes);
    return rc;
}
