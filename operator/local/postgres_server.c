#include "operator/local/postgres_server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <pwd.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "operator/local/postgres_command.h"
#include "operator/local/postgres_folder.h"
#include "operator/local/postgres_programs.h"
#include "operator/local/process.h"
#include "operator/local/state_folder.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/base/strbuf.h"
#include "runtime/base/text.h"

#define INITDB_TIMEOUT_MS    120000
#define START_TIMEOUT_MS     60000
#define INIT_FILE_TIMEOUT_MS 600000
#define STOP_TIMEOUT_MS      10000
#define RESTART_MS           500
#define RESTART_DOUBLINGS    4
#define STABLE_MS            10000 /* a start that lasted so long was fine */
#define HALF_NAME_BYTES      8
#define PASSWORD_BYTES       16
#define PID_FILE_MAX_BYTES   4096
#define PID_FILE_STATUS_LINE 8 /* "ready" once it takes connections */
#define ROLE                 "cicada"
#define DATABASE             "cicada"
#define SUPERUSER            "postgres"
#define SOCKET_FILE          "/.s.PGSQL.65535" /* the longest name of one */
#define MAX_CONNECTIONS      "max_connections=200"

struct postgres_server {
    struct postgres_server_settings settings;
    char *programs, *folder, *data, *url, *psql, *psql_path, *password;
    struct postgres_context context;
    struct postgres_user user; /* its folder is ours */
    bool by_socket; /* else by loopback alone: the folder's path leaves no room for a socket's name */
    bool is_new;
    int port;
    struct process *process;
    bool is_up, has_ended, stopping;
    int64_t started_ms;
    int failures; /* starts in a row that did not last */
    struct loop_timer restart;
    struct line_tail tail;
};

/* ---- as whom ---- */

static int find_user(struct postgres_server *server, struct err *err)
{
    if (geteuid() != 0) {
        return 0;
    }
    const struct passwd *user = getpwnam(SUPERUSER);
    if (!user) {
        return err_set(err, ERR_NOT_FOUND,
                       "PostgreSQL does not run as root, and there is no user " SUPERUSER);
    }
    server->user.uid = user->pw_uid;
    server->user.gid = user->pw_gid;
    server->user.is_another = true;
    return 0;
}

/* ---- its pid file ---- */

/* The text of a line of postmaster.pid (from 1 on), or NULL. */
static char *pid_file_line(const struct postgres_server *server, int wanted)
{
    struct err err = ERR_INIT;
    CLEANUP_FREE char *path = xasprintf("%s/postmaster.pid", server->data), *text = NULL;
    if (file_read(path, PID_FILE_MAX_BYTES, &text, NULL, &err) < 0) {
        return NULL;
    }
    const char *line = text;
    for (int number = 1; number < wanted && line; number++) {
        line = strchr(line, '\n');
        line = line ? line + 1 : NULL;
    }
    return line && *line ? xstrndup(line, strcspn(line, "\n")) : NULL;
}

static bool is_ready(const struct postgres_server *server)
{
    CLEANUP_FREE char *status = pid_file_line(server, PID_FILE_STATUS_LINE);
    CLEANUP_FREE char *pid = pid_file_line(server, 1);
    int64_t number;
    return status && str_starts_with(status, "ready") && pid && parse_int64(pid, 1, INT32_MAX, &number) &&
           number == process_pid(server->process);
}

/* One whose parent was killed may still be about to end. Without one its pid file means nothing, which a server does not know. */
static int wait_for_predecessor(const struct postgres_server *server, struct err *err)
{
    int64_t deadline_ms = clock_monotonic_ms() + STOP_TIMEOUT_MS;
    while (postgres_folder_in_use(server->data)) {
        if (postgres_turn(&server->context, deadline_ms, "another PostgreSQL uses the data", err) < 0) {
            return err_wrap(err, "%s", server->data);
        }
    }
    CLEANUP_FREE char *pid_file = xasprintf("%s/postmaster.pid", server->data);
    (void)unlink(pid_file);
    return 0;
}

/* ---- initdb ---- */

/* For the server's user alone. */
static int write_private(const struct postgres_server *server, const char *path, const char *text,
                         struct err *err)
{
    ssize_t len = (ssize_t)strlen(text);
    CLEANUP_FD int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, text, (size_t)len) != len ||
        (server->user.is_another && fchown(fd, server->user.uid, server->user.gid) < 0)) {
        return err_set_errno(err, errno, "%s", path);
    }
    return 0;
}

static int write_password(const struct postgres_server *server, const char *path, struct err *err)
{
    char password[PASSWORD_BYTES * 2 + 1];
    random_hex(password, PASSWORD_BYTES);
    return write_private(server, path, password, err);
}

