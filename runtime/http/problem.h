/* problem.h - error answers: application/problem+json (RFC 9457). */
#ifndef CICADA_HTTP_PROBLEM_H
#define CICADA_HTTP_PROBLEM_H

#include "runtime/base/strbuf.h"

#define PROBLEM_CONTENT_TYPE "application/problem+json"
#define PROBLEM_MAX_BYTES    8192u

struct problem {
    int status;
    const char *code;      /* for programs: "out_of_stock" */
    const char *detail;    /* for people; NULL: left out */
    const char *component; /* "runtime" or "function"; NULL: left out */
};

/* request_id NULL: left out. */
void problem_print(const struct problem *problem, const char *request_id, struct strbuf *out);

#endif
