/* SPDX-License-Identifier: Apache-2.0
 *
 * cicada/function_test.h - calls a handler without a server: for tests of functions, in C. Include it in one file of the test; there is
 * nothing to link.
 *
 *     extern const struct cicada_function cicada_function_rename_user;     // made by CICADA_FUNCTION(rename_user)
 *
 *     struct cicada_test *test = cicada_test_new("POST", "/users/7", "{\"name\":\"Ada\"}");
 *     cicada_test_parameter(test, "id", "7");
 *     cicada_test_rows(test, "UPDATE users", "id:int name:text", 1, (const char *const[]){"7", "Ada"});
 *     assert(cicada_test_call(test, &cicada_function_rename_user) == 200);
 *     assert(strcmp(cicada_test_body(test), "{\"id\":7,\"name\":\"Ada\"}") == 0);
 *     assert(cicada_test_committed(test));
 *     cicada_test_free(test);
 *
 * What is real: the order of calls and their effect on the answer (status, headers, body, whether it is committed) is that of the
 * runtime, and a test of Cicada compares the two. What is not: there is no database; a statement gets the first answer
 * scripted for a part of its text that was not used yet, and fails if there is none. Nothing is late, no limit of size is
 * checked, JSON is not checked for duplicate names or UTF-8, of SQLSTATEs only the most common have their own answer, and an error's
 * body has its status, code, detail and component only.
 *
 * Threads: a test belongs to one. Lifetimes: everything lives until cicada_test_free(); what is passed in is copied. When
 * memory is out, the test aborts.
 */
#ifndef CICADA_FUNCTION_TEST_H
#define CICADA_FUNCTION_TEST_H

#include <cicada/function.h>
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define CT_FN          __attribute__((unused)) static
#define CT_FIELDS_MAX  64
#define CT_DEPTH_MAX   64
#define CT_RESULTS_MAX 64
#define CT_BATCH_MAX   64

/* ---- what the opaque types are here -------------------------------------------------------------------------------- */

struct ct_block {
    struct ct_block *next;
};
struct ct_text {
    char *at; /* ends in NUL */
    size_t len;
};
struct ct_field {
    const char *name, *value;
};
struct ct_fields {
    struct ct_field at[CT_FIELDS_MAX];
    size_t count;
};
struct cicada_json_node {
    int type;
    const char *raw, *name, *text;
    size_t raw_len, name_len, text_len;
    struct cicada_json_node *first, *next;
};
struct cicada_result {
    const struct cicada_calls *calls;
    int rows, columns, first_row;
    int64_t affected;
    const char *names[CT_FIELDS_MAX];
    bool json[CT_FIELDS_MAX], boolean[CT_FIELDS_MAX]; /* types that are not text in JSON */
    const char **values;
};
struct ct_script {
    const char *part, *sqlstate, *constraint; /* sqlstate NULL: it succeeds */
    struct cicada_result result;
    bool used;
};
struct ct_event {
    const char *id, *source, *type, *data;
    int failed; /* its status, or -1: by the database; 0: it has not */
    const char *why;
};
struct cicada_request {
    const struct cicada_calls *calls;
    struct cicada_test *test;
    const char *method, *path;
    struct ct_text body;
    struct ct_fields parameters, query, headers;
    struct cicada_json_node *json;
    bool json_malformed;
};
struct cicada_context {
    const struct cicada_calls *calls;
    struct cicada_test *test;
    void *state;
    char log[1024];
};
struct cicada_response {
    const struct cicada_calls *calls;
    struct cicada_test *test;
    int status;
    struct ct_fields headers;
    const char *content_type;
    struct ct_text body;
    bool problem, writing, begun, in_array[CT_DEPTH_MAX + 1], has_items[CT_DEPTH_MAX + 1];
    int depth;
    char code[72];
    const char *mistake;
};
struct cicada_test {
    struct ct_block *blocks;
    struct cicada_request request;
    struct cicada_context context;
    struct cicada_response response;
    struct ct_fields event;
    struct ct_event events[CT_BATCH_MAX + 1]; /* of a batch, from 1; 0: of a call that brings one */
    size_t event_count, taken;
    bool has_current;
    bool read_only;
    struct ct_script scripts[CT_RESULTS_MAX];
    size_t script_count;
    const char *commit_sqlstate;
    struct { /* of the transaction */
        bool failed, ended, committed, commit_failed, called_late, reading;
        int savepoints, failed_inside;
        char sqlstate[6], constraint[64], message[200];
    } db;
    const char **params[CT_RESULTS_MAX]; /* of each statement */
    size_t param_counts[CT_RESULTS_MAX];
    int statements;
    struct ct_text streamed;
    bool cut;
};

