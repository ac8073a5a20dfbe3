/* first_answer.c - first_answer PORT COMMAND...: starts COMMAND, asks GET /?id=1 on 127.0.0.1:PORT until it answers 200, prints the
 * microseconds that took from before fork() on, and kills the command and its descendants.
 *
 * Asks again 50 us after a refused connection, and after any other status than 200. Gives up after 20 s.
 */
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LIMIT_US 20000000L

static long now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000L + now.tv_nsec / 1000;
}

static int answers_200(const struct sockaddr_in *address)
{
    static const char request[] = "GET /?id=1 HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n";
    struct timeval timeout = {.tv_sec = 10, .tv_usec = 0};
    char answer[16] = "";
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int ok;

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
    ok = connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 &&
         send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL) == sizeof(request) - 1 &&
         recv(fd, answer, 12, MSG_WAITALL) == 12 && strcmp(answer, "HTTP/1.1 200") == 0;
    close(fd);
    return ok;
}

int main(int argc, char **argv)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timespec pause = {0, 50000};
    long start_us, took_us = 0;
    int ok = 0;
    pid_t pid;

    if (argc < 3) {
        fprintf(stderr, "usage: first_answer PORT COMMAND...\n");
        return 2;
    }
    address.sin_port = htons((unsigned short)strtol(argv[1], NULL, 10));
    prctl(PR_SET_TIMERSLACK, 1000); /* pauses of 50 us, not of 100 */
    start_us = now_us();
    pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        setpgid(0, 0);
        execvp(argv[2], argv + 2);
        perror(argv[2]);
        _exit(127);
    }
    setpgid(pid, pid);
    while (!ok && took_us < LIMIT_US && waitpid(pid, NULL, WNOHANG) == 0) {
        ok = answers_200(&address);
        took_us = now_us() - start_us;
        if (!ok)
            nanosleep(&pause, NULL);
    }
    kill(-pid, SIGKILL);
    waitpid(pid, NULL, 0);
    if (!ok) {
        fprintf(stderr, "%s did not answer 200\n", argv[2]);
        return 1;
    }
    printf("%ld\n", took_us);
    return 0;
}
