/* crash_board.h - what a worker is at work on, in memory that it shares with its parent: what is left to read once it is dead.
 *
 * The parent makes the board before the first worker, and reads it when a worker is dead. The worker writes (crash_watch.h).
 * What a crash left there may be damaged: nothing read from it is believed to be in bounds.
 *
 * Threads: all functions here are called by processes of one thread.
 */
#ifndef CICADA_HOST_CRASH_BOARD_H
#define CICADA_HOST_CRASH_BOARD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/strbuf.h"
#include "runtime/host/request.h"

#define CRASH_BOARD_SLOTS       1024 /* threads that run handlers; further ones leave no trace */
#define CRASH_BOARD_STACK_BYTES 65536u
#define CRASH_TEXT_SIZE         600 /* of a crash in words, with its NUL: what fits into a termination message */
#define CRASH_FUNCTION_SIZE     256
#define CRASH_MODULE_SIZE       64

struct crash_slot {
    atomic_int busy;
    char request_id[REQUEST_ID_MAX + 1]; /* valid while busy */
};

/* Written once, by the first thread that a fatal signal hits. Flags are integers: any damage leaves them readable. */
struct crash_fault {
    atomic_int signal; /* 0: none was seen; the rest is valid if `complete` */
    atomic_int complete;
    int synchronous;   /* the thread's own instruction, not abort() or kill(); then the rest is known */
    uintptr_t address; /* that was accessed, or of the instruction */
    char module[CRASH_MODULE_SIZE]; /* file with the instruction; "": unknown */
    uintptr_t offset;               /* of the instruction in that file, as addr2line takes it */
    int slot;                       /* of the thread; -1: it runs no handlers, or is between two */
};

struct crash_board {
    /* The parent's; fixed while a worker lives. */
    int restarts;
    char last_crash[CRASH_TEXT_SIZE]; /* "": there was none */
    /* The worker's. */
    char function[CRASH_FUNCTION_SIZE]; /* what it serves, in words */
    _Atomic int64_t drain_ms;
    atomic_int ended; /* its exit code is what it wanted to say */
    atomic_int slots_taken;
    struct crash_fault fault;
    struct crash_slot slots[CRASH_BOARD_SLOTS];
    _Alignas(4096) char stacks[CRASH_BOARD_SLOTS]
                              [CRASH_BOARD_STACK_BYTES]; /* take memory only where they are touched */
};

struct crash_board *crash_board_new(void);
void crash_board_free(struct crash_board *board);

/* Forgets all about the last worker, but for restarts and last_crash. `function` and `drain_ms` hold until the worker
 * knows better. */
void crash_board_reset(struct crash_board *board, const char *function, int64_t drain_ms);

/* Worker: as soon as it knows. */
void crash_board_describe_function(struct crash_board *board, const char *function, int64_t drain_ms);

/* Whether this end (as of waitpid()) is a crash, and the crash in words, at most CRASH_TEXT_SIZE with its NUL: "shop.so:handle_order:
 * killed by SIGSEGV (signal 11) in shop.so+0x11f0, address 0x0; requests in flight: id1, id2", the crashing thread's first. */
bool crash_board_tells_crash(const struct crash_board *board, int wait_status);
void crash_board_print(const struct crash_board *board, int wait_status, struct strbuf *out);

#endif
