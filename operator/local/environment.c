#include "operator/local/environment.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/json.h"
#include "runtime/base/mem.h"
#include "runtime/base/strbuf.h"
#include "runtime/base/text.h"

void environment_init(struct environment *environment)
{
    *environment = (struct environment){.variables = xcalloc(1, sizeof(char *))};
}

static char **find(const struct environment *environment, const char *name, size_t len)
{
    for (size_t i = 0; i < environment->count; i++) {
        if (strncmp(environment->variables[i], name, len) == 0 && environment->variables[i][len] == '=') {
            return &environment->variables[i];
        }
    }
    return NULL;
}

void environment_set(struct environment *environment, const char *name, const char *value)
{
    if (!value) {
        return;
    }
    char *variable = xasprintf("%s=%s", name, value);
    char **old = find(environment, name, strlen(name));
    if (old) {
        free(*old);
        *old = variable;
        return;
    }
    environment->variables =
        xreallocarray(environment->variables, environment->count + 2, sizeof *environment->variables);
    environment->variables[environment->count++] = variable;
    environment->variables[environment->count] = NULL;
}

static const char *get(const struct environment *environment, const char *name, size_t len)
{
    char **variable = find(environment, name, len);
    return variable ? *variable + len + 1 : NULL;
}

/* ---- $(NAME) ---- */

static char *expand(const struct environment *environment, const char *text, struct err *err)
{
    struct strbuf out;
    strbuf_init(&out, ENVIRONMENT_VALUE_MAX_BYTES);
    while (*text) {
        const char *close = text[0] == '$' && text[1] == '(' ? strchr(text, ')') : NULL;
        const char *value = close ? get(environment, text + 2, (size_t)(close - text) - 2) : NULL;
        if (value) {
            strbuf_append_str(&out, value);
            text = close + 1;
        } else if (text[0] == '$' && text[1] == '$') {
            strbuf_append_char(&out, '$');
            text += 2;
        } else {
            strbuf_append_char(&out, *text++);
        }
    }
    if (strbuf_failed(&out)) {
        strbuf_release(&out);
        err_set(err, ERR_TOO_LARGE, "is above %d bytes", ENVIRONMENT_VALUE_MAX_BYTES);
        return NULL;
    }
    return strbuf_detach(&out, NULL);
}

/* ---- references ---- */

struct reader {
    struct environment *environment;
    const struct function_spec *spec;
    const struct data_store *data;
    const char **ret_reason;
    struct err *err;
};

static int refuse(const struct reader *reader, const char *reason)
{
    *reader->ret_reason = reason;
    return -1;
}

static const char *kind_word(enum data_kind kind)
{
    return kind == DATA_SECRET ? "secret" : "config map";
}

/* *ret_object is NULL if it is not there and need not be. */
static int find_object(const struct reader *reader, enum data_kind kind, const cJSON *ref,
                       const struct data_object **ret_object)
{
    const char *name = json_string(ref, "name");
    *ret_object = data_store_get(reader->data, kind, reader->spec->namespace, name ? name : "");
    if (!*ret_object && !json_bool(ref, "optional", false)) {
        err_set(reader->err, ERR_NOT_FOUND, "%s \"%s\" is in no manifest", kind_word(kind), name ? name : "");
        return refuse(reader, "SecretMissing");
    }
    return 0;
}

static int check_value(const struct reader *reader, const char *name, const struct data_entry *entry)
{
    if (strlen(entry->value) != entry->len || entry->len > ENVIRONMENT_VALUE_MAX_BYTES) {
        err_set(reader->err, ERR_INVALID, "variable %s: has a NUL, or is above %d bytes", name,
                ENVIRONMENT_VALUE_MAX_BYTES);
        return refuse(reader, "InvalidSpec");
    }
    return 0;
}

static int add_key(const struct reader *reader, const char *variable, enum data_kind kind, const cJSON *ref)
{
    const struct data_object *object;
    const char *key = json_string(ref, "key");
    if (find_object(reader, kind, ref, &object) < 0) {
        return -1;
    }
    const struct data_entry *entry = data_object_entry(object, key ? key : "");
    if (!entry) {
        if (json_bool(ref, "optional", false)) {
            return 0;
        }
        err_set(reader->err, ERR_NOT_FOUND, "%s \"%s\" has no key \"%s\"", kind_word(kind),
                json_string(ref, "name"), key ? key : "");
        return refuse(reader, "SecretMissing");
    }
    if (check_value(reader, variable, entry) < 0) {
        return -1;
    }
    environment_set(reader->environment, variable, entry->value);
    return 0;
}

