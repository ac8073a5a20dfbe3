/*
 * The first process of every pod's sandbox: holds the pod's namespaces and does nothing else.
 * No registry can be reached for the usual one, so up compiles this, statically.
 */
#include <signal.h>
#include <unistd.h>

static void end(int signal_number)
{
    (void)signal_number;
    _exit(0);
}

int main(void)
{
    signal(SIGTERM, end);
    signal(SIGINT, end);
    signal(SIGCHLD, SIG_IGN); /* children that it inherits are reaped by the kernel */
    for (;;)
        pause();
}
