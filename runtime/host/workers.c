#include "runtime/host/workers.h"

#include <pthread.h>
#include <stdlib.h>

#include "runtime/base/mem.h"
#include "runtime/host/monotonic_cond.h"

struct workers {
    size_t stack_bytes;
    int max_threads;
    pthread_mutex_t mutex;
    pthread_cond_t wake;        /* work was queued, or stopping */
    pthread_cond_t ended;       /* a thread left its loop */
    struct work *first, **last; /* guarded by mutex, as all below */
    int queued;                 /* length of that list */
    int idle;                   /* threads waiting for work */
    int running;                /* threads inside their loop */
    int started;                /* entries of `threads` */
    bool stopping;
    pthread_t *threads;
};

struct workers *workers_new(int max_threads, size_t stack_bytes)
{
    struct workers *workers = xcalloc(1, sizeof(*workers));

    workers->stack_bytes = stack_bytes;
    workers->max_threads = max_threads;
    workers->last = &workers->first;
    workers->threads = xcalloc((size_t)max_threads, sizeof(*workers->threads));
    pthread_mutex_init(&workers->mutex, NULL);
    pthread_cond_init(&workers->wake, NULL);
    monotonic_cond_init(&workers->ended);
    return workers;
}

static struct work *take_work(struct workers *workers)
{
    struct work *work = workers->first;

    workers->first = work->next;
    if (workers->first == NULL)
        workers->last = &workers->first;
    workers->queued--;
    return work;
}

static void *worker_main(void *arg)
{
    struct workers *workers = arg;

    pthread_mutex_lock(&workers->mutex);
    for (;;) {
        if (workers->first != NULL) {
            struct work *work = take_work(workers);
            pthread_mutex_unlock(&workers->mutex);
            work->run(work);
            pthread_mutex_lock(&workers->mutex);
        } else if (workers->stopping) {
            break;
        } else {
            workers->idle++;
            pthread_cond_wait(&workers->wake, &workers->mutex);
            workers->idle--;
        }
    }
    workers->running--;
    pthread_cond_signal(&workers->ended);
    pthread_mutex_unlock(&workers->mutex);
    return NULL;
}

/* With the mutex held. */
static int start_thread(struct workers *workers)
{
    pthread_attr_t attributes;
    int rc;

    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, workers->stack_bytes);
    rc = pthread_create(&workers->threads[workers->started], &attributes, worker_main, workers);
    pthread_attr_destroy(&attributes);
    if (rc == 0) {
        workers->started++;
        workers->running++;
    }
    return rc;
}

int workers_submit(struct workers *workers, struct work *work, struct err *err)
{
    int rc = 0;

    pthread_mutex_lock(&workers->mutex);
    if (workers->queued >= workers->idle && workers->started < workers->max_threads)
        rc = start_thread(workers);
    if (rc == 0 || workers->started > 0) { /* without a new thread an old one will come to it */
        work->next = NULL;
        *workers->last = work;
        workers->last = &work->next;
        workers->queued++;
        rc = 0;
        pthread_cond_signal(&workers->wake);
    }
    pthread_mutex_unlock(&workers->mutex);
    if (rc != 0)
        return err_set(err, ERR_UNAVAILABLE, "no thread could be started");
    return 0;
}

bool workers_stop(struct workers *workers, int64_t deadline_ms)
{
    bool in_time = true;
    bool ended;

    pthread_mutex_lock(&workers->mutex);
    workers->stopping = true;
    pthread_cond_broadcast(&workers->wake);
    while (workers->running > 0 && in_time)
        in_time = monotonic_cond_wait(&workers->ended, &workers->mutex, deadline_ms);
    ended = workers->running == 0;
    pthread_mutex_unlock(&workers->mutex);
    if (!ended)
        return false;
    for (int i = 0; i < workers->started; i++)
        pthread_join(workers->threads[i], NULL);
    workers->started = 0;
    return true;
}

void workers_free(struct workers *workers)
{
    if (workers == NULL)
        return;
    pthread_cond_destroy(&workers->wake);
    pthread_cond_destroy(&workers->ended);
    pthread_mutex_destroy(&workers->mutex);
    free(workers->threads);
    free(workers);
}
