/* support_operator.h - the operator's cache over a fake API server that answers with the objects of a test.
 *
 * Threads: the cache's own; the rest is the test's.
 */
#ifndef CICADA_TESTS_SUPPORT_OPERATOR_H
#define CICADA_TESTS_SUPPORT_OPERATOR_H

#include <stdatomic.h>

#include "operator/function/function_cache.h"
#include "operator/function/function_names.h"
#include "operator/tests/support_fake_apiserver.h"

/* Of an operator that reconciles what is in the cache. */
extern const struct function_settings operator_fixture_settings;

struct operator_fixture {
    struct fake_apiserver *server;
    struct stop stop;
    struct kube_client *client;
    struct workqueue *queue;
    struct function_cache *cache;
    int foreign_ingresses;
    atomic_int pod_exits;
};

/* Lists of each kind as JSON text of their items ("{...},{...}"); NULL: none. */
struct operator_lists {
    const char *functions, *deployments, *pods, *services, *endpoints, *ingresses, *gateways,
        *gateway_services;
};

/* Waits until all is read; the queue holds what that put into it. */
void operator_fixture_start(struct operator_fixture *fixture, const struct operator_lists *lists);
void operator_fixture_stop(struct operator_fixture *fixture);
/* Takes everything out of the queue; returns how many keys there were. */
int operator_fixture_drain(struct operator_fixture *fixture);
/* Sends an event, such as "MODIFIED", on the watch whose request has this in its first line, and waits until the queue has a key. */
void operator_fixture_push(struct operator_fixture *fixture, const char *watch, const char *type,
                           const cJSON *object);
/* The next answer to a request that matches; body NULL: "{}". */
void operator_fixture_answer(struct operator_fixture *fixture, const char *match, int status,
                             const char *body);

#endif