static int read_password(struct postgres_server *server, const char *path, struct err *err)
{
    size_t len;
    if (file_read(path, PASSWORD_BYTES * 2, &server->password, &len, err) < 0) {
        return -1;
    }
    server->user.password = server->password;
    return len == PASSWORD_BYTES * 2 ? 0 : err_set(err, ERR_INVALID, "%s: is no password of ours", path);
}

/* Into a folder beside, so that one that was interrupted is never taken for complete; of its own, since what a killed one has started
 * may write for a moment. */
static int init_database(struct postgres_server *server, const char *password_path, struct err *err)
{
    CLEANUP_FREE char *initdb = xasprintf("%s/initdb", server->programs);
    char name[HALF_NAME_BYTES * 2 + 1];
    random_hex(name, HALF_NAME_BYTES);
    CLEANUP_FREE char *half = xasprintf("%s/" POSTGRES_HALF_PREFIX "%s", server->folder, name);
    CLEANUP_FREE char *data = xasprintf("--pgdata=%s", half),
                      *password = xasprintf("--pwfile=%s", password_path);
    char user[] = "--username=" SUPERUSER, local[] = "--auth-local=trust",
         host[] = "--auth-host=scram-sha-256", encoding[] = "--encoding=UTF8", locale[] = "--locale=C.UTF-8",
         no_sync[] = "--no-sync";
    char *const argv[] = {initdb, data, user, password, local, host, encoding, locale, no_sync, NULL};
    postgres_folder_remove_halves(server->folder);
    if (write_password(server, password_path, err) < 0 ||
        postgres_command_run(&server->context, &server->user, argv, "initdb", INITDB_TIMEOUT_MS, err) < 0) {
        return -1;
    }
    if (rename(half, server->data) < 0) {
        return err_set_errno(err, errno, "%s", server->data);
    }
    server->is_new = true;
    return 0;
}

/* ---- start ---- */

static void server_line(void *arg, const char *text, size_t len)
{
    struct postgres_server *server = arg;
    line_tail_add(&server->tail, text, len);
    CLEANUP_FREE char *copy = xstrndup(text, len);
    /* Its start and end are told by us; what is wrong is told by it, but not who was still about to go at its end. */
    bool is_farewell =
        server->stopping && strstr(copy, "terminating connection due to administrator command");
    if (strstr(copy, "LOG: ") == NULL && !is_farewell) {
        console_process_line(server->settings.console, "postgres", text, len);
    }
}

/* With growing delays if it does not last. */
static void set_restart(struct postgres_server *server)
{
    int64_t now_ms = clock_monotonic_ms();
    server->failures = now_ms - server->started_ms >= STABLE_MS ? 0 : server->failures;
    loop_timer_set(server->context.loop, &server->restart, now_ms + (RESTART_MS << server->failures));
    server->failures += server->failures < RESTART_DOUBLINGS ? 1 : 0;
}

static void server_ended(void *arg, int wait_status)
{
    struct postgres_server *server = arg;
    server->has_ended = true;
    if (!server->stopping) {
        char how[PROCESS_END_SIZE];
        process_end_text(wait_status, how);
        CLEANUP_STRBUF struct strbuf text;
        strbuf_init(&text, CONSOLE_LINE_MAX_BYTES);
        postgres_tail_append(&server->tail, &text);
        console_say(server->settings.console, "PostgreSQL ended by itself: %s%s", how, text.buf);
    }
    if (server->is_up && !server->stopping) {
        set_restart(server);
    }
}

static int launch_server(struct postgres_server *server, struct err *err);

/* On the same port: who uses it knows no other. */
static void restart_server(struct loop_timer *timer)
{
    struct postgres_server *server = container_of(timer, struct postgres_server, restart);
    struct err err = ERR_INIT;
    process_free(server->process);
    server->process = NULL;
    if (launch_server(server, &err) < 0) {
        console_say(server->settings.console, "PostgreSQL is not started again yet: %s", err.msg);
        server->has_ended = true;
        set_restart(server);
    }
}

static int pick_port(int *ret_port, struct err *err)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    CLEANUP_FD int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, len) < 0 ||
        getsockname(fd, (struct sockaddr *)&address, &len) < 0) {
        return err_set_errno(err, errno, "a port for PostgreSQL");
    }
    *ret_port = ntohs(address.sin_port);
    return 0;
}

