#include "operator/queue/workqueue.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>

#include <cmocka.h>

#include "operator/queue/thread.h"
#include "runtime/base/mem.h"

#define MAX_BACKOFF_MS 1000000

struct fake_clock {
    struct clock base;
    int64_t now_ms;
};

static int64_t fake_now(const struct clock *self)
{
    return ((const struct fake_clock *)(const void *)self)->now_ms; /* base is its first member */
}

static struct fake_clock fake_clock_make(void)
{
    return (struct fake_clock){.base = {.monotonic_ms = fake_now, .wall_ms = fake_now}, .now_ms = 1000};
}

static void queue_free_p(struct workqueue **queue)
{
    workqueue_free(*queue);
}
#define CLEANUP_QUEUE CLEANUP(queue_free_p)

static void expect_next(struct workqueue *queue, const char *namespace, const char *name,
                        struct object_key *ret_key)
{
    assert_int_not_equal(workqueue_depth(queue), 0);
    assert_true(workqueue_get(queue, ret_key));
    assert_string_equal(ret_key->namespace, namespace);
    assert_string_equal(ret_key->name, name);
}

static void finish(struct workqueue *queue, struct object_key *key)
{
    workqueue_done(queue, key);
    object_key_release(key);
}

static void test_a_key_is_queued_once_in_order(void **state)
{
    (void)state;
    CLEANUP_QUEUE struct workqueue *queue = workqueue_new(&clock_system, MAX_BACKOFF_MS);
    struct object_key key;
    workqueue_add(queue, "shop", "a");
    workqueue_add(queue, "shop", "b");
    workqueue_add(queue, "shop", "a");
    workqueue_add(queue, "", "a");
    assert_int_equal(workqueue_depth(queue), 3);
    expect_next(queue, "shop", "a", &key);
    finish(queue, &key);
    expect_next(queue, "shop", "b", &key);
    finish(queue, &key);
    expect_next(queue, "", "a", &key);
    finish(queue, &key);
    assert_int_equal(workqueue_depth(queue), 0);
}

static void test_a_key_in_progress_waits_for_done(void **state)
{
    (void)state;
    CLEANUP_QUEUE struct workqueue *queue = workqueue_new(&clock_system, MAX_BACKOFF_MS);
    struct object_key key, again;
    workqueue_add(queue, "shop", "a");
    expect_next(queue, "shop", "a", &key);
    workqueue_add(queue, "shop", "a");
    workqueue_add(queue, "shop", "a");
    assert_int_equal(workqueue_depth(queue), 0);
    finish(queue, &key);
    assert_int_equal(workqueue_depth(queue), 1);
    expect_next(queue, "shop", "a", &again);
    finish(queue, &again);
    assert_int_equal(workqueue_depth(queue), 0);
}

static void test_a_closed_queue_takes_nothing(void **state)
{
    (void)state;
    CLEANUP_QUEUE struct workqueue *queue = workqueue_new(&clock_system, MAX_BACKOFF_MS);
    struct object_key key;
    workqueue_close(queue);
    workqueue_add(queue, "shop", "a");
    workqueue_add_backoff(queue, "shop", "a");
    assert_int_equal(workqueue_depth(queue), 0);
    workqueue_open(queue);
    workqueue_add(queue, "shop", "b");
    expect_next(queue, "shop", "b", &key);
    finish(queue, &key);
}

static void test_the_earlier_delay_wins(void **state)
{
    (void)state;
    struct fake_clock clock = fake_clock_make();
    CLEANUP_QUEUE struct workqueue *queue = workqueue_new(&clock.base, MAX_BACKOFF_MS);
    struct object_key key;
    workqueue_add_after(queue, "shop", "a", 500);
    workqueue_add_after(queue, "shop", "a", 900);
    workqueue_add_after(queue, "shop", "b", 300);
    workqueue_add_after(queue, "shop", "b", 100);
    clock.now_ms += 99;
    assert_int_equal(workqueue_depth(queue), 0);
    clock.now_ms += 1;
    expect_next(queue, "shop", "b", &key);
    finish(queue, &key);
    clock.now_ms += 400;
    expect_next(queue, "shop", "a", &key);
    finish(queue, &key);
    clock.now_ms += 100000;
    assert_int_equal(workqueue_depth(queue), 0);
}

static void expect_ready_after(struct workqueue *queue, struct fake_clock *clock, int64_t delay_ms)
{
    struct object_key key;
    clock->now_ms += delay_ms - 1;
    assert_int_equal(workqueue_depth(queue), 0);
    clock->now_ms += 1;
    expect_next(queue, "shop", "a", &key);
    finish(queue, &key);
}

