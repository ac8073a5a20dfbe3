#include "runtime/postgres/pg_url.h"

#include <arpa/inet.h>
#include <assert.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "runtime/base/mem.h"
#include "runtime/base/text.h"
#include "runtime/postgres/pg_url_text.h"

#define DEFAULT_SOCKET_DIR "/var/run/postgresql"
#define DEFAULT_PORT       "5432"
/* Longest silence of the peer with data under way; also bounds a cancel request's connection. */
#define TCP_USER_TIMEOUT_MS "10000"

struct pg_url_host {
    char *host, *hostaddr, *port; /* NULL: not given */
};

struct pg_url {
    char *values[PG_URL_KEY_COUNT];
    struct pg_url_host hosts[PG_URL_HOSTS_MAX];
    size_t host_count;
    int64_t connect_timeout_ms; /* 0: not given */
    bool remote_only;
};

/* Where distributions keep the certificates of public authorities; libpq before 16 can't be told "the system's". */
static const char *const system_certificates[] = {
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
};

void pg_url_free(struct pg_url *url)
{
    if (!url)
        return;
    for (size_t i = 0; i < PG_URL_KEY_COUNT; i++) {
        /* The password should not stay in freed memory. */
        if (url->values[i])
            explicit_bzero(url->values[i], strlen(url->values[i]));
        free(url->values[i]);
    }
    for (size_t i = 0; i < url->host_count; i++) {
        free(url->hosts[i].host);
        free(url->hosts[i].hostaddr);
        free(url->hosts[i].port);
    }
    free(url);
}

static void url_free_p(struct pg_url **url)
{
    pg_url_free(*url);
}

static size_t list_count(const char *list)
{
    size_t count = 1;
    for (const char *p = list; *p; p++)
        count += *p == ',';
    return count;
}

/* The index-th element of a comma-separated list; a list of one element stands for all. NULL: empty. */
static char *list_element(const char *list, size_t index)
{
    if (!list)
        return NULL;
    if (list_count(list) == 1)
        index = 0;
    for (; index > 0; index--)
        list = strchr(list, ',') + 1;
    size_t len = strcspn(list, ",");
    return len > 0 ? xstrndup(list, len) : NULL;
}

static int split_hosts(struct pg_url *url, struct err *err)
{
    const char *host = url->values[PG_URL_HOST], *hostaddr = url->values[PG_URL_HOSTADDR];
    const char *port = url->values[PG_URL_PORT];
    size_t count = host ? list_count(host) : hostaddr ? list_count(hostaddr) : 1;
    if (count > PG_URL_HOSTS_MAX)
        return err_set(err, ERR_INVALID, "database URL: more than %d hosts", PG_URL_HOSTS_MAX);
    if (host && hostaddr && list_count(hostaddr) != count)
        return err_set(err, ERR_INVALID, "database URL: host and hostaddr differ in number");
    if (port && list_count(port) != 1 && list_count(port) != count)
        return err_set(err, ERR_INVALID, "database URL: host and port differ in number");
    for (size_t i = 0; i < count; i++) {
        struct pg_url_host *one = &url->hosts[i];
        /* host and hostaddr were matched above, so a list of one element never stands for others there. */
        one->host = list_element(host, i);
        one->hostaddr = list_element(hostaddr, i);
        one->port = list_element(port, i);
        url->host_count = i + 1;
        int64_t number;
        if (one->port && !parse_int64(one->port, 1, 65535, &number))
            return err_set(err, ERR_INVALID, "database URL: port is no number from 1 to 65535");
        if (!one->host && !one->hostaddr)
            one->host = xstrdup(DEFAULT_SOCKET_DIR);
        if (!one->port)
            one->port = xstrdup(DEFAULT_PORT);
    }
    return 0;
}

static bool one_of(const char *value, const char *const *allowed)
{
    for (; *allowed; allowed++) {
        if (strcmp(value, *allowed) == 0)
            return true;
    }
    return false;
}

static int check_values(struct pg_url *url, struct err *err)
{
    static const char *const ssl_modes[] = {"disable",   "allow",       "prefer", "require",
                                            "verify-ca", "verify-full", NULL};
    /* prefer-standby is left out: it needs a second round over all hosts, and a function that writes has no use for it. */
    static const char *const session_attrs[] = {"any", "read-write", "read-only", "primary", "standby", NULL};
    static const char *const channel_bindings[] = {"disable", "prefer", "require", NULL};
    const struct {
        enum pg_url_key key;
        const char *const *allowed;
    } choices[] = {
        {PG_URL_SSLMODE, ssl_modes},
        {PG_URL_TARGET_SESSION_ATTRS, session_attrs},
        {PG_URL_CHANNEL_BINDING, channel_bindings},
    };
    for (size_t i = 0; i < ARRAY_SIZE(choices); i++) {
        const char *value = url->values[choices[i].key];
        if (value && !one_of(value, choices[i].allowed))
            return err_set(err, ERR_INVALID, "database URL: the value of %s is not supported",
                           pg_url_key_name(choices[i].key));
    }
    const char *timeout = url->values[PG_URL_CONNECT_TIMEOUT];
    int64_t seconds = 0;
    if (timeout && !parse_int64(timeout, 0, INT_MAX / 1000, &seconds))
        return err_set(err, ERR_INVALID, "database URL: connect_timeout is no number of seconds");
    url->connect_timeout_ms = seconds * 1000;
    return 0;
}

