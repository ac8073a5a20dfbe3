/* function_text.h - what the strings of a Function may look like. The patterns are those of crds/cicada.dev_functions.yaml.
 *
 * Each check returns NULL if the text is fine, else why it is not, to be put behind the field's path: "must ...". The
 * answers are literals. Threads: none of its own.
 */
#ifndef CICADA_FUNCTION_FUNCTION_TEXT_H
#define CICADA_FUNCTION_FUNCTION_TEXT_H

#include <stddef.h>

#define FUNCTION_NAME_MAX    63
#define FUNCTION_IMAGE_MAX   1024
#define FUNCTION_HANDLER_MAX 255
#define FUNCTION_HOST_MAX    253
#define FUNCTION_PATH_MAX    256
#define FUNCTION_SQL_MAX     65536
#define FUNCTION_PARAM_MAX   63
#define FUNCTION_QUEUE_MAX   63
#define FUNCTION_TABLE_MAX   257 /* two names of 63 characters, quoted, each of them a quote */
#define FUNCTION_COLUMN_MAX  63
#define FUNCTION_WHEN_MAX    4096

const char *function_text_check_name(const char *text); /* metadata.name: it becomes a Service */
const char *function_text_check_image(const char *text);
const char *function_text_check_handler(const char *text);       /* "shop.so:handle_user_request" */
const char *function_text_check_host(const char *text);          /* "shop.example.com", "*.example.com" */
const char *function_text_check_path(const char *text);          /* "/" or "/orders/eu" */
const char *function_text_check_path_template(const char *text); /* "/{id}/items/{item}" */
const char *function_text_check_method(const char *text);
const char *function_text_check_subdomain(const char *text); /* names of Secrets, classes, accounts */
const char *function_text_check_data_key(const char *text);  /* keys of Secrets */
const char *function_text_check_parameter(const char *text); /* of SQL: an identifier */
const char *function_text_check_sql(const char *text);       /* how long; the database judges the rest */
const char *function_text_check_trigger(const char *text);   /* the name of one */
const char *function_text_check_queue(const char *text);     /* also refuses Cicada's own */
const char *function_text_check_table(const char *text);     /* "public.orders", "public.\"Order\"" */
const char *function_text_check_column(const char *text);
const char *function_text_check_when(const char *text); /* how long; the database judges the rest */
const char *function_text_check_operation(const char *text);
const char *function_text_check_env_name(const char *text); /* also refuses the reserved names */

#endif
