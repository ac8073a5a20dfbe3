#include "runtime/events/consumer_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/base/monotonic_cond.h"
#include "runtime/base/stacked_thread.h"

#define THREAD_STACK_BYTES (256u << 10) /* of the consumer's own */

static void wake(struct consumer *consumer)
{
    (void)eventfd_write(consumer->wake_fd, 1);
}

static void thread_ends(struct consumer *consumer)
{
    pthread_mutex_lock(&consumer->mutex);
    consumer->threads_left--;
    pthread_cond_broadcast(&consumer->ended);
    pthread_mutex_unlock(&consumer->mutex);
}

/* What a worker has taken. */
struct load {
    struct held *held[CONSUMER_RUN_MAX];
    struct event_job *jobs[CONSUMER_RUN_MAX];
    size_t count;
};

static void work_on(struct worker *worker, const struct load *load)
{
    struct consumer *consumer = worker->consumer;
    int64_t begin_us = clock_monotonic_us(), took_us;

    consumer->settings.run(consumer->settings.run_arg, worker->number, load->jobs, load->count);
    took_us = (clock_monotonic_us() - begin_us) / (int64_t)load->count;
    pthread_mutex_lock(&consumer->mutex);
    consumer->run_us += (took_us - consumer->run_us) / 8;
    for (size_t i = 0; i < load->count; i++)
        hand_finish(&consumer->hand, load->held[i]);
    pthread_mutex_unlock(&consumer->mutex);
    wake(consumer);
}

int consumer_load(const struct consumer *consumer, int trigger)
{
    int batch_size = consumer->settings.triggers[trigger].batch_size;
    int64_t most = CONSUMER_GROUP_US / (consumer->run_us + 1);

    if (batch_size > 1)
        return batch_size;
    if (most > consumer->settings.group_most)
        most = consumer->settings.group_most;
    return most > 1 ? (int)most : 1;
}

/* A batch is as large as it may be. Of events that are run one by one each worker takes its share. */
static size_t share_of(const struct consumer *consumer, const struct event *event)
{
    int most = consumer_load(consumer, event->trigger);
    int share = (consumer->hand.in_line + consumer->settings.concurrency) / consumer->settings.concurrency;

    if (event->alone)
        return 1;
    return (size_t)(consumer->settings.triggers[event->trigger].batch_size > 1 || most < share ? most
                                                                                               : share);
}

static void take(struct load *load, struct held *held)
{
    load->held[load->count] = held;
    load->jobs[load->count++] = &held->job;
}

/* False: the end has come. */
static bool await_work(struct consumer *consumer, struct load *ret_load)
{
    struct held *held = NULL;
    size_t most;

    ret_load->count = 0;
    pthread_mutex_lock(&consumer->mutex);
    while (!stop_is_set(&consumer->stop) && (held = hand_take(&consumer->hand)) == NULL)
        pthread_cond_wait(&consumer->line, &consumer->mutex);
    most = held != NULL ? share_of(consumer, held->job.event) : 0;
    for (; held != NULL; held = ret_load->count < most ? hand_take_next(&consumer->hand, held) : NULL)
        take(ret_load, held);
    pthread_mutex_unlock(&consumer->mutex);
    return ret_load->count > 0;
}

static void *worker_main(void *arg)
{
    struct worker *worker = arg;
    struct load load;

    while (await_work(worker->consumer, &load))
        work_on(worker, &load);
    thread_ends(worker->consumer);
    return NULL;
}

static void *consumer_main(void *arg)
{
    struct consumer *consumer = arg;

    consumer_turns(consumer);
    thread_ends(consumer);
    return NULL;
}

static int start_threads(struct consumer *consumer, struct err *err)
{
    int rc = 0;

    consumer->threads_left = consumer->settings.concurrency + 1;
    for (int i = 0; i < consumer->settings.concurrency && rc == 0; i++) {
        struct worker *worker = &consumer->workers[i];
        *worker = (struct worker){.consumer = consumer, .number = i};
        rc = stacked_thread_start(&worker->thread, consumer->settings.stack_bytes, worker_main, worker);
        consumer->worker_count += rc == 0;
    }
    if (rc == 0)
        rc = stacked_thread_start(&consumer->thread, THREAD_STACK_BYTES, consumer_main, consumer);
    consumer->has_thread = rc == 0;
    if (rc == 0)
        return 0;
    pthread_mutex_lock(&consumer->mutex);
    consumer->threads_left = consumer->worker_count; /* none of them has ended yet */
    pthread_mutex_unlock(&consumer->mutex);
    return err_set(err, ERR_UNAVAILABLE, "threads for events: %s", strerror(rc));
}

