/* support_pg_proxy.h - a TCP proxy on 127.0.0.1 that breaks connections to the database where a test wants it, or at random.
 *
 * A rule waits for a pattern in one direction, acts once, and is gone. Patterns must lie within one segment, which the short
 * messages of a test do. Threads: the functions may be called while the proxy works.
 */
#ifndef CICADA_TESTS_SUPPORT_PG_PROXY_H
#define CICADA_TESTS_SUPPORT_PG_PROXY_H

#include <stdbool.h>
#include <stddef.h>

struct pg_proxy;

enum pg_proxy_direction { PG_PROXY_TO_SERVER, PG_PROXY_TO_CLIENT };

enum pg_proxy_action {
    PG_PROXY_CUT,         /* both sides are closed, the data is not passed on */
    PG_PROXY_CUT_CLIENT,  /* only the client's side: the server believes that the client is still there */
    PG_PROXY_CUT_ANSWER,  /* the data is passed on, but instead of the answer both sides are closed */
    PG_PROXY_HOLD,        /* nothing more is passed on, in either direction; both sides stay open */
    PG_PROXY_HOLD_ANSWER, /* the data is passed on, and nothing after it */
    PG_PROXY_REPLACE,     /* the pattern is replaced by `replacement`, of the same length */
};

struct pg_proxy *pg_proxy_new(int target_port);
void pg_proxy_free(struct pg_proxy *proxy);
int pg_proxy_port(const struct pg_proxy *proxy);
/* The test's URL through this proxy, with application_name "cicada test"; valid until the next call. */
const char *pg_proxy_url(struct pg_proxy *proxy);

void pg_proxy_rule(struct pg_proxy *proxy, enum pg_proxy_direction direction, enum pg_proxy_action action,
                   const void *pattern, size_t len, const void *replacement);
bool pg_proxy_rule_done(struct pg_proxy *proxy);

void pg_proxy_refuse(struct pg_proxy *proxy,
                     bool refuse); /* connections are refused, as if the server did not run */
void pg_proxy_stall(struct pg_proxy *proxy,
                    bool stall); /* new connections are accepted, and then nothing happens */
void pg_proxy_cut_all(struct pg_proxy *proxy);

/* Breaks at random: each new connection after 1 to `bytes_max` bytes of both directions, in the middle of whatever it is; and
 * commit_percent of those that send a COMMIT, just before it, just after it, or so that the server does not notice. */
struct pg_proxy_chaos {
    int bytes_max;      /* 0: no such cuts */
    int commit_percent; /* of the COMMITs */
};
void pg_proxy_set_chaos(struct pg_proxy *proxy, const struct pg_proxy_chaos *chaos);
/* So far, at random, in all; *ret_at_commit: of them at a COMMIT (NULL is fine). */
int pg_proxy_cuts(struct pg_proxy *proxy, int *ret_at_commit);

#endif