static int launch_server(struct postgres_server *server, struct err *err)
{
    CLEANUP_FREE char *postgres = xasprintf("%s/postgres", server->programs);
    CLEANUP_FREE char *port = xasprintf("port=%d", server->port);
    CLEANUP_FREE char *sockets =
        xasprintf("unix_socket_directories=%s", server->by_socket ? server->folder : "");
    char data_flag[] = "-D", set[] = "-c", listen[] = "listen_addresses=127.0.0.1", most[] = MAX_CONNECTIONS,
         /* Nothing of it outside of its folder. */
        memory[] = "dynamic_shared_memory_type=mmap", socket_mode[] = "unix_socket_permissions=0777",
         language[] = "lc_messages=C.UTF-8";
    char *const argv[] = {postgres, data_flag, server->data, set, port,     set,
                          sockets,  set,       listen,       set, most,     set,
                          memory,   set,       socket_mode,  set, language, NULL};
    char path[] = POSTGRES_PATH_VARIABLE;
    char *const envp[] = {path, NULL};
    struct process_settings settings = {
        .argv = argv,
        .envp = envp,
        .folder = server->folder,
        .uid = server->user.uid,
        .gid = server->user.gid,
        .set_user = server->user.is_another,
        .death_signal = SIGINT, /* fast shutdown */
        .line = server_line,
        .ended = server_ended,
        .arg = server,
    };
    server->has_ended = false;
    server->started_ms = clock_monotonic_ms();
    return process_start(server->context.loop, &settings, &server->process, err);
}

static int start_server(struct postgres_server *server, struct err *err)
{
    if (pick_port(&server->port, err) < 0 || launch_server(server, err) < 0) {
        return -1;
    }
    int64_t deadline_ms = clock_monotonic_ms() + START_TIMEOUT_MS;
    while (!is_ready(server)) {
        if (server->has_ended) {
            return postgres_tail_fail(&server->tail, "PostgreSQL did not start", err);
        }
        if (postgres_turn(&server->context, deadline_ms, "PostgreSQL", err) < 0) {
            return -1;
        }
    }
    server->is_up = true;
    return 0;
}

/* ---- the database ---- */

/* As which user of this machine: files belong to who wrote them. */
static int run_psql(struct postgres_server *server, const struct postgres_user *reader, const char *role,
                    const char *database, const char *file, struct err *err)
{
    CLEANUP_FREE char *psql = xasprintf("%s/psql", server->programs), *name = xstrdup(file);
    CLEANUP_FREE char *target =
        xasprintf("host=%s port=%d user=%s dbname=%s", server->by_socket ? server->folder : "127.0.0.1",
                  server->port, role, database);
    char no_rc[] = "-X", quiet[] = "-q", stop[] = "-v", on_error[] = "ON_ERROR_STOP=1", flag[] = "-f";
    char *const argv[] = {psql, no_rc, quiet, stop, on_error, flag, name, target, NULL};
    return postgres_command_run(&server->context, reader, argv, file, INIT_FILE_TIMEOUT_MS, err);
}

/* The role of functions and its database. By a file, since others may read a command line. */
static int make_database(struct postgres_server *server, struct err *err)
{
    CLEANUP_FREE char *file = xasprintf("%s/role.sql", server->folder);
    CLEANUP_FREE char *sql = xasprintf("CREATE ROLE " ROLE " LOGIN PASSWORD '%s';\n"
                                       "CREATE DATABASE " DATABASE " OWNER " ROLE ";\n",
                                       server->password); /* hexadecimal digits */
    if (write_private(server, file, sql, err) < 0) {
        return -1;
    }
    int result = run_psql(server, &server->user, SUPERUSER, SUPERUSER, file, err);
    (void)unlink(file);
    return result;
}

