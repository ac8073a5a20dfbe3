/* kube_list_scanner.h - the bytes of a list answer in, its items out one by one: memory stays at one object.
 *
 * The scanner only finds where values end; every value is then checked and parsed strictly on its own. Items are objects of
 * at most KUBE_ITEM_MAX_BYTES, without metadata.managedFields. One that can't be read is left out (kube_object.h).
 *
 * Threads: one owner at a time.
 */
#ifndef CICADA_KUBE_KUBE_LIST_SCANNER_H
#define CICADA_KUBE_KUBE_LIST_SCANNER_H

#include "operator/kube/kube_client.h"
#include "runtime/base/strbuf.h"

/* etcd's limit of 1.5 MiB, each byte of it written as \u003c. */
#define KUBE_ITEM_MAX_BYTES (12u << 20)

enum kube_list_state {
    KUBE_LIST_START,
    KUBE_LIST_FIRST_NAME, /* or the end of the object */
    KUBE_LIST_NAME,
    KUBE_LIST_COLON,
    KUBE_LIST_VALUE,
    KUBE_LIST_AFTER_VALUE,
    KUBE_LIST_FIRST_ITEM, /* or the end of the array */
    KUBE_LIST_ITEM,
    KUBE_LIST_AFTER_ITEM,
    KUBE_LIST_END,
};

struct kube_list_scanner {
    kube_item_fn *on_item;
    void *arg;
    enum kube_list_state state;
    struct strbuf value; /* text of the value that is being read */
    int depth;           /* inside value: open braces and brackets */
    bool in_string, escaped;
    enum { KUBE_LIST_MEMBER_OTHER, KUBE_LIST_MEMBER_ITEMS, KUBE_LIST_MEMBER_METADATA } member;
    struct kube_list_meta meta;
    int64_t unreadable; /* items left out */
};

void kube_list_scanner_init(struct kube_list_scanner *scanner, kube_item_fn *on_item, void *arg);
void kube_list_scanner_release(struct kube_list_scanner *scanner);
/* After an error the scanner can only be released. */
int kube_list_scanner_feed(struct kube_list_scanner *scanner, const char *data, size_t len,
                           struct err *err) MUST_CHECK;
/* At the end of the bytes; *ret_meta is the caller's. ERR_UNAVAILABLE: the list is not whole. */
int kube_list_scanner_finish(struct kube_list_scanner *scanner, struct kube_list_meta *ret_meta,
                             struct err *err) MUST_CHECK;

#endif