/* ---- memory and texts ---------------------------------------------------------------------------------------------- */

CT_FN void *ct_alloc(struct cicada_test *test, size_t size)
{
    struct ct_block *block = (struct ct_block *)calloc(1, sizeof(*block) + 16 + size);

    if (block == NULL)
        abort();
    block->next = test->blocks;
    test->blocks = block;
    return (char *)block + 16;
}
CT_FN char *ct_copy(struct cicada_test *test, const char *text, size_t len)
{
    char *copy = (char *)ct_alloc(test, len + 1);

    if (len > 0)
        memcpy(copy, text, len);
    return copy;
}
CT_FN const char *ct_dup(struct cicada_test *test, const char *text)
{
    return text ? ct_copy(test, text, strlen(text)) : NULL;
}
CT_FN void ct_append(struct cicada_test *test, struct ct_text *text, const char *data, size_t len)
{
    char *grown = (char *)ct_alloc(test, text->len + len + 1);

    if (text->len > 0)
        memcpy(grown, text->at, text->len);
    if (len > 0)
        memcpy(grown + text->len, data, len);
    text->at = grown;
    text->len += len;
}
CT_FN void ct_put(struct ct_fields *fields, const char *name, const char *value)
{
    if (fields->count == CT_FIELDS_MAX)
        abort();
    fields->at[fields->count++] = (struct ct_field){name, value};
}
CT_FN const char *ct_find(const struct ct_fields *fields, const char *name, bool any_case)
{
    for (size_t i = 0; i < fields->count; i++)
        if ((any_case ? strcasecmp : strcmp)(fields->at[i].name, name) == 0)
            return fields->at[i].value;
    return NULL;
}
CT_FN bool ct_at(const struct ct_fields *fields, size_t index, const char **ret_name, const char **ret_value)
{
    if (index >= fields->count)
        return false;
    *ret_name = fields->at[index].name;
    *ret_value = fields->at[index].value;
    return true;
}

#include <cicada/function_test_response.h>

/* ---- what a test says ---------------------------------------------------------------------------------------------- */