int consumer_start(const struct consumer_settings *settings, struct consumer **ret_consumer, struct err *err)
{
    struct consumer *consumer;

    if (settings->trigger_count < 1 || settings->trigger_count > CONSUMER_TRIGGERS_MAX)
        return err_set(err, ERR_INVALID, "there must be 1 to %d queues", CONSUMER_TRIGGERS_MAX);
    if (settings->concurrency < 1 || settings->concurrency > CONSUMER_CONCURRENCY_MAX)
        return err_set(err, ERR_INVALID, "1 to %d events are worked on at once", CONSUMER_CONCURRENCY_MAX);
    consumer = xcalloc(1, sizeof(*consumer));
    consumer->settings = *settings;
    consumer->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (consumer->wake_fd < 0) {
        free(consumer);
        return err_set(err, ERR_UNAVAILABLE, "eventfd: %s", strerror(errno));
    }
    stop_init(&consumer->stop);
    pthread_mutex_init(&consumer->mutex, NULL);
    pthread_cond_init(&consumer->line, NULL);
    monotonic_cond_init(&consumer->ended);
    hand_init(&consumer->hand);
    consumer->run_us =
        CONSUMER_AHEAD_RUN_US; /* none is claimed ahead before it is known how long they take */
    if (start_threads(consumer, err) != 0) {
        if (consumer_stop(consumer, DEADLINE_NONE)) /* always: none has anything to do */
            consumer_free(consumer);
        return -1;
    }
    *ret_consumer = consumer;
    return 0;
}

void consumer_drain(struct consumer *consumer)
{
    if (consumer == NULL)
        return;
    pthread_mutex_lock(&consumer->mutex);
    consumer->draining = true;
    pthread_mutex_unlock(&consumer->mutex);
    wake(consumer);
}

bool consumer_is_drained(struct consumer *consumer)
{
    bool drained;

    if (consumer == NULL)
        return true;
    pthread_mutex_lock(&consumer->mutex);
    drained = consumer->draining && hand_count(&consumer->hand) == 0;
    pthread_mutex_unlock(&consumer->mutex);
    return drained;
}

bool consumer_stop(struct consumer *consumer, int64_t deadline_ms)
{
    bool in_time = true;

    if (consumer == NULL)
        return true;
    stop_set(&consumer->stop);
    pthread_mutex_lock(&consumer->mutex);
    pthread_cond_broadcast(&consumer->line);
    while (consumer->threads_left > 0 && in_time)
        in_time = monotonic_cond_wait(&consumer->ended, &consumer->mutex, deadline_ms);
    in_time = consumer->threads_left == 0;
    pthread_mutex_unlock(&consumer->mutex);
    if (!in_time)
        return false;
    for (; consumer->worker_count > 0; consumer->worker_count--)
        pthread_join(consumer->workers[consumer->worker_count - 1].thread, NULL);
    if (consumer->has_thread)
        pthread_join(consumer->thread, NULL);
    consumer->has_thread = false;
    return true;
}

void consumer_free(struct consumer *consumer)
{
    if (consumer == NULL)
        return;
    while (consumer->hand.first != NULL)
        hand_remove(&consumer->hand, consumer->hand.first);
    pthread_cond_destroy(&consumer->ended);
    pthread_cond_destroy(&consumer->line);
    pthread_mutex_destroy(&consumer->mutex);
    stop_release(&consumer->stop);
    close(consumer->wake_fd);
    free(consumer);
}

void consumer_figures(struct consumer *consumer, struct consumer_figures *ret_figures)
{
    pthread_mutex_lock(&consumer->mutex);
    ret_figures->in_line = consumer->hand.in_line;
    ret_figures->at_work = consumer->hand.at_work;
    snprintf(ret_figures->problem, sizeof(ret_figures->problem), "%s", consumer->problem);
    pthread_mutex_unlock(&consumer->mutex);
}

void consumer_counts(struct consumer *consumer, struct consumer_counts *ret_counts)
{
    pthread_mutex_lock(&consumer->mutex);
    *ret_counts = consumer->counts;
    pthread_mutex_unlock(&consumer->mutex);
}
