/* Which certificate a name gets, and what then may be asked for. The first byte says what the rest is:
 *   n  a name, and after the first newline Functions, one a line: "<namespace><name> <Secret or -> <path or -> <host> ..."
 *   e  the server_name extension of a hello that is right otherwise
 *   h  all that a client sends
 * The last two go through the gateway's own handshake, on a socket pair. Whoever is shown a certificate of a namespace reaches
 * Functions of that namespace alone, however the host is written; nothing but a handshake or an alert comes back. */
#include <errno.h>
#include <fcntl.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "operator/gateway/certificates.h"
#include "operator/gateway/function_state.h"
#include "operator/gateway/route.h"
#include "operator/gateway/tls.h"
#include "operator/gateway/tls_tickets.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"
#include "runtime/base/strbuf.h"

#define FUNCTIONS_MAX   9 /* three names in three namespaces */
#define NAME_BYTES_MAX  255
#define HELLO_BYTES_MAX 65536
#define DAY_S           86400

static const char fixed_table[] = "aa s - a.b *.a.b\nba s - x.a.b\nca - /p y.a.b\nab - - z.a.b\nbb t /p a.b";

/* ---- tables ---- */

static char namespaced(char c)
{
    return (char)('a' + (unsigned char)(c - 'a') % 3);
}

/* A member whose value is what the line has next; '-' and the end of the line: none. */
static void add_word(struct strbuf *json, const char *member, char **rest)
{
    const char *word = strsep(rest, " ");
    if (word && strcmp(word, "-") != 0) {
        strbuf_appendf(json, "\"%s\":\"%s\",", member, word);
    }
}

/* NULL: it is not what the API server would have accepted. */
static struct function_spec *spec_of(char *line, int age_s)
{
    CLEANUP_STRBUF struct strbuf json;
    CLEANUP_JSON cJSON *tree = NULL;
    struct function_spec *spec = NULL;
    struct err err = ERR_INIT;
    if (strlen(line) < 3) {
        return NULL;
    }
    strbuf_init(&json, 1 << 20);
    strbuf_appendf(
        &json,
        "{\"metadata\":{\"namespace\":\"%c\",\"name\":\"%c\",\"creationTimestamp\":\"2026-01-01T00:"
        "00:%02dZ\"},\"spec\":{\"handler\":\"f.so:f\",\"http\":{",
        namespaced(line[0]), namespaced(line[1]), age_s);
    char *rest = line + 3;
    add_word(&json, "tlsSecretName", &rest);
    add_word(&json, "path", &rest);
    strbuf_append_str(&json, "\"hosts\":[");
    for (const char *host = strsep(&rest, " "), *comma = ""; host; host = strsep(&rest, " "), comma = ",") {
        strbuf_appendf(&json, "%s\"%s\"", comma, host);
    }
    strbuf_append_str(&json, "]}}}");
    if (json_parse(json.buf, json.len, JSON_DEPTH_MAX, &tree, &err) < 0 ||
        function_spec_parse(tree, &spec, &err) < 0) {
        return NULL;
    }
    return spec;
}

static struct route_table *make_table(char *lines)
{
    struct route_function functions[FUNCTIONS_MAX];
    bool taken['c' + 1]['c' + 1] = {0};
    size_t count = 0;
    for (char *line = strsep(&lines, "\n"); line && count < FUNCTIONS_MAX; line = strsep(&lines, "\n")) {
        struct function_spec *spec = spec_of(line, (int)count);
        if (!spec) {
            continue;
        }
        bool *same = &taken[(unsigned char)spec->namespace[0]][(unsigned char)spec->name[0]];
        if (*same) {
            function_spec_unref(spec);
            continue;
        }
        *same = true;
        functions[count++] = (struct route_function){
            .function = function_state_new(spec->namespace, spec->name), .spec = spec};
    }
    struct route_table *table = route_table_new(functions, count, "d", "cluster.local");
    for (size_t i = 0; i < count; i++) {
        function_state_unref(functions[i].function);
        function_spec_unref(functions[i].spec);
    }
    return table;
}