static void test_failures_double_up_to_the_ceiling(void **state)
{
    (void)state;
    struct fake_clock clock = fake_clock_make();
    CLEANUP_QUEUE struct workqueue *queue = workqueue_new(&clock.base, MAX_BACKOFF_MS);
    int64_t delay_ms = 5;
    for (int i = 0; i < 70; i++) {
        workqueue_add_backoff(queue, "shop", "a");
        expect_ready_after(queue, &clock, delay_ms);
        delay_ms = delay_ms * 2 < MAX_BACKOFF_MS ? delay_ms * 2 : MAX_BACKOFF_MS;
    }
    workqueue_forget(queue, "shop", "a");
    workqueue_add_backoff(queue, "shop", "a");
    expect_ready_after(queue, &clock, 5);
    workqueue_forget(queue, "shop", "never-seen");
}

static void test_the_bucket_limits_all_keys_together(void **state)
{
    (void)state;
    struct fake_clock clock = fake_clock_make();
    CLEANUP_QUEUE struct workqueue *queue = workqueue_new(&clock.base, MAX_BACKOFF_MS);
    for (int i = 0; i < 130; i++) {
        CLEANUP_FREE char *name = xasprintf("key-%d", i);
        workqueue_add_backoff(queue, "shop", name);
    }
    clock.now_ms += 5;
    assert_int_equal(workqueue_depth(queue), 100);
    clock.now_ms += 95;
    assert_int_equal(workqueue_depth(queue), 101);
    clock.now_ms += 1000;
    assert_int_equal(workqueue_depth(queue), 111);
    clock.now_ms += 1900;
    assert_int_equal(workqueue_depth(queue), 130);
}

static void test_nothing_is_handed_out_after_shutdown(void **state)
{
    (void)state;
    CLEANUP_QUEUE struct workqueue *queue = workqueue_new(&clock_system, MAX_BACKOFF_MS);
    struct object_key key, other;
    workqueue_add(queue, "shop", "a");
    workqueue_add(queue, "shop", "b");
    expect_next(queue, "shop", "a", &key);
    workqueue_shutdown(queue);
    workqueue_add(queue, "shop", "c");
    workqueue_add_backoff(queue, "shop", "c");
    assert_false(workqueue_get(queue, &other));
    finish(queue, &key);
}

struct getter {
    struct workqueue *queue;
    pthread_t thread;
    int count;
};

static void *get_until_shutdown(void *arg)
{
    struct getter *getter = arg;
    struct object_key key;
    while (workqueue_get(getter->queue, &key)) {
        getter->count++;
        finish(getter->queue, &key);
    }
    return NULL;
}

static void test_sleeping_workers_see_delays_and_shutdown(void **state)
{
    (void)state;
    CLEANUP_QUEUE struct workqueue *queue = workqueue_new(&clock_system, MAX_BACKOFF_MS);
    struct getter getters[2] = {{.queue = queue}, {.queue = queue}};
    for (size_t i = 0; i < ARRAY_SIZE(getters); i++)
        getters[i].thread = thread_start("getter", get_until_shutdown, &getters[i]);
    struct timespec pause = {.tv_nsec = 100000000};
    nanosleep(&pause, NULL); /* both sleep, without a limit */
    workqueue_add_after(queue, "shop", "late", 60000);
    workqueue_add_after(queue, "shop", "soon", 30);
    workqueue_add_after(queue, "shop", "sooner", 10);
    nanosleep(&pause, NULL);
    assert_int_equal(workqueue_depth(queue), 0);
    workqueue_add(queue, "shop", "now");
    int64_t deadline_ms = clock_monotonic_ms() + 5000;
    while (workqueue_depth(queue) > 0 && clock_monotonic_ms() < deadline_ms)
        sched_yield();
    workqueue_shutdown(queue);
    int total = 0;
    for (size_t i = 0; i < ARRAY_SIZE(getters); i++) {
        pthread_join(getters[i].thread, NULL);
        total += getters[i].count;
    }
    assert_int_equal(total, 3);
}

/* ---- against a naive model ---- */

#define MODEL_KEYS 6

struct model_key {
    bool dirty, processing;
    int64_t rank;   /* order in which it became ready; the same for keys of one instant */
    int64_t due_ms; /* 0: not delayed */
    int failures;
};

struct model {
    struct model_key keys[MODEL_KEYS];
    int64_t next_rank;
    int64_t tokens_x100; /* hundredths of a token, may be negative */
    int64_t filled_ms;
};

