#include "operator/gateway/route.h"

#include <assert.h>
#include <stdatomic.h>
#include <string.h>
#include <uthash.h>

#include "operator/gateway/function_state.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"

#define ROUTE_HOST_BYTES_MAX 253
#define ROUTE_KEY_BYTES_MAX  (63 + 1 + 63)

struct host_path {
    const char *path; /* the spec's */
    size_t len;       /* 0 for "/" */
    struct route_function target;
};

/* "shop.example.com", or ".example.com" for "*.example.com". */
struct host {
    UT_hash_handle hh;
    const char *name; /* a spec's, behind the "*" */
    const struct function_spec *oldest;
    const struct function_spec *tls; /* the oldest of the owner's that names a Secret; NULL: none */
    struct host_path *paths;         /* longest first; the older function first among equals */
    size_t path_count;
};

struct named {
    UT_hash_handle hh;
    const char *key; /* "namespace/name", the function's */
    struct route_function target;
};

struct route_table {
    atomic_int refs;
    char *domain, *cluster_domain;
    struct named *by_name, *names;
    struct host *hosts;
    struct route_function *functions;
    size_t count;
};

/* ---- building ---- */

/* Who came first: creation time has whole seconds, so names decide between equals. */
static bool is_older(const struct function_spec *a, const struct function_spec *b)
{
    if (a->created_ms != b->created_ms) {
        return a->created_ms < b->created_ms;
    }
    int order = strcmp(a->namespace, b->namespace);
    return order != 0 ? order < 0 : strcmp(a->name, b->name) < 0;
}

static int compare_age(const void *a, const void *b)
{
    const struct route_function *left = a, *right = b;
    return left->spec == right->spec ? 0 : is_older(left->spec, right->spec) ? -1 : 1;
}

static int compare_paths(const void *a, const void *b)
{
    const struct host_path *left = a, *right = b;
    if (left->len != right->len) {
        return left->len > right->len ? -1 : 1;
    }
    return compare_age(&left->target, &right->target);
}

static void add_host(struct route_table *table, const char *name, const struct route_function *function)
{
    if (name[0] == '*') {
        name++;
    }
    struct host *host;
    HASH_FIND_STR(table->hosts, name, host);
    if (!host) {
        host = xcalloc(1, sizeof(*host));
        host->name = name;
        host->oldest = function->spec; /* functions come oldest first */
        HASH_ADD_KEYPTR(hh, table->hosts, host->name, strlen(host->name), host);
    }
    if (strcmp(host->oldest->namespace, function->spec->namespace) != 0) {
        return;
    }
    if (!host->tls && function->spec->tls_secret_name) {
        host->tls = function->spec;
    }
    const char *path = function->spec->path ? function->spec->path : "/";
    host->paths = xreallocarray(host->paths, host->path_count + 1, sizeof(*host->paths));
    host->paths[host->path_count++] = (struct host_path){
        .path = path, .len = strcmp(path, "/") == 0 ? 0 : strlen(path), .target = *function};
}

struct route_table *route_table_new(const struct route_function *functions, size_t count, const char *domain,
                                    const char *cluster_domain)
{
    struct route_table *table = xcalloc(1, sizeof(*table));
    atomic_init(&table->refs, 1);
    table->domain = xstrdup_or_null(domain);
    table->cluster_domain = xstrdup_or_null(cluster_domain);
    table->functions = xcalloc(count + 1, sizeof(*table->functions));
    table->names = xcalloc(count + 1, sizeof(*table->names));
    table->count = count;
    for (size_t i = 0; i < count; i++) {
        table->functions[i] = (struct route_function){.function = function_state_ref(functions[i].function),
                                                      .spec = function_spec_ref(functions[i].spec)};
    }
    qsort(table->functions, count, sizeof(*table->functions), compare_age);
    for (size_t i = 0; i < count; i++) {
        const struct route_function *function = &table->functions[i];
        struct named *named = &table->names[i];
        named->key = function->function->key;
        named->target = *function;
        HASH_ADD_KEYPTR(hh, table->by_name, named->key, strlen(named->key), named);
        for (size_t h = 0; function->spec->has_http && h < function->spec->host_count; h++) {
            add_host(table, function->spec->hosts[h], function);
        }
    }
    struct host *host, *next;
    HASH_ITER(hh, table->hosts, host, next)
    {
        qsort(host->paths, host->path_count, sizeof(*host->paths), compare_paths);
    }
    return table;
}

struct route_table *route_table_ref(struct route_table *table)
{
    atomic_fetch_add_explicit(&table->refs, 1, memory_order_relaxed);
    return table;
}

