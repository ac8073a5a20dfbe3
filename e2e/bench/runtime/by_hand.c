/* by_hand.c - by_hand PORT THREADS item|order|order-seen CONNINFO: the benchmarks' requests by CivetWeb and libpq alone.
 *
 * What these two libraries cost when everything that the runtime adds is taken away: a connection for each thread, prepared
 * statements, the fewest round trips, one mg_write(). No pool, no admission, no deadlines, no look at what the client sent, no
 * escaping; what goes wrong ends the program. Ends with SIGTERM.
 *
 *   item   GET /?id=1: the statement of item.pgbench
 *   order  POST {"user_id":1,"product_id":1,"quantity":1}: the transaction of order.pgbench, in two round trips
 *   order-seen  the same in three, as the runtime's handlers need: they see the order before they decide on COMMIT
 */
#include <civetweb.h>
#include <postgresql/libpq-fe.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define UPDATE_SQL                                                                                           \
    "UPDATE public.products SET stock = stock - $1::bigint WHERE id = $2 AND stock >= $1::bigint "           \
    "RETURNING price_cents"
#define INSERT_SQL                                                                                           \
    "INSERT INTO public.orders (user_id, product_id, quantity, total) "                                      \
    "VALUES ($1, $2, $3::bigint, $3::bigint * $4::bigint / 100.0) "                                          \
    "RETURNING id, user_id, product_id, quantity, total, status"
#define SELECT_SQL "SELECT id, name, price_cents, stock FROM bench.items WHERE id = $1"

static const char *conninfo;
static int is_order, is_seen;
static _Thread_local PGconn *database; /* of a thread of CivetWeb; the process's end closes it */

static void die(void)
{
    fprintf(stderr, "by_hand: %s\n", PQerrorMessage(database));
    exit(1);
}

static PGresult *expect(PGresult *result, ExecStatusType status)
{
    if (PQresultStatus(result) != status)
        die();
    return result;
}

static void prepare(const char *name, const char *sql)
{
    PQclear(expect(PQprepare(database, name, sql, 0, NULL), PGRES_COMMAND_OK));
}

static void connect_once(void)
{
    if (database != NULL)
        return;
    database = PQconnectdb(conninfo);
    if (PQstatus(database) != CONNECTION_OK)
        die();
    if (is_order) {
        prepare("update", UPDATE_SQL);
        prepare("insert", INSERT_SQL);
    } else {
        prepare("select", SELECT_SQL);
    }
}

static int answer(struct mg_connection *connection, const char *status, const char *body, int body_bytes)
{
    char text[2048];
    int bytes = snprintf(text, sizeof(text),
                         "HTTP/1.1 %s\r\nContent-Type: application/json\r\nConnection: keep-alive\r\n"
                         "Content-Length: %d\r\n\r\n%.*s",
                         status, body_bytes, body_bytes, body);

    mg_write(connection, text, (size_t)bytes);
    return 200; /* handled */
}

static int get_item(struct mg_connection *connection)
{
    const char *query = mg_get_request_info(connection)->query_string;
    const char *id = query != NULL && strncmp(query, "id=", 3) == 0 ? query + 3 : "1";
    PGresult *row = expect(PQexecPrepared(database, "select", 1, &id, NULL, NULL, 0), PGRES_TUPLES_OK);
    char body[512];
    int bytes =
        snprintf(body, sizeof(body), "{\"id\":%s,\"name\":\"%s\",\"price_cents\":%s,\"stock\":%s}",
                 PQgetvalue(row, 0, 0), PQgetvalue(row, 0, 1), PQgetvalue(row, 0, 2), PQgetvalue(row, 0, 3));

    PQclear(row);
    return answer(connection, "200 OK", body, bytes);
}

/* The next result of the pipeline, and the NULL behind it. */
static PGresult *next_result(ExecStatusType status)
{
    PGresult *result = expect(PQgetResult(database), status);

    PQclear(PQgetResult(database));
    return result;
}

