#include "operator/local/catalog.h"

#include <string.h>
#include <sys/stat.h>
#include <uthash.h>

#include "operator/local/file_version.h"
#include "operator/local/manifest.h"
#include "operator/local/manifest_paths.h"
#include "operator/local/watcher.h"
#include "runtime/base/mem.h"

/* A file of manifests. */
struct source {
    struct manifest_file *file; /* its last version without problems; NULL: there was none */
    struct stat status;         /* of the last version that was read */
    char *path;
};

/* A Function that the fleet was given. */
struct known {
    UT_hash_handle hh; /* key: namespace/name */
    struct function_spec *spec;
    bool is_there; /* in this round */
    char key[];
};

struct catalog {
    struct catalog_settings settings;
    struct manifest_reader *reader;
    struct fleet *fleet; /* NULL before the start */
    struct watcher *watcher;
    struct source *sources;
    size_t source_count;
    struct known *known;
    char *problem; /* the last one of the list of files; NULL: none */
};

/* Said once, until it is another one. */
static void say_problem(struct catalog *catalog, const char *problem)
{
    if (!catalog->problem || strcmp(catalog->problem, problem) != 0) {
        console_say(catalog->settings.console, "%s", problem);
    }
    free(catalog->problem);
    catalog->problem = xstrdup(problem);
}

/* ---- what is watched ---- */

static void watch(struct catalog *catalog, const char *path)
{
    struct err err = ERR_INIT;
    if (watcher_add(catalog->watcher, path, &err) < 0) {
        say_problem(catalog, err.msg);
    }
}

static void watch_handler(struct catalog *catalog, const struct function_spec *spec)
{
    if (spec->handler) {
        CLEANUP_FREE char *path = xasprintf("%s/%.*s", catalog->settings.handler_folder,
                                            (int)strcspn(spec->handler, ":"), spec->handler);
        watch(catalog, path);
    }
}

/* Before the files are listed: a folder. Of a file the folder, where editors put a new file in its place. */
static void watch_arguments(struct catalog *catalog)
{
    watcher_begin(catalog->watcher);
    for (size_t i = 0; i < catalog->settings.path_count; i++) {
        if (strcmp(catalog->settings.paths[i], MANIFEST_STDIN) != 0) {
            watch(catalog, catalog->settings.paths[i]);
        }
    }
}

/* Before the files are read. Their own folders are watched already. */
static void watch_what_they_lead_to(struct catalog *catalog)
{
    for (size_t i = 0; i < catalog->source_count; i++) {
        const char *path = catalog->sources[i].path;
        struct stat status;
        if (lstat(path, &status) == 0 && S_ISLNK(status.st_mode)) {
            watch(catalog, path);
        }
    }
    struct known *known, *next;
    HASH_ITER(hh, catalog->known, known, next)
    {
        watch_handler(catalog, known->spec);
    }
    watcher_end(catalog->watcher);
}

/* ---- files ---- */

static void say_problems(const struct catalog *catalog, const struct manifest_file *file)
{
    for (size_t i = 0; i < file->problem_count; i++) {
        CLEANUP_STRBUF struct strbuf text;
        strbuf_init(&text, MANIFEST_PROBLEM_MAX_BYTES);
        manifest_problem_print(file, &file->problems[i], &text);
        console_say(catalog->settings.console, "%.*s", (int)strcspn(text.buf, "\n"), text.buf);
    }
    if (file->left_out > 0) {
        console_say(catalog->settings.console, "%s: and %zu problems more", file->path, file->left_out);
    }
}

static struct source *find_source(const struct catalog *catalog, const char *path)
{
    for (size_t i = 0; i < catalog->source_count; i++) {
        if (strcmp(catalog->sources[i].path, path) == 0) {
            return &catalog->sources[i];
        }
    }
    return NULL;
}

static void free_source(struct source *source)
{
    manifest_file_free(source->file);
    free(source->path);
}

/* The objects of the version before stay if this one is wrong, or not complete: its end will be a change, too. True: something
 * changed. */
static bool read_source(struct catalog *catalog, struct source *source)
{
    struct stat now;
    bool is_stdin = strcmp(source->path, MANIFEST_STDIN) == 0;
    if (is_stdin ? source->file != NULL
                 : stat(source->path, &now) < 0 || file_version_equal(&now, &source->status)) {
        return false;
    }
    struct manifest_file *file = manifest_file_read(catalog->reader, source->path);
    if (!is_stdin && catalog->fleet && !file_version_is_complete(source->path, &now)) {
        manifest_file_free(file);
        return false;
    }
    if (!is_stdin) {
        file_version_keep(&now);
        source->status = now;
    }
    if (catalog->fleet) {
        say_problems(catalog, file);
        if (file->error_count > 0) {
            manifest_file_free(file);
            return false;
        }
    }
    manifest_file_free(source->file);
    source->file = file;
    return true;
}

