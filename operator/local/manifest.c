#include "operator/local/manifest.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "operator/function/function_schema.h"
#include "operator/local/manifest_data.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"
#include "runtime/base/yaml.h"

#define READ_STEP         65536
#define MESSAGE_MAX_BYTES 2048

struct manifest_reader {
    char *default_namespace;
    struct function_schema *function;
    struct structural_schema *secret, *config_map;
};

/* One file at work. */
struct reading {
    const struct manifest_reader *reader;
    const struct yaml_marks *marks;
    struct manifest_file *file;
    size_t object_alloc;
};

static int compile_kind(const char *yaml, struct structural_schema **ret_schema, struct err *err)
{
    CLEANUP_JSON cJSON *tree = NULL;
    if (yaml_document_parse(yaml, strlen(yaml), &tree, err) || function_schema_add_metadata(tree, err)) {
        return -1;
    }
    return structural_schema_compile(tree, ret_schema, err);
}

int manifest_reader_new(const char *default_namespace, struct manifest_reader **ret_reader, struct err *err)
{
    if (!is_dns_label(default_namespace)) {
        return err_set(err, ERR_INVALID, "\"%.100s\" is no name of a namespace", default_namespace);
    }
    struct manifest_reader *reader = xcalloc(1, sizeof *reader);
    reader->default_namespace = xstrdup(default_namespace);
    if (function_schema_new(&reader->function, err) ||
        compile_kind(manifest_secret_schema, &reader->secret, err) ||
        compile_kind(manifest_config_map_schema, &reader->config_map, err)) {
        manifest_reader_free(reader);
        return -1;
    }
    *ret_reader = reader;
    return 0;
}

void manifest_reader_free(struct manifest_reader *reader)
{
    if (!reader) {
        return;
    }
    free(reader->default_namespace);
    function_schema_free(reader->function);
    structural_schema_free(reader->secret);
    structural_schema_free(reader->config_map);
    free(reader);
}

void manifest_file_add(struct manifest_file *file, bool warning, size_t line, size_t column, const char *path,
                       const char *format, ...)
{
    file->error_count += !warning;
    if (file->problem_count == MANIFEST_PROBLEMS_MAX) {
        file->left_out++;
        return;
    }
    if (file->problem_count % 16 == 0) {
        file->problems = xreallocarray(file->problems, file->problem_count + 16, sizeof file->problems[0]);
    }
    va_list args;
    va_start(args, format);
    char *message = format_text(MESSAGE_MAX_BYTES, format, args);
    va_end(args);
    file->problems[file->problem_count++] = (struct manifest_problem){
        .warning = warning, .line = line, .column = column, .path = xstrdup(path), .message = message};
}

static struct yaml_mark mark_of(const struct reading *reading, const cJSON *node, const cJSON *object)
{
    const struct yaml_mark *mark = yaml_marks_find(reading->marks, node);
    mark = mark ? mark : yaml_marks_find(reading->marks, object);
    return mark ? *mark : (struct yaml_mark){0, 0};
}

static void __attribute__((format(printf, 5, 6)))
add(struct reading *reading, bool warning, const cJSON *node, const char *path, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    CLEANUP_FREE char *message = format_text(MESSAGE_MAX_BYTES, format, args);
    va_end(args);
    struct yaml_mark mark = mark_of(reading, node, node);
    manifest_file_add(reading->file, warning, mark.line, mark.column, path, "%s", message);
}

static void take_problems(struct reading *reading, const cJSON *object,
                          const struct schema_problems *problems)
{
    for (size_t i = 0; i < problems->count; i++) {
        const struct schema_problem *problem = &problems->items[i];
        struct yaml_mark mark = mark_of(reading, problem->node, object);
        manifest_file_add(reading->file, /* warning= */ false, mark.line, mark.column, problem->path, "%s",
                          problem->message);
    }
    if (problems->left_out > 0) {
        add(reading, /* warning= */ false, object, "", "and %zu more problems", problems->left_out);
    }
}

static struct manifest_object *new_object(struct reading *reading)
{
    struct manifest_file *file = reading->file;
    if (file->object_count == reading->object_alloc) {
        reading->object_alloc = reading->object_alloc ? reading->object_alloc * 2 : 8;
        file->objects = xreallocarray(file->objects, reading->object_alloc, sizeof file->objects[0]);
    }
    struct manifest_object *object = &file->objects[file->object_count++];
    *object = (struct manifest_object){0};
    return object;
}

/* What a server fills in, and what says who the object is, is not the manifest's to say: a file may come from
 * `kubectl get -o yaml`. */