/* A request. `path` is what follows http.path, without the query; body NULL: none. */
CT_FN struct cicada_test *cicada_test_new(const char *method, const char *path, const char *body)
{
    struct cicada_test *test = (struct cicada_test *)calloc(1, sizeof(*test));

    if (test == NULL)
        abort();
    test->request.calls = test->context.calls = test->response.calls = ct_calls();
    test->request.test = test->context.test = test->response.test = test;
    test->request.method = ct_dup(test, method);
    test->request.path = ct_dup(test, path);
    if (body != NULL)
        ct_append(test, &test->request.body, body, strlen(body));
    test->response.status = 200;
    return test;
}
CT_FN void cicada_test_free(struct cicada_test *test)
{
    while (test->blocks != NULL) {
        struct ct_block *block = test->blocks;
        test->blocks = block->next;
        free(block);
    }
    free(test);
}
/* A name of http.pathTemplate, a parameter of the query (decoded), a header. */
CT_FN void cicada_test_parameter(struct cicada_test *test, const char *name, const char *value)
{
    ct_put(&test->request.parameters, ct_dup(test, name), ct_dup(test, value));
}
CT_FN void cicada_test_query(struct cicada_test *test, const char *name, const char *value)
{
    ct_put(&test->request.query, ct_dup(test, name), ct_dup(test, value));
}
CT_FN void cicada_test_header(struct cicada_test *test, const char *name, const char *value)
{
    ct_put(&test->request.headers, ct_dup(test, name), ct_dup(test, value));
}
/* The call brings an event, whose data is the body. Further attributes: time, subject, an extension. */
CT_FN void cicada_test_event_attribute(struct cicada_test *test, const char *name, const char *value)
{
    ct_put(&test->event, ct_dup(test, name), ct_dup(test, value));
}
CT_FN void cicada_test_event(struct cicada_test *test, const char *id, const char *source, const char *type)
{
    cicada_test_event_attribute(test, "specversion", "1.0");
    cicada_test_event_attribute(test, "id", id);
    cicada_test_event_attribute(test, "source", source);
    cicada_test_event_attribute(test, "type", type);
}
/* The call brings a batch, and this event is in it: the body becomes an array. data: JSON. */
CT_FN void cicada_test_batch(struct cicada_test *test, const char *id, const char *source, const char *type,
                             const char *data)
{
    static const char *const between[] = {"{\"specversion\":\"1.0\",\"id\":\"", "\",\"source\":\"",
                                          "\",\"type\":\"", "\",\"data\":"};
    const char *const texts[] = {id, source, type, data};
    struct ct_text *body = &test->request.body;

    if (test->event_count == CT_BATCH_MAX)
        abort();
    test->events[++test->event_count] = (struct ct_event){
        ct_dup(test, id), ct_dup(test, source), ct_dup(test, type), ct_dup(test, data), 0, NULL};
    if (test->event_count == 1)
        *body = (struct ct_text){NULL, 0};
    else
        body->len--; /* the end of the array */
    ct_append(test, body, test->event_count == 1 ? "[" : ",", 1);
    for (size_t i = 0; i < 4; i++) {
        ct_append(test, body, between[i], strlen(between[i]));
        ct_append(test, body, texts[i], strlen(texts[i]));
    }
    ct_append(test, body, "}]", 2);
}
/* http.successStatus; 200 unless said. */
CT_FN void cicada_test_success_status(struct cicada_test *test, int status)
{
    test->response.status = status;
}
/* What cicada_state() gives; init does not run. */
CT_FN void cicada_test_state(struct cicada_test *test, void *state)
{
    test->context.state = state;
}
CT_FN struct ct_script *ct_script(struct cicada_test *test, const char *part)
{
    struct ct_script *script = &test->scripts[test->script_count];

    if (test->script_count++ == CT_RESULTS_MAX)
        abort();
    script->part = ct_dup(test, part);
    script->result.calls = ct_calls();
    return script;
}
/* The next statement that contains `part` gives these rows. columns: "id:int name:text paid:bool data:json", where what is neither
 * int, float, numeric, bool nor json is text. values: row by row, in PostgreSQL's text form; NULL is SQL NULL. */
CT_FN void cicada_test_rows(struct cicada_test *test, const char *part, const char *columns, int rows,
                            const char *const *values)
{
    struct cicada_result *result = &ct_script(test, part)->result;

    for (const char *at = columns; *at != '\0'; at += *at == ' ') {
        size_t len = strcspn(at, " "), name_len = strcspn(at, ": ");
        const char *type = ct_copy(test, at + name_len, len - name_len); /* ":int" */
        if (result->columns == CT_FIELDS_MAX)
            abort();
        result->names[result->columns] = ct_copy(test, at, name_len);
        result->boolean[result->columns] = strcmp(type, ":bool") == 0;
        result->json[result->columns++] = strcmp(type, ":int") == 0 || strcmp(type, ":float") == 0 ||
                                          strcmp(type, ":numeric") == 0 || strcmp(type, ":json") == 0;
        at += len;
    }
    result->rows = rows;
    result->affected = strstr(part, "SELECT") == part ? 0 : rows;
    result->values = (const char **)ct_alloc(test, (size_t)(rows * result->columns + 1) * sizeof(char *));
    for (int i = 0; i < rows * result->columns; i++)
        result->values[i] =
            ct_dup(test, values[i]); /* NOLINT(clang-analyzer-core.CallAndMessage): all are there */
}
/* The next statement that contains `part` touches so many rows, and gives none. */
CT_FN void cicada_test_affects(struct cicada_test *test, const char *part, int64_t rows)
{
    ct_script(test, part)->result.affected = rows;
}
/* The next statement that contains `part` fails; constraint "" if none is violated. */
CT_FN void cicada_test_fails(struct cicada_test *test, const char *part, const char *sqlstate,
                             const char *constraint)
{
    struct ct_script *script = ct_script(test, part);

    script->sqlstate = ct_dup(test, sqlstate);
    script->constraint = ct_dup(test, constraint);
}
/* COMMIT fails, as with a deferred constraint. */
CT_FN void cicada_test_commit_fails(struct cicada_test *test, const char *sqlstate)
{
    test->commit_sqlstate = ct_dup(test, sqlstate);
}

