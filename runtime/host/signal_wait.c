#include "runtime/host/signal_wait.h"

#include <errno.h>
#include <poll.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/mem.h"

int signal_await(const sigset_t *signals, int64_t timeout_ms)
{
    struct timespec timeout = {timeout_ms / 1000, (long)(timeout_ms % 1000) * 1000000L};
    int number = sigtimedwait(signals, NULL, &timeout);

    return number > 0 ? number : 0;
}

bool signal_comes_before(const sigset_t *signals, int fd, int *ret_signal)
{
    CLEANUP_FD int signal_fd = signalfd(-1, signals, SFD_CLOEXEC);
    struct pollfd fds[] = {{.fd = fd, .events = POLLIN}, {.fd = signal_fd, .events = POLLIN}};
    struct signalfd_siginfo info;

    while (poll(fds, ARRAY_SIZE(fds), -1) < 0 && errno == EINTR)
        ;
    if (fds[1].revents == 0 || read(signal_fd, &info, sizeof(info)) != sizeof(info))
        return false;
    *ret_signal = (int)info.ssi_signo;
    return true;
}
