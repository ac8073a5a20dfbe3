#include "runtime/postgres/pg_reaper.h"

#include "runtime/base/mem.h"

/* A place for a cancel request that may be left behind; NULL: all are taken by such. */
static struct pg_cancel **free_place(struct pg_reaper *reaper)
{
    for (size_t i = 0; i < PG_CANCEL_LEFT_MAX; i++) {
        struct pg_cancel **place = &reaper->left[i];
        if (*place && pg_cancel_wait(*place, 0))
            pg_cancel_unref(steal_ptr(place));
        if (!*place)
            return place;
    }
    return NULL;
}

static void send_cancel(struct pg_reaper *reaper, PGcancel *cancel)
{
    struct pg_cancel **place = free_place(reaper);
    if (!place) {
        pq.PQfreeCancel(cancel);
        return;
    }
    *place = pg_cancel_start(cancel);
    if (*place && pg_cancel_wait(*place, PG_CANCEL_MS))
        pg_cancel_unref(steal_ptr(place));
}

static void job_run(struct pg_reaper *reaper, struct pg_reaper_job *job)
{
    if (job->cancel)
        send_cancel(reaper, job->cancel);
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
            job_run(reaper, job);
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
    for (size_t i = 0; i < PG_CANCEL_LEFT_MAX; i++)
        pg_cancel_unref(reaper->left[i]);
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
