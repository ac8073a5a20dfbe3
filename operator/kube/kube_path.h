/* kube_path.h - the one place where URLs of the API are built. Names are checked before they enter a path; query values are
 * percent-encoded.
 *
 * Threads: none of its own.
 */
#ifndef CICADA_KUBE_KUBE_PATH_H
#define CICADA_KUBE_KUBE_PATH_H

#include "operator/kube/kube_client.h"
#include "runtime/base/strbuf.h"

#define KUBE_PATH_MAX_BYTES (64u << 10)

/* A path being built; the caller releases `text`. */
struct kube_path {
    struct strbuf text;
    bool has_query;
};
void kube_path_init(struct kube_path *path);
void kube_path_release(struct kube_path *path);

/* "/apis/GROUP/VERSION/namespaces/NS/PLURAL/NAME/SUBRESOURCE". namespace NULL: cluster-scoped, or all namespaces if name is
 * NULL too. name NULL: the collection. subresource: a literal or NULL. */
int kube_path_set(struct kube_path *path, const struct kube_resource *resource, const char *namespace,
                  const char *name, const char *subresource, struct err *err) MUST_CHECK;
void kube_path_query(struct kube_path *path, const char *key, const char *value); /* value NULL: nothing */
/* ERR_TOO_LARGE if something did not fit. */
int kube_path_finish(const struct kube_path *path, struct err *err) MUST_CHECK;

#endif
