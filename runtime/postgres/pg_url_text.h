/* pg_url_text.h - the two spellings of a connection string, by libpq's grammar, into values by key. */
#ifndef CICADA_POSTGRES_PG_URL_TEXT_H
#define CICADA_POSTGRES_PG_URL_TEXT_H

#include "runtime/base/err.h"

enum pg_url_key {
    PG_URL_HOST,
    PG_URL_HOSTADDR,
    PG_URL_PORT,
    PG_URL_DBNAME,
    PG_URL_USER,
    PG_URL_PASSWORD,
    PG_URL_SSLMODE,
    PG_URL_SSLROOTCERT,
    PG_URL_SSLCERT,
    PG_URL_SSLKEY,
    PG_URL_APPLICATION_NAME,
    PG_URL_CONNECT_TIMEOUT,
    PG_URL_TARGET_SESSION_ATTRS,
    PG_URL_CHANNEL_BINDING,
    PG_URL_KEY_COUNT,
};

const char *pg_url_key_name(enum pg_url_key key); /* as libpq spells it */

/* values[] must be all NULL; filled with strings that the caller frees, also after an error. Empty values stay NULL. */
int pg_url_text_parse(const char *text, char *values[PG_URL_KEY_COUNT], struct err *err) MUST_CHECK;

#endif