static uint64_t next_random(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

static void model_ready(struct model *model, struct model_key *key, int64_t rank)
{
    if (!key->dirty) {
        key->dirty = true;
        key->rank = rank;
    }
    if (model->next_rank <= rank)
        model->next_rank = rank + 1;
}

static void model_delay(struct model *model, struct model_key *key, int64_t now_ms, int64_t delay_ms)
{
    if (delay_ms == 0)
        model_ready(model, key, model->next_rank);
    else if (key->due_ms == 0 || now_ms + delay_ms < key->due_ms)
        key->due_ms = now_ms + delay_ms;
}

static int64_t model_backoff_ms(struct model *model, struct model_key *key, int64_t now_ms)
{
    int64_t own_ms = key->failures < 40 ? INT64_C(5) << key->failures : MAX_BACKOFF_MS;
    own_ms = own_ms < MAX_BACKOFF_MS ? own_ms : MAX_BACKOFF_MS;
    key->failures++;
    model->tokens_x100 += now_ms - model->filled_ms;
    model->tokens_x100 = model->tokens_x100 < 10000 ? model->tokens_x100 : 10000;
    model->filled_ms = now_ms;
    model->tokens_x100 -= 100;
    return -model->tokens_x100 > own_ms ? -model->tokens_x100 : own_ms;
}

/* Moves what is due, instant by instant. */
static void model_advance(struct model *model, int64_t now_ms)
{
    for (;;) {
        int64_t first_ms = INT64_MAX;
        for (int i = 0; i < MODEL_KEYS; i++) {
            int64_t due_ms = model->keys[i].due_ms;
            first_ms = due_ms != 0 && due_ms < first_ms ? due_ms : first_ms;
        }
        if (first_ms > now_ms)
            return;
        int64_t rank = model->next_rank;
        for (int i = 0; i < MODEL_KEYS; i++) {
            if (model->keys[i].due_ms != first_ms)
                continue;
            model->keys[i].due_ms = 0;
            model_ready(model, &model->keys[i], rank);
        }
    }
}

static size_t model_depth(const struct model *model, int64_t *ret_first_rank)
{
    size_t depth = 0;
    *ret_first_rank = INT64_MAX;
    for (int i = 0; i < MODEL_KEYS; i++) {
        const struct model_key *key = &model->keys[i];
        if (!key->dirty || key->processing)
            continue;
        depth++;
        *ret_first_rank = key->rank < *ret_first_rank ? key->rank : *ret_first_rank;
    }
    return depth;
}

static void model_get(struct model *model, struct workqueue *queue, struct object_key *held)
{
    int64_t first_rank;
    if (model_depth(model, &first_rank) == 0)
        return;
    struct object_key key;
    assert_true(workqueue_get(queue, &key));
    int index = key.name[0] - 'a';
    assert_in_range(index, 0, MODEL_KEYS - 1);
    assert_true(model->keys[index].dirty && !model->keys[index].processing);
    assert_int_equal(model->keys[index].rank, first_rank);
    model->keys[index].dirty = false;
    model->keys[index].processing = true;
    held[index] = key;
}

static void model_done(struct model *model, struct workqueue *queue, struct object_key *held, int index)
{
    struct model_key *key = &model->keys[index];
    if (!key->processing)
        return;
    key->processing = false;
    if (key->dirty)
        key->rank = model->next_rank++;
    finish(queue, &held[index]);
}

static void run_model(uint64_t seed)
{
    struct fake_clock clock = fake_clock_make();
    CLEANUP_QUEUE struct workqueue *queue = workqueue_new(&clock.base, MAX_BACKOFF_MS);
    struct model model = {.tokens_x100 = 10000, .filled_ms = clock.now_ms};
    struct object_key held[MODEL_KEYS];
    for (int step = 0; step < 20000; step++) {
        uint64_t random = next_random(&seed);
        int index = (int)(random >> 8) % MODEL_KEYS;
        index = index < 0 ? -index : index;
        char name[2] = {(char)('a' + index), '\0'};
        struct model_key *key = &model.keys[index];
        int64_t delay_ms = (int64_t)(random >> 40) % 20;
        switch (random % 8) {
        case 0:
            workqueue_add(queue, "m", name);
            model_delay(&model, key, clock.now_ms, 0);
            break;
        case 1:
            workqueue_add_after(queue, "m", name, delay_ms);
            model_delay(&model, key, clock.now_ms, delay_ms);
            break;
        case 2:
            workqueue_add_backoff(queue, "m", name);
            model_delay(&model, key, clock.now_ms, model_backoff_ms(&model, key, clock.now_ms));
            break;
        case 3:
            workqueue_forget(queue, "m", name);
            key->failures = 0;
            break;
        case 4:
            clock.now_ms += step % 1000 == 0 ? 30000 : delay_ms;
            break;
        case 5:
        case 6:
            model_get(&model, queue, held);
            break;
        default:
            model_done(&model, queue, held, index);
        }
        model_advance(&model, clock.now_ms);
        int64_t unused;
        assert_int_equal(workqueue_depth(queue), model_depth(&model, &unused));
    }
    for (int i = 0; i < MODEL_KEYS; i++)
        model_done(&model, queue, held, i);
}

static void test_random_walks_agree_with_the_model(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++)
        run_model(seed * 0x9e3779b97f4a7c15);
}

