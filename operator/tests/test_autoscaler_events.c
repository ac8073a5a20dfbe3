/* The autoscaler and what waits in databases: it is woken, kept, and given more only where those that are there do not keep up. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "operator/tests/support_film.h"
#include "runtime/base/mem.h"

#define QUIET_MS 3600000

/* Nobody calls by HTTP, and all gateways say so. */
static struct autoscaler_load quiet_load(struct autoscaler_events events)
{
    return (struct autoscaler_load){.quiet_ms = QUIET_MS, .any = true, .complete = true, .events = events};
}

/* A second; what is decided is done, and serves at once. */
static int second(struct film *film, struct autoscaler_events events)
{
    int replicas = film_show(film, quiet_load(events));
    if (replicas != film->state.replicas) {
        autoscaler_wrote(&film->history, replicas, film->now_ms);
        film->state.replicas = film->state.ready = replicas;
        film->state.generation++;
    }
    return replicas;
}

static const struct autoscaler_events none = {.any = true, .known = true};
static const struct autoscaler_events unknown = {.any = true};
static const struct autoscaler_events some = {
    .any = true, .known = true, .busy = true, .wanted = 3, .held = 4};
static const struct autoscaler_events too_many = {
    .any = true, .known = true, .busy = true, .behind = true, .wanted = 8, .held = 9};

static const struct autoscaler_events far_too_many = {
    .any = true, .known = true, .busy = true, .behind = true, .wanted = 1000, .held = 1000};

static void test_events_wake(void **state)
{
    (void)state;
    struct film film = film_new(&usual, 0);
    assert_int_equal(second(&film, none), 0);
    assert_int_equal(second(&film, unknown), 0);
    assert_int_equal(second(&film, some), 1);
    assert_decision(&film, 1, AUTOSCALER_EVENTS);
    film_end(&film);
}

static void test_more_only_if_it_does_not_keep_up(void **state)
{
    (void)state;
    struct film film = film_new(&usual, 1);
    assert_int_equal(second(&film, some), 1);
    assert_int_equal(second(&film, too_many), 1); /* it serves for a second */
    assert_int_equal(second(&film, too_many), 8);
    film.state.ready = 7;
    for (int i = 0; i < 5; i++) {
        assert_int_equal(film_show(&film, quiet_load(far_too_many)), 8); /* one is on its way */
    }
    film.state.ready = 8;
    for (int i = 0; i < 3; i++) {
        film_show(&film, quiet_load(far_too_many));
    }
    assert_decision(&film, 10, AUTOSCALER_MAX);
    film_end(&film);
}

static void test_busy_or_unseen_does_not_sleep(void **state)
{
    (void)state;
    struct film film = film_new(&usual, 1);
    for (int i = 0; i < 200; i++) {
        assert_int_equal(second(&film, i < 100 ? some : unknown), 1);
    }
    assert_decision(&film, 1, AUTOSCALER_UNSEEN);
    for (int i = 0; i < 59; i++) { /* idleSeconds, from the last event on */
        assert_int_equal(second(&film, none), 1);
    }
    assert_int_equal(second(&film, none), 0);
    assert_decision(&film, 0, AUTOSCALER_IDLE);
    film_end(&film);
}

static void test_unseen_is_not_fewer(void **state)
{
    (void)state;
    struct film film = film_new(&usual, 4);
    for (int i = 0; i < 200; i++) {
        assert_int_equal(second(&film, unknown), 4);
    }
    film_end(&film);
}

static void test_without_gateways_events_count(void **state)
{
    (void)state;
    struct film film = film_new(&usual, 1);
    assert_int_equal(film_show(&film, (struct autoscaler_load){.events = too_many}), 1);
    (void)film_show(&film, (struct autoscaler_load){.events = too_many});
    assert_int_equal(film_show(&film, (struct autoscaler_load){.events = too_many}), 8);
    assert_decision(&film, 8, AUTOSCALER_EVENTS);
    film_end(&film);
}

/* ---- shapes: a queue and its consumers, who take two events in hand for each that they work on ---- */

#define STEPS_OF_SECOND 10
#define SHAPE_SECONDS   660
#define CONCURRENCY     4
#define BEHIND_S        2.0

struct shape {
    const char *name;
    double (*rate)(int second); /* events a second */
    double service_s;
    int seconds, most, turns, at, replicas; /* the number at that second; it is zero in the end */
    double wait_s;                          /* the oldest due event is never older */
};

struct queue {
    double come[SHAPE_SECONDS * STEPS_OF_SECOND]; /* all in all, at the end of each step */
    double done, taken;
    int head, ready_from[16], replicas; /* step from which each replica serves */
};

static int ready_at(const struct queue *queue, int step)
{
    int ready = 0;
    while (ready < queue->replicas && queue->ready_from[ready] <= step) {
        ready++;
    }
    return ready;
}

