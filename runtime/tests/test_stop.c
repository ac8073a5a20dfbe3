#include <poll.h>
#include <pthread.h>

#include "runtime/base/clock.h"
#include "runtime/base/stop.h"
#include "runtime/tests/support_test.h"

static bool fd_is_readable(const struct stop *stop)
{
    struct pollfd entry = {.fd = stop_fd(stop), .events = POLLIN};
    return poll(&entry, 1, 0) == 1;
}

static void once_set_it_stays(void **state)
{
    (void)state;
    struct stop stop;
    stop_init(&stop);
    assert_false(stop_is_set(&stop));
    assert_false(fd_is_readable(&stop));
    stop_set(&stop);
    stop_set(&stop);
    assert_true(stop_is_set(&stop));
    assert_true(fd_is_readable(&stop));
    assert_true(stop_wait(&stop, -1));
    assert_true(fd_is_readable(&stop));
    stop_release(&stop);
}

static void waiting_ends_at_the_timeout(void **state)
{
    (void)state;
    struct stop stop;
    stop_init(&stop);
    int64_t start = clock_monotonic_ms();
    assert_false(stop_wait(&stop, 0));
    assert_false(stop_wait(&stop, 20));
    assert_in_range(clock_monotonic_ms() - start, 20, 1000);
    stop_release(&stop);
}

static void *wait_for_ever(void *arg)
{
    return stop_wait(arg, INT64_MAX) ? arg : NULL;
}

static void setting_wakes_every_thread(void **state)
{
    (void)state;
    struct stop stop;
    stop_init(&stop);
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, wait_for_ever, &stop), 0);
    }
    assert_false(stop_wait(&stop, 10));
    stop_set(&stop);
    for (int i = 0; i < 4; i++) {
        void *result;
        pthread_join(threads[i], &result);
        assert_ptr_equal(result, &stop);
    }
    stop_release(&stop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(once_set_it_stays),
        cmocka_unit_test(waiting_ends_at_the_timeout),
        cmocka_unit_test(setting_wakes_every_thread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
