/* client_options.h - what the load client is asked to do, and when each of its requests is due. */
#ifndef E2E_FAULTS_CLIENT_OPTIONS_H
#define E2E_FAULTS_CLIENT_OPTIONS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#define CLIENT_TARGETS_MAX 8

struct client_options {
    struct sockaddr_in targets[CLIENT_TARGETS_MAX];
    int target_count;
    const char *host, *path, *prefix;
    double rate, rise_s, rest_s;
    int keep_percent, get_percent;
    bool again, elsewhere;
    int64_t timeout_us, count; /* count 0: no end */
};

/* False: something is wrong, and the usage was printed. Strings are borrowed from argv. */
bool client_options_parse(struct client_options *options, int argc, char **argv);

/* When request k is due, in seconds from the start. Steady: one each 1/rate. With rise_s: the rate grows from 0 to `rate` in so long,
 * falls to 0 in as long, rests for rest_s, and so on. */
double client_options_due_s(const struct client_options *options, uint64_t k);

#endif
