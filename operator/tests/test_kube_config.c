#include "operator/kube/kube_client_config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/base/base64.h"
#include "runtime/base/mem.h"

#define CLEANUP_CONFIG CLEANUP(kube_client_config_free_p)

static char folder[] = "/tmp/cicada-test-XXXXXX";

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    static const char *const files[] = {"config", "ca.crt", "token", "namespace", "key.pem"};
    for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
        CLEANUP_FREE char *path = xasprintf("%s/%s", folder, files[i]);
        (void)unlink(path);
    }
    return rmdir(folder);
}

static char *write_file(const char *name, const char *text)
{
    char *path = xasprintf("%s/%s", folder, name);
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_int_equal(fputs(text, file) < 0, 0);
    assert_int_equal(fclose(file), 0);
    return path;
}

static void test_base64(void **state)
{
    (void)state;
    static const char *const good[][2] = {
        {"", ""},
        {"TQ==", "M"},
        {"TWE=", "Ma"},
        {"TWFu", "Man"},
        {"TW\nFu\r\n TQ ==\n", "ManM"},
        {"Pj4+Pz8/", ">>>???"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        CLEANUP_FREE char *text = NULL;
        struct err err = ERR_INIT;
        assert_int_equal(base64_decode_text(good[i][0], &text, &err), 0);
        assert_string_equal(text, good[i][1]);
    }
    static const char *const bad[] = {
        "T", "TQ", "TQ=", "TQ===", "TWFu=", "T===", "TQ==TQ==", "T*==", "=", "AA==", "TWF-", "===="};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        char *text = NULL;
        struct err err = ERR_INIT;
        assert_int_equal(base64_decode_text(bad[i], &text, &err), -1);
        assert_int_equal(err.code, ERR_INVALID);
        assert_null(text);
    }
}

