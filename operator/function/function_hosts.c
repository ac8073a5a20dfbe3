#include "operator/function/function_hosts.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/mem.h"

static bool is_older(const struct function_spec *spec, const struct host_claim *than)
{
    if (!than->name || spec->created_ms != than->created_ms) {
        return !than->name || spec->created_ms < than->created_ms;
    }
    int order = strcmp(spec->namespace, than->namespace);
    return order ? order < 0 : strcmp(spec->name, than->name) < 0;
}

static void claim(struct host_claim *claim, const struct function_spec *spec)
{
    if (is_older(spec, claim)) {
        free(claim->namespace);
        free(claim->name);
        claim->created_ms = spec->created_ms;
        claim->namespace = xstrdup(spec->namespace);
        claim->name = xstrdup(spec->name);
    }
}

static bool names_host(const struct function_spec *spec, const char *host)
{
    for (size_t i = 0; i < spec->host_count; i++) {
        if (strcmp(spec->hosts[i], host) == 0) {
            return true;
        }
    }
    return false;
}

void host_claims_init(struct host_claims *claims, const struct function_spec *spec)
{
    claims->spec = spec;
    claims->oldest = xcalloc(spec->host_count + 1, sizeof *claims->oldest);
    claims->oldest_with_path = xcalloc(spec->host_count + 1, sizeof *claims->oldest_with_path);
    host_claims_add(claims, spec);
}

void host_claims_add(struct host_claims *claims, const struct function_spec *other)
{
    const struct function_spec *spec = claims->spec;
    bool same_path = strcmp(other->namespace, spec->namespace) == 0 && strcmp(other->path, spec->path) == 0;
    for (size_t i = 0; i < spec->host_count; i++) {
        if (names_host(other, spec->hosts[i])) {
            claim(&claims->oldest[i], other);
            if (same_path) {
                claim(&claims->oldest_with_path[i], other);
            }
        }
    }
}

char *host_claims_other_owner(const struct host_claims *claims, size_t host)
{
    const struct host_claim *oldest = &claims->oldest[host], *with_path = &claims->oldest_with_path[host];
    if (strcmp(oldest->namespace, claims->spec->namespace) != 0) {
        return xasprintf("%s/%s", oldest->namespace, oldest->name);
    }
    if (strcmp(with_path->name, claims->spec->name) != 0) {
        return xasprintf("%s/%s", with_path->namespace, with_path->name);
    }
    return NULL;
}

void host_claims_release(struct host_claims *claims)
{
    for (size_t i = 0; claims->spec && i < claims->spec->host_count; i++) {
        free(claims->oldest[i].namespace);
        free(claims->oldest[i].name);
        free(claims->oldest_with_path[i].namespace);
        free(claims->oldest_with_path[i].name);
    }
    free(claims->oldest);
    free(claims->oldest_with_path);
    memset(claims, 0, sizeof *claims);
}

bool function_hosts_overlap(const struct function_spec *a, const struct function_spec *b)
{
    for (size_t i = 0; i < a->host_count; i++) {
        if (names_host(b, a->hosts[i])) {
            return true;
        }
    }
    return false;
}

bool function_hosts_equal(const struct function_spec *a, const struct function_spec *b)
{
    if (a->host_count != b->host_count || strcmp(a->path, b->path) != 0) {
        return false;
    }
    for (size_t i = 0; i < a->host_count; i++) {
        if (!names_host(b, a->hosts[i])) {
            return false;
        }
    }
    return true;
}
