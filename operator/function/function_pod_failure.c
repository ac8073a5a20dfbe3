#include "operator/function/function_pod_failure.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/json.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"

/* A node may be on its way; people are told after this. */
#define UNSCHEDULABLE_GRACE_MS 10000
#define LOG_LINE_MAX_BYTES     300 /* of a line that the container happened to print */
#define MESSAGE_MAX_BYTES      600 /* of the runtime's own message: all that it writes (its termination.c) */
/* Shells and kubelets report an end by signal n as exit code 128 + n. */
#define SIGNAL_EXIT_BASE 128

static bool is_any_of(const char *text, const char *const *list, size_t count)
{
    for (size_t i = 0; text && i < count; i++) {
        if (strcmp(text, list[i]) == 0) {
            return true;
        }
    }
    return false;
}

static void fill(struct pod_failure *failure, const char *reason, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void fill(struct pod_failure *failure, const char *reason, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(failure->message, sizeof failure->message, format, args);
    va_end(args);
    snprintf(failure->reason, sizeof failure->reason, "%s", reason);
}

static bool find_image_failure(const struct cached_pod *pod, const char *image, struct pod_failure *failure)
{
    static const char *const reasons[] = {"ErrImagePull",     "ImagePullBackOff",  "ErrImageNeverPull",
                                          "InvalidImageName", "ImageInspectError", "RegistryUnavailable"};
    if (!is_any_of(pod->waiting_reason, reasons, ARRAY_SIZE(reasons))) {
        return false;
    }
    failure->is_back_off = strcmp(pod->waiting_reason, "ImagePullBackOff") == 0;
    fill(failure, "ImagePullFailed", "image %s: %s%s%s", image, pod->waiting_reason,
         pod->waiting_message ? ": " : "", pod->waiting_message ? pod->waiting_message : "");
    return true;
}

/* The kubelet has one reason for everything that is wrong with a container's configuration; only its text tells a
 * missing Secret or ConfigMap from an image that would run as root. */
static bool find_configuration_failure(const struct cached_pod *pod, const char *image,
                                       struct pod_failure *failure)
{
    static const char *const start_reasons[] = {"CreateContainerError", "RunContainerError", "StartError"};
    const char *message = pod->waiting_message ? pod->waiting_message : "";
    if (is_any_of(pod->waiting_reason, start_reasons, ARRAY_SIZE(start_reasons))) {
        fill(failure, "ContainerExited", "image %s: %s: %s", image, pod->waiting_reason, message);
        return true;
    }
    if (!pod->waiting_reason || strcmp(pod->waiting_reason, "CreateContainerConfigError") != 0) {
        return false;
    }
    /* The kubelet's own cache may be late on a busy node ("failed to sync secret cache: timed out..."); it tries again at once. */
    if (strncmp(message, "failed to sync ", strlen("failed to sync ")) == 0) {
        return false;
    }
    if (strcasestr(message, "secret") || strcasestr(message, "configmap")) {
        fill(failure, "SecretMissing", "%s", message);
    } else {
        fill(failure, "InvalidSpec", "image %s: %s", image, message);
    }
    return true;
}

static char *last_line(const char *text)
{
    size_t end = strlen(text);
    while (end > 0 && strchr("\r\n \t", text[end - 1])) {
        end--;
    }
    size_t start = end;
    while (start > 0 && text[start - 1] != '\n') {
        start--;
    }
    return xstrndup(text + start, end - start);
}

/* What the runtime wrote: {"reason","message"}, or a line of its log, whose message is what people want to read. */
static char *read_end_message(const struct container_end *end, char reason[CONDITION_REASON_SIZE])
{
    static const char *const reasons[] = {"HandlerLoadFailed", "SqlRejected",         "SchemaMissing",
                                          "InvalidSpec",       "DatabaseUnreachable", "HandlerStuck"};
    CLEANUP_FREE char *line = last_line(end->message ? end->message : "");
    CLEANUP_JSON cJSON *tree = NULL;
    struct err ignored = ERR_INIT;
    snprintf(reason, CONDITION_REASON_SIZE, "ContainerExited");
    if (line[0] != '{' || json_parse(line, strlen(line), JSON_DEPTH_MAX, &tree, &ignored)) {
        return xstrndup(line, LOG_LINE_MAX_BYTES);
    }
    if (is_any_of(json_string(tree, "reason"), reasons, ARRAY_SIZE(reasons))) {
        snprintf(reason, CONDITION_REASON_SIZE, "%s", json_string(tree, "reason"));
    }
    const char *message = json_string(tree, "message");
    return message ? xstrndup(message, MESSAGE_MAX_BYTES) : xstrndup(line, LOG_LINE_MAX_BYTES);
}

static void describe_exit(const struct container_end *end, char *out, size_t size)
{
    int signal = end->signal;
    if (signal == 0 && end->exit_code > SIGNAL_EXIT_BASE) {
        signal = end->exit_code - SIGNAL_EXIT_BASE;
    }
    const char *reason = end->reason && strcmp(end->reason, "OOMKilled") == 0 ? ", out of memory" : "";
    if (signal) {
        snprintf(out, size, "the container was ended by signal %d%s", signal, reason);
    } else {
        snprintf(out, size, "the container exited with code %d%s", end->exit_code, reason);
    }
}

/* What does not pass by itself. */
static bool is_definite(const char *reason)
{
    static const char *const reasons[] = {"HandlerLoadFailed", "SqlRejected", "SchemaMissing", "InvalidSpec"};
    return is_any_of(reason, reasons, ARRAY_SIZE(reasons));
}

static const struct container_end *last_end(const struct cached_pod *pod)
{
    return pod->ended.present ? &pod->ended : &pod->before;
}

static void fill_exit(const struct container_end *end, const char *reason, const char *image,
                      const char *message, struct pod_failure *failure)
{
    char how[96];
    describe_exit(end, how, sizeof how);
    if (strcmp(reason, "ContainerExited") == 0) {
        fill(failure, reason, "image %s: %s%s%s", image, how, message[0] ? ": " : "", message);
    } else {
        fill(failure, reason, "%s", message[0] ? message : how);
    }
}

/* One exit may be bad luck (the database restarts), and the kubelet tries again at once; when it makes the container wait, it
 * keeps exiting. A handler that can't be loaded is a failure at once. */
static bool find_exit(const struct cached_pod *pod, const char *image, struct pod_failure *failure)
{
    const struct container_end *end = last_end(pod);
    if (!end->present) {
        return false;
    }
    char reason[CONDITION_REASON_SIZE];
    CLEANUP_FREE char *message = read_end_message(end, reason);
    bool looping = pod->waiting_reason && strcmp(pod->waiting_reason, "CrashLoopBackOff") == 0;
    bool over = pod->phase && strcmp(pod->phase, "Failed") == 0;
    if (!is_definite(reason) && !looping && !over) {
        return false;
    }
    fill_exit(end, reason, image, message, failure);
    return true;
}

static bool find_unschedulable(const struct cached_pod *pod, int64_t now_ms, struct pod_failure *failure)
{
    if (!pod->unschedulable) {
        return false;
    }
    int64_t left_ms = pod->unschedulable_since_ms + UNSCHEDULABLE_GRACE_MS - now_ms;
    if (left_ms > 0) {
        failure->due_in_ms = left_ms;
        return false;
    }
    fill(failure, "Unschedulable", "no node takes the pod: %s", pod->unschedulable);
    return true;
}

bool pod_failure_find(const struct cached_pod *pod, const char *image, int64_t now_ms,
                      struct pod_failure *ret_failure)
{
    memset(ret_failure, 0, sizeof *ret_failure);
    if (pod->deleting || pod->ready) {
        return false;
    }
    return find_image_failure(pod, image, ret_failure) ||
           find_configuration_failure(pod, image, ret_failure) || find_exit(pod, image, ret_failure) ||
           find_unschedulable(pod, now_ms, ret_failure);
}

bool pod_failure_passing_exit(const struct cached_pod *pod, const char *image,
                              struct pod_failure *ret_failure)
{
    const struct container_end *end = last_end(pod);
    memset(ret_failure, 0, sizeof *ret_failure);
    if (pod->deleting || !end->present || (end->exit_code == 0 && end->signal == 0)) {
        return false;
    }
    char reason[CONDITION_REASON_SIZE];
    CLEANUP_FREE char *message = read_end_message(end, reason);
    if (is_definite(reason)) {
        return false;
    }
    fill_exit(end, reason, image, message, ret_failure);
    return true;
}
