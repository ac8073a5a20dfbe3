#include "runtime/host/crash_watch.h"

#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <ucontext.h>

#include "runtime/base/mem.h"

#define PROGRAM_NAME "cicada-runtime" /* the dynamic loader has none for it */

static const int fatal_signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP, SIGSYS};

/* A signal handler has no argument of its own: what it needs can only be here. Written before the first other thread. */
static struct crash_board *watched;
static struct sigaction previous[ARRAY_SIZE(fatal_signals)];

static _Thread_local struct crash_slot *own_slot;
static _Thread_local struct crash_board *own_board; /* of that slot */

/* ---- on a fatal signal: async-signal-safe calls only ---- */

/* Where the thread was; NULL: not known for this machine. */
static void *instruction_of(const ucontext_t *context)
{
    void *instruction = NULL;

#if defined(__x86_64__)
    memcpy(&instruction, &context->uc_mcontext.gregs[REG_RIP], sizeof(instruction));
#elif defined(__aarch64__)
    memcpy(&instruction, &context->uc_mcontext.pc, sizeof(instruction));
#else
    (void)context;
#endif
    return instruction;
}

static void note_place(struct crash_fault *fault, void *instruction)
{
    struct dl_find_object found;
    const char *path, *name;
    size_t len;

    if (instruction == NULL || _dl_find_object(instruction, &found) != 0)
        return;
    path = found.dlfo_link_map->l_name[0] != '\0' ? found.dlfo_link_map->l_name : PROGRAM_NAME;
    name = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
    len = strnlen(name, sizeof(fault->module) - 1);
    memcpy(fault->module, name, len);
    fault->offset = (uintptr_t)instruction - (uintptr_t)found.dlfo_link_map->l_addr;
}

static void note_fault(struct crash_board *board, int number, const siginfo_t *info,
                       const ucontext_t *context)
{
    struct crash_fault *fault = &board->fault;
    int none = 0;

    if (!atomic_compare_exchange_strong(&fault->signal, &none, number))
        return; /* another thread was first */
    fault->slot = own_board == board && own_slot != NULL ? (int)(own_slot - board->slots) : -1;
    fault->synchronous = info->si_code > 0;
    if (fault->synchronous) {
        fault->address = (uintptr_t)info->si_addr;
        note_place(fault, instruction_of(context));
    }
    atomic_store(&fault->complete, true);
}

static void on_fatal_signal(int number, siginfo_t *info, void *context)
{
    note_fault(watched, number, info, context);
    for (size_t i = 0; i < ARRAY_SIZE(fatal_signals); i++) {
        if (fatal_signals[i] == number)
            (void)sigaction(number, &previous[i], NULL);
    }
    if (info->si_code <= 0) /* by abort() or kill(): it would not come again by itself */
        (void)raise(number);
}

/* ---- before it ---- */

void crash_watch_start(struct crash_board *board)
{
    struct sigaction action = {.sa_sigaction = on_fatal_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK};

    sigemptyset(&action.sa_mask);
    watched = board;
    own_board = NULL;
    for (size_t i = 0; i < ARRAY_SIZE(fatal_signals); i++)
        (void)sigaction(fatal_signals[i], &action, &previous[i]);
}

/* A sanitizer may have given the thread one already. */
static void set_signal_stack(char *stack)
{
    stack_t wanted = {.ss_sp = stack, .ss_size = CRASH_BOARD_STACK_BYTES};
    stack_t present;

    if (sigaltstack(NULL, &present) == 0 && (present.ss_flags & SS_DISABLE))
        (void)sigaltstack(&wanted, NULL);
}

static void take_slot(struct crash_board *board)
{
    int number = atomic_fetch_add(&board->slots_taken, 1);

    own_board = board;
    own_slot = NULL;
    if (number >= CRASH_BOARD_SLOTS)
        return;
    own_slot = &board->slots[number];
    set_signal_stack(board->stacks[number]);
}

void crash_watch_enter(struct crash_board *board, const char *request_id)
{
    if (board == NULL)
        return;
    if (own_board != board)
        take_slot(board);
    if (own_slot == NULL)
        return;
    memcpy(own_slot->request_id, request_id, strnlen(request_id, REQUEST_ID_MAX) + 1);
    own_slot->request_id[REQUEST_ID_MAX] = '\0';
    atomic_store_explicit(&own_slot->busy, true, memory_order_release);
}

void crash_watch_leave(struct crash_board *board)
{
    if (board != NULL && own_slot != NULL)
        atomic_store_explicit(&own_slot->busy, false, memory_order_release);
}
