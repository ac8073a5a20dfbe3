/* Files of manifests: what is in them, what is wrong with them and where; folders; --validate. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "operator/local/manifest.h"
#include "operator/local/manifest_paths.h"
#include "operator/local/manifest_validate.h"
#include "operator/tests/support_function.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"
#include "runtime/base/yaml.h"
#include "runtime/tests/support_test.h"

static struct manifest_reader *reader;
static char folder[] = "/tmp/test-manifest-XXXXXX";

static int set_up(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    return manifest_reader_new("shop", &reader, &err) || !mkdtemp(folder);
}

static int remove_entry(const char *path, const struct stat *info, int type, struct FTW *ftw)
{
    (void)info, (void)type, (void)ftw;
    return remove(path);
}

static int tear_down(void **state)
{
    (void)state;
    manifest_reader_free(reader);
    return nftw(folder, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

static struct manifest_file *read_text(const char *text)
{
    return manifest_text_read(reader, "m.yaml", text, strlen(text));
}

static char *problems_of(const struct manifest_file *file)
{
    struct strbuf text;
    strbuf_init(&text, 1u << 20);
    for (size_t i = 0; i < file->problem_count; i++) {
        manifest_problem_print(file, &file->problems[i], &text);
    }
    return strbuf_detach(&text, NULL);
}

static void expect_problems(const char *yaml, const char *expected)
{
    struct manifest_file *file = read_text(yaml);
    CLEANUP_FREE char *text = problems_of(file);
    assert_string_equal(text, expected);
    manifest_file_free(file);
}

#define FUNCTION "apiVersion: cicada.dev/v1alpha1\nkind: Function\n"

static void reads_functions(void **state)
{
    (void)state;
    struct manifest_file *file =
        read_text(FUNCTION "metadata:\n  name: a\nspec:\n  handler: a.so:f\n---\n---\n" FUNCTION
                           "metadata: {name: b, namespace: c, uid: 1x, creationTimestamp: "
                           "null}\nspec: {handler: a.so:f, replicas: 0}\n");
    assert_int_equal(file->problem_count, 0);
    assert_int_equal(file->object_count, 2);
    const struct manifest_object *a = &file->objects[0], *b = &file->objects[1];
    assert_true(a->valid && a->kind == MANIFEST_FUNCTION);
    assert_string_equal(a->namespace, "shop");
    assert_string_equal(a->spec->namespace, "shop");
    assert_string_equal(a->spec->handler, "a.so:f");
    assert_int_equal(a->spec->timeout_seconds, 30);
    assert_int_equal(a->line, 1);
    assert_string_equal(b->namespace, "c");
    assert_int_equal(b->spec->replicas, 0);
    assert_int_equal(b->line, 9);
    assert_int_equal(strlen(b->spec->uid), UUID_TEXT_SIZE - 1);
    assert_string_not_equal(a->spec->uid, b->spec->uid);
    struct manifest_file *again = read_text(FUNCTION "metadata: {name: a}\nspec: {handler: b.so:f}\n");
    assert_string_equal(a->spec->uid, again->objects[0].spec->uid);
    manifest_file_free(again);
    manifest_file_free(file);
}

static void expect_data(const struct manifest_object *object, const char *name, const char *bytes, size_t len)
{
    for (size_t i = 0; i < object->data_count; i++) {
        if (strcmp(object->data[i].name, name) == 0) {
            assert_int_equal(object->data[i].len, len);
            assert_memory_equal(object->data[i].bytes, bytes, len + 1);
            return;
        }
    }
    fail_msg("no %s", name);
}

static void reads_secrets_and_config_maps(void **state)
{
    (void)state;
    struct manifest_file *file =
        read_text("apiVersion: v1\nkind: List\nitems:\n"
                  "- apiVersion: v1\n  kind: Secret\n  metadata: {name: s}\n  type: Opaque\n"
                  "  data: {a: AAEC, b: eA==, c: null}\n  stringData: {b: 'y', d: 'no'}\n"
                  "- {apiVersion: v1, kind: ConfigMap, metadata: {name: c}, immutable: true, data: {a: "
                  "text}, binaryData: {b: /w==}}\n");
    CLEANUP_FREE char *problems = problems_of(file);
    assert_string_equal(problems, "");
    assert_int_equal(file->object_count, 2);
    const struct manifest_object *secret = &file->objects[0], *map = &file->objects[1];
    assert_true(secret->valid && map->valid);
    assert_int_equal(secret->line, 4);
    assert_int_equal(secret->data_count, 4);
    expect_data(secret, "a", "\0\1\2", 3);
    expect_data(secret, "b", "y", 1);
    expect_data(secret, "c", "", 0);
    expect_data(secret, "d", "no", 2);
    assert_int_equal(map->data_count, 2);
    expect_data(map, "a", "text", 4);
    expect_data(map, "b", "\xff", 1);
    manifest_file_free(file);
}

static void tells_problems_by_position(void **state)
{
    (void)state;
    expect_problems(
        FUNCTION
        "metadata: {name: a}\nspec:\n  http: {path: orders}\n  handler: a.so:f\n  env:\n  - name: A\n"
        "    value: no\n  - {name: A}\n  foo: 1\n",
        "m.yaml:5:10: spec.http.path: must begin with '/'\n"
        "m.yaml:9:5: spec.env[0].value: must be a string\n"
        "m.yaml:10:5: spec.env[1]: must not be listed twice\n"
        "m.yaml:11:3: spec.foo: unknown field\n");
    expect_problems("a: b\n---\n5\n---\nkind: X\napiVersion: 1\n---\napiVersion: a\n",
                    "m.yaml:1:1: apiVersion: is required\n"
                    "m.yaml:3:1: must be an object with apiVersion and kind\n"
                    "m.yaml:6:1: apiVersion: must be a string\n"
                    "m.yaml:8:1: kind: is required\n");
    expect_problems("a: [1\n---\n", "m.yaml:2:1: did not find expected ',' or ']'\n");
    expect_problems("apiVersion: apps/v1\nkind: Deployment\n",
                    "m.yaml:1:1: warning: apps/v1 Deployment is not used here\n");
    expect_problems("kind: Function\napiVersion: cicada.dev/v1\n",
                    "m.yaml:2:1: apiVersion: cicada.dev/v1 is not known; this version of Cicada has "
                    "cicada.dev/v1alpha1\n");
    expect_problems("kind: Functions\napiVersion: cicada.dev/v1alpha1\n",
                    "m.yaml:1:1: kind: cicada.dev/v1alpha1 has Function only, not Functions\n");
    expect_problems(FUNCTION "metadata: {generateName: a-}\nspec: {handler: a.so:f}\n",
                    "m.yaml:3:1: metadata.name: is required; a manifest can't leave it to generateName\n");
    expect_problems(FUNCTION "spec: {handler: a.so:f}\n", "m.yaml:1:1: metadata.name: is required\n");
    expect_problems("apiVersion: v1\nkind: List\nitems: 1\n", "m.yaml:3:1: items: must be a list\n");
}

static void judges_data(void **state)
{
    (void)state;
    expect_problems(
        "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata:\n  a: x y\n  ..b: eA==\n  c: e\n"
        "stringData: {d/e: f}\n",
        "m.yaml:5:3: data[a]: must be base64; text as it is goes into stringData\n"
        "m.yaml:6:3: data[..b]: the key must not be '.' or begin with '..'\n"
        "m.yaml:7:3: data[c]: must be base64; text as it is goes into stringData\n"
        "m.yaml:8:14: stringData[d/e]: the key must be 1 to 253 letters, digits, '-', '_' and '.'\n");
    expect_problems(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: S}\ndata: {a: 1}\nspec: {}\n",
        "m.yaml:3:12: metadata.name: must be at most 253 lower case letters, digits, '-' and '.', with a "
        "letter or digit at both ends of each part\n"
        "m.yaml:4:8: data.a: must be a string\n"
        "m.yaml:5:1: spec: unknown field\n");
    expect_problems(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: s}\ndata: {a: b}\nbinaryData: {a: eA==}\n",
        "m.yaml:5:14: binaryData[a]: the key must not be in data as well\n");
    CLEANUP_FREE char *large = xcalloc(MANIFEST_DATA_MAX_BYTES + 2, 1);
    memset(large, 'x', MANIFEST_DATA_MAX_BYTES);
    CLEANUP_FREE char *fits =
        xasprintf("apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {a: %s}\n", large);
    expect_problems(fits, "");
    large[MANIFEST_DATA_MAX_BYTES] = 'x';
    CLEANUP_FREE char *above =
        xasprintf("apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {a: %s}\n", large);
    expect_problems(above, "m.yaml:1:1: data: must have at most 1048576 bytes of data together\n");
}

static void sees_objects_that_are_there_twice(void **state)
{
    (void)state;
    static const char text[] = FUNCTION "metadata: {name: a}\nspec: {handler: a.so:f}\n";
    struct manifest_file *files[] = {
        manifest_text_read(reader, "1.yaml", text, strlen(text)),
        read_text("apiVersion: v1\nkind: Secret\nmetadata: {name: a}\n---\n" FUNCTION
                  "metadata: {name: z}\nspec: {handler: a.so:f}\n---\n" FUNCTION
                  "metadata: {name: a, namespace: shop}\nspec: {handler: a.so:f}\n")};
    manifest_files_check(files, 2);
    assert_int_equal(files[0]->problem_count, 0);
    CLEANUP_FREE char *problems = problems_of(files[1]);
    assert_string_equal(problems, "m.yaml:10:1: metadata.name: Function shop/a is at 1.yaml:1 as well\n");
    assert_false(files[1]->objects[2].valid);
    assert_int_equal(files[0]->objects[0].spec->created_ms, 0);
    assert_int_equal(files[1]->objects[1].spec->created_ms, 2);
    manifest_file_free(files[0]);
    manifest_file_free(files[1]);
}

static void limits_objects_and_problems(void **state)
{
    (void)state;
    CLEANUP_STRBUF struct strbuf text;
    strbuf_init(&text, YAML_MAX_BYTES);
    for (int i = 0; i < 3000; i++) {
        strbuf_append_str(&text, "--- 1\n");
    }
    struct manifest_file *file = read_text(text.buf);
    assert_int_equal(file->problem_count, MANIFEST_PROBLEMS_MAX);
    assert_int_equal(file->error_count, 3000);
    assert_int_equal(file->left_out, 3000 - MANIFEST_PROBLEMS_MAX);
    manifest_file_free(file);
    strbuf_clear(&text);
    for (int i = 0; i <= MANIFEST_OBJECTS_MAX; i++) {
        strbuf_appendf(&text, "--- {apiVersion: v1, kind: Secret, metadata: {name: s%d}}\n", i);
    }
    file = read_text(text.buf);
    assert_int_equal(file->object_count, MANIFEST_OBJECTS_MAX);
    CLEANUP_FREE char *problems = problems_of(file);
    assert_string_equal(problems, "m.yaml: must have fewer than 10000 objects\n");
    manifest_file_free(file);
}

/* Its path is the caller's. */
static char *write_file(const char *name, const char *text)
{
    char *path = xasprintf("%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    return path;
}

static void expect_output(const char *const *arguments, size_t count, int status, const char *expected)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    assert_int_equal(manifest_validate(reader, arguments, count, out), status);
    fclose(out);
    assert_string_equal(text, expected);
    free(text);
}

