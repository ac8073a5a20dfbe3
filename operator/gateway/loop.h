/* loop.h - one epoll loop: file descriptors, timers, and work posted from other threads.
 *
 * A turn is: wait, dispatch what is ready, fire timers, run posts, run what was deferred. The order is the contract:
 * what is deferred (freeing, mostly) runs when nothing of this turn can look at it any more. Under loop_run() a turn has room for 256
 * events, 64 timers and 64 posts of each kind; the rest comes up in the next turns, in the same order. So thousands of requests that are
 * refused, served or given up in one moment hold up neither sockets nor timers.
 *
 * Ownership: watches, timers and posts are embedded in their owners' structs; the loop borrows them until they are
 * closed, cancelled, or run.
 * Threads: loop_post(), loop_post_patient() and loop_stop() from any thread, everything else from the loop's own thread (or before
 * loop_run() and after it returned).
 */
#ifndef CICADA_GATEWAY_LOOP_H
#define CICADA_GATEWAY_LOOP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/queue.h>

#include "runtime/base/err.h"
#include "runtime/base/heap.h"

struct loop;

struct loop_watch {
    int fd;          /* -1: closed */
    uint32_t events; /* what epoll was asked for */
    void (*ready)(struct loop_watch *watch, uint32_t events);
};

/* A timer may be set again and cancelled without touching the heap: it fires when its own deadline has come. */
struct loop_timer {
    struct heap_node node;
    int64_t deadline_ms; /* DEADLINE_NONE: not set */
    void (*fire)(struct loop_timer *timer);
};

struct loop_post {
    STAILQ_ENTRY(loop_post) link;
    void (*run)(struct loop_post *post);
};

int loop_new(struct loop **ret_loop, struct err *err) MUST_CHECK;
void loop_free(struct loop *loop);
void loop_run(struct loop *loop); /* until loop_stop() */
void loop_stop(struct loop *loop);
void loop_turn(struct loop *loop, int timeout_ms); /* one turn, with all timers that are due and all posts */

/* Time of the current turn, or of the last loop_now_update(). */
int64_t loop_now_ms(const struct loop *loop);

/* Takes over fd: loop_watch_close() closes it. */
int loop_watch_open(struct loop *loop, struct loop_watch *watch, int fd, uint32_t events,
                    void (*ready)(struct loop_watch *watch, uint32_t events), struct err *err) MUST_CHECK;
/* No system call if nothing changes. 0: nothing is reported, not even errors. */
void loop_watch_set(struct loop *loop, struct loop_watch *watch, uint32_t events);
void loop_watch_close(struct loop *loop, struct loop_watch *watch); /* nothing if it is closed */
int loop_watch_detach(struct loop *loop, struct loop_watch *watch); /* the caller owns the fd */

void loop_timer_init(struct loop_timer *timer, void (*fire)(struct loop_timer *timer));
void loop_timer_set(struct loop *loop, struct loop_timer *timer, int64_t deadline_ms);
void loop_timer_cancel(struct loop_timer *timer);                   /* cheap; the loop still borrows it */
void loop_timer_close(struct loop *loop, struct loop_timer *timer); /* the loop forgets it */

/* Runs post->run on the loop's thread in this turn or one of the next; in the order of posting. */
void loop_post(struct loop *loop, struct loop_post *post);
/* As loop_post(), in an order of its own: for what comes in crowds and must not keep others' posts waiting. */
void loop_post_patient(struct loop *loop, struct loop_post *post);
/* Runs at the end of this turn; from the loop's thread. */
void loop_defer(struct loop *loop, struct loop_post *post);

#endif
