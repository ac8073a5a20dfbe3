/* The strict reader on any bytes; what it takes must make a tree, print, and read back as the same. */
#include <stdlib.h>
#include <string.h>

#include "runtime/base/json.h"
#include "runtime/base/json_reader.h"
#include "runtime/base/mem.h"
#include "runtime/base/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define DEPTH 32

static void require(bool truth)
{
    if (!truth) {
        abort();
    }
}

/* Every accessor on every node; the counts must agree with the links. */
static void walk(const struct json_node *node, const char *text, size_t len, int depth)
{
    size_t raw_len;
    const char *raw = json_node_raw(node, &raw_len);
    require(raw >= text && raw_len >= 1 && raw + raw_len <= text + len && depth <= DEPTH);
    int64_t integer;
    double number;
    bool is_integer = json_node_int64(node, &integer), is_number = json_node_double(node, &number);
    require(!is_integer || json_node_type(node) == JSON_NUMBER);
    require(!is_integer || (is_number && (double)integer == number));
    size_t string_len = 0;
    const char *string = json_node_string(node, &string_len);
    require((string != NULL) == (json_node_type(node) == JSON_STRING));
    require(!string || (strlen(string) == string_len && is_valid_utf8(string, string_len)));
    size_t count = 0;
    for (const struct json_node *child = json_node_first(node); child;
         child = json_node_next(child), count++) {
        const char *name = json_node_name(child, NULL);
        require((name != NULL) == (json_node_type(node) == JSON_OBJECT));
        require(!name || json_node_member(node, name) == child);
        walk(child, text, len, depth + 1);
    }
    require(count == json_node_count(node));
}

static void check_tree(const char *text, size_t len)
{
    struct err err = ERR_INIT;
    CLEANUP_JSON cJSON *tree = NULL;
    if (json_parse(text, len, DEPTH, &tree, &err) < 0) {
        require(strstr(err.msg, "out of range") != NULL); /* the only thing that a tree cannot hold */
        return;
    }
    CLEANUP_FREE char *printed = json_print_dup(tree);
    CLEANUP_JSON cJSON *again = NULL;
    require(json_parse(printed, strlen(printed), DEPTH, &again, &err) == 0);
    require(json_covers(tree, again) && json_covers(again, tree) && json_hash(tree) == json_hash(again));
    CLEANUP_FREE char *printed_again = json_print_dup(again);
    require(strcmp(printed, printed_again) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err err = ERR_INIT;
    struct json_doc *doc;
    const char *text = (const char *)data;
    if (json_reader_parse(text, size, DEPTH, &doc, &err) < 0) {
        require(err.code == ERR_INVALID && is_valid_utf8(err.msg, strlen(err.msg)));
        require(json_check(text, size, DEPTH, &err) < 0);
        return 0;
    }
    walk(json_doc_root(doc), text, size, 0);
    json_doc_free(doc);
    check_tree(text, size);
    return 0;
}