/* The list of files anew: kept ones keep their place in `sources`. True: one came or went. */
static bool update_sources(struct catalog *catalog, char *const *paths, size_t count)
{
    struct source *sources = xcalloc(count + 1, sizeof *sources);
    size_t kept = 0, before = catalog->source_count;
    for (size_t i = 0; i < count; i++) {
        struct source *old = find_source(catalog, paths[i]);
        if (old) {
            sources[i] = *old;
            *old = (struct source){.path = xstrdup("")};
            kept++;
        } else {
            sources[i].path = xstrdup(paths[i]);
        }
    }
    for (size_t i = 0; i < before; i++) {
        free_source(&catalog->sources[i]);
    }
    free(catalog->sources);
    catalog->sources = sources;
    catalog->source_count = count;
    return kept != before || count != before;
}

/* ---- what is in them ---- */

static void each_object(const struct catalog *catalog,
                        void (*visit)(void *visitor, const struct manifest_object *object), void *visitor)
{
    for (size_t i = 0; i < catalog->source_count; i++) {
        const struct manifest_file *file = catalog->sources[i].file;
        for (size_t j = 0; file && j < file->object_count; j++) {
            if (file->objects[j].valid) {
                visit(visitor, &file->objects[j]);
            }
        }
    }
}

static void take_data(void *visitor, const struct manifest_object *object)
{
    struct catalog *catalog = visitor;
    if (object->kind == MANIFEST_FUNCTION) {
        return;
    }
    CLEANUP_FREE struct data_entry *entries = xcalloc(object->data_count + 1, sizeof *entries);
    for (size_t i = 0; i < object->data_count; i++) {
        entries[i] = (struct data_entry){
            .key = object->data[i].name, .value = object->data[i].bytes, .len = object->data[i].len};
    }
    struct data_object data = {.entries = entries, .count = object->data_count};
    data_store_set(catalog->settings.data, object->kind == MANIFEST_SECRET ? DATA_SECRET : DATA_CONFIG_MAP,
                   object->namespace, object->name, &data);
}

static void take_function(void *visitor, const struct manifest_object *object)
{
    struct catalog *catalog = visitor;
    if (object->kind != MANIFEST_FUNCTION) {
        return;
    }
    CLEANUP_FREE char *key = xasprintf("%s/%s", object->namespace, object->name);
    struct known *known;
    HASH_FIND_STR(catalog->known, key, known);
    if (known && known->is_there) {
        console_event(catalog->settings.console, key, "is in two manifests: the second is ignored");
        return;
    }
    if (!known) {
        known = xcalloc(1, sizeof *known + strlen(key) + 1);
        memcpy(known->key, key, strlen(key) + 1);
        HASH_ADD_STR(catalog->known, key, known);
    }
    known->is_there = true;
    if (known->spec != object->spec) {
        function_spec_unref(known->spec);
        known->spec = function_spec_ref(object->spec);
        watch_handler(catalog, known->spec); /* before the fleet takes the file */
        fleet_set_function(catalog->fleet, known->spec);
    }
}

