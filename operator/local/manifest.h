/* manifest.h - what a file of Kubernetes manifests holds: Functions, Secrets and ConfigMaps, and what is wrong with them.
 *
 * YAML (or JSON) is read as kubectl reads it, several documents and kind List included. Objects are judged as the API server and
 * kubectl judge them: Functions by the CRD (function_schema.h), Secrets and ConfigMaps by the rules of their kinds. Other kinds are
 * a warning, so that a folder with a whole application can be given.
 *
 * Ownership: a file owns its objects and problems; specs are reference-counted. Threads: a reader is immutable and may be used
 * by many threads at once; a file has one owner.
 */
#ifndef CICADA_LOCAL_MANIFEST_H
#define CICADA_LOCAL_MANIFEST_H

#include <stdbool.h>
#include <stddef.h>

#include "operator/function/function_spec.h"
#include "runtime/base/err.h"
#include "runtime/base/strbuf.h"

#define MANIFEST_STDIN             "-"
#define MANIFEST_OBJECTS_MAX       10000      /* of one file */
#define MANIFEST_PROBLEMS_MAX      1000       /* of one file; the rest is counted only */
#define MANIFEST_DATA_MAX_BYTES    (1u << 20) /* of a Secret or ConfigMap, as in Kubernetes */
#define MANIFEST_PROBLEM_MAX_BYTES 4096       /* one printed */

enum manifest_kind { MANIFEST_FUNCTION, MANIFEST_SECRET, MANIFEST_CONFIG_MAP };

/* One entry of a Secret or ConfigMap; bytes has a NUL behind it that len does not count. */
struct manifest_data {
    char *name;
    char *bytes;
    size_t len;
};

struct manifest_object {
    enum manifest_kind kind;
    char *namespace, *name; /* "" if the manifest has none that is text */
    size_t line, column;
    bool valid;
    struct function_spec *spec; /* of a valid Function; see manifest_files_check() for created_ms */
    struct manifest_data *data; /* of a valid Secret or ConfigMap */
    size_t data_count;
};

struct manifest_problem {
    bool warning;        /* else an error */
    size_t line, column; /* 0: of the whole file */
    char *path;          /* "spec.http.path"; "" for the object or the file */
    char *message;
};

struct manifest_file {
    char *path; /* as given; "-" is standard input */
    struct manifest_object *objects;
    size_t object_count;
    struct manifest_problem *problems; /* in the order of lines; those of manifest_files_check() come last */
    size_t problem_count;
    size_t error_count; /* those left out included */
    size_t left_out;    /* above MANIFEST_PROBLEMS_MAX */
};

struct manifest_reader;

/* default_namespace: of objects that name none. */
int manifest_reader_new(const char *default_namespace, struct manifest_reader **ret_reader,
                        struct err *err) MUST_CHECK;
void manifest_reader_free(struct manifest_reader *reader); /* NULL is fine */

/* Never NULL: a file that can't be read is one with a problem. */
struct manifest_file *manifest_file_read(const struct manifest_reader *reader, const char *path);
/* The same of text that is there already; path is only a name. */
struct manifest_file *manifest_text_read(const struct manifest_reader *reader, const char *path,
                                         const char *text, size_t len);
void manifest_file_free(struct manifest_file *file); /* NULL is fine */

/* "Function", "Secret", "ConfigMap" */
const char *manifest_kind_name(enum manifest_kind kind);

/* Adds problems to the files: an object that is there twice (the later one gets the problem and is no longer valid). Numbers the
 * valid Functions in order: their created_ms says who was first, which decides about hosts as creationTimestamp does in a cluster. */
void manifest_files_check(struct manifest_file *const *files, size_t count);

/* "file:line:column: spec.http.path: must begin with '/'\n", warnings with "warning: " before the path. */
void manifest_problem_print(const struct manifest_file *file, const struct manifest_problem *problem,
                            struct strbuf *out);

/* For the parts of this module: adds one problem. */
void manifest_file_add(struct manifest_file *file, bool warning, size_t line, size_t column, const char *path,
                       const char *format, ...) __attribute__((format(printf, 6, 7)));

#endif