static void expands_folders(void **state)
{
    (void)state;
    CLEANUP_FREE char *b = write_file("b.yml", FUNCTION "metadata: {name: b}\nspec: {handler: a.so:f}\n");
    CLEANUP_FREE char *a = write_file("a.yaml", "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\n");
    CLEANUP_FREE char *c =
        write_file("c.json", "{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"a\"}}");
    CLEANUP_FREE char *note = write_file("note.txt", "not a manifest"), *hidden = write_file(".x.yaml", "[");
    CLEANUP_FREE char *below = xasprintf("%s/below.yaml", folder), *slash = xasprintf("%s/", folder);
    assert_int_equal(mkdir(below, 0755), 0);
    CLEANUP_MANIFEST_PATHS struct manifest_paths paths = MANIFEST_PATHS_INIT;
    struct err err = ERR_INIT;
    const char *arguments[] = {slash, "-", note};
    assert_ok(manifest_paths_expand(arguments, 3, &paths, &err));
    assert_int_equal(paths.count, 5);
    assert_string_equal(paths.items[0], a);
    assert_string_equal(paths.items[1], b);
    assert_string_equal(paths.items[2], c);
    assert_string_equal(paths.items[3], "-");
    assert_string_equal(paths.items[4], note);
    const char *empty[] = {below}, *missing[] = {"no/such"};
    assert_fails(manifest_paths_expand(empty, 1, &paths, &err), ERR_NOT_FOUND);
    assert_non_null(strstr(err.msg, "no *.yaml, *.yml or *.json in this folder"));
    assert_fails(manifest_paths_expand(missing, 1, &paths, &err), ERR_NOT_FOUND);
    expect_output(missing, 1, 1, "no/such: No such file or directory\n1 problem\n");
    expect_output(arguments, 1, 0, "1 function, 1 secret, 1 config map: valid\n");
    const char *twice[] = {a, b, a};
    CLEANUP_FREE char *said =
        xasprintf("%s:1:1: metadata.name: Secret shop/a is at %s:1 as well\n1 problem\n", a, a);
    expect_output(twice, 3, 1, said);
}

