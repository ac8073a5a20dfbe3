#include "runtime/postgres/pg_reaper.h"

#include "runtime/base/mem.h"

static void job_run(struct pg_reaper_job *job)
{
    if (job->cancel) {
        char text[256];
        /* A server that does not take the request will notice the closed connection instead. */
        (void)pq.PQcancel(job->cancel, text, sizeof(text));
        pq.PQfreeCancel(job->cancel);
    }
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
            (void)pthread_mutex_unlock(&reaper->lock);
            job_run(job);
            (void)pthread_mutex_lock(&reaper->lock);
        } else if (reaper->stopping) {
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
        reaper->stopping = true;
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
