#include "runtime/host/crash_board.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

struct crash_board *crash_board_new(void)
{
    struct crash_board *board =
        mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (board == MAP_FAILED)
        abort(); /* as when any other memory is out */
    return board;
}

void crash_board_free(struct crash_board *board)
{
    if (board != NULL)
        munmap(board, sizeof(*board));
}

void crash_board_describe_function(struct crash_board *board, const char *function, int64_t drain_ms)
{
    snprintf(board->function, sizeof(board->function), "%s", function);
    atomic_store(&board->drain_ms, drain_ms);
}

void crash_board_reset(struct crash_board *board, const char *function, int64_t drain_ms)
{
    int taken = atomic_load(&board->slots_taken);

    for (int i = 0; i < taken && i < CRASH_BOARD_SLOTS; i++)
        memset(&board->slots[i], 0, sizeof(board->slots[i]));
    memset(&board->fault, 0, sizeof(board->fault));
    atomic_store(&board->slots_taken, 0);
    atomic_store(&board->ended, false);
    crash_board_describe_function(board, function, drain_ms);
}

/* ---- the crash in words ---- */

bool crash_board_tells_crash(const struct crash_board *board, int wait_status)
{
    return WIFSIGNALED(wait_status) || !atomic_load(&board->ended);
}

static void print_signal(int number, struct strbuf *out)
{
    const char *name = sigabbrev_np(number);

    strbuf_appendf(out, "killed by SIG%s (signal %d", name ? name : "?", number);
    strbuf_append_str(out, number == SIGKILL ? "; the kernel sends it when memory is out)" : ")");
}

static void print_end(const struct crash_board *board, int wait_status, struct strbuf *out)
{
    const struct crash_fault *fault = &board->fault;
    int seen = atomic_load(&fault->complete) ? atomic_load(&fault->signal) : 0;

    if (WIFSIGNALED(wait_status))
        print_signal(WTERMSIG(wait_status), out);
    else
        strbuf_appendf(out, "exited with code %d of its own accord", WEXITSTATUS(wait_status));
    if (!WIFSIGNALED(wait_status) && seen != 0) { /* a sanitizer turns signals into exit codes */
        strbuf_append_str(out, ", ");
        print_signal(seen, out);
    }
    if (seen == 0 || !fault->synchronous)
        return;
    if (fault->module[0] != '\0')
        strbuf_appendf(out, " in %.*s+0x%jx", CRASH_MODULE_SIZE - 1, fault->module, (uintmax_t)fault->offset);
    strbuf_appendf(out, ", address 0x%jx", (uintmax_t)fault->address);
}

/* False: there is no room left for it. */
static bool print_request(const struct crash_slot *slot, int number, struct strbuf *out)
{
    static const char more[] = " and more";
    size_t len = strnlen(slot->request_id, REQUEST_ID_MAX);

    if (out->len + len + 2 + sizeof(more) > out->cap) {
        strbuf_append_str(out, more);
        return false;
    }
    strbuf_append_str(out, number == 0 ? "" : ", ");
    strbuf_append(out, slot->request_id, len);
    return true;
}

static int first_slot(const struct crash_board *board)
{
    int slot = atomic_load(&board->fault.complete) ? board->fault.slot : -1;

    return slot >= 0 && slot < CRASH_BOARD_SLOTS && atomic_load(&board->slots[slot].busy) ? slot : -1;
}

static void print_requests(const struct crash_board *board, struct strbuf *out)
{
    int taken = atomic_load(&board->slots_taken);
    int first = first_slot(board), number = 0;

    strbuf_append_str(out, "; requests in flight: ");
    if (first >= 0)
        (void)print_request(&board->slots[first], number++, out);
    for (int i = 0; i < taken && i < CRASH_BOARD_SLOTS; i++) {
        if (i != first && atomic_load(&board->slots[i].busy) &&
            !print_request(&board->slots[i], number++, out))
            return;
    }
    if (number == 0)
        strbuf_append_str(out, "none");
}

void crash_board_print(const struct crash_board *board, int wait_status, struct strbuf *out)
{
    strbuf_appendf(out, "%.*s: ", CRASH_FUNCTION_SIZE - 1, board->function);
    print_end(board, wait_status, out);
    print_requests(board, out);
}
