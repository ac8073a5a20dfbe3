#include "operator/function/function_deployment.h"

#include <string.h>

#include "operator/function/function_runtime_spec.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"
#include "runtime/base/strbuf.h"

#define PROGRESS_DEADLINE_SECONDS 300
#define CICADA_SPEC_MAX_BYTES     (256u << 10) /* with each "$" doubled */

const char *function_deployment_image(const struct function_spec *spec,
                                      const struct function_settings *settings)
{
    return spec->image ? spec->image : settings->runtime_image;
}

/* The kubelet expands $(NAME) in values; "$$" stands for "$". */
static char *escape_dollars(const char *text)
{
    struct strbuf out;
    strbuf_init(&out, CICADA_SPEC_MAX_BYTES);
    for (const char *c = text; *c; c++) {
        if (*c == '$') {
            strbuf_append_char(&out, '$');
        }
        strbuf_append_char(&out, *c);
    }
    return strbuf_detach(&out, NULL);
}

static void add_env(cJSON *env, const char *name, const char *value)
{
    cJSON *var = json_append_object(env);
    json_add_string(var, "name", name);
    json_add_string(var, "value", value);
}

static void add_env_field(cJSON *env, const char *name, const char *path)
{
    cJSON *var = json_append_object(env);
    json_add_string(var, "name", name);
    cJSON *field = json_add_object(json_add_object(var, "valueFrom"), "fieldRef");
    json_add_string(field, "apiVersion", "v1");
    json_add_string(field, "fieldPath", path);
}

static void add_env_secret(cJSON *env, const char *name, const char *secret, const char *key)
{
    cJSON *var = json_append_object(env);
    json_add_string(var, "name", name);
    cJSON *ref = json_add_object(json_add_object(var, "valueFrom"), "secretKeyRef");
    json_add_string(ref, "name", secret);
    json_add_string(ref, "key", key);
}

static void build_environment(cJSON *container, const struct function_spec *spec,
                              const struct function_settings *settings)
{
    CLEANUP_JSON cJSON *runtime_spec = function_runtime_spec_build(spec);
    CLEANUP_FREE char *text = json_print_dup(runtime_spec);
    CLEANUP_FREE char *escaped = escape_dollars(text);
    CLEANUP_FREE char *announce = function_names_announce_address(settings);
    cJSON *env = json_add_array(container, "env");
    add_env(env, "CICADA_SPEC", escaped);
    add_env(env, "CICADA_FUNCTION_NAME", spec->name);
    add_env(env, "CICADA_FUNCTION_NAMESPACE", spec->namespace);
    add_env(env, "CICADA_GATEWAY", announce);
    add_env_field(env, "POD_NAME", "metadata.name");
    add_env_field(env, "POD_UID", "metadata.uid");
    add_env_field(env, "POD_IP", "status.podIP");
    if (spec->has_database) {
        add_env_secret(env, "DATABASE_URL", spec->database_secret, spec->database_key);
    }
    const cJSON *var;
    cJSON_ArrayForEach(var, spec->env)
    {
        json_append_copy(env, var);
    }
    if (cJSON_GetArraySize(spec->env_from) > 0) {
        json_add_copy(container, "envFrom", spec->env_from);
    }
}

static void add_probe(cJSON *container, const char *name, const char *path, int period, int timeout,
                      int failures)
{
    cJSON *probe = json_add_object(container, name);
    cJSON *get = json_add_object(probe, "httpGet");
    json_add_string(get, "path", path);
    json_add_int64(get, "port", PORT_ADMIN);
    json_add_string(get, "scheme", "HTTP");
    json_add_int64(probe, "periodSeconds", period);
    json_add_int64(probe, "timeoutSeconds", timeout);
    json_add_int64(probe, "successThreshold", 1);
    json_add_int64(probe, "failureThreshold", failures);
}

static void add_port(cJSON *ports, const char *name, int number)
{
    cJSON *port = json_append_object(ports);
    json_add_string(port, "name", name);
    json_add_int64(port, "containerPort", number);
    json_add_string(port, "protocol", "TCP");
}

static void build_container(cJSON *pod, const struct function_spec *spec,
                            const struct function_settings *settings)
{
    cJSON *container = json_append_object(json_add_array(pod, "containers"));
    json_add_string(container, "name", CONTAINER_NAME);
    json_add_string(container, "image", function_deployment_image(spec, settings));
    json_add_string(container, "imagePullPolicy", "IfNotPresent");
    cJSON *ports = json_add_array(container, "ports");
    add_port(ports, "http", PORT_FUNCTION);
    add_port(ports, "admin", PORT_ADMIN);
    build_environment(container, spec, settings);
    const cJSON *resources = json_object(spec->template, "resources");
    if (cJSON_GetArraySize(resources) > 0) {
        json_add_copy(container, "resources", resources);
    }
    cJSON *security = json_add_object(container, "securityContext");
    json_add_bool(security, "allowPrivilegeEscalation", false);
    json_add_bool(security, "readOnlyRootFilesystem", true);
    json_append_string(json_add_array(json_add_object(security, "capabilities"), "drop"), "ALL");
    add_probe(container, "readinessProbe", "/readyz", 1, 2, 3);
    /* A minute of silence on the admin port, which answers whatever the handlers do: the process is beyond hope. */
    add_probe(container, "livenessProbe", "/livez", 10, 5, 6);
    json_add_string(container, "terminationMessagePath", "/dev/termination-log");
    json_add_string(container, "terminationMessagePolicy", "FallbackToLogsOnError");
}