/* ---- what must hold for a name ---- */

/* A Host that the connection's name allows, with any path. */
static void check_host(const struct route_table *table, const char *host, const char *name,
                       const char *namespace)
{
    static const char *const targets[] = {"/", "", "/p", "/p/q?r", "/fn/a/a/", "/fn/b/b", "/x"};
    struct h1_slice slice = {host, strlen(host)};
    if (!route_host_is(slice, name)) {
        return; /* 421 */
    }
    for (size_t i = 0; i < ARRAY_SIZE(targets); i++) {
        struct route_match match = {0}, plain = {0};
        struct h1_slice target = {targets[i], strlen(targets[i])};
        enum route_result result = route_table_match(table, /* internal= */ false, slice, target, &match);
        if (result == ROUTE_FOUND && namespace && strcmp(match.spec->namespace, namespace) != 0) {
            abort();
        }
        struct h1_slice name_slice = {name, strlen(name)};
        if (route_table_match(table, /* internal= */ false, name_slice, target, &plain) != result ||
            plain.function != match.function) {
            abort();
        }
    }
}

/* False: it gets no certificate. */
static bool check_name(const struct route_table *table, const char *name)
{
    const char *namespace = NULL, *secret = NULL, *again = NULL, *same = NULL;
    bool found = route_table_tls_secret(table, name, &namespace, &secret);
    CLEANUP_FREE char *upper = xstrdup(name);
    for (char *c = upper; *c; c++) {
        *c = *c >= 'a' && *c <= 'z' ? (char)(*c - 'a' + 'A') : *c;
    }
    if (route_table_tls_secret(table, upper, &again, &same) != found || again != namespace ||
        same != secret || (found && (!secret[0] || !namespace[0]))) {
        abort();
    }
    static const char *const ends[] = {"", ".", ":", ":443", ".:8443"};
    for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
        CLEANUP_FREE char *host = xasprintf("%s%s", name, ends[i]);
        CLEANUP_FREE char *loud = xasprintf("%s%s", upper, ends[i]);
        check_host(table, host, name, namespace);
        check_host(table, loud, name, namespace);
    }
    if (found && !route_host_is((struct h1_slice){name, strlen(name)}, name)) {
        abort(); /* a certificate, and nothing that may be asked for */
    }
    return found;
}

static void try_name(const char *data, size_t size)
{
    CLEANUP_FREE char *text = xstrndup(data, size), *name = NULL;
    char *lines = text;
    const char *first = strsep(&lines, "\n");
    name = xstrndup(first, NAME_BYTES_MAX); /* exact, so that a read beyond the end is seen */
    struct route_table *table = make_table(lines);
    (void)check_name(table, name);
    route_table_unref(table);
}

/* ---- handshakes ---- */

struct scene {
    struct route_table *table;
    struct certificates *certificates;
    struct tls_context *context;
    bool shown; /* the last handshake found a certificate */
};

static struct certificate *find(void *arg, const char *name)
{
    struct scene *scene = arg;
    if (strlen(name) > NAME_BYTES_MAX) {
        abort();
    }
    scene->shown = check_name(scene->table, name);
    return scene->shown ? certificates_get(scene->certificates, "a", "s") : NULL;
}

static char *text_of(BIO *bio)
{
    char *data;
    long len = BIO_get_mem_data(bio, &data);
    char *text = xstrndup(data, (size_t)len);
    BIO_free(bio);
    return text;
}

static void make_certificate(struct certificates *certificates)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *leaf = X509_new();
    BIO *chain = BIO_new(BIO_s_mem()), *private_key = BIO_new(BIO_s_mem());
    struct err err = ERR_INIT;
    int64_t not_after_s;
    bool changed;
    X509_gmtime_adj(X509_getm_notBefore(leaf), 0);
    X509_gmtime_adj(X509_getm_notAfter(leaf), DAY_S);
    X509_set_pubkey(leaf, key);
    if (X509_sign(leaf, key, EVP_sha256()) <= 0 || PEM_write_bio_X509(chain, leaf) != 1 ||
        PEM_write_bio_PrivateKey(private_key, key, NULL, NULL, 0, NULL, NULL) != 1) {
        abort();
    }
    CLEANUP_FREE char *chain_pem = text_of(chain), *key_pem = text_of(private_key);
    if (certificates_set(certificates, "a", "s", chain_pem, key_pem, &not_after_s, &changed, &err) < 0) {
        abort();
    }
    X509_free(leaf);
    EVP_PKEY_free(key);
}

