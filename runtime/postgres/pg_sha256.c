/* SHA-256 from libcrypto, which libpq is linked with. */
#include <dlfcn.h>
#include <pthread.h>
#include <string.h>

#include "runtime/postgres/postgres.h"
#include "runtime/postgres/pq_api.h"

typedef unsigned char *sha256_fn(const unsigned char *data, size_t len, unsigned char *digest);

/* Written under pthread_once(). */
static sha256_fn *sha256;
static pthread_once_t load_once = PTHREAD_ONCE_INIT;

static void load(void)
{
    unsigned char digest[PG_SHA256_BYTES] = {0};
    void *library = dlopen(PQ_API_LIBRARY, RTLD_NOW | RTLD_LOCAL); /* never closed, see pq_api.c */
    void *function = library ? dlsym(library, "SHA256") : NULL;
    if (!function)
        return;
    memcpy(&sha256, &function, sizeof(function));
    (void)sha256(digest, 0, digest); /* the first call takes 0.7 ms */
}

bool pg_sha256(const void *data, size_t len, unsigned char ret_digest[PG_SHA256_BYTES])
{
    if (pthread_once(&load_once, load) != 0 || !sha256)
        return false;
    return sha256(data, len, ret_digest) != NULL;
}