static void reads_standard_input(void **state)
{
    (void)state;
    CLEANUP_FREE char *path = write_file("in", "a: [\n");
    CLEANUP_FD int saved = dup(STDIN_FILENO), in = open(path, O_RDONLY);
    dup2(in, STDIN_FILENO);
    const char *arguments[] = {"-"};
    expect_output(arguments, 1, 1, "<stdin>:2:1: did not find expected node content\n1 problem\n");
    dup2(saved, STDIN_FILENO);
}

static void a_file_that_can_not_be_read_is_a_problem(void **state)
{
    (void)state;
    struct manifest_file *file = manifest_file_read(reader, "no/such.yaml");
    CLEANUP_FREE char *problems = problems_of(file);
    assert_string_equal(problems, "no/such.yaml: No such file or directory\n");
    manifest_file_free(file);
    CLEANUP_FREE char *spaces = xcalloc(YAML_MAX_BYTES + 2, 1);
    memset(spaces, ' ', YAML_MAX_BYTES + 1);
    CLEANUP_FREE char *path = write_file("large", spaces);
    file = manifest_file_read(reader, path);
    assert_string_equal(file->problems[0].message, "larger than 3145728 bytes");
    manifest_file_free(file);
}

/* ---- pages ---- */

/* Every block of a page that is a manifest is a valid one. How many they are. */
static int check_page(const char *path)
{
    CLEANUP_FREE char *page = support_read(path);
    int count = 0;
    for (char *at = page; (at = strstr(at, "\n```yaml")) != NULL;) {
        char *text = strchr(at + 1, '\n') + 1, *end = strstr(text, "```");
        if (!end) {
            fail_msg("%s: a block has no end", path);
            break;
        }
        *end = '\0';
        if (str_starts_with(text, "apiVersion: cicada.dev/")) {
            expect_problems(text, "");
            count++;
        }
        at = end + 1;
    }
    return count;
}

static void manifests_of_pages_are_valid(void **state)
{
    (void)state;
    assert_int_equal(check_page("docs/events/README.md"), 5);
    assert_int_equal(check_page("crds/README.md"), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_functions),
        cmocka_unit_test(reads_secrets_and_config_maps),
        cmocka_unit_test(tells_problems_by_position),
        cmocka_unit_test(judges_data),
        cmocka_unit_test(sees_objects_that_are_there_twice),
        cmocka_unit_test(limits_objects_and_problems),
        cmocka_unit_test(expands_folders),
        cmocka_unit_test(reads_standard_input),
        cmocka_unit_test(manifests_of_pages_are_valid),
        cmocka_unit_test(a_file_that_can_not_be_read_is_a_problem),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