/* ---- what a test asks ---------------------------------------------------------------------------------------------- */

/* Calls the handler, once for each test; the status that the caller would see. */
CT_FN int cicada_test_call(struct cicada_test *test, const struct cicada_function *function)
{
    const char *type = ct_find(&test->request.headers, "Content-Type", true);
    int result = CICADA_FAIL;

    test->read_only = (function->flags & CICADA_READ_ONLY) != 0;
    if (type == NULL || strstr(type, "json") != NULL)
        (void)ct_request_json(&test->request);
    if (!test->request.json_malformed)
        result = function->handle(&test->request, &test->context, &test->response);
    ct_settle(test, result);
    return test->response.status;
}
/* The answer's body, all of its pieces if it was streamed. */
CT_FN const char *cicada_test_body(const struct cicada_test *test)
{
    const struct ct_text *body = test->response.begun ? &test->streamed : &test->response.body;

    if (body->at != NULL)
        body->at[body->len] = '\0';
    return body->at ? body->at : "";
}
/* Code of an error answer; "" of others. */
CT_FN const char *cicada_test_code(const struct cicada_test *test)
{
    return test->response.problem ? test->response.code : "";
}
/* A header of the answer; NULL: it has none. Those that the runtime adds are not there. */
CT_FN const char *cicada_test_answer_header(const struct cicada_test *test, const char *name)
{
    const struct cicada_response *res = &test->response;

    if (strcasecmp(name, "Content-Type") != 0)
        return ct_find(&res->headers, name, true);
    if (res->content_type != NULL || res->body.len == 0)
        return res->content_type;
    return res->writing ? "application/json" : "application/octet-stream";
}
/* Whether what the statements did is there afterwards. */
CT_FN bool cicada_test_committed(const struct cicada_test *test)
{
    return test->db.committed;
}
/* Of a batch, counted from 0: whether it was done; and what was said of one that failed, or NULL. */
CT_FN bool cicada_test_event_done(const struct cicada_test *test, size_t index)
{
    return test->db.committed && test->events[index + 1].failed == 0 &&
           (test->taken == 0 || index < test->taken);
}
CT_FN const char *cicada_test_event_failure(const struct cicada_test *test, size_t index)
{
    return test->events[index + 1].why;
}
/* Whether the connection was cut in the middle of a streamed answer. */
CT_FN bool cicada_test_cut(const struct cicada_test *test)
{
    return test->cut;
}
/* How many statements were run, and the text of one's parameter, both counted from 0; NULL: SQL NULL, or there is none. */
CT_FN int cicada_test_statements(const struct cicada_test *test)
{
    return test->statements;
}
CT_FN const char *cicada_test_param(const struct cicada_test *test, int statement, size_t param)
{
    bool inside = statement >= 0 && statement < test->statements && param < test->param_counts[statement];

    return inside ? test->params[statement][param] : NULL;
}
/* The last line that the handler logged; "" if none. */
CT_FN const char *cicada_test_log(const struct cicada_test *test)
{
    return test->context.log;
}

#endif
