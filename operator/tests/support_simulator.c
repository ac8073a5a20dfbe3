#include "operator/tests/support_simulator.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define STEP_MS        100
#define STEPS          (SIMULATION_SECONDS_MAX * 1000 / STEP_MS)
#define PODS_MAX       64
#define START_OF_CLOCK 1000000
#define NOBODY         1e-6

struct world {
    struct simulation *simulation;
    struct autoscaler_history history;
    int replicas, direction;
    int64_t now_ms, last_busy_ms;
    int64_t ready_at[PODS_MAX]; /* of pods, the oldest first */
    double come[STEPS];         /* requests that have come, all in all, at the end of each step */
    double begun, system;       /* that got a slot; that are in line or in a slot */
    int head;                   /* step in which the first in line came */
};

static int ready_pods(const struct world *world)
{
    int ready = 0;
    while (ready < world->replicas && world->ready_at[ready] <= world->now_ms) {
        ready++;
    }
    return ready;
}

static void scale(struct world *world, int replicas)
{
    for (int i = world->replicas; i < replicas; i++) {
        world->ready_at[i] = world->now_ms + SIMULATION_START_MS;
    }
    world->replicas = replicas;
}

static double slots(const struct world *world)
{
    return ready_pods(world) * world->simulation->settings.concurrency;
}

static void step(struct world *world, int index, double rate)
{
    double room = slots(world), work = fmin(world->system, room);
    double came = rate * STEP_MS / 1000;
    world->come[index] = (index ? world->come[index - 1] : 0) + came;
    world->system = fmax(0, world->system + came - work * STEP_MS / 1000 / SIMULATION_SERVICE_S);
    world->begun = world->come[index] - fmax(0, world->system - room);
    while (world->head < index && world->come[world->head] <= world->begun + NOBODY) {
        world->head++;
    }
    if (world->come[index] > world->begun + NOBODY) {
        double waited = (index - world->head) * STEP_MS / 1000.0;
        world->simulation->longest_wait_s = fmax(world->simulation->longest_wait_s, waited);
    }
    world->now_ms += STEP_MS;
    if (came > 0 || world->system > 0.5) {
        world->last_busy_ms = world->now_ms;
    }
    if (world->replicas == 0 && world->system > 0.5) {
        scale(world, 1); /* the gateway's step */
    }
}

static void tick(struct world *world, struct simulation_second *second)
{
    const struct autoscaler_settings *settings = &world->simulation->settings;
    double waiting = fmax(0, world->system - slots(world));
    struct autoscaler_state state = {
        .replicas = world->replicas, .ready = ready_pods(world), .may_sleep = true};
    struct autoscaler_load load = {.at_ms = world->now_ms,
                                   .mean = second->load,
                                   .in_flight = (int64_t)(world->system - waiting + 0.5),
                                   .waiting = (int64_t)(waiting + 0.5),
                                   .quiet_ms = world->now_ms - world->last_busy_ms,
                                   .any = !second->outage,
                                   .complete = !second->outage};
    autoscaler_observe(&world->history, settings, &state, &load);
    struct autoscaler_decision decision = autoscaler_decide(&world->history, settings, &state, &load);
    int direction = (decision.replicas > world->replicas) - (decision.replicas < world->replicas);
    if (direction) {
        world->simulation->turns += direction == -world->direction;
        world->direction = direction;
        scale(world, decision.replicas);
        autoscaler_wrote(&world->history, decision.replicas, world->now_ms);
    }
    second->desired = world->replicas;
    second->ready = ready_pods(world);
    second->panic = decision.panic_since_ms != 0;
}

void simulation_run(struct simulation *simulation)
{
    static struct world world;
    memset(&world, 0, sizeof world);
    world.simulation = simulation;
    world.now_ms = START_OF_CLOCK;
    world.last_busy_ms = START_OF_CLOCK;
    for (int i = 0; i < simulation->seconds; i++) {
        struct simulation_second *second = &simulation->found[i];
        for (int j = 0; j < 1000 / STEP_MS; j++) {
            step(&world, i * (1000 / STEP_MS) + j, simulation->rate(i));
            second->load += world.system * STEP_MS / 1000;
        }
        second->outage = i >= simulation->outage_from && i < simulation->outage_to;
        tick(&world, second);
    }
    autoscaler_history_release(&world.history);
}

/* ---- the plot ---- */

#define LEFT   60
#define TOP    50
#define WIDTH  680
#define HEIGHT 230

static double x_of(const struct simulation *simulation, int second)
{
    return LEFT + (double)second * WIDTH / simulation->seconds;
}

static double y_of(double value, double most)
{
    return TOP + HEIGHT - value * HEIGHT / most;
}

