/* The gateway's side of TLS: which certificate a name gets, how many handshakes a turn has room for, certificates that come and go. */
#include "operator/gateway/gateway_internal.h"
#include "runtime/base/mem.h"

#define WORKER_HANDSHAKES_PER_TURN 8

/* ---- per loop ---- */

static struct certificate *find_certificate(void *arg, const char *name)
{
    struct worker *worker = arg;
    const char *namespace, *secret;
    if (!route_table_tls_secret(worker_routes(worker), name, &namespace, &secret)) {
        return NULL;
    }
    return certificates_get(worker->gateway->certificates, namespace, secret);
}

static void handshakes_over(struct loop_post *post)
{
    container_of(post, struct worker, handshakes_over)->handshakes = 0;
}

int worker_start_tls(struct worker *worker, struct err *err)
{
    worker->handshakes_over.run = handshakes_over;
    return tls_context_new(
        &(struct tls_settings){.find = find_certificate, .arg = worker, .tickets = worker->gateway->tickets},
        &worker->tls, err);
}

bool worker_may_shake_hands(struct worker *worker)
{
    if (worker->handshakes == 0) {
        loop_defer(worker->loop, &worker->handshakes_over);
    }
    return worker->handshakes < WORKER_HANDSHAKES_PER_TURN && ++worker->handshakes;
}

/* ---- certificates ---- */

int gateway_certificate_set(struct gateway *gateway, const char *namespace, const char *secret,
                            const char *chain_pem, const char *key_pem, bool *ret_changed, struct err *err)
{
    int64_t not_after_s;
    if (certificates_set(gateway->certificates, namespace, secret, chain_pem, key_pem, &not_after_s,
                         ret_changed, err) < 0) {
        return -1;
    }
    metric_set(metric_family_get(gateway->metrics.certificates, (const char *[]){namespace, secret}),
               (double)not_after_s);
    return 0;
}

void gateway_certificate_remove(struct gateway *gateway, const char *namespace, const char *secret)
{
    certificates_remove(gateway->certificates, namespace, secret);
    metric_family_remove(gateway->metrics.certificates, (const char *[]){namespace, secret}, 2);
}