static int add_field(const struct reader *reader, const char *variable, const cJSON *ref)
{
    const struct {
        const char *path, *value;
    } fields[] = {{"metadata.name", reader->spec->name},
                  {"metadata.namespace", reader->spec->namespace},
                  {"status.podIP", "127.0.0.1"},
                  {"status.hostIP", "127.0.0.1"}};
    const char *path = json_string(ref, "fieldPath");
    for (size_t i = 0; path && i < ARRAY_SIZE(fields); i++) {
        if (strcmp(path, fields[i].path) == 0) {
            environment_set(reader->environment, variable, fields[i].value);
            return 0;
        }
    }
    err_set(reader->err, ERR_INVALID, "variable %s: the field \"%s\" is not known outside of a cluster",
            variable, path ? path : "");
    return refuse(reader, "InvalidSpec");
}

/* ---- env, envFrom ---- */

static int add_variable(const struct reader *reader, const cJSON *variable)
{
    const char *name = json_string(variable, "name");
    const cJSON *from = json_object(variable, "valueFrom");
    if (!from) {
        const char *value = json_string(variable, "value");
        CLEANUP_FREE char *expanded = expand(reader->environment, value ? value : "", reader->err);
        if (!expanded) {
            err_wrap(reader->err, "variable %s", name);
            return refuse(reader, "InvalidSpec");
        }
        environment_set(reader->environment, name, expanded);
        return 0;
    }
    if (json_object(from, "secretKeyRef")) {
        return add_key(reader, name, DATA_SECRET, json_object(from, "secretKeyRef"));
    }
    if (json_object(from, "configMapKeyRef")) {
        return add_key(reader, name, DATA_CONFIG_MAP, json_object(from, "configMapKeyRef"));
    }
    if (json_object(from, "fieldRef")) {
        return add_field(reader, name, json_object(from, "fieldRef"));
    }
    err_set(reader->err, ERR_INVALID, "variable %s: such a source is not known outside of a cluster", name);
    return refuse(reader, "InvalidSpec");
}

/* Kubernetes skips keys that are no names of variables. */
static bool is_variable_name(const char *name)
{
    return name[0] != '\0' && !(name[0] >= '0' && name[0] <= '9') &&
           strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-") == strlen(name);
}

static int add_all(const struct reader *reader, const cJSON *source)
{
    const cJSON *secret = json_object(source, "secretRef");
    const char *prefix = json_string(source, "prefix");
    const struct data_object *object;
    if (find_object(reader, secret ? DATA_SECRET : DATA_CONFIG_MAP,
                    secret ? secret : json_object(source, "configMapRef"), &object) < 0) {
        return -1;
    }
    for (size_t i = 0; object && i < object->count; i++) {
        CLEANUP_FREE char *name = xasprintf("%s%s", prefix ? prefix : "", object->entries[i].key);
        if (!is_variable_name(name)) {
            continue;
        }
        if (check_value(reader, name, &object->entries[i]) < 0) {
            return -1;
        }
        environment_set(reader->environment, name, object->entries[i].value);
    }
    return 0;
}

int environment_add_spec(struct environment *environment, const struct function_spec *spec,
                         const struct data_store *data, const char **ret_reason, struct err *err)
{
    const struct reader reader = {
        .environment = environment, .spec = spec, .data = data, .ret_reason = ret_reason, .err = err};
    const cJSON *item;
    cJSON_ArrayForEach(item, spec->env_from)
    {
        if (add_all(&reader, item) < 0) {
            return -1;
        }
    }
    cJSON_ArrayForEach(item, spec->env)
    {
        if (add_variable(&reader, item) < 0) {
            return -1;
        }
    }
    return 0;
}

char **environment_detach(struct environment *environment)
{
    char **variables = environment->variables;
    *environment = (struct environment){.count = 0};
    return variables;
}

void environment_free(char **variables)
{
    for (char **variable = variables; variables && *variable; variable++) {
        free(*variable);
    }
    free(variables);
}