static void shade(FILE *file, const struct simulation *simulation, bool outage, const char *color)
{
    for (int i = 0, from = -1; i <= simulation->seconds; i++) {
        bool on =
            i < simulation->seconds && (outage ? simulation->found[i].outage : simulation->found[i].panic);
        if (on && from < 0) {
            from = i;
        } else if (!on && from >= 0) {
            fprintf(file, "<rect x=\"%.1f\" y=\"%d\" width=\"%.1f\" height=\"%d\" fill=\"%s\"/>\n",
                    x_of(simulation, from), TOP, x_of(simulation, i) - x_of(simulation, from), HEIGHT, color);
            from = -1;
        }
    }
}

enum series { SERIES_LOAD, SERIES_DESIRED, SERIES_READY };

static void line(FILE *file, const struct simulation *simulation, enum series series, double most,
                 const char *style)
{
    double before = -1;
    fprintf(file, "<polyline fill=\"none\" %s points=\"", style);
    for (int i = 0; i < simulation->seconds; i++) {
        const struct simulation_second *second = &simulation->found[i];
        double value = series == SERIES_LOAD      ? second->load
                       : series == SERIES_DESIRED ? second->desired
                                                  : second->ready;
        double y = y_of(fmin(value, most), most), x = x_of(simulation, i);
        if (before >= 0 && before != y) {
            fprintf(file, "%.1f,%.1f ", series == SERIES_LOAD ? x_of(simulation, i - 1) : x, before);
        }
        if (before != y || i == simulation->seconds - 1) {
            fprintf(file, "%.1f,%.1f ", x, y);
        }
        before = y;
    }
    fprintf(file, "\"/>\n");
}

static void text(FILE *file, double x, double y, const char *anchor, const char *content)
{
    fprintf(file, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s</text>\n", x, y, anchor, content);
}

static void axes(FILE *file, const struct simulation *simulation, double most_load, double most_replicas)
{
    char number[16];
    for (int i = 0; i <= 5; i++) {
        double y = TOP + HEIGHT - i * HEIGHT / 5.0;
        fprintf(file, "<path d=\"M%d %.1fh%d\" stroke=\"#ddd\"/>\n", LEFT, y, WIDTH);
        snprintf(number, sizeof number, "%g", most_load * i / 5);
        text(file, LEFT - 6, y + 4, "end", number);
        snprintf(number, sizeof number, "%g", most_replicas * i / 5);
        text(file, LEFT + WIDTH + 6, y + 4, "start", number);
    }
    for (int i = 0; i <= simulation->seconds; i += 60) {
        snprintf(number, sizeof number, "%d", i);
        text(file, x_of(simulation, i), TOP + HEIGHT + 16, "middle", number);
    }
    text(file, LEFT + WIDTH / 2.0, TOP + HEIGHT + 34, "middle", "time, s");
    text(file, LEFT - 50, TOP - 10, "start", "load, requests");
    text(file, LEFT + WIDTH + 50, TOP - 10, "end", "replicas");
}

static void legend(FILE *file)
{
    static const char *const marks[] = {
        "stroke=\"#2a6fb0\"", "stroke=\"#c0392b\"", "stroke=\"#2e8b57\" stroke-dasharray=\"5 3\"",
        "stroke=\"#fbe3b5\" stroke-width=\"10\"", "stroke=\"#d8d8d8\" stroke-width=\"10\""};
    static const char *const names[] = {"load", "desired", "ready", "panic", "no figures"};
    for (int i = 0; i < 5; i++) {
        int x = LEFT + 110 + i * 100;
        fprintf(file, "<path d=\"M%d 36h24\" %s/>\n", x, marks[i]);
        text(file, x + 30, 40, "start", names[i]);
    }
}

int simulation_plot(const struct simulation *simulation, const char *path)
{
    double most_load = 10, most_replicas = 10;
    for (int i = 0; i < simulation->seconds; i++) {
        while (most_load < simulation->found[i].load) {
            most_load += 10;
        }
        while (most_replicas < simulation->found[i].desired) {
            most_replicas += 5;
        }
    }
    FILE *file = fopen(path, "w");
    if (!file) {
        return -1;
    }
    fprintf(file,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 800 330\" font-family=\"sans-serif\" "
            "font-size=\"12\">\n<rect width=\"800\" height=\"330\" fill=\"#fff\"/>\n");
    fprintf(file, "<text x=\"400\" y=\"18\" text-anchor=\"middle\" font-size=\"14\">%s</text>\n",
            simulation->name);
    shade(file, simulation, /* outage= */ false, "#fbe3b5");
    shade(file, simulation, /* outage= */ true, "#d8d8d8");
    axes(file, simulation, most_load, most_replicas);
    line(file, simulation, SERIES_LOAD, most_load, "stroke=\"#2a6fb0\"");
    line(file, simulation, SERIES_DESIRED, most_replicas, "stroke=\"#c0392b\"");
    line(file, simulation, SERIES_READY, most_replicas, "stroke=\"#2e8b57\" stroke-dasharray=\"5 3\"");
    legend(file);
    fprintf(file, "</svg>\n");
    return fclose(file);
}