static void end_round_trip(void)
{
    PQclear(expect(PQgetResult(database), PGRES_PIPELINE_SYNC));
}

static void read_number(const char *body, const char *name, char out[24])
{
    const char *at = strstr(body, name);

    snprintf(out, 24, "%ld", at != NULL ? strtol(at + strlen(name) + strlen("\":"), NULL, 10) : 0L);
}

static void send_commit(void)
{
    PQsendQueryParams(database, "COMMIT", 0, NULL, NULL, NULL, NULL, 0);
}

static int post_order(struct mg_connection *connection)
{
    char text[512], user[24], product[24], quantity[24], price[24], body[512];
    int bytes = mg_read(connection, text, sizeof(text) - 1);
    PGresult *result, *row;

    if (bytes <= 0)
        return answer(connection, "400 Bad Request", "{}", 2);
    text[bytes] = '\0';
    read_number(text, "user_id", user);
    read_number(text, "product_id", product);
    read_number(text, "quantity", quantity);

    PQenterPipelineMode(database);
    PQsendQueryParams(database, "BEGIN", 0, NULL, NULL, NULL, NULL, 0);
    PQsendQueryPrepared(database, "update", 2, (const char *const[]){quantity, product}, NULL, NULL, 0);
    PQpipelineSync(database);
    PQclear(next_result(PGRES_COMMAND_OK));
    result = next_result(PGRES_TUPLES_OK);
    snprintf(price, sizeof(price), "%s", PQgetvalue(result, 0, 0));
    PQclear(result);
    end_round_trip();

    PQsendQueryPrepared(database, "insert", 4, (const char *const[]){user, product, quantity, price}, NULL,
                        NULL, 0);
    if (!is_seen)
        send_commit();
    PQpipelineSync(database);
    row = next_result(PGRES_TUPLES_OK);
    if (is_seen) {
        end_round_trip();
        send_commit();
        PQpipelineSync(database);
    }
    PQclear(next_result(PGRES_COMMAND_OK));
    end_round_trip();
    PQexitPipelineMode(database);

    bytes = snprintf(
        body, sizeof(body),
        "{\"id\":%s,\"user_id\":%s,\"product_id\":%s,\"quantity\":%s,\"total\":%s,\"status\":\"%s\"}",
        PQgetvalue(row, 0, 0), PQgetvalue(row, 0, 1), PQgetvalue(row, 0, 2), PQgetvalue(row, 0, 3),
        PQgetvalue(row, 0, 4), PQgetvalue(row, 0, 5));
    PQclear(row);
    return answer(connection, "201 Created", body, bytes);
}

static int on_begin_request(struct mg_connection *connection)
{
    connect_once();
    return is_order ? post_order(connection) : get_item(connection);
}

int main(int argc, char **argv)
{
    struct mg_callbacks callbacks;
    sigset_t signals;
    int signal_number;
    char listen[64];

    if (argc != 5) {
        fprintf(stderr, "usage: by_hand PORT THREADS item|order|order-seen CONNINFO\n");
        return 2;
    }
    snprintf(listen, sizeof(listen), "127.0.0.1:%s", argv[1]);
    is_seen = strcmp(argv[3], "order-seen") == 0;
    is_order = is_seen || strcmp(argv[3], "order") == 0;
    conninfo = argv[4];
    const char *options[] = {"listening_ports",
                             listen,
                             "num_threads",
                             argv[2],
                             "enable_keep_alive",
                             "yes",
                             "keep_alive_timeout_ms",
                             "60000",
                             "tcp_nodelay",
                             "1",
                             "decode_url",
                             "no",
                             NULL};
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    memset(&callbacks, 0, sizeof(callbacks));
    callbacks.begin_request = on_begin_request;
    mg_init_library(0);
    if (mg_start(&callbacks, NULL, options) == NULL) {
        fprintf(stderr, "by_hand: cannot listen on %s\n", listen);
        return 1;
    }
    sigwait(&signals, &signal_number);
    return 0; /* exit ends the threads */
}
