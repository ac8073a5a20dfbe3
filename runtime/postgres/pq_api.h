/* pq_api.h - libpq, loaded at run time instead of linked.
 *
 * Linking libpq pulls in some twenty libraries (Kerberos, LDAP, TLS) before main() runs, which doubles the time to start.
 * The table is filled once, by the first pool that starts; whoever holds a connection may use it.
 *
 * Threads: pq_api_load() may be called from any thread and any number of times. After it returned 0 the table is read-only.
 */
#ifndef CICADA_POSTGRES_PQ_API_H
#define CICADA_POSTGRES_PQ_API_H

#include <postgresql/libpq-fe.h>
#include <stdbool.h>

#include "runtime/base/err.h"

#define PQ_API_LIBRARY "libpq.so.5"

#define PQ_API_FUNCTIONS(X)                                                                                  \
    X(PQconnectStartParams)                                                                                  \
    X(PQconnectPoll)                                                                                         \
    X(PQsocket)                                                                                              \
    X(PQstatus)                                                                                              \
    X(PQerrorMessage)                                                                                        \
    X(PQsetErrorVerbosity)                                                                                   \
    X(PQconnectionNeedsPassword)                                                                             \
    X(PQserverVersion)                                                                                       \
    X(PQparameterStatus)                                                                                     \
    X(PQtransactionStatus)                                                                                   \
    X(PQsslInUse)                                                                                            \
    X(PQsetnonblocking)                                                                                      \
    X(PQenterPipelineMode)                                                                                   \
    X(PQsetNoticeReceiver)                                                                                   \
    X(PQgetCancel)                                                                                           \
    X(PQcancel)                                                                                              \
    X(PQfreeCancel)                                                                                          \
    X(PQfinish)                                                                                              \
    X(PQsendQueryParams)                                                                                     \
    X(PQsendPrepare)                                                                                         \
    X(PQsendQueryPrepared)                                                                                   \
    X(PQsendDescribePrepared)                                                                                \
    X(PQsendFlushRequest)                                                                                    \
    X(PQpipelineSync)                                                                                        \
    X(PQsetSingleRowMode)                                                                                    \
    X(PQflush)                                                                                               \
    X(PQconsumeInput)                                                                                        \
    X(PQisBusy)                                                                                              \
    X(PQnotifies)                                                                                            \
    X(PQfreemem)                                                                                             \
    X(PQgetResult)                                                                                           \
    X(PQclear)                                                                                               \
    X(PQresultStatus)                                                                                        \
    X(PQresultErrorField)                                                                                    \
    X(PQcmdStatus)                                                                                           \
    X(PQcmdTuples)                                                                                           \
    X(PQntuples)                                                                                             \
    X(PQnfields)                                                                                             \
    X(PQfname)                                                                                               \
    X(PQftype)                                                                                               \
    X(PQnparams)                                                                                             \
    X(PQparamtype)                                                                                           \
    X(PQgetisnull)                                                                                           \
    X(PQgetvalue)                                                                                            \
    X(PQgetlength)

struct pq_api {
#define PQ_API_MEMBER(name) __typeof__(&(name)) name; /* NOLINT(bugprone-macro-parentheses): it declares */
    PQ_API_FUNCTIONS(PQ_API_MEMBER)
#undef PQ_API_MEMBER
};

/* Valid after pq_api_load(). */
extern struct pq_api pq;

/* without_ldap: as in pg_pool_settings; the first call decides. ERR_UNAVAILABLE: the library or one of its functions is missing. */
int pq_api_load(bool without_ldap, struct err *err) MUST_CHECK;

#endif