int pg_url_parse(const char *text, struct pg_url **ret_url, struct err *err)
{
    CLEANUP(url_free_p) struct pg_url *url = xcalloc(1, sizeof(*url));
    if (strnlen(text, PG_URL_MAX_BYTES + 1) > PG_URL_MAX_BYTES)
        return err_set(err, ERR_INVALID, "database URL: longer than %d bytes", PG_URL_MAX_BYTES);
    if (pg_url_text_parse(text, url->values, err) < 0 || check_values(url, err) < 0 ||
        split_hosts(url, err) < 0)
        return -1;
    *ret_url = steal_ptr(&url);
    return 0;
}

size_t pg_url_host_count(const struct pg_url *url)
{
    return url->host_count;
}

int64_t pg_url_connect_timeout_ms(const struct pg_url *url, int64_t absent)
{
    return url->connect_timeout_ms > 0 ? url->connect_timeout_ms : absent;
}

static bool address_is_loopback(const char *address)
{
    struct in_addr v4;
    struct in6_addr v6;
    if (inet_pton(AF_INET, address, &v4) == 1)
        return (ntohl(v4.s_addr) >> 24) == 127;
    return inet_pton(AF_INET6, address, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

static bool host_is_local(const struct pg_url_host *host)
{
    /* libpq connects to hostaddr if both are given. */
    if (host->hostaddr)
        return address_is_loopback(host->hostaddr);
    return host->host[0] == '/' || host->host[0] == '@' || strcasecmp(host->host, "localhost") == 0 ||
           address_is_loopback(host->host);
}

void pg_url_set_remote_only(struct pg_url *url)
{
    url->remote_only = true;
}

bool pg_url_is_remote_only(const struct pg_url *url)
{
    return url->remote_only;
}

static bool address_is_near(uint32_t v4) /* 127.0.0.0/8, 169.254.0.0/16 and 0.0.0.0/8 */
{
    return v4 >> 24 == 127 || v4 >> 16 == 0xA9FE || v4 >> 24 == 0;
}

bool pg_peer_is_near(int socket_fd)
{
    struct sockaddr_storage peer = {0};
    socklen_t size = sizeof(peer);
    if (getpeername(socket_fd, (struct sockaddr *)&peer, &size) != 0)
        return false;
    if (peer.ss_family == AF_INET)
        return address_is_near(ntohl(((const struct sockaddr_in *)&peer)->sin_addr.s_addr));
    if (peer.ss_family != AF_INET6)
        return true;
    const struct in6_addr *v6 = &((const struct sockaddr_in6 *)&peer)->sin6_addr;
    uint32_t last;
    memcpy(&last, &v6->s6_addr[12], sizeof(last));
    return IN6_IS_ADDR_LOOPBACK(v6) || IN6_IS_ADDR_LINKLOCAL(v6) || IN6_IS_ADDR_UNSPECIFIED(v6) ||
           (IN6_IS_ADDR_V4MAPPED(v6) && address_is_near(ntohl(last)));
}

static const char *default_root_certificates(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(system_certificates); i++) {
        if (access(system_certificates[i], R_OK) == 0)
            return system_certificates[i];
    }
    return NULL; /* libpq then says that it misses ~/.postgresql/root.crt, and does not connect */
}

static void add(struct pg_url_params *params, size_t *count, const char *keyword, const char *value)
{
    if (!value)
        return;
    assert(*count < PG_URL_PARAMS_MAX - 1);
    params->keywords[*count] = keyword;
    params->values[*count] = value;
    *count += 1;
}

void pg_url_params(const struct pg_url *url, size_t host_index, const char *application_name,
                   struct pg_url_params *ret_params)
{
    static const enum pg_url_key as_given[] = {
        PG_URL_DBNAME,          PG_URL_USER,   PG_URL_PASSWORD,
        PG_URL_SSLCERT,         PG_URL_SSLKEY, PG_URL_TARGET_SESSION_ATTRS,
        PG_URL_CHANNEL_BINDING,
    };
    assert(host_index < url->host_count);
    const struct pg_url_host *host = &url->hosts[host_index];
    const char *ssl_mode = url->values[PG_URL_SSLMODE];
    if (!ssl_mode)
        ssl_mode = host_is_local(host) ? "disable" : "verify-full";
    const char *root_certificates = url->values[PG_URL_SSLROOTCERT];
    if (!root_certificates && str_starts_with(ssl_mode, "verify"))
        root_certificates = default_root_certificates();
    const char *url_name = url->values[PG_URL_APPLICATION_NAME];

    *ret_params = (struct pg_url_params){0};
    size_t count = 0;
    add(ret_params, &count, "host", host->host);
    add(ret_params, &count, "hostaddr", host->hostaddr);
    add(ret_params, &count, "port", host->port);
    for (size_t i = 0; i < ARRAY_SIZE(as_given); i++)
        add(ret_params, &count, pg_url_key_name(as_given[i]), url->values[as_given[i]]);
    add(ret_params, &count, "sslmode", ssl_mode);
    add(ret_params, &count, "sslrootcert", root_certificates);
    add(ret_params, &count, "gssencmode", "disable"); /* saves a probe: twice as fast to connect */
    add(ret_params, &count, "client_encoding", "UTF8");
    add(ret_params, &count, "application_name", url_name ? url_name : application_name);
    add(ret_params, &count, "keepalives", "1");
    add(ret_params, &count, "keepalives_idle", "30");
    add(ret_params, &count, "keepalives_interval", "10");
    add(ret_params, &count, "keepalives_count", "3");
    add(ret_params, &count, "tcp_user_timeout", TCP_USER_TIMEOUT_MS);
}
