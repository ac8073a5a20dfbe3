/* database_secrets.h - the URLs of Functions' databases, read from the Secrets that their specs name, each by its name.
 *
 * What was read is kept for a while, so that a settled Function costs its Secret's read once in that time, and so that an API server
 * that is away takes no database away. URLs never go into errors or logs. Threads: any; a call may take the API server's time.
 */
#ifndef CICADA_FUNCTION_DATABASE_SECRETS_H
#define CICADA_FUNCTION_DATABASE_SECRETS_H

#include "operator/kube/kube_client.h"
#include "runtime/base/clock.h"

#define DATABASE_URL_MAX_BYTES 8192

struct database_secrets;
struct database_secrets *database_secrets_new(struct kube_client *client, const struct clock *clock);
void database_secrets_free(struct database_secrets *secrets); /* NULL is fine */

/* The text under that key of the Secret, at most max_age_ms old if the API server answers; the caller frees it. ERR_NOT_FOUND: there is no
 * such Secret or key; ERR_FORBIDDEN: it may not be read; ERR_INVALID: it is no text; else the API server can't tell, and nothing was known. */
int database_secrets_get(struct database_secrets *secrets, const char *namespace, const char *secret,
                         const char *key, int64_t max_age_ms, char **ret_url, struct err *err) MUST_CHECK;

#endif
