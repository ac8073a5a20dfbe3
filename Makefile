# Cicada. `make help` lists the targets.
#
# MODE=release (default) | debug | asan | tsan selects flags and the folder build/$(MODE).
# Sources are found by folder: every *.c in a library folder goes into one archive, files named *_main.c are programs,
# */tests/test_*.c are test programs, */tests/fuzz_*.c are fuzzers. A new file needs no change here.

MODE ?= release
V ?= 0
VERSION := $(shell cat VERSION 2>/dev/null || echo 0.0.0)
CC ?= gcc
B := build/$(MODE)

.DEFAULT_GOAL := all
# What targets build on their way is built on all cores, unless -j was given.
parallel = $(if $(findstring jobserver,$(MAKEFLAGS)),,-j$(shell nproc))
.DELETE_ON_ERROR:
.SUFFIXES:
ifeq ($(V),0)
Q := @
say = @printf '  %-6s %s\n' $(1) $(2)
else
Q :=
say = @:
endif

WARN := -Wall -Wextra -Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition -Wvla -Wwrite-strings \
        -Wformat=2 -Wundef -Wshadow -Wpointer-arith -Wcast-qual -Wimplicit-fallthrough
ifneq ($(CI),)
WARN += -Werror
else
WARN += $(if $(WERROR),-Werror)
endif
CPPFLAGS := -I. -D_GNU_SOURCE -DCICADA_VERSION='"$(VERSION)"' -include runtime/base/banned.h
CFLAGS := -std=gnu11 -g -fno-common -fvisibility=hidden -pthread $(WARN)
LDFLAGS := -pthread -Wl,--as-needed
ifeq ($(MODE),release)
CFLAGS += -O2 -fno-plt -fPIE -fstack-protector-strong -fstack-clash-protection -fcf-protection -D_FORTIFY_SOURCE=2
LDFLAGS += -pie -Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack -rdynamic
else ifeq ($(MODE),debug)
CFLAGS += -O0
LDFLAGS += -rdynamic
else ifeq ($(MODE),asan)
CFLAGS += -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined
LDFLAGS += -fsanitize=address,undefined -rdynamic
else ifeq ($(MODE),tsan)
CFLAGS += -O1 -fno-omit-frame-pointer -fsanitize=thread
LDFLAGS += -fsanitize=thread -rdynamic
else ifeq ($(MODE),fuzz)
CC := clang
CFLAGS += -O1 -fno-omit-frame-pointer -fsanitize=address,undefined,fuzzer-no-link -fno-sanitize-recover=undefined -Wno-unknown-warning-option -Wno-implicit-fallthrough
LDFLAGS += -fsanitize=address,undefined
else
$(error MODE must be release, debug, asan, tsan or fuzz)
endif

# Libraries. The runtime links neither libcurl nor libpq (libpq is loaded when it is needed): start-up time.
LIBS_RUNTIME  := -lcivetweb -lcjson -lyaml -lm -ldl
LIBS_OPERATOR := $(LIBS_RUNTIME) -lcurl -lhttp_parser -lssl -lcrypto
LIBS_TEST     := -lcmocka $(LIBS_OPERATOR) -lpq

RUNTIME_DIRS  := runtime/base runtime/http runtime/postgres runtime/schema runtime/sql runtime/events runtime/host
OPERATOR_DIRS := operator/kube operator/cache operator/queue operator/controller operator/function operator/autoscaler operator/schedule operator/backlog operator/gateway operator/local

