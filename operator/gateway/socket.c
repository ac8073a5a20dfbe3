#include "operator/gateway/socket.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <unistd.h>

int socket_connect(const struct sockaddr_in *address, int *ret_fd, struct err *err)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return err_set_errno(err, errno, "socket");
    }
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 && errno != EINPROGRESS) {
        int code = errno;
        close(fd);
        return err_set_errno(err, code, "connect");
    }
    *ret_fd = fd;
    return 0;
}

static bool met_itself(int fd)
{
    struct sockaddr_in own = {0}, peer = {0};
    socklen_t own_len = sizeof(own), peer_len = sizeof(peer);
    return getsockname(fd, (struct sockaddr *)&own, &own_len) == 0 &&
           getpeername(fd, (struct sockaddr *)&peer, &peer_len) == 0 && own.sin_port == peer.sin_port &&
           own.sin_addr.s_addr == peer.sin_addr.s_addr;
}

int socket_connect_result(int fd)
{
    int code = 0;
    socklen_t len = sizeof(code);
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &len) < 0) {
        return errno;
    }
    return code == 0 && met_itself(fd) ? ECONNREFUSED : code;
}