void route_table_unref(struct route_table *table)
{
    if (!table || atomic_fetch_sub_explicit(&table->refs, 1, memory_order_acq_rel) > 1) {
        return;
    }
    HASH_CLEAR(hh, table->by_name);
    struct host *host = table->hosts;
    HASH_CLEAR(hh, table->hosts); /* leaves the list that runs through the entries */
    while (host) {
        struct host *next = host->hh.next;
        free(host->paths);
        free(host);
        host = next;
    }
    for (size_t i = 0; i < table->count; i++) {
        function_state_unref(table->functions[i].function);
        function_spec_unref(table->functions[i].spec);
    }
    free(table->names);
    free(table->functions);
    free(table->domain);
    free(table->cluster_domain);
    free(table);
}

/* ---- matching ---- */

static const struct route_function *find_named(const struct route_table *table, struct h1_slice namespace,
                                               struct h1_slice name)
{
    char key[ROUTE_KEY_BYTES_MAX];
    if (namespace.len == 0 || name.len == 0 || namespace.len + name.len + 1 > sizeof(key)) {
        return NULL;
    }
    memcpy(key, namespace.at, namespace.len);
    key[namespace.len] = '/';
    memcpy(key + namespace.len + 1, name.at, name.len);
    struct named *named;
    HASH_FIND(hh, table->by_name, key, namespace.len + 1 + name.len, named);
    return named ? &named->target : NULL;
}

static bool slice_cut_suffix(struct h1_slice *slice, const char *suffix)
{
    size_t len = strlen(suffix);
    if (slice->len < len || memcmp(slice->at + slice->len - len, suffix, len) != 0) {
        return false;
    }
    slice->len -= len;
    return true;
}

/* "name.namespace" without any further dot. */
static const struct route_function *find_dotted(const struct route_table *table, struct h1_slice host)
{
    const char *dot = memchr(host.at, '.', host.len);
    if (!dot) {
        return NULL;
    }
    struct h1_slice name = {host.at, (size_t)(dot - host.at)};
    struct h1_slice namespace = {dot + 1, host.len - name.len - 1};
    return memchr(namespace.at, '.', namespace.len) ? NULL : find_named(table, namespace, name);
}

static const struct route_function *find_internal(const struct route_table *table, struct h1_slice host)
{
    struct h1_slice full = host;
    if (table->cluster_domain && slice_cut_suffix(&full, table->cluster_domain) &&
        slice_cut_suffix(&full, ".svc.")) {
        return find_dotted(table, full);
    }
    (void)slice_cut_suffix(&host, ".svc");
    return find_dotted(table, host);
}

static const struct route_function *find_in_domain(const struct route_table *table, struct h1_slice host)
{
    if (!table->domain || !slice_cut_suffix(&host, table->domain) || !slice_cut_suffix(&host, ".")) {
        return NULL;
    }
    const struct route_function *function = find_dotted(table, host);
    return function && function->spec->has_http ? function : NULL;
}

static const struct host *find_exact_host(const struct route_table *table, struct h1_slice name)
{
    struct host *host = NULL;
    if (name.len > 0 && name.at[0] != '.') { /* ".x" is how "*.x" is kept */
        HASH_FIND(hh, table->hosts, name.at, name.len, host);
    }
    return host;
}

static const struct host *find_wildcard_host(const struct route_table *table, struct h1_slice name)
{
    struct host *host = NULL;
    const char *dot = name.len > 0 ? memchr(name.at, '.', name.len) : NULL;
    if (dot && dot > name.at) {
        HASH_FIND(hh, table->hosts, dot, name.len - (size_t)(dot - name.at), host);
    }
    return host;
}

static const struct host *find_host(const struct route_table *table, struct h1_slice name)
{
    const struct host *host = find_exact_host(table, name);
    return host ? host : find_wildcard_host(table, name);
}

static struct h1_slice path_of(struct h1_slice target)
{
    const char *query = memchr(target.at, '?', target.len);
    return (struct h1_slice){target.at, query ? (size_t)(query - target.at) : target.len};
}

static bool path_has_prefix(struct h1_slice path, const char *prefix, size_t len)
{
    return path.len >= len && memcmp(path.at, prefix, len) == 0 && (path.len == len || path.at[len] == '/');
}

static void set_match(struct route_match *match, const struct route_function *function,
                      struct h1_slice target, size_t prefix_len)
{
    *match = (struct route_match){.function = function->function,
                                  .spec = function->spec,
                                  .prefix = {target.at, prefix_len},
                                  .rest = {target.at + prefix_len, target.len - prefix_len}};
}

static bool match_host(const struct host *host, struct h1_slice target, struct route_match *match)
{
    struct h1_slice path = path_of(target);
    for (size_t i = 0; i < host->path_count; i++) {
        if (path_has_prefix(path, host->paths[i].path, host->paths[i].len)) {
            set_match(match, &host->paths[i].target, target, host->paths[i].len);
            return true;
        }
    }
    return false;
}

