/* crash.c - handlers that end their process in every way, and one that writes while others do. */
#include <cicada/function.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void sleep_ms(long ms)
{
    struct timespec left = {ms / 1000, ms % 1000 * 1000000L};
    while (nanosleep(&left, &left) != 0)
        continue;
}

static long number(struct cicada_request *req, const char *name)
{
    const char *text = cicada_request_query(req, name);
    return text ? strtol(text, NULL, 10) : 0;
}

/* Each frame is used after the call, so that no compiler makes a loop of it. */
static int overflow(volatile char *outer)
{
    volatile char frame[4096];

    frame[0] = (char)(outer[0] | 1);
    if (frame[0] == 0)
        return 0;
    return overflow(frame) + frame[0];
}

/* Two rows in one transaction, with a pause between them: both are there, or none. */
static int write_pair(struct cicada_request *req, struct cicada_context *ctx, struct cicada_response *res)
{
    const char *text = cicada_request_query(req, "text");

    if (cicada_execute(ctx, "INSERT INTO runtime_crash.pairs (text, half) VALUES ($1, 1)",
                       CICADA_PARAMS(cicada_text(text))) != CICADA_OK)
        return CICADA_FAIL;
    sleep_ms(number(req, "ms"));
    if (cicada_execute(ctx, "INSERT INTO runtime_crash.pairs (text, half) VALUES ($1, 2)",
                       CICADA_PARAMS(cicada_text(text))) != CICADA_OK)
        return CICADA_FAIL;
    cicada_response_body(res, "pair\n", 5);
    return CICADA_OK;
}

static void end(const char *how)
{
    volatile char start[1] = {0};

    if (strcmp(how, "segv") == 0)
        *(volatile int *)(uintptr_t)0x10 = 1; /* NOLINT: this is the point */
    if (strcmp(how, "overflow") == 0)
        overflow(start);
    if (strcmp(how, "abort") == 0)
        abort();
    if (strcmp(how, "trap") == 0)
        __builtin_trap();
    if (strcmp(how, "kill") == 0)
        kill(getpid(), SIGKILL);
    if (strcmp(how, "exit") == 0)
        _exit(0);
    if (strcmp(how, "orphan") == 0 && fork() == 0)
        _exit(fork() == 0 ? (sleep_ms(100), 0) : 0); /* the grandchild outlives its parent */
}

static int crash(struct cicada_request *req, struct cicada_context *ctx, struct cicada_response *res)
{
    const char *how = cicada_request_query(req, "how");

    if (cicada_request_query(req, "text") != NULL)
        return write_pair(req, ctx, res);
    sleep_ms(number(req, "ms"));
    if (how != NULL)
        end(how);
    cicada_response_body(res, "alive\n", 6);
    return CICADA_OK;
}
CICADA_FUNCTION(crash);

static int crash_init(struct cicada_context *ctx, void **ret_state)
{
    (void)ctx;
    (void)ret_state;
    end("segv");
    return CICADA_OK;
}
static int crash_at_start(struct cicada_request *req, struct cicada_context *ctx, struct cicada_response *res)
{
    return crash(req, ctx, res);
}
CICADA_FUNCTION(crash_at_start, .init = crash_init);
