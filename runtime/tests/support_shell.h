/* support_shell.h - runs shell commands for a test, in its environment; what children of a test begin with. */
#ifndef CICADA_TESTS_SUPPORT_SHELL_H
#define CICADA_TESTS_SUPPORT_SHELL_H

/* The command's standard output; its exit code (128 + signal). The caller frees the text. */
char *shell_output(const char *command, int *ret_exit_code);
/* The end of an output: as much as a failure's message has room for. */
const char *shell_tail(const char *output);
/* Expects success, and this piece of text in the output. */
void shell_expect(const char *command, const char *text);
/* For a child of the test just before exec (and after setuid, which undoes it): killed with the test's thread that forked it, and without
 * the test's open files but the standard streams. */
void child_ends_with_test(void);

#endif