/* /fn/<namespace>/<name>[/...] */
static bool match_fn(const struct route_table *table, struct h1_slice target, struct route_match *match)
{
    struct h1_slice path = path_of(target);
    if (path.len < 4 || memcmp(path.at, "/fn/", 4) != 0) {
        return false;
    }
    struct h1_slice namespace = {path.at + 4, path.len - 4};
    const char *slash = memchr(namespace.at, '/', namespace.len);
    if (!slash) {
        return false;
    }
    namespace.len = (size_t)(slash - namespace.at);
    struct h1_slice name = {slash + 1, path.len - 4 - namespace.len - 1};
    slash = memchr(name.at, '/', name.len);
    if (slash) {
        name.len = (size_t)(slash - name.at);
    }
    const struct route_function *function = find_named(table, namespace, name);
    if (!function || !function->spec->has_http) {
        return false;
    }
    set_match(match, function, target, 4 + namespace.len + 1 + name.len);
    return true;
}

/* One byte of the path, percent-decoded as far as a dot is concerned. */
static size_t dot_len(const char *at, size_t len)
{
    if (len >= 1 && at[0] == '.') {
        return 1;
    }
    return len >= 3 && at[0] == '%' && at[1] == '2' && (at[2] | 0x20) == 'e' ? 3 : 0;
}

static bool has_dot_elements(struct h1_slice path)
{
    size_t i = 0;
    while (i < path.len) {
        if (path.at[i] == '/') {
            i++;
            size_t one = dot_len(path.at + i, path.len - i);
            size_t two = one ? dot_len(path.at + i + one, path.len - i - one) : 0;
            size_t end = i + one + two;
            if (one && (end == path.len || path.at[end] == '/')) {
                return true;
            }
        } else {
            i++;
        }
    }
    return false;
}

/* Lower case, without port and final dot. False: too long to be anybody's. */
static bool normalise_host(struct h1_slice host, char *buffer, struct h1_slice *ret_host)
{
    const char *colon = memchr(host.at, ':', host.len);
    if (colon) {
        host.len = (size_t)(colon - host.at);
    }
    if (host.len > 0 && host.at[host.len - 1] == '.') {
        host.len--;
    }
    if (host.len > ROUTE_HOST_BYTES_MAX) {
        return false;
    }
    for (size_t i = 0; i < host.len; i++) {
        char c = host.at[i];
        buffer[i] = c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
    }
    *ret_host = (struct h1_slice){buffer, host.len};
    return true;
}

enum route_result route_table_match(const struct route_table *table, bool internal, struct h1_slice raw_host,
                                    struct h1_slice target, struct route_match *ret_match)
{
    char buffer[ROUTE_HOST_BYTES_MAX];
    struct h1_slice host;
    if (has_dot_elements(path_of(target))) {
        return ROUTE_BAD_PATH;
    }
    if (!normalise_host(raw_host, buffer, &host)) {
        return ROUTE_NONE;
    }
    const struct route_function *function = internal ? find_internal(table, host) : NULL;
    if (!function) {
        function = find_in_domain(table, host);
    }
    if (function) {
        set_match(ret_match, function, target, 0);
        return ROUTE_FOUND;
    }
    const struct host *known = find_host(table, host);
    if (known) {
        return match_host(known, target, ret_match) ? ROUTE_FOUND : ROUTE_NONE;
    }
    if (match_fn(table, target, ret_match)) {
        return ROUTE_FOUND;
    }
    return internal && host.len > 0 && !memchr(host.at, '.', host.len) ? ROUTE_BARE_NAME : ROUTE_NONE;
}

bool route_table_tls_secret(const struct route_table *table, const char *name, const char **ret_namespace,
                            const char **ret_secret)
{
    char buffer[ROUTE_HOST_BYTES_MAX];
    struct h1_slice host;
    if (!normalise_host((struct h1_slice){name, strlen(name)}, buffer, &host)) {
        return false;
    }
    const struct route_function *own = find_in_domain(table, host);
    const struct host *exact = find_exact_host(table, host), *wildcard = find_wildcard_host(table, host);
    const struct function_spec *spec = own ? own->spec : exact ? exact->tls : NULL;
    if (!spec && wildcard && (!exact || strcmp(exact->oldest->namespace, wildcard->oldest->namespace) == 0)) {
        spec = wildcard->tls;
    }
    if (!spec || !spec->tls_secret_name) {
        return false;
    }
    *ret_namespace = spec->namespace;
    *ret_secret = spec->tls_secret_name;
    return true;
}

bool route_host_is(struct h1_slice host, const char *name)
{
    char buffer[ROUTE_HOST_BYTES_MAX], name_buffer[ROUTE_HOST_BYTES_MAX];
    struct h1_slice left, right;
    return normalise_host(host, buffer, &left) &&
           normalise_host((struct h1_slice){name, strlen(name)}, name_buffer, &right) &&
           left.len == right.len && memcmp(left.at, right.at, left.len) == 0;
}
