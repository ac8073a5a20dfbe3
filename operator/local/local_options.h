/* local_options.h - the flags and environment of cicada-local. */
#ifndef CICADA_LOCAL_LOCAL_OPTIONS_H
#define CICADA_LOCAL_LOCAL_OPTIONS_H

#include "runtime/base/options.h"

struct local_options {
    char *listen, *internal_listen, *admin_listen, *domain;
    char *namespace;
    char *database_url, *init_sql, *postgres_dir;
    bool fresh;
    char *state_dir, *function_dir, *runtime;
    char *exec;
    bool validate, table;
    char *log_level;
};

extern const struct option_table local_option_table;

#endif
