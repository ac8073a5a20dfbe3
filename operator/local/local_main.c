/* cicada-local: checks manifests. Exit status: 0 valid, 1 not, 2 wrong usage. */
#include <stdio.h>

#include "operator/local/manifest_validate.h"
#include "runtime/base/mem.h"
#include "runtime/base/options.h"

#define EXIT_USAGE 2

struct local_options {
    char *namespace;
    bool validate;
};

static const struct option_spec specs[] = {
    {.name = "namespace",
     .env = "CICADA_NAMESPACE",
     .type = OPTION_STRING,
     .offset = offsetof(struct local_options, namespace),
     .default_text = "default",
     .help = "Namespace of objects whose manifest names none."},
    {.name = "validate",
     .type = OPTION_BOOL,
     .offset = offsetof(struct local_options, validate),
     .help = "Only checks the manifests; exit status 0 if they are valid, 1 if not."},
};

static const struct option_table table = {
    .program = "cicada-local",
    .summary = "Functions of Kubernetes manifests on this machine.",
    .arguments = "MANIFEST...",
    .specs = specs,
    .spec_count = ARRAY_SIZE(specs),
};

static int usage_error(const char *message)
{
    fprintf(stderr, "cicada-local: %s\n", message);
    return EXIT_USAGE;
}

static int run(const struct local_options *options, int count, char **arguments)
{
    struct err err = ERR_INIT;
    struct manifest_reader *reader = NULL;
    if (count == 0 || !options->validate) {
        return usage_error("give --validate and manifests: files, folders, or - for standard input");
    }
    if (manifest_reader_new(options->namespace, &reader, &err)) {
        return usage_error(err.msg);
    }
    int status = manifest_validate(reader, (const char *const *)arguments, (size_t)count, stdout);
    manifest_reader_free(reader);
    return status;
}

int main(int argc, char **argv)
{
    struct local_options options = {0};
    struct err err = ERR_INIT;
    enum options_result result;
    int first = argc;
    if (options_parse(&table, argc, argv, &options, &result, &first, &err)) {
        return usage_error(err.msg);
    }
    int status = result == OPTIONS_EXIT ? 0 : run(&options, argc - first, argv + first);
    options_release(&table, &options);
    return status;
}
