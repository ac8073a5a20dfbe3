#include "runtime/postgres/pg_reaper.h"

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"

static void job_run(struct pg_reaper_job *job, bool may_cancel)
{
    char text[256];
    /* A server that does not get the request, or does not take it, will notice the closed connection instead. */
    if (job->cancel && may_cancel)
        (void)pq.PQcancel(job->cancel, text, sizeof(text));
    if (job->cancel)
        pq.PQfreeCancel(job->cancel);
    pg_connection_close(job->connection);
    free(job);
}

static void *reaper_run(void *arg)
{
    struct pg_reaper *reaper = arg;
    (void)pthread_mutex_lock(&reaper->lock);
    for (;;) {
        struct pg_reaper_job *job = reaper->first;
        if (job) {
            reaper->first = job->next;
            if (!reaper->first)
                reaper->end = &reaper->first;
            bool late =
                reaper->stopping_ms > 0 && clock_monotonic_ms() > reaper->stopping_ms + PG_REAPER_STOP_MS;
            (void)pthread_mutex_unlock(&reaper->lock);
            job_run(job, !late);
            (void)pthread_mutex_lock(&reaper->lock);
        } else if (reaper->stopping_ms > 0) {
            break;
        } else {
            (void)pthread_cond_wait(&reaper->wake, &reaper->lock);
        }
    }
    (void)pthread_mutex_unlock(&reaper->lock);
    return NULL;
}

void pg_reaper_init(struct pg_reaper *reaper)
{
    *reaper = (struct pg_reaper){.end = &reaper->first};
    (void)pthread_mutex_init(&reaper->lock, NULL);
    (void)pthread_cond_init(&reaper->wake, NULL);
}

void pg_reaper_start(struct pg_reaper *reaper)
{
    reaper->started = pthread_create(&reaper->thread, NULL, reaper_run, reaper) == 0;
    if (!reaper->started)
        abort(); /* no thread is to be had: as with memory, the container restarts */
}

void pg_reaper_release(struct pg_reaper *reaper)
{
    if (reaper->started) {
        (void)pthread_mutex_lock(&reaper->lock);
        reaper->stopping_ms = clock_monotonic_ms();
        (void)pthread_cond_signal(&reaper->wake);
        (void)pthread_mutex_unlock(&reaper->lock);
        (void)pthread_join(reaper->thread, NULL);
    }
    (void)pthread_cond_destroy(&reaper->wake);
    (void)pthread_mutex_destroy(&reaper->lock);
}

void pg_reaper_submit(struct pg_reaper *reaper, PGcancel *cancel, struct pg_connection *connection)
{
    struct pg_reaper_job *job = xmalloc(sizeof(*job));
    *job = (struct pg_reaper_job){.cancel = cancel, .connection = connection};
    (void)pthread_mutex_lock(&reaper->lock);
    *reaper->end = job;
    reaper->end = &job->next;
    (void)pthread_cond_signal(&reaper->wake);
    (void)pthread_mutex_unlock(&reaper->lock);
}