static struct scene *scene_of_all(void)
{
    static struct scene scene;
    if (!scene.context) {
        struct tls_settings settings = {
            .find = find, .arg = &scene, .tickets = tls_tickets_new(&clock_system)};
        struct err err = ERR_INIT;
        CLEANUP_FREE char *lines = xstrdup(fixed_table);
        scene.table = make_table(lines);
        scene.certificates = certificates_new();
        make_certificate(scene.certificates);
        if (tls_context_new(&settings, &scene.context, &err) < 0) {
            abort();
        }
    }
    return &scene;
}

static void try_hello(const char *data, size_t size)
{
    struct scene *scene = scene_of_all();
    int fds[2]; /* the client's, the gateway's */
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) < 0) {
        abort();
    }
    scene->shown = false;
    (void)!write(fds[0], data, size < HELLO_BYTES_MAX ? size : HELLO_BYTES_MAX);
    shutdown(fds[0], SHUT_WR);
    struct tls_session *session = tls_session_new(scene->context, fds[1]);
    if (!session || tls_session_handshake(session) == TLS_DONE || !tls_session_failure(session)) {
        abort(); /* the client's part of the secret is nobody's to guess */
    }
    tls_session_free(session);
    char answer[1];
    ssize_t got = read(fds[0], answer, sizeof(answer));
    if (got > 0 && answer[0] != 0x15 && (answer[0] != 0x16 || !scene->shown)) {
        abort();
    }
    close(fds[0]);
    close(fds[1]);
}

static void append_number(struct strbuf *out, size_t value)
{
    const char bytes[] = {(char)(value >> 8), (char)value};
    strbuf_append(out, bytes, sizeof(bytes));
}

/* A hello of TLS 1.2 with one cipher, and this as its server_name. */
static void try_extension(const char *data, size_t size)
{
    static const char random[32], ciphers[] = "\x00\x02\xc0\x2b\x01", /* and no compression */
        others[] = "\x00\x0a\x00\x04\x00\x02\x00\x17\x00\x0d\x00\x04\x00\x02\x04\x03";
    CLEANUP_STRBUF struct strbuf hello;
    size_t extensions = sizeof(others) - 1 + 4 + size;
    size_t body = 2 + sizeof(random) + 1 + sizeof(ciphers) - 1 + 1 + 2 + extensions;
    if (body > TLS_RECORD_BYTES_MAX - 4) {
        return;
    }
    strbuf_init(&hello, HELLO_BYTES_MAX);
    strbuf_append(&hello, "\x16\x03\x01", 3);
    append_number(&hello, 4 + body);
    strbuf_append(&hello, "\x01\x00", 2);
    append_number(&hello, body);
    strbuf_append(&hello, "\x03\x03", 2);
    strbuf_append(&hello, random, sizeof(random));
    strbuf_append(&hello, "", 1); /* no session */
    strbuf_append(&hello, ciphers, sizeof(ciphers) - 1);
    strbuf_append(&hello, "", 1);
    append_number(&hello, extensions);
    strbuf_append(&hello, others, sizeof(others) - 1);
    append_number(&hello, 0); /* server_name */
    append_number(&hello, size);
    strbuf_append(&hello, data, size);
    try_hello(hello.buf, hello.len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *rest = (const char *)data + 1;
    if (size < 1) {
        return 0;
    }
    switch (data[0]) {
    case 'n':
        try_name(rest, size - 1);
        break;
    case 'e':
        try_extension(rest, size - 1);
        break;
    case 'h':
        try_hello(rest, size - 1);
        break;
    default:
        break;
    }
    return 0;
}
