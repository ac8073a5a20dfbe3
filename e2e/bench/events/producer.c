/* producer.c CONNINFO EVENTS SQL - sends one event after another, each in a transaction of its own with pauses of 40 to 120 ms between them, in which
 * whoever works on them goes to sleep. SQL takes the event's number as $1. A line for each: the number, and when COMMIT was answered. */
#include <postgresql/libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define PAUSE_MIN_MS 40
#define PAUSE_MAX_MS 120

static void must(PGconn *session, PGresult *result)
{
    ExecStatusType status = PQresultStatus(result);

    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) {
        fprintf(stderr, "producer: %s", PQerrorMessage(session));
        exit(1);
    }
    PQclear(result);
}

static void send_event(PGconn *session, int number)
{
    char text[16];
    const char *const params[] = {text};
    struct timespec now;

    snprintf(text, sizeof(text), "%d", number);
    must(session, PQexec(session, "BEGIN"));
    must(session, PQexecPrepared(session, "send", 1, params, NULL, NULL, 0));
    must(session, PQexec(session, "COMMIT"));
    clock_gettime(CLOCK_REALTIME, &now);
    printf("%d %lld.%09ld\n", number, (long long)now.tv_sec, now.tv_nsec);
}

int main(int argc, char **argv)
{
    PGconn *session;
    int events;

    if (argc != 4) {
        fprintf(stderr, "usage: producer CONNINFO EVENTS SQL\n");
        return 2;
    }
    session = PQconnectdb(argv[1]);
    events = (int)strtol(argv[2], NULL, 10);
    must(session, PQprepare(session, "send", argv[3], 1, NULL));
    srandom(1);
    for (int i = 1; i <= events; i++) {
        long pause_ms = PAUSE_MIN_MS + random() % (PAUSE_MAX_MS - PAUSE_MIN_MS + 1);
        struct timespec pause = {0, pause_ms * 1000000L};
        nanosleep(&pause, NULL);
        send_event(session, i);
    }
    PQfinish(session);
    return 0;
}