static void settle_metadata(const struct manifest_reader *reader, cJSON *object)
{
    cJSON *metadata = cJSON_GetObjectItemCaseSensitive(object, "metadata");
    if (!cJSON_IsObject(metadata)) {
        return;
    }
    const cJSON *namespace = json_get(metadata, "namespace");
    bool absent = !namespace || cJSON_IsNull(namespace) ||
                  (cJSON_IsString(namespace) && namespace->valuestring[0] == '\0');
    if (absent) {
        cJSON_DeleteItemFromObjectCaseSensitive(metadata, "namespace");
        json_add_string(metadata, "namespace", reader->default_namespace);
    }
    static const char *const filled_in[] = {"uid", "generation", "creationTimestamp", "deletionTimestamp"};
    for (size_t i = 0; i < ARRAY_SIZE(filled_in); i++) {
        cJSON_DeleteItemFromObjectCaseSensitive(metadata, filled_in[i]);
    }
}

/* The same for the same namespace and name, in the form of a UUID. */
static void add_uid(cJSON *object, const char *namespace, const char *name)
{
    cJSON *metadata = cJSON_GetObjectItemCaseSensitive(object, "metadata");
    if (!cJSON_IsObject(metadata)) {
        return; /* a problem that is told about */
    }
    uint64_t first = hash_fnv1a(HASH_FNV1A_START, namespace, strlen(namespace) + 1);
    first = hash_fnv1a(first, name, strlen(name) + 1);
    uint64_t second = hash_fnv1a(first, name, strlen(name) + 1);
    CLEANUP_FREE char *uid =
        xasprintf("%08llx-%04llx-%04llx-%04llx-%012llx", (unsigned long long)(first >> 32),
                  (unsigned long long)(first >> 16 & 0xffff), (unsigned long long)(first & 0xffff),
                  (unsigned long long)(second >> 48), (unsigned long long)(second & 0xffffffffffffULL));
    json_add_string(metadata, "uid", uid);
}

static void read_content(struct reading *reading, cJSON *tree, struct manifest_object *object,
                         struct schema_problems *problems)
{
    if (object->kind == MANIFEST_FUNCTION) {
        add_uid(tree, object->namespace, object->name);
        function_schema_check(reading->reader->function, tree, problems, &object->spec);
        return;
    }
    const struct structural_schema *schema =
        object->kind == MANIFEST_SECRET ? reading->reader->secret : reading->reader->config_map;
    structural_schema_check(schema, tree, "", problems);
    function_schema_check_metadata(tree, problems);
    if (problems->count == 0) {
        manifest_data_read(tree, object, problems);
    }
}

static void read_object(struct reading *reading, cJSON *tree, enum manifest_kind kind)
{
    CLEANUP_SCHEMA_PROBLEMS struct schema_problems problems = SCHEMA_PROBLEMS_INIT;
    struct yaml_mark mark = mark_of(reading, tree, tree);
    settle_metadata(reading->reader, tree);
    const cJSON *metadata = json_object(tree, "metadata");
    const char *namespace = json_string(metadata, "namespace"), *name = json_string(metadata, "name");
    struct manifest_object *object = new_object(reading);
    object->kind = kind;
    object->line = mark.line;
    object->column = mark.column;
    object->namespace = xstrdup(namespace ? namespace : "");
    object->name = xstrdup(name ? name : "");
    read_content(reading, tree, object, &problems);
    object->valid = problems.count == 0;
    take_problems(reading, tree, &problems);
}

static void read_tree(struct reading *reading, cJSON *tree);

static void read_list(struct reading *reading, cJSON *tree)
{
    cJSON *items = cJSON_GetObjectItemCaseSensitive(tree, "items"), *item;
    if (items && !cJSON_IsArray(items) && !cJSON_IsNull(items)) {
        add(reading, /* warning= */ false, items, "items", "must be a list");
        return;
    }
    cJSON_ArrayForEach(item, items)
    {
        read_tree(reading, item);
    }
}

/* "cicada.dev/v1" is of our group. */
static void read_other_kind(struct reading *reading, cJSON *tree, const char *version, const char *kind)
{
    const cJSON *version_node = json_get(tree, "apiVersion");
    if (!str_starts_with(version, "cicada.dev/")) {
        add(reading, /* warning= */ true, tree, "", "%.100s %.100s is not used here", version, kind);
    } else if (strcmp(version, FUNCTION_API_VERSION) != 0) {
        add(reading, /* warning= */ false, version_node, "apiVersion",
            "%.100s is not known; this version of Cicada has " FUNCTION_API_VERSION, version);
    } else {
        add(reading, /* warning= */ false, json_get(tree, "kind"), "kind",
            FUNCTION_API_VERSION " has Function only, not %.100s", kind);
    }
}