/* ---- many threads ---- */

#define STRESS_KEYS  16
#define STRESS_ADDS  4000
#define STRESS_PAIRS 4

struct stress {
    struct workqueue *queue;
    atomic_int busy[STRESS_KEYS];
    atomic_int pending[STRESS_KEYS]; /* set before each add, cleared by the worker that has the key */
    atomic_int overlaps;
    atomic_int processed;
};

static void *stress_add(void *arg)
{
    struct stress *stress = arg;
    uint64_t seed = (uint64_t)(uintptr_t)pthread_self() | 1;
    for (int i = 0; i < STRESS_ADDS; i++) {
        uint64_t random = next_random(&seed);
        int index = (int)(random >> 16 & (STRESS_KEYS - 1));
        char name[2] = {(char)('a' + index), '\0'};
        atomic_store(&stress->pending[index], 1);
        if (random % 4 == 0)
            workqueue_add_after(stress->queue, "s", name, (int64_t)(random % 3));
        else
            workqueue_add(stress->queue, "s", name);
        if (random % 16 == 1)
            workqueue_forget(stress->queue, "s", name);
    }
    return NULL;
}

static void *stress_work(void *arg)
{
    struct stress *stress = arg;
    struct object_key key;
    while (workqueue_get(stress->queue, &key)) {
        int index = key.name[0] - 'a';
        if (atomic_fetch_add(&stress->busy[index], 1) != 0)
            atomic_fetch_add(&stress->overlaps, 1);
        atomic_store(&stress->pending[index], 0);
        atomic_fetch_add(&stress->processed, 1);
        if (atomic_load(&stress->processed) % 64 == 0)
            workqueue_add_backoff(stress->queue, key.namespace, key.name);
        atomic_fetch_sub(&stress->busy[index], 1);
        finish(stress->queue, &key);
    }
    return NULL;
}

static bool stress_settled(struct stress *stress)
{
    for (int i = 0; i < STRESS_KEYS; i++) {
        if (atomic_load(&stress->pending[i]) != 0)
            return false;
    }
    return true;
}

static void test_eight_threads_lose_and_double_nothing(void **state)
{
    (void)state;
    CLEANUP_QUEUE struct workqueue *queue = workqueue_new(&clock_system, /* max_backoff_ms= */ 10);
    struct stress stress = {.queue = queue};
    pthread_t adders[STRESS_PAIRS], workers[STRESS_PAIRS];
    for (int i = 0; i < STRESS_PAIRS; i++) {
        workers[i] = thread_start("worker", stress_work, &stress);
        adders[i] = thread_start("adder", stress_add, &stress);
    }
    for (int i = 0; i < STRESS_PAIRS; i++)
        pthread_join(adders[i], NULL);
    int64_t deadline_ms = clock_monotonic_ms() + 10000;
    while (!stress_settled(&stress) && clock_monotonic_ms() < deadline_ms)
        sched_yield();
    assert_true(stress_settled(&stress));
    workqueue_shutdown(queue);
    for (int i = 0; i < STRESS_PAIRS; i++)
        pthread_join(workers[i], NULL);
    assert_int_equal(atomic_load(&stress.overlaps), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_key_is_queued_once_in_order),
        cmocka_unit_test(test_a_key_in_progress_waits_for_done),
        cmocka_unit_test(test_a_closed_queue_takes_nothing),
        cmocka_unit_test(test_the_earlier_delay_wins),
        cmocka_unit_test(test_failures_double_up_to_the_ceiling),
        cmocka_unit_test(test_the_bucket_limits_all_keys_together),
        cmocka_unit_test(test_nothing_is_handed_out_after_shutdown),
        cmocka_unit_test(test_sleeping_workers_see_delays_and_shutdown),
        cmocka_unit_test(test_random_walks_agree_with_the_model),
        cmocka_unit_test(test_eight_threads_lose_and_double_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