static void test_service_account(void **state)
{
    (void)state;
    CLEANUP_FREE char *path = write_file("namespace", "cicada-system\n");
    CLEANUP_CONFIG struct kube_client_config *config = NULL;
    struct err err = ERR_INIT;
    assert_int_equal(kube_client_config_from_service_account(folder, "10.96.0.1", "443", &config, &err), 0);
    assert_string_equal(config->server, "https://10.96.0.1:443");
    assert_string_equal(kube_client_config_namespace(config), "cicada-system");
    assert_true(strstr(config->token_file, "/token") && strstr(config->ca_file, "/ca.crt"));
    CLEANUP_CONFIG struct kube_client_config *ipv6 = NULL;
    assert_int_equal(kube_client_config_from_service_account(folder, "fd00::1", "443", &ipv6, &err), 0);
    assert_string_equal(ipv6->server, "https://[fd00::1]:443");
    struct kube_client_config *none = NULL;
    assert_int_equal(kube_client_config_from_service_account(folder, "10.96.0.1", "", &none, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_int_equal(kube_client_config_from_service_account(folder, NULL, "443", &none, &err), -1);
    assert_int_equal(kube_client_config_from_service_account("/nonexistent", "10.96.0.1", "443", &none, &err),
                     -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    CLEANUP_FREE char *broken = write_file("namespace", "Not A Namespace");
    assert_int_equal(kube_client_config_from_service_account(folder, "10.96.0.1", "443", &none, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
}

#define KUBECONFIG(cluster, user)                                                                            \
    "apiVersion: v1\nkind: Config\ncurrent-context: b\npreferences: {}\n"                                    \
    "clusters:\n- name: other\n  cluster: {server: 'https://other:1'}\n"                                     \
    "- name: c\n  cluster:\n" cluster "users:\n- name: u\n  user:\n" user                                    \
    "contexts:\n- name: a\n  context: {cluster: other, user: u}\n"                                           \
    "- name: b\n  context:\n    cluster: c\n    user: u\n    namespace: shop\n"

static int load(const char *text, struct kube_client_config **ret_config, struct err *err)
{
    CLEANUP_FREE char *path = write_file("config", text);
    return kube_client_config_load(path, ret_config, err);
}

static void test_inline_data(void **state)
{
    (void)state;
    CLEANUP_CONFIG struct kube_client_config *config = NULL;
    struct err err = ERR_INIT;
    int rc = load(KUBECONFIG("    server: https://127.0.0.1:6443/\n    certificate-authority-data: Q0E=\n",
                             "    client-certificate-data: Q0VSVA==\n    client-key-data: S0VZ\n"),
                  &config, &err);
    assert_string_equal(err.msg, "");
    assert_int_equal(rc, 0);
    assert_string_equal(config->server, "https://127.0.0.1:6443");
    assert_string_equal(config->ca_pem, "CA");
    assert_string_equal(config->client_cert_pem, "CERT");
    assert_string_equal(config->client_key_pem, "KEY");
    assert_null(config->token);
    assert_null(config->token_file);
    assert_string_equal(kube_client_config_namespace(config), "shop");
}

static void test_files_are_relative_to_the_kubeconfig(void **state)
{
    (void)state;
    CLEANUP_FREE char *ca = write_file("ca.crt", "CA FILE");
    CLEANUP_FREE char *token = write_file("token", "secret\n");
    CLEANUP_CONFIG struct kube_client_config *config = NULL;
    struct err err = ERR_INIT;
    assert_int_equal(load(KUBECONFIG("    server: https://c\n    certificate-authority: ca.crt\n",
                                     "    tokenFile: token\n"),
                          &config, &err),
                     0);
    assert_string_equal(config->ca_pem, "CA FILE");
    assert_string_equal(config->token_file, token);
    assert_null(config->token);
    CLEANUP_CONFIG struct kube_client_config *fixed = NULL;
    assert_int_equal(
        load(KUBECONFIG("    server: http://c\n", "    token: abc\n    username: ''\n"), &fixed, &err), 0);
    assert_string_equal(fixed->token, "abc");
    assert_null(fixed->ca_pem);
    struct kube_client_config *none = NULL;
    assert_int_equal(load(KUBECONFIG("    server: https://c\n    certificate-authority: nowhere.crt\n",
                                     "    token: abc\n"),
                          &none, &err),
                     -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
}

static void expect_refused(const char *text, const char *why)
{
    struct kube_client_config *config = NULL;
    struct err err = ERR_INIT;
    assert_int_equal(load(text, &config, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    if (!strstr(err.msg, why))
        fail_msg("\"%s\" does not say \"%s\"", err.msg, why);
}

static void test_what_cannot_be_done_is_refused_by_name(void **state)
{
    (void)state;
    expect_refused(KUBECONFIG("    server: https://c\n", "    exec: {command: aws}\n"),
                   "exec is not supported");
    expect_refused(KUBECONFIG("    server: https://c\n", "    auth-provider: {name: gcp}\n"),
                   "auth-provider");
    expect_refused(KUBECONFIG("    server: https://c\n", "    username: me\n    password: secret\n"),
                   "username");
    expect_refused(KUBECONFIG("    server: https://c\n", "    as: admin\n"), "as is not supported");
    expect_refused(
        KUBECONFIG("    server: https://c\n    insecure-skip-tls-verify: true\n", "    token: t\n"),
        "insecure-skip-tls-verify");
    expect_refused(KUBECONFIG("    server: https://c\n    proxy-url: http://p\n", "    token: t\n"),
                   "proxy-url");
    expect_refused(KUBECONFIG("    server: https://c\n    tls-server-name: x\n", "    token: t\n"),
                   "tls-server-name");
}

static void test_the_environment_names_a_kubeconfig(void **state)
{
    (void)state;
    if (access(KUBE_SERVICE_ACCOUNT_DIR "/token", R_OK) == 0)
        skip();
    CLEANUP_FREE char *path = write_file("config", KUBECONFIG("    server: https://c\n", "    token: t\n"));
    CLEANUP_CONFIG struct kube_client_config *config = NULL;
    struct err err = ERR_INIT;
    assert_int_equal(setenv("KUBECONFIG", path, /* overwrite= */ 1), 0);
    assert_int_equal(kube_client_config_load(/* kubeconfig_path= */ NULL, &config, &err), 0);
    assert_string_equal(config->server, "https://c");
    assert_int_equal(unsetenv("KUBECONFIG"), 0);
    struct kube_client_config *none = NULL;
    assert_int_equal(kube_client_config_load("", &none, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
}

static void test_malformed_kubeconfigs(void **state)
{
    (void)state;
    expect_refused("", "");
    expect_refused("current-context: x\n", "no context \"x\"");
    expect_refused("clusters: []\n", "current-context");
    expect_refused("current-context: x\ncontexts: [{name: x, context: {cluster: y}}]\n", "no cluster \"y\"");
    expect_refused("current-context: x\ncontexts: [{name: x, context: {cluster: y, user: z}}]\n"
                   "clusters: [{name: y, cluster: {server: 'https://c'}}]\n",
                   "no user \"z\"");
    expect_refused(KUBECONFIG("    server: ftp://c\n", "    token: t\n"), "server must begin with");
    expect_refused(
        KUBECONFIG("    server: https://c\n    certificate-authority-data: '*'\n", "    token: t\n"),
        "certificate-authority-data: not base64");
    expect_refused(KUBECONFIG("    server: https://c\n", "    client-key-data: S0VZ\n"), "only together");
    struct kube_client_config *config = NULL;
    struct err err = ERR_INIT;
    assert_int_equal(kube_client_config_load("/nonexistent/config", &config, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_base64),
        cmocka_unit_test(test_service_account),
        cmocka_unit_test(test_inline_data),
        cmocka_unit_test(test_files_are_relative_to_the_kubeconfig),
        cmocka_unit_test(test_what_cannot_be_done_is_refused_by_name),
        cmocka_unit_test(test_the_environment_names_a_kubeconfig),
        cmocka_unit_test(test_malformed_kubeconfigs),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