static void scale(struct queue *queue, int replicas, int step)
{
    for (int i = queue->replicas; i < replicas; i++) {
        queue->ready_from[i] = step + 2 * STEPS_OF_SECOND;
    }
    queue->replicas = replicas;
}

static void advance(struct queue *queue, const struct shape *shape, int step)
{
    double hands = ready_at(queue, step) * CONCURRENCY, before = step ? queue->come[step - 1] : 0;
    queue->come[step] = before + shape->rate(step / STEPS_OF_SECOND) / STEPS_OF_SECOND;
    queue->done += fmin(queue->taken - queue->done, hands) / shape->service_s / STEPS_OF_SECOND;
    queue->taken = fmin(queue->come[step], fmax(queue->taken, queue->done + 2 * hands));
    while (queue->head < step && queue->come[queue->head] <= queue->taken + 1e-6) {
        queue->head++;
    }
}

static double oldest_s(const struct queue *queue, int step)
{
    return queue->come[step] > queue->taken + 1e-6 ? (double)(step - queue->head) / STEPS_OF_SECOND : 0;
}

static struct autoscaler_events look(const struct queue *queue, int step)
{
    double due = floor(queue->come[step] - queue->taken + 0.5);
    /* A notification came, which tells of what was done at once. */
    bool came = queue->come[step] > queue->come[step < STEPS_OF_SECOND ? 0 : step - STEPS_OF_SECOND];
    double leased = floor(queue->taken - queue->done + 0.5);
    return (struct autoscaler_events){.any = true,
                                      .known = true,
                                      .busy = due + leased > 0 || came,
                                      .behind = oldest_s(queue, step) >= BEHIND_S,
                                      .wanted = (int)ceil(due / CONCURRENCY),
                                      .held = (int)ceil((due + leased) / CONCURRENCY)};
}

static void run_shape(const struct shape *shape)
{
    static struct queue queue;
    struct film film = film_new(&usual, 0);
    int most = 0, turns = 0, direction = 0, step = 0, found = 0;
    double wait_s = 0;
    memset(&queue, 0, sizeof queue);
    for (int i = 0; i < shape->seconds; i++) {
        for (int j = 0; j < STEPS_OF_SECOND; j++, step++) {
            advance(&queue, shape, step);
            wait_s = fmax(wait_s, oldest_s(&queue, step));
        }
        film.state.ready = ready_at(&queue, step);
        int replicas = film_show(&film, quiet_load(look(&queue, step - 1)));
        int turn = (replicas > queue.replicas) - (replicas < queue.replicas);
        if (turn != 0) {
            turns += turn == -direction;
            direction = turn;
            scale(&queue, replicas, step);
            autoscaler_wrote(&film.history, replicas, film.now_ms);
            film.state.replicas = replicas;
            film.state.generation++;
        }
        most = replicas > most ? replicas : most;
        found = i == shape->at ? replicas : found;
    }
    print_message("%s: oldest %.1f s, most %d, %d turns, %d at %d s, %d in the end\n", shape->name, wait_s,
                  most, turns, found, shape->at, queue.replicas);
    assert_int_equal(found, shape->replicas);
    assert_true(wait_s <= shape->wait_s);
    assert_true(most <= shape->most);
    assert_true(turns <= shape->turns);
    assert_int_equal(queue.replicas, 0);
    film_end(&film);
}

static double trickle(int at)
{
    return at < 400 && at % 20 == 0 ? 3 : 0;
}

static double small_burst(int at)
{
    return at == 10 ? 30 : 0;
}

static double great_burst(int at)
{
    return at == 10 ? 5000 : 0;
}

static double steady(int at)
{
    return at < 400 ? 30 : 0;
}

static double waves(int at)
{
    return at < 480 ? 40 - 30 * cos(at * 2 * 3.14159265 / 120) : 0;
}

static const struct shape shapes[] = {
    {"trickle", trickle, 0.1, 500, 1, 1, 300, 1, 3},
    {"small burst", small_burst, 0.1, 200, 1, 1, 50, 1, 3},
    {"great burst", great_burst, 0.1, 300, 10, 1, 60, 10, 30},
    {"steady, 3.75 replicas of work", steady, 0.5, 500, 10, 1, 350, 4, 6},
    {"waves, 1.25 to 8.75 replicas of work", waves, 0.5, 660, 10, 9, 300, 10, 6},
};

static void test_shapes(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(shapes); i++) {
        run_shape(&shapes[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_events_wake),
        cmocka_unit_test(test_more_only_if_it_does_not_keep_up),
        cmocka_unit_test(test_busy_or_unseen_does_not_sleep),
        cmocka_unit_test(test_unseen_is_not_fewer),
        cmocka_unit_test(test_without_gateways_events_count),
        cmocka_unit_test(test_shapes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
