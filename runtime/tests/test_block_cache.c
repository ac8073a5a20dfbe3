#include "runtime/base/block_cache.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#include "runtime/tests/support_test.h"

#define BLOCK_BYTES 200
#define MANY        (20 * BLOCK_CACHE_KEPT) /* more than all processors keep */
#define THREADS     8
#define ROUNDS      20000

static void a_block_is_ones_own_until_it_is_given_back(void **state)
{
    (void)state;
    struct block_cache *cache = block_cache_new(BLOCK_BYTES);
    unsigned char *blocks[MANY];
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < MANY; i++) {
            blocks[i] = block_cache_take(cache);
            assert_int_equal((uintptr_t)blocks[i] % 64, 0);
            memset(blocks[i], i, BLOCK_BYTES);
        }
        for (int i = 0; i < MANY; i++) {
            assert_int_equal(blocks[i][0], (unsigned char)i);
            assert_int_equal(blocks[i][BLOCK_BYTES - 1], (unsigned char)i);
            block_cache_give(cache, blocks[i]);
        }
    }
    block_cache_free(cache);
}

struct crowd {
    struct block_cache *cache;
    atomic_int taken_by_two;
};

static void *take_and_give(void *arg)
{
    struct crowd *crowd = arg;
    for (int i = 0; i < ROUNDS; i++) {
        uintptr_t *mine = block_cache_take(crowd->cache), *more = block_cache_take(crowd->cache);
        *mine = (uintptr_t)&mine;
        *more = (uintptr_t)&more;
        if (i % 64 == 0)
            sched_yield();
        if (*mine != (uintptr_t)&mine || *more != (uintptr_t)&more)
            atomic_fetch_add(&crowd->taken_by_two, 1);
        block_cache_give(crowd->cache, mine);
        block_cache_give(crowd->cache, more);
    }
    return NULL;
}

static void no_two_threads_have_the_same_block(void **state)
{
    (void)state;
    struct crowd crowd = {.cache = block_cache_new(BLOCK_BYTES)};
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, take_and_give, &crowd), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&crowd.taken_by_two), 0);
    block_cache_free(crowd.cache);
}

static void run_on(int cpu)
{
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET(cpu, &cpus);
    assert_int_equal(sched_setaffinity(0, sizeof(cpus), &cpus), 0);
}

/* Who waits within a request may end on another processor than it began on. */
static void what_was_given_back_elsewhere_is_found(void **state)
{
    (void)state;
    struct block_cache *cache = block_cache_new(BLOCK_BYTES);
    cpu_set_t all;
    int first = -1, last = -1;
    assert_int_equal(sched_getaffinity(0, sizeof(all), &all), 0);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (CPU_ISSET(cpu, &all)) {
            first = first < 0 ? cpu : first;
            last = cpu;
        }
    }
    run_on(first);
    void *block = block_cache_take(cache);
    run_on(last);
    block_cache_give(cache, block);
    run_on(first);
    void *again = block_cache_take(cache);
#ifndef __SANITIZE_ADDRESS__ /* there none is kept */
    assert_ptr_equal(again, block);
#endif
    block_cache_give(cache, again);
    assert_int_equal(sched_setaffinity(0, sizeof(all), &all), 0);
    block_cache_free(cache);
}

static void none_is_no_cache(void **state)
{
    (void)state;
    block_cache_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_block_is_ones_own_until_it_is_given_back),
        cmocka_unit_test(no_two_threads_have_the_same_block),
        cmocka_unit_test(what_was_given_back_elsewhere_is_found),
        cmocka_unit_test(none_is_no_cache),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