static void add_spread(cJSON *constraints, const struct function_spec *spec, const char *topology_key)
{
    cJSON *constraint = json_append_object(constraints);
    json_add_int64(constraint, "maxSkew", 1);
    json_add_string(constraint, "topologyKey", topology_key);
    json_add_string(constraint, "whenUnsatisfiable", "ScheduleAnyway");
    cJSON *labels = json_add_object(json_add_object(constraint, "labelSelector"), "matchLabels");
    json_add_string(labels, LABEL_FUNCTION, spec->name);
}

/* Members of spec.template that go into the pod as they are; empty ones are left out. */
static void add_pod_overrides(cJSON *pod, const struct function_spec *spec)
{
    static const char *const names[] = {"nodeSelector", "tolerations", "affinity", "imagePullSecrets"};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        const cJSON *part = json_get(spec->template, names[i]);
        if (cJSON_GetArraySize(part) > 0) {
            json_add_copy(pod, names[i], part);
        }
    }
    const char *account = json_string(spec->template, "serviceAccountName");
    json_add_string(pod, "serviceAccountName", account && account[0] ? account : NULL);
    const cJSON *spread = json_array(spec->template, "topologySpreadConstraints");
    if (cJSON_GetArraySize(spread) > 0) {
        json_add_copy(pod, "topologySpreadConstraints", spread);
    } else {
        cJSON *constraints = json_add_array(pod, "topologySpreadConstraints");
        add_spread(constraints, spec, "topology.kubernetes.io/zone");
        add_spread(constraints, spec, "kubernetes.io/hostname");
    }
}

static void copy_members(cJSON *to, const cJSON *from)
{
    const cJSON *member;
    cJSON_ArrayForEach(member, from)
    {
        json_add_copy(to, member->string, member);
    }
}

static void build_template(cJSON *template, const struct function_spec *spec,
                           const struct function_settings *settings)
{
    cJSON *metadata = json_add_object(template, "metadata");
    cJSON *labels = json_add_object(metadata, "labels");
    function_intent_add_labels(labels, spec->name);
    copy_members(labels, json_object(spec->template, "labels"));
    cJSON *annotations = json_add_object(metadata, "annotations");
    copy_members(annotations, json_object(spec->template, "annotations"));

    cJSON *pod = json_add_object(template, "spec");
    json_add_bool(pod, "automountServiceAccountToken", false);
    json_add_bool(pod, "enableServiceLinks", false);
    json_add_int64(pod, "terminationGracePeriodSeconds",
                   json_int64(spec->template, "terminationGracePeriodSeconds",
                              spec->drain_seconds + DRAIN_MARGIN_SECONDS));
    cJSON *security = json_add_object(pod, "securityContext");
    json_add_bool(security, "runAsNonRoot", true);
    json_add_string(json_add_object(security, "seccompProfile"), "type", "RuntimeDefault");
    add_pod_overrides(pod, spec);
    build_container(pod, spec, settings);

    char hash[INTENT_HASH_SIZE];
    function_intent_hash(template, hash);
    json_add_string(annotations, ANNOTATION_TEMPLATE, hash);
}

/* An empty one asks for nothing, and the API server's defaults make some. */
static void add_unless_empty(cJSON *inputs, const char *name, const cJSON *value)
{
    if (cJSON_GetArraySize(value) > 0) {
        json_add_copy(inputs, name, value);
    }
}

void function_deployment_spec_template(const struct function_spec *spec, char out[INTENT_HASH_SIZE])
{
    CLEANUP_JSON cJSON *inputs = function_runtime_spec_build(spec);
    json_add_string(inputs, "image", spec->image);
    json_add_string(inputs, "secret", spec->database_secret);
    json_add_string(inputs, "secretKey", spec->database_key);
    add_unless_empty(inputs, "env", spec->env);
    add_unless_empty(inputs, "envFrom", spec->env_from);
    add_unless_empty(inputs, "template", spec->template);
    function_intent_hash(inputs, out);
}

cJSON *function_deployment_build(const struct function_spec *spec, const struct function_settings *settings)
{
    cJSON *intent = function_intent_new(spec, &kube_deployments);
    char spec_template[INTENT_HASH_SIZE];
    function_deployment_spec_template(spec, spec_template);
    json_add_string(function_intent_annotations(intent), ANNOTATION_SPEC_TEMPLATE, spec_template);
    cJSON *deployment = json_add_object(intent, "spec");
    json_add_string(json_add_object(json_add_object(deployment, "selector"), "matchLabels"), LABEL_FUNCTION,
                    spec->name);
    json_add_int64(deployment, "revisionHistoryLimit", 1);
    json_add_int64(deployment, "progressDeadlineSeconds", PROGRESS_DEADLINE_SECONDS);
    cJSON *strategy = json_add_object(deployment, "strategy");
    json_add_string(strategy, "type", "RollingUpdate");
    cJSON *rolling = json_add_object(strategy, "rollingUpdate");
    json_add_int64(rolling, "maxUnavailable", 0);
    json_add_string(rolling, "maxSurge", "25%");
    build_template(json_add_object(deployment, "template"), spec, settings);
    function_intent_seal(intent);
    return intent;
}