static void forget(struct catalog *catalog, struct known *known)
{
    /* What is freed is in the table no more. NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
    HASH_DEL(catalog->known, known);
    function_spec_unref(known->spec);
    free(known);
}

static void forget_gone(struct catalog *catalog)
{
    struct known *known, *next;
    HASH_ITER(hh, catalog->known, known, next)
    {
        if (!known->is_there) {
            fleet_remove_function(catalog->fleet, known->spec->namespace, known->spec->name);
            forget(catalog, known);
        } else {
            known->is_there = false;
        }
    }
}

/* Functions of a file that was read anew count as changed; the fleet knows what of them did. */
static void give_fleet(struct catalog *catalog)
{
    data_store_clear(catalog->settings.data);
    each_object(catalog, take_data, catalog);
    each_object(catalog, take_function, catalog);
    forget_gone(catalog);
    fleet_refresh(catalog->fleet);
}

/* ---- reading ---- */

static int read_all(struct catalog *catalog, bool *ret_changed, struct err *err)
{
    CLEANUP_MANIFEST_PATHS struct manifest_paths paths = MANIFEST_PATHS_INIT;
    if (catalog->watcher) {
        watch_arguments(catalog);
    }
    if (manifest_paths_expand(catalog->settings.paths, catalog->settings.path_count, &paths, err) < 0) {
        return -1;
    }
    *ret_changed = update_sources(catalog, paths.items, paths.count);
    if (catalog->watcher) {
        watch_what_they_lead_to(catalog);
    }
    for (size_t i = 0; i < catalog->source_count; i++) {
        *ret_changed |= read_source(catalog, &catalog->sources[i]);
    }
    return 0;
}

static void files_changed(void *arg)
{
    struct catalog *catalog = arg;
    struct err err = ERR_INIT;
    bool changed;
    if (read_all(catalog, &changed, &err) < 0) {
        say_problem(catalog, err.msg); /* what there was stays */
        return;
    }
    if (changed) {
        give_fleet(catalog);
    } else {
        fleet_refresh(catalog->fleet); /* a handler's file, then */
    }
}

/* What all files say together; ERR_INVALID if something is wrong anywhere. */
static int check_all(const struct catalog *catalog, struct err *err)
{
    CLEANUP_FREE struct manifest_file **files =
        xcalloc(catalog->source_count + 1, sizeof(struct manifest_file *));
    size_t errors = 0;
    for (size_t i = 0; i < catalog->source_count; i++) {
        files[i] = catalog->sources[i].file;
    }
    manifest_files_check(files, catalog->source_count);
    for (size_t i = 0; i < catalog->source_count; i++) {
        say_problems(catalog, files[i]);
        errors += files[i]->error_count;
    }
    return errors > 0 ? err_set(err, ERR_INVALID, "the manifests are not valid") : 0;
}

int catalog_new(const struct catalog_settings *settings, struct catalog **ret_catalog, struct err *err)
{
    struct catalog *catalog = xcalloc(1, sizeof *catalog);
    bool changed;
    catalog->settings = *settings;
    if (manifest_reader_new(settings->namespace, &catalog->reader, err) < 0 ||
        read_all(catalog, &changed, err) < 0 || check_all(catalog, err) < 0) {
        catalog_free(catalog);
        return -1;
    }
    *ret_catalog = catalog;
    return 0;
}

/* ---- questions ---- */

struct need {
    const struct catalog *catalog;
    size_t functions;
    bool database;
};

struct search {
    const char *namespace, *name;
    bool found;
};

static void search_secret(void *visitor, const struct manifest_object *object)
{
    struct search *search = visitor;
    search->found |= object->kind == MANIFEST_SECRET && strcmp(object->name, search->name) == 0 &&
                     strcmp(object->namespace, search->namespace) == 0;
}

static void add_need(void *visitor, const struct manifest_object *object)
{
    struct need *need = visitor;
    if (object->kind != MANIFEST_FUNCTION) {
        return;
    }
    need->functions++;
    if (object->spec->has_database && !need->database) {
        struct search search = {.namespace = object->namespace, .name = object->spec->database_secret};
        each_object(need->catalog, search_secret, &search);
        need->database = !search.found;
    }
}

bool catalog_needs_database(const struct catalog *catalog)
{
    struct need need = {.catalog = catalog};
    each_object(catalog, add_need, &need);
    return need.database;
}

size_t catalog_function_count(const struct catalog *catalog)
{
    struct need need = {.catalog = catalog};
    each_object(catalog, add_need, &need);
    return need.functions;
}

/* ---- life ---- */

int catalog_start(struct catalog *catalog, struct fleet *fleet, struct err *err)
{
    bool changed;
    catalog->fleet = fleet;
    if (watcher_new(catalog->settings.loop, files_changed, catalog, &catalog->watcher, err) < 0) {
        return -1;
    }
    if (read_all(catalog, &changed, err) < 0) {
        say_problem(catalog, err->msg); /* it was there a moment ago */
    }
    give_fleet(catalog);
    return 0;
}

void catalog_free(struct catalog *catalog)
{
    if (!catalog) {
        return;
    }
    watcher_free(catalog->watcher);
    manifest_reader_free(catalog->reader);
    for (size_t i = 0; i < catalog->source_count; i++) {
        free_source(&catalog->sources[i]);
    }
    free(catalog->sources);
    while (catalog->known) {
        forget(catalog, catalog->known);
    }
    free(catalog->problem);
    free(catalog);
}