runtime_src  := $(foreach d,$(RUNTIME_DIRS),$(filter-out %_main.c,$(wildcard $(d)/*.c)))
operator_src := $(foreach d,$(OPERATOR_DIRS),$(filter-out %_main.c,$(wildcard $(d)/*.c)))
main_src     := $(foreach d,$(RUNTIME_DIRS) $(OPERATOR_DIRS),$(wildcard $(d)/*_main.c))
test_src     := $(wildcard runtime/tests/test_*.c operator/tests/test_*.c)
test_support := $(filter-out $(test_src) $(wildcard */tests/fuzz_*.c),$(wildcard runtime/tests/*.c operator/tests/*.c))
fuzz_src     := $(wildcard runtime/tests/fuzz_*.c operator/tests/fuzz_*.c)

obj = $(patsubst %.c,$(B)/obj/%.o,$(1))
lib_runtime  := $(B)/lib/libcicada-runtime.a
lib_operator := $(B)/lib/libcicada-operator.a
lib_test     := $(B)/lib/libcicada-test.a
# *_main.c -> program name: runtime/host/runtime_main.c is cicada-runtime, operator/gateway/gateway_main.c is cicada-gateway
programs := $(foreach m,$(main_src),$(B)/bin/cicada-$(patsubst %_main.c,%,$(notdir $(m))))
tests    := $(patsubst %.c,$(B)/tests/%,$(notdir $(test_src)))
fuzzers  := $(patsubst %.c,$(B)/fuzz/%,$(notdir $(fuzz_src)))

.PHONY: all
all: programs functions ## build all programs and the shop's functions into build/release
.PHONY: programs functions
programs: $(programs)

# Flags are part of every object's prerequisites: changing them rebuilds.
flags := $(B)/flags
flags_text := $(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS)
$(shell mkdir -p $(B); printf '%s\n' '$(subst ','\'',$(flags_text))' | cmp -s - $(flags) || printf '%s\n' '$(subst ','\'',$(flags_text))' > $(flags))

$(B)/obj/%.o: %.c $(flags)
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

# The schema's SQL is part of the program.
$(B)/obj/runtime/schema/schema_sql.o: runtime/schema/cicada.sql
# So is the resource's definition.
$(B)/obj/operator/function/function_crd.o: crds/cicada.dev_functions.yaml

$(lib_runtime): $(call obj,$(runtime_src))
$(lib_operator): $(call obj,$(operator_src))
$(lib_test): $(call obj,$(test_support))
$(B)/lib/%.a:
	$(call say,AR,$@)
	@mkdir -p $(@D); rm -f $@
	$(Q)ar rcs $@ $^

define program_rule
$(B)/bin/cicada-$(patsubst %_main.c,%,$(notdir $(1))): $(call obj,$(1)) $(if $(filter operator/%,$(1)),$(lib_operator)) $(lib_runtime)
	$$(call say,LINK,$$@)
	@mkdir -p $$(@D)
	$(Q)$$(CC) $$(CFLAGS) $$(LDFLAGS) -o $$@ $$^ $(if $(filter operator/%,$(1)),$(LIBS_OPERATOR),$(LIBS_RUNTIME))
endef
$(foreach m,$(main_src),$(eval $(call program_rule,$(m))))

define test_rule
$(B)/tests/$(patsubst %.c,%,$(notdir $(1))): $(call obj,$(1)) $(lib_test) $(if $(filter operator/%,$(1)),$(lib_operator)) $(lib_runtime)
	$$(call say,LINK,$$@)
	@mkdir -p $$(@D)
	$(Q)$$(CC) $$(CFLAGS) $$(LDFLAGS) -o $$@ $$^ $(LIBS_TEST)
endef
$(foreach t,$(test_src),$(eval $(call test_rule,$(t))))

define fuzz_rule
$(B)/fuzz/$(patsubst %.c,%,$(notdir $(1))): $(call obj,$(1)) $(if $(filter operator/%,$(1)),$(lib_operator)) $(lib_runtime)
	$$(call say,LINK,$$@)
	@mkdir -p $$(@D)
	$(Q)$$(CC) $$(CFLAGS) -fsanitize=fuzzer $$(LDFLAGS) -o $$@ $$^ $(LIBS_OPERATOR) -lpq
endef
$(foreach t,$(fuzz_src),$(eval $(call fuzz_rule,$(t))))

# What is loaded instead of libldap, with libpq, beside SQL functions.
without_ldap := $(B)/lib/cicada/without-ldap.so
$(without_ldap): runtime/postgres/without_ldap.sh runtime/stand_in.sh $(flags)
	$(call say,SO,$@)
	@mkdir -p $(@D)
	$(Q)$< $@ $(CC)
$(B)/bin/cicada-runtime: | $(without_ldap)

# What is loaded instead of libraries that libcurl is linked with, by the programs that use it.
stand_in_names := rtmp ssh2 ldap lber gssapi_krb5
stand_ins := $(B)/lib/cicada/curl
stand_ins_made := $(B)/obj/curl_stand_ins/made
$(stand_ins_made): runtime/http/curl_stand_ins.sh runtime/stand_in.sh $(flags)
	$(call say,SO,$(stand_ins))
	$(Q)$< $(stand_ins) $(@D) '$(stand_in_names)' $(CC)
	@touch $@
with_stand_ins := $(B)/bin/cicada-operator $(B)/bin/cicada-gateway
$(with_stand_ins): | $(stand_ins_made)
$(with_stand_ins): LDFLAGS += -Wl,-rpath,'$$ORIGIN/../lib/cicada/curl' -Wl,--no-as-needed \
        $(stand_in_names:%=$(dir $(stand_ins_made))without-%.so) -Wl,--as-needed

# The SDK's test double includes the SDK as users do.
$(B)/obj/runtime/tests/test_sdk_double.o: CPPFLAGS += -Iruntime/sdk

# The shop: its own Makefile builds against the SDK header alone, as a user's would.
functions:
	$(Q)$(MAKE) --no-print-directory -C functions/shop OUT=$(CURDIR)/$(B)/functions SDK=$(CURDIR)/runtime/sdk CC='$(CC)'

# Handlers that the runtime's tests load: plain shared objects of the SDK's header, apart from what goes into images.
test_handlers := $(patsubst runtime/tests/handlers/%.c,$(B)/test-functions/%.so,$(wildcard runtime/tests/handlers/*.c))
$(B)/test-functions/%.so: runtime/tests/handlers/%.c runtime/sdk/cicada/function.h
	$(call say,SO,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) -std=gnu11 -O1 -g $(WARN) -fPIC -shared -fvisibility=hidden -Iruntime/sdk -o $@ $<

.PHONY: tests fuzzers
tests: $(tests) $(test_handlers)
fuzzers: $(fuzzers)

.PHONY: deps
GROUP ?= run test e2e bench models
deps: ## install the Debian packages that are missing (GROUP="run test e2e bench models")
	$(Q).ci/deps $(GROUP)

.PHONY: run
run: ## the shop on 127.0.0.1:8080 with a PostgreSQL under build/, or DATABASE_URL; Ctrl-C ends it and leaves nothing else
	$(Q).ci/deps run
	$(Q)$(MAKE) $(parallel) --no-print-directory MODE=release all
	$(Q)functions/shop/run build/release build/local

.PHONY: test
test: ## unit and integration tests with a real PostgreSQL; ends with "N passed, N failed"
	$(Q).ci/deps run test
	$(Q)$(MAKE) $(parallel) --no-print-directory MODE=$(MODE) all tests
	$(Q).ci/run-tests $(B)

.PHONY: asan tsan fuzz
asan: ## the same tests under AddressSanitizer and UndefinedBehaviorSanitizer
	$(Q)$(MAKE) $(parallel) --no-print-directory MODE=asan test
tsan: ## the same tests under ThreadSanitizer
	$(Q)$(MAKE) $(parallel) --no-print-directory MODE=tsan test
FUZZ_SECONDS ?= 60
fuzz: ## every fuzzer for FUZZ_SECONDS, from the corpus in the tree
	$(Q).ci/deps run test
	$(Q)$(MAKE) $(parallel) --no-print-directory MODE=fuzz fuzzers
	$(Q).ci/run-fuzzers build/fuzz/fuzz $(FUZZ_SECONDS)

.PHONY: images
TAG ?= $(VERSION)
images: ## OCI images of cicada, cicada-runtime and cicada-shop from scratch, sizes printed
	$(Q).ci/deps run
	$(Q)$(MAKE) $(parallel) --no-print-directory MODE=release all
	$(Q)e2e/images/build --bin build/release/bin --functions build/release/functions --out build/images --tag $(TAG)

.PHONY: cluster-up cluster-down e2e
cluster-up: ## a real single-node Kubernetes in a network namespace, for hand use; prints the KUBECONFIG line
	$(Q).ci/deps run e2e
	$(Q)$(MAKE) --no-print-directory images
	$(Q)e2e/cluster/up
	$(Q)e2e/cluster/load-image build/images/*.tar
cluster-down: ## ends that cluster and leaves nothing
	$(Q)e2e/cluster/down
e2e: ## real Kubernetes, images, chart, e2e/cases; ends with "N passed, N failed"
	$(Q).ci/deps run test e2e
	$(Q)$(MAKE) --no-print-directory images
	$(Q)e2e/run

.PHONY: faults
faults: ## the fault suite of e2e/faults on a real Kubernetes (FAULT_ROUNDS=20); ends with "N passed, N failed"
	$(Q).ci/deps run test e2e
	$(Q)$(MAKE) --no-print-directory images
	$(Q)e2e/faults/run

.PHONY: chaos
chaos: ## runtimes and PostgreSQL killed at random under events (e2e/chaos/run --help); ends with "N passed, N failed"
	$(Q).ci/deps run e2e
	$(Q)$(MAKE) $(parallel) --no-print-directory MODE=release all
	$(Q)e2e/chaos/cut
	$(Q)e2e/chaos/run

.PHONY: bench
bench: ## the benchmarks of e2e/bench, side by side with peers
	$(Q).ci/deps run bench
	$(Q)$(MAKE) $(parallel) --no-print-directory MODE=release all
	$(Q)e2e/bench/run

.PHONY: plots
plots: ## the autoscaler under shapes of load, as SVG in build/plots
	$(Q)$(MAKE) $(parallel) --no-print-directory MODE=release build/release/tests/test_autoscaler_shapes
	$(Q)mkdir -p build/plots && CICADA_PLOTS=build/plots build/release/tests/test_autoscaler_shapes

.PHONY: models
models: ## the models of e2e/models, checked by spin; ends with "N passed, N failed"
	$(Q).ci/deps models
	$(Q)e2e/models/run

.PHONY: reference lint format
reference: ## writes the tables of docs/reference anew, from programs and source
	$(Q)$(MAKE) --no-print-directory MODE=release programs
	$(Q)docs/reference/generate build/release/bin
lint: ## layers, formatting, static checks, chart
	$(Q).ci/deps run test e2e
	$(Q).ci/lint
format: ## clang-format over all C files
	$(Q)git ls-files -co --exclude-standard '*.c' '*.h' | xargs clang-format -i

PREFIX ?= /usr/local
.PHONY: install
install: all ## programs, SDK headers, pkg-config file, schema and testing.sh under PREFIX
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/include/cicada $(DESTDIR)$(PREFIX)/lib/pkgconfig
	install -m 755 $(programs) $(DESTDIR)$(PREFIX)/bin
	install -D -m 644 $(without_ldap) $(DESTDIR)$(PREFIX)/lib/cicada/without-ldap.so
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/lib/cicada/curl $(stand_ins)/*.so
	install -m 644 $(wildcard runtime/sdk/cicada/*.h) $(DESTDIR)$(PREFIX)/include/cicada
	install -D -m 644 runtime/schema/cicada.sql $(DESTDIR)$(PREFIX)/share/cicada/cicada.sql
	install -m 644 functions/testing.sh $(DESTDIR)$(PREFIX)/share/cicada
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@VERSION@|$(VERSION)|' runtime/sdk/cicada-function.pc.in > $(DESTDIR)$(PREFIX)/lib/pkgconfig/cicada-function.pc

.PHONY: clean help
clean: ## removes build/
	rm -rf build
help: ## this list
	@sed -n 's/^\([a-z][a-z0-9-]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

-include $(patsubst %.c,$(B)/obj/%.d,$(runtime_src) $(operator_src) $(main_src) $(test_src) $(test_support) $(fuzz_src))
