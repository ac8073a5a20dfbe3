/* crash_watch.h - the worker's side of the crash board: which thread is at work on which request, and where a crash was.
 *
 * Each thread that runs handlers has a slot of the board, taken at its first request and never given back. A fatal signal is
 * noted on a stack of its own, so that a stack that overflowed is told as well; then it ends the process as it would have.
 *
 * Threads: crash_watch_enter() and crash_watch_leave() on any; crash_watch_start() before the first other thread.
 */
#ifndef CICADA_HOST_CRASH_WATCH_H
#define CICADA_HOST_CRASH_WATCH_H

#include "runtime/host/crash_board.h"

/* Fatal signals are noted on this board from now on. */
void crash_watch_start(struct crash_board *board);

/* The calling thread begins and ends to work on a request. board NULL: nothing happens. */
void crash_watch_enter(struct crash_board *board, const char *request_id);
void crash_watch_leave(struct crash_board *board);

#endif
