/* function_status.h - the status of a Function: what `kubectl get functions` shows.
 *
 * Written by server-side apply to /status with a manager of its own, and only if it differs from what is there. The time of
 * a condition moves only when its status does. Threads: none of its own.
 */
#ifndef CICADA_FUNCTION_FUNCTION_STATUS_H
#define CICADA_FUNCTION_FUNCTION_STATUS_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum condition_type {
    CONDITION_READY,
    CONDITION_CONFIGURATION_VALID,
    CONDITION_DEPLOYED,
    CONDITION_ROUTED,
    CONDITION_TRIGGERS_READY,
    CONDITION_ACTIVE,
    CONDITION_CONNECTION_BUDGET,
    CONDITION_COUNT
};

enum condition_status { CONDITION_ABSENT, CONDITION_TRUE, CONDITION_FALSE, CONDITION_UNKNOWN };

#define CONDITION_REASON_SIZE 40
#define CONDITION_MESSAGE_MAX 1024

struct condition {
    enum condition_status status;
    char reason[CONDITION_REASON_SIZE];
    char *message;      /* owned; NULL while absent */
    int64_t since_ms;   /* lastTransitionTime, whole seconds */
    int64_t generation; /* observedGeneration */
};

/* What waits for one trigger. */
struct trigger_status {
    char *name;
    bool known; /* the figures are */
    int64_t backlog, oldest_age_s, dead_letters;
    int64_t next_run_s; /* Unix time; 0: none */
};

struct function_status {
    int64_t observed_generation; /* 0: never written */
    char *url, *selector;        /* owned */
    int replicas, desired_replicas;
    struct trigger_status *triggers; /* owned; as in the spec */
    size_t trigger_count;
    struct condition conditions[CONDITION_COUNT];
};

/* Replaces status, reason and message; the message is cut at CONDITION_MESSAGE_MAX bytes. */
void condition_set(struct condition *condition, enum condition_status status, const char *reason,
                   const char *format, ...) __attribute__((format(printf, 4, 5)));
void condition_copy(struct condition *to, const struct condition *from);

/* Reads .status of a Function; what is missing stays zero. */
void function_status_parse(const cJSON *function, struct function_status *ret_status);
void function_status_release(struct function_status *status);
/* Gives each condition its time: that of `old` if the status is the same, else now. Sets observed generations. */
void function_status_stamp(struct function_status *status, const struct function_status *old,
                           int64_t generation, int64_t now_ms);
bool function_status_equal(const struct function_status *a, const struct function_status *b);
/* The apply intent, for that version of the Function only: not for another spec, nor for a new Function of the same name, which the
 * uid would not tell (the API server takes metadata from what is stored when a status is written). The caller frees. */
cJSON *function_status_intent(const struct function_status *status, const char *namespace, const char *name,
                              const char *resource_version);

#endif
