#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/base/mem.h"
#include "runtime/tests/support_test.h"

static void copies(void **state)
{
    (void)state;
    CLEANUP_FREE char *text = xstrdup("hello");
    CLEANUP_FREE char *cut = xstrndup("hello", 3);
    CLEANUP_FREE char *whole = xstrndup("hello", 99);
    CLEANUP_FREE char *formatted = xasprintf("%s-%d", "a", 5);
    CLEANUP_FREE char *bytes = xmemdup("a\0b", 3);
    assert_string_equal(text, "hello");
    assert_string_equal(cut, "hel");
    assert_string_equal(whole, "hello");
    assert_string_equal(formatted, "a-5");
    assert_memory_equal(bytes, "a\0b", 3);
    assert_null(xstrdup_or_null(NULL));
    CLEANUP_FREE char *maybe = xstrdup_or_null("x");
    assert_string_equal(maybe, "x");
}

static void zero_sizes_are_fine(void **state)
{
    (void)state;
    CLEANUP_FREE void *a = xmalloc(0);
    CLEANUP_FREE void *b = xcalloc(0, 8);
    CLEANUP_FREE void *c = xmemdup("", 0);
    void *d = xmalloc(4);
    d = xrealloc(d, 0);
    assert_non_null(a);
    assert_non_null(b);
    assert_non_null(c);
    assert_non_null(d);
    free(d);
}

static void aligned_memory_is_clear(void **state)
{
    (void)state;
    CLEANUP_FREE unsigned char *memory = xcalloc_aligned(3, 64, 64);
    CLEANUP_FREE void *nothing = xcalloc_aligned(0, 64, 64);
    assert_int_equal((uintptr_t)memory % 64, 0);
    assert_int_equal((uintptr_t)nothing % 64, 0);
    for (size_t i = 0; i < 192; i++) {
        assert_int_equal(memory[i], 0);
    }
}

static char *make(int wanted)
{
    CLEANUP_FREE char *text = xstrdup("mine");
    return wanted ? steal_ptr(&text) : NULL;
}

static void stealing_leaves_null(void **state)
{
    (void)state;
    char *text = make(1);
    assert_string_equal(text, "mine");
    char *taken = steal_ptr(&text);
    assert_null(text);
    free(taken);
    assert_null(make(0));
}

static void descriptors_close_at_the_end_of_scope(void **state)
{
    (void)state;
    int number;
    {
        CLEANUP_FD int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        assert_true(fd >= 0);
        number = fd;
        errno = EAGAIN;
    }
    assert_int_equal(errno, EAGAIN);
    assert_int_equal(fcntl(number, F_GETFD), -1);
    int none = -1;
    fd_close_p(&none);
    assert_int_equal(none, -1);
}

static void multiplication_that_overflows_aborts(void **state)
{
    (void)state;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
        dup2(null, STDERR_FILENO);
        signal(SIGABRT, SIG_DFL);
        free(xreallocarray(NULL, SIZE_MAX / 2, 4));
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(copies),
        cmocka_unit_test(zero_sizes_are_fine),
        cmocka_unit_test(aligned_memory_is_clear),
        cmocka_unit_test(stealing_leaves_null),
        cmocka_unit_test(descriptors_close_at_the_end_of_scope),
        cmocka_unit_test(multiplication_that_overflows_aborts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