static int fill_database(struct postgres_server *server, struct err *err)
{
    const struct postgres_user author = {.password = server->password};
    if (make_database(server, err) < 0) {
        return -1;
    }
    for (const char *const *file = server->settings.init_files; file && *file; file++) {
        if (run_psql(server, &author, ROLE, DATABASE, *file, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static void make_urls(struct postgres_server *server)
{
    struct strbuf host;
    strbuf_init(&host, PATH_MAX);
    strbuf_append_percent_encoded(&host, server->folder);
    /* No secret on a screen. */
    server->psql =
        server->by_socket
            ? xasprintf("psql -h %s -p %d -U " ROLE " " DATABASE, server->folder, server->port)
            : xasprintf("PGPASSWORD=$(cat %s/password) psql -h 127.0.0.1 -p %d -U " ROLE " " DATABASE,
                        server->folder, server->port);
    server->url = server->by_socket
                      ? xasprintf("postgresql://" ROLE "@%s:%d/" DATABASE, host.buf, server->port)
                      : xasprintf("postgresql://" ROLE ":%s@127.0.0.1:%d/" DATABASE "?sslmode=disable",
                                  server->password, server->port);
    strbuf_release(&host);
}

/* In single quotes for a shell. */
static void append_quoted(struct strbuf *out, const char *text)
{
    strbuf_append_char(out, '\'');
    for (; *text; text++) {
        strbuf_append_str(out, *text == '\'' ? "'\\''" : (char[]){*text, '\0'});
    }
    strbuf_append_char(out, '\'');
}

/* A short way to the database, that does not change with the port. */
static int make_psql(const struct postgres_server *server, struct err *err)
{
    CLEANUP_STRBUF struct strbuf text;
    strbuf_init(&text, PATH_MAX * 8);
    strbuf_append_str(&text, "#!/bin/sh\n");
    if (!server->by_socket) {
        strbuf_append_str(&text, "export PGPASSWORD\nPGPASSWORD=$(cat ");
        append_quoted(&text, server->folder);
        strbuf_append_str(&text, "/password)\n");
    }
    strbuf_append_str(&text, "exec ");
    append_quoted(&text, server->programs);
    strbuf_append_str(&text, "/psql -h ");
    append_quoted(&text, server->by_socket ? server->folder : "127.0.0.1");
    strbuf_appendf(&text, " -p %d -U " ROLE " -d " DATABASE " \"$@\"\n", server->port);
    (void)unlink(server->psql_path);
    CLEANUP_FD int fd = open(server->psql_path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
    if (fd < 0 || write(fd, text.buf, text.len) != (ssize_t)text.len) {
        return err_set_errno(err, errno, "%s", server->psql_path);
    }
    return 0;
}

/* Complete only once the author's files have gone in: a start that failed there begins anew. */
static int prepare(struct postgres_server *server, struct err *err)
{
    if (postgres_programs_find(server->settings.programs, &server->programs, err) < 0 ||
        find_user(server, err) < 0) {
        return -1;
    }
    server->folder = postgres_folder_choose(server->settings.folder, &server->user, server->settings.console);
    struct sockaddr_un address;
    server->by_socket = strlen(server->folder) + strlen(SOCKET_FILE) < sizeof address.sun_path;
    server->user.folder = server->folder;
    server->data = xasprintf("%s/data", server->folder);
    if (postgres_folder_make(server->folder, &server->user, err) < 0 ||
        wait_for_predecessor(server, err) < 0) {
        return -1;
    }
    CLEANUP_FREE char *password_path = xasprintf("%s/password", server->folder);
    CLEANUP_FREE char *complete = xasprintf("%s/complete", server->folder);
    bool is_complete = access(complete, F_OK) == 0;
    if (server->settings.fresh || !is_complete) {
        (void)unlink(complete);
        if (remove_tree(server->data, err) < 0 || init_database(server, password_path, err) < 0) {
            return -1;
        }
    }
    if (read_password(server, password_path, err) < 0 || start_server(server, err) < 0) {
        return -1;
    }
    make_urls(server);
    if (server->is_new) {
        if (fill_database(server, err) < 0) {
            return -1;
        }
        CLEANUP_FD int fd = open(complete, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0) {
            return err_set_errno(err, errno, "%s", complete);
        }
    }
    return server->psql_path ? make_psql(server, err) : 0;
}

int postgres_server_start(const struct postgres_server_settings *settings,
                          struct postgres_server **ret_server, struct err *err)
{
    struct postgres_server *server = xcalloc(1, sizeof *server);
    server->settings = *settings;
    server->psql_path = xstrdup_or_null(settings->psql_path);
    server->context = (struct postgres_context){.loop = settings->loop, .give_up = settings->give_up};
    loop_timer_init(&server->restart, restart_server);
    if (prepare(server, err) < 0) {
        postgres_server_stop(server);
        return -1;
    }
    *ret_server = server;
    return 0;
}

const char *postgres_server_url(const struct postgres_server *server)
{
    return server->url;
}

const char *postgres_server_psql(const struct postgres_server *server)
{
    return server->psql;
}

bool postgres_server_is_new(const struct postgres_server *server)
{
    return server->is_new;
}

void postgres_server_stop(struct postgres_server *server)
{
    if (!server) {
        return;
    }
    struct err err = ERR_INIT;
    server->stopping = true;
    server->context.give_up = NULL;
    if (server->psql_path) {
        (void)unlink(server->psql_path);
    }
    loop_timer_close(server->context.loop, &server->restart);
    if (server->process && !server->has_ended) {
        process_signal(server->process, SIGINT);
        if (postgres_turn_until(&server->context, &server->has_ended, clock_monotonic_ms() + STOP_TIMEOUT_MS,
                                "PostgreSQL's end", &err) < 0) {
            process_signal(server->process, SIGQUIT);
        }
        if (postgres_turn_until(&server->context, &server->has_ended, clock_monotonic_ms() + STOP_TIMEOUT_MS,
                                "PostgreSQL's end", &err) < 0) {
            console_say(server->settings.console, "%s", err.msg);
        }
    }
    process_free(server->process);
    line_tail_release(&server->tail);
    free(server->programs);
    free(server->folder);
    free(server->data);
    free(server->url);
    free(server->psql);
    free(server->psql_path);
    free(server->password);
    free(server);
}
