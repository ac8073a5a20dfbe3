#include "runtime/tests/support_shell.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/base/mem.h"

#define TAIL_BYTES 700 /* cmocka shows a message of 1024 */

char *shell_output(const char *command, int *ret_exit_code)
{
    char text[65536];
    size_t len = 0, got;
    FILE *pipe = popen(command, "r");
    int status;

    assert_non_null(pipe);
    while ((got = fread(text + len, 1, sizeof(text) - 1 - len, pipe)) > 0)
        len += got;
    text[len] = '\0';
    status = pclose(pipe);
    *ret_exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return xstrdup(text);
}

const char *shell_tail(const char *output)
{
    size_t len = strlen(output);

    return len <= TAIL_BYTES ? output : output + len - TAIL_BYTES;
}

void shell_expect(const char *command, const char *text)
{
    int exit_code;
    CLEANUP_FREE char *output = shell_output(command, &exit_code);

    if (exit_code != 0 || strstr(output, text) == NULL)
        fail_msg("%s: exit %d, expected <%s>; its end: %s", command, exit_code, text, shell_tail(output));
}

void child_ends_with_test(void)
{
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || close_range(STDERR_FILENO + 1, ~0U, 0) != 0)
        _exit(125);
}