static void read_tree(struct reading *reading, cJSON *tree)
{
    if (reading->file->object_count == MANIFEST_OBJECTS_MAX) {
        return;
    }
    if (!cJSON_IsObject(tree)) {
        add(reading, /* warning= */ false, tree, "", "must be an object with apiVersion and kind");
        return;
    }
    const char *version = json_string(tree, "apiVersion"), *kind = json_string(tree, "kind");
    if (!version || !version[0] || !kind || !kind[0]) {
        const char *missing = version && version[0] ? "kind" : "apiVersion";
        const cJSON *node = json_get(tree, missing);
        add(reading, /* warning= */ false, node ? node : tree, missing, "%s",
            node && !cJSON_IsString(node) && !cJSON_IsNull(node) ? "must be a string" : "is required");
    } else if (strcmp(version, FUNCTION_API_VERSION) == 0 && strcmp(kind, "Function") == 0) {
        read_object(reading, tree, MANIFEST_FUNCTION);
    } else if (strcmp(version, "v1") == 0 && strcmp(kind, "Secret") == 0) {
        read_object(reading, tree, MANIFEST_SECRET);
    } else if (strcmp(version, "v1") == 0 && strcmp(kind, "ConfigMap") == 0) {
        read_object(reading, tree, MANIFEST_CONFIG_MAP);
    } else if (strcmp(version, "v1") == 0 && strcmp(kind, "List") == 0) {
        read_list(reading, tree);
    } else {
        read_other_kind(reading, tree, version, kind);
    }
}

struct order {
    struct manifest_problem problem;
    size_t index;
};

static int compare_places(const void *left, const void *right)
{
    const struct order *a = left, *b = right;
    if (a->problem.line != b->problem.line) {
        return a->problem.line < b->problem.line ? -1 : 1;
    }
    if (a->problem.column != b->problem.column) {
        return a->problem.column < b->problem.column ? -1 : 1;
    }
    return (a->index > b->index) - (a->index < b->index);
}

static void sort_problems(struct manifest_file *file)
{
    CLEANUP_FREE struct order *orders = xcalloc(file->problem_count + 1, sizeof orders[0]);
    for (size_t i = 0; i < file->problem_count; i++) {
        orders[i] = (struct order){file->problems[i], i};
    }
    qsort(orders, file->problem_count, sizeof orders[0], compare_places);
    for (size_t i = 0; i < file->problem_count; i++) {
        file->problems[i] = orders[i].problem;
    }
}

static struct manifest_file *new_file(const char *path)
{
    struct manifest_file *file = xcalloc(1, sizeof *file);
    file->path = xstrdup(path);
    return file;
}

static void read_text(const struct manifest_reader *reader, struct manifest_file *file, const char *text,
                      size_t len)
{
    CLEANUP_JSON cJSON *documents = NULL;
    CLEANUP_YAML_MARKS struct yaml_marks *marks = NULL;
    struct yaml_mark where = {0, 0};
    struct err err = ERR_INIT;
    if (yaml_documents_read(text, len, YAML_DIALECT_KUBECTL, &documents, &marks, &where, &err)) {
        manifest_file_add(file, /* warning= */ false, where.line, where.column, "", "%s", err.msg);
        return;
    }
    struct reading reading = {.reader = reader, .marks = marks, .file = file};
    cJSON *document;
    cJSON_ArrayForEach(document, documents)
    {
        read_tree(&reading, document);
    }
    if (file->object_count == MANIFEST_OBJECTS_MAX) {
        manifest_file_add(file, /* warning= */ false, 0, 0, "", "must have fewer than %d objects",
                          MANIFEST_OBJECTS_MAX);
    }
    sort_problems(file);
}

struct manifest_file *manifest_text_read(const struct manifest_reader *reader, const char *path,
                                         const char *text, size_t len)
{
    struct manifest_file *file = new_file(path);
    read_text(reader, file, text, len);
    return file;
}

static int read_stdin(struct strbuf *out, struct err *err)
{
    for (;;) {
        char *to = strbuf_reserve(out, READ_STEP);
        if (!to) {
            return err_set(err, ERR_TOO_LARGE, "larger than %u bytes", YAML_MAX_BYTES);
        }
        ssize_t count = read(STDIN_FILENO, to, READ_STEP);
        if (count < 0 && errno == EINTR) {
            continue;
        }
        if (count <= 0) {
            return count < 0 ? err_set_errno(err, errno, "reading standard input") : 0;
        }
        strbuf_advance(out, (size_t)count);
    }
}

struct manifest_file *manifest_file_read(const struct manifest_reader *reader, const char *path)
{
    struct manifest_file *file = new_file(path);
    CLEANUP_STRBUF struct strbuf input;
    strbuf_init(&input, YAML_MAX_BYTES + READ_STEP);
    CLEANUP_FREE char *data = NULL;
    size_t len = 0;
    struct err err = ERR_INIT;
    bool is_stdin = strcmp(path, MANIFEST_STDIN) == 0;
    if (is_stdin ? read_stdin(&input, &err) : file_read(path, YAML_MAX_BYTES, &data, &len, &err)) {
        if (err.code == ERR_TOO_LARGE) {
            manifest_file_add(file, /* warning= */ false, 0, 0, "", "larger than %u bytes", YAML_MAX_BYTES);
        } else { /* its text has the path, too */
            manifest_file_add(file, /* warning= */ false, 0, 0, "", "%s", strerror(err.sys_errno));
        }
    } else {
        read_text(reader, file, is_stdin ? input.buf : data, is_stdin ? input.len : len);
    }
    return file;
}
