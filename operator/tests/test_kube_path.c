#include "operator/kube/kube_path.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "runtime/base/mem.h"

#define CLEANUP_PATH CLEANUP(kube_path_release)

static void expect_path(const struct kube_resource *resource, const char *namespace, const char *name,
                        const char *subresource, const char *expected)
{
    CLEANUP_PATH struct kube_path path;
    kube_path_init(&path);
    struct err err = ERR_INIT;
    assert_int_equal(kube_path_set(&path, resource, namespace, name, subresource, &err), 0);
    assert_int_equal(kube_path_finish(&path, &err), 0);
    assert_string_equal(path.text.buf, expected);
}

static void expect_refused(const struct kube_resource *resource, const char *namespace, const char *name)
{
    CLEANUP_PATH struct kube_path path;
    kube_path_init(&path);
    struct err err = ERR_INIT;
    assert_int_equal(kube_path_set(&path, resource, namespace, name, /* subresource= */ NULL, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_int_equal(path.text.len, 0);
}

static void test_paths(void **state)
{
    (void)state;
    expect_path(&kube_pods, "shop", "a.b", NULL, "/api/v1/namespaces/shop/pods/a.b");
    expect_path(&kube_pods, "shop", NULL, NULL, "/api/v1/namespaces/shop/pods");
    expect_path(&kube_pods, NULL, NULL, NULL, "/api/v1/pods");
    expect_path(&kube_nodes, NULL, "n1", NULL, "/api/v1/nodes/n1");
    expect_path(&kube_deployments, "shop", "a", "scale", "/apis/apps/v1/namespaces/shop/deployments/a/scale");
    expect_path(&kube_functions, "shop", "a", "status",
                "/apis/cicada.dev/v1alpha1/namespaces/shop/functions/a/status");
    expect_path(&kube_leases, "kube-system", "l", NULL,
                "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/l");
    expect_path(&kube_ingresses, NULL, NULL, NULL, "/apis/networking.k8s.io/v1/ingresses");
}

static void test_names_are_checked(void **state)
{
    (void)state;
    expect_refused(&kube_pods, "shop", "../secrets/a");
    expect_refused(&kube_pods, "shop", "");
    expect_refused(&kube_pods, "shop", "a b");
    expect_refused(&kube_pods, "shop", "A");
    expect_refused(&kube_pods, "sh/op", "a");
    expect_refused(&kube_pods, "sh.op", "a");
    expect_refused(&kube_pods, "", "a");
    expect_refused(&kube_pods, NULL, "a");
    expect_refused(&kube_nodes, "shop", "n1");
}

static void test_query_values_are_encoded(void **state)
{
    (void)state;
    CLEANUP_PATH struct kube_path path;
    kube_path_init(&path);
    struct err err = ERR_INIT;
    assert_int_equal(kube_path_set(&path, &kube_pods, NULL, NULL, NULL, &err), 0);
    kube_path_query(&path, "labelSelector", "a in (b,c),d!=e&f=%20\xc3\xa4");
    kube_path_query(&path, "fieldSelector", NULL);
    kube_path_query(&path, "limit", "500");
    assert_int_equal(kube_path_finish(&path, &err), 0);
    assert_string_equal(
        path.text.buf,
        "/api/v1/pods?labelSelector=a%20in%20%28b%2Cc%29%2Cd%21%3De%26f%3D%2520%C3%A4&limit=500");
}

static void test_a_path_has_a_limit(void **state)
{
    (void)state;
    CLEANUP_PATH struct kube_path path;
    kube_path_init(&path);
    struct err err = ERR_INIT;
    CLEANUP_FREE char *selector = xcalloc(1, KUBE_PATH_MAX_BYTES + 1);
    memset(selector, 'a', KUBE_PATH_MAX_BYTES);
    assert_int_equal(kube_path_set(&path, &kube_pods, NULL, NULL, NULL, &err), 0);
    kube_path_query(&path, "labelSelector", selector);
    assert_int_equal(kube_path_finish(&path, &err), -1);
    assert_int_equal(err.code, ERR_TOO_LARGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_names_are_checked),
        cmocka_unit_test(test_query_values_are_encoded),
        cmocka_unit_test(test_a_path_has_a_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
