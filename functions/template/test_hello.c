/* test_hello.c - the handler without a server: `make test`. */
#include <cicada/function_test.h>
#include <stdio.h>

extern const struct cicada_function cicada_function_hello;

static int failures;

static void check(bool ok, const char *what)
{
    printf("%-4s %s\n", ok ? "ok" : "FAIL", what);
    failures += !ok;
}

static void test_greets_and_counts(void)
{
    struct cicada_test *test = cicada_test_new("POST", "/Ada", NULL);

    cicada_test_parameter(test, "name", "Ada");
    cicada_test_rows(test, "INSERT INTO public.visits", "count:int", 1, (const char *const[]){"3"});
    check(cicada_test_call(test, &cicada_function_hello) == 200, "a name is greeted");
    check(strcmp(cicada_test_body(test), "{\"greeting\":\"hello\",\"name\":\"Ada\",\"visits\":3}") == 0,
          "with its visits");
    check(strcmp(cicada_test_param(test, 0, 0), "Ada") == 0, "the name is a parameter, not part of the SQL");
    check(cicada_test_committed(test), "the visit is committed");
    cicada_test_free(test);
}

static void test_needs_a_name(void)
{
    struct cicada_test *test = cicada_test_new("POST", "/", NULL);

    check(cicada_test_call(test, &cicada_function_hello) == 422, "without a name it is 422");
    check(strcmp(cicada_test_code(test), "missing_name") == 0, "which says why");
    check(cicada_test_statements(test) == 0, "and the database is not asked");
    cicada_test_free(test);
}

static void test_database_fails(void)
{
    struct cicada_test *test = cicada_test_new("POST", "/Ada", NULL);

    cicada_test_parameter(test, "name", "Ada");
    cicada_test_fails(test, "INSERT INTO public.visits", "23514", "visits_name_check");
    check(cicada_test_call(test, &cicada_function_hello) == 422, "an error of the database has its answer");
    check(!cicada_test_committed(test), "and nothing is committed");
    cicada_test_free(test);
}

int main(void)
{
    test_greets_and_counts();
    test_needs_a_name();
    test_database_fails();
    printf("%s\n", failures == 0 ? "all passed" : "some failed");
    return failures != 0;
}
