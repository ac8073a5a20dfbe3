/* admission: how much runs at once, and in which order. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/host/admission.h"
#include "runtime/tests/support_runtime.h"

static int64_t in_ms(int64_t ms)
{
    return clock_monotonic_ms() + ms;
}

static void test_limit_and_waiting_are_exact(void **state)
{
    struct admission *admission = admission_new(1, 1);

    (void)state;
    assert_true(admission_try_enter(admission));
    assert_false(admission_try_enter(admission));
    assert_int_equal(admission_enter(admission, in_ms(30)), ADMISSION_LATE);
    assert_int_equal(admission_working(admission), 1);
    assert_int_equal(admission_waiting(admission), 0);
    admission_leave(admission);
    assert_int_equal(admission_working(admission), 0);
    admission_free(admission);
}

struct entrant {
    struct admission *admission;
    pthread_t thread;
    atomic_int *order; /* shared */
    int entered_as;
    enum admission_result result;
};

static void *enter(void *arg)
{
    struct entrant *entrant = arg;

    entrant->result = admission_enter(entrant->admission, in_ms(5000));
    entrant->entered_as = atomic_fetch_add(entrant->order, 1);
    if (entrant->result == ADMISSION_ENTERED)
        admission_leave(entrant->admission);
    return NULL;
}

struct expected_waiting {
    struct admission *admission;
    int count;
};

static bool are_waiting(void *arg)
{
    struct expected_waiting *expected = arg;
    return admission_waiting(expected->admission) == expected->count;
}

static void test_first_come_first_served(void **state)
{
    struct admission *admission = admission_new(3, 3);
    struct entrant entrants[3];
    atomic_int order = 0;

    (void)state;
    for (int i = 0; i < 3; i++)
        assert_int_equal(admission_enter(admission, in_ms(0)), ADMISSION_ENTERED);
    for (int i = 0; i < 3; i++) {
        struct expected_waiting expected = {admission, i + 1};
        entrants[i] = (struct entrant){.admission = admission, .order = &order};
        assert_int_equal(pthread_create(&entrants[i].thread, NULL, enter, &entrants[i]), 0);
        wait_until(are_waiting, &expected, "the thread waits");
    }
    assert_int_equal(admission_enter(admission, in_ms(1000)), ADMISSION_FULL);
    admission_leave(admission); /* one place: each passes it on to the next */
    for (int i = 0; i < 3; i++) {
        pthread_join(entrants[i].thread, NULL);
        assert_int_equal(entrants[i].result, ADMISSION_ENTERED);
        assert_int_equal(entrants[i].entered_as, i);
    }
    admission_leave(admission);
    admission_leave(admission);
    assert_int_equal(admission_working(admission), 0);
    admission_free(admission);
}

struct hammer {
    struct admission *admission;
    atomic_int working, most, entered, full, late;
};

static void *hammer_main(void *arg)
{
    struct hammer *hammer = arg;

    for (int i = 0; i < 300; i++) {
        int now, most;
        switch (admission_enter(hammer->admission, in_ms(i % 3))) {
        case ADMISSION_FULL:
            atomic_fetch_add(&hammer->full, 1);
            continue;
        case ADMISSION_LATE:
            atomic_fetch_add(&hammer->late, 1);
            continue;
        case ADMISSION_ENTERED:
            break;
        }
        now = atomic_fetch_add(&hammer->working, 1) + 1;
        most = atomic_load(&hammer->most);
        while (now > most && !atomic_compare_exchange_weak(&hammer->most, &most, now))
            continue;
        atomic_fetch_add(&hammer->entered, 1);
        atomic_fetch_sub(&hammer->working, 1);
        admission_leave(hammer->admission);
    }
    return NULL;
}

static void test_many_threads(void **state)
{
    struct hammer hammer = {.admission = admission_new(3, 3)};
    pthread_t threads[16];

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, hammer_main, &hammer), 0);
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
        pthread_join(threads[i], NULL);
    assert_true(hammer.most <= 3);
    assert_int_equal(hammer.entered + hammer.full + hammer.late, 16 * 300);
    assert_int_equal(admission_working(hammer.admission), 0);
    assert_int_equal(admission_waiting(hammer.admission), 0);
    admission_free(hammer.admission);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_limit_and_waiting_are_exact),
        cmocka_unit_test(test_first_come_first_served),
        cmocka_unit_test(test_many_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
