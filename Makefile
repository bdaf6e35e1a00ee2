# promptops-sidecar. `make help` lists the goals. Quiet unless V=1.
BUILD ?= build
CC ?= gcc
MODE ?= release
V ?= 0
Q := $(if $(filter 1,$(V)),,@)
# How many at once, where a goal starts what can run side by side.
JOBS ?= $(shell nproc)
PARALLEL = $(if $(findstring jobserver,$(MAKEFLAGS)),,-j$(JOBS))

# npm trusts whom the system trusts: node by itself knows its own list only.
export NODE_EXTRA_CA_CERTS ?= $(wildcard /etc/ssl/certs/ca-certificates.crt)

WARN := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wvla
HARDEN := -fstack-protector-strong -fPIE -fno-plt
LDHARDEN := -pie -Wl,-z,relro,-z,now,-z,noexecstack
# A release is optimised as one program: a request passes through many small functions in many files. Objects
# hold machine code too, so that the unit tests and tools link quickly without that. There is no frame pointer, which
# costs 5 % of a request's instructions: perf record --call-graph dwarf, and gdb, do without.
CFLAGS_release := -O3 -flto=2 -ffat-lto-objects -g -D_FORTIFY_SOURCE=2
# More calls of the sidecar are taken away than gcc would by itself: 3 % of a cached answer's instructions for 9 % more
# code.
INLINE_release := --param inline-unit-growth=100 --param max-inline-insns-auto=80 --param inline-min-speedup=8 \
                  --param max-inline-insns-single=200 --param large-function-growth=400
LTO_release := -O3 -flto=2 $(INLINE_release)
NO_LTO_release := -fno-lto
# Quick to build, for the hours of writing: make MODE=dev BUILD=build-dev
CFLAGS_dev := -O1 -g -fno-omit-frame-pointer
CFLAGS_asan := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
CFLAGS_ubsan := -O1 -g -fsanitize=undefined -fno-sanitize-recover=all
CFLAGS_tsan := -O1 -g -fsanitize=thread -fno-omit-frame-pointer
CFLAGS_coverage := -O0 -g --coverage
CFLAGS_fuzz := -O1 -g -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all -Wno-unknown-warning-option
CPPFLAGS += -I. -I$(BUILD) -D_GNU_SOURCE
CFLAGS += -std=c11 $(WARN) $(HARDEN) $(CFLAGS_$(MODE)) -MMD -MP -pthread
LDFLAGS += $(LDHARDEN) -pthread $(filter -fsanitize% --coverage,$(CFLAGS_$(MODE))) $(NO_LTO_$(MODE))
LIBS_PROXY := -levent_core -levent_extra -levent_openssl -lssl -lcrypto -lyaml -ljansson -lmsgpackc -lhiredis -lseccomp -llmdb -lzstd -lwslay -lz -lm
LIBS_CLI := -lcurl -ljansson -lm
LIBS_TEST := -lcheck_pic -lsubunit -lrt -lm
# test_cli brings the whole CLI, and with it libcurl. The sidecar loads that when it is needed (post_curl.h).
$(BUILD)/unit/metrics/test_cli: LIBS_TEST += -lcurl

POLICY_SRC := $(wildcard policy/*.c)
METRICS_SRC := $(wildcard metrics/*.c)
PROXY_SRC := $(filter-out proxy/main.c,$(wildcard proxy/*.c))
CLI_SRC := $(wildcard metrics/cli/*.c)
ORIGIN_SRC := $(wildcard tests/origin/*.c)
RESIL_SRC := $(wildcard tests/sim/resilience/*.c)
CACHE_SIM_SRC := tests/sim/tool/cache_sim.c tests/sim/cache.c
UNIT_SRC := $(wildcard tests/unit/*/test_*.c)
BENCH_SRC := $(wildcard tests/bench/*.c)

obj = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))
LIB := $(call obj,$(POLICY_SRC) $(METRICS_SRC) $(PROXY_SRC)) $(BUILD)/obj/dashboard.o
UNIT_BIN := $(patsubst tests/unit/%.c,$(BUILD)/unit/%,$(UNIT_SRC))

PROGRAMS := $(if $(wildcard proxy/main.c),$(BUILD)/promptops-sidecar) \
            $(if $(CLI_SRC),$(BUILD)/promptops-perf) $(if $(ORIGIN_SRC),$(BUILD)/promptops-origin) \
            $(if $(RESIL_SRC),$(BUILD)/resilience-sim) $(BUILD)/cache-sim

.DEFAULT_GOAL := all
.SECONDARY: # objects of tests are kept
.PHONY: all unit clean help
all: $(PROGRAMS)          ## build the programs into build/

$(call obj,$(PROXY_SRC) $(POLICY_SRC) $(METRICS_SRC)): CFLAGS += $(INLINE_$(MODE))
$(BUILD)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(if $(Q),@echo "  CC    $<")
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MF $(@:.o=.d.new) -c -o $@ $<
	@mv $(@:.o=.d.new) $(@:.o=.d) # whole, for another make that reads it meanwhile

$(BUILD)/libsidecar.a: $(LIB)
	@rm -f $@.new; ar rcs $@.new $^ && mv $@.new $@

$(BUILD)/promptops-sidecar: $(call obj,proxy/main.c) $(BUILD)/libsidecar.a
	$(if $(Q),@echo "  LINK  $@")
	$(Q)$(CC) $(LDFLAGS) $(LTO_$(MODE)) -o $@ $^ $(LIBS_PROXY)

$(BUILD)/promptops-perf: $(call obj,$(CLI_SRC)) $(BUILD)/libsidecar.a
	$(if $(Q),@echo "  LINK  $@")
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS_CLI)

$(BUILD)/promptops-origin: $(call obj,$(ORIGIN_SRC)) $(BUILD)/libsidecar.a
	$(if $(Q),@echo "  LINK  $@")
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS_PROXY)

$(BUILD)/resilience-sim: $(call obj,$(RESIL_SRC)) $(BUILD)/libsidecar.a
	$(if $(Q),@echo "  LINK  $@")
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS_PROXY)

$(BUILD)/cache-sim: $(call obj,$(CACHE_SIM_SRC) $(POLICY_SRC))
	$(if $(Q),@echo "  LINK  $@")
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ -lm

include metrics/dashboard/dashboard.mk

# Unit tests: tests/unit/ROOM/test_X.c tests ROOM/X.c, each a Check program of its own.
$(BUILD)/unit/%: $(BUILD)/obj/tests/unit/%.o $(BUILD)/libsidecar.a
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS_PROXY) $(LIBS_TEST)

# Sanitizers are slow: what may take long has ten times as long there.
unit: export CK_TIMEOUT_MULTIPLIER := $(if $(filter asan ubsan tsan coverage,$(MODE)),10,1)
.PHONY: unit-programs
unit-programs: $(UNIT_BIN)
	@:
unit: $(UNIT_BIN)         ## build and run the unit tests (T=policy/test_x for one)
	$(Q)set -e; for t in $(if $(T),$(BUILD)/unit/$(T),$(UNIT_BIN)); do $$t; done

# The bench's do-nothing programs, and simulations of policy in virtual time.
include tests/bench/bench.mk
include tests/sim/sim.mk
comma := ,
include tests/oom/oom.mk

# ---- what a user runs -------------------------------------------------------------------------
.PHONY: demo test install packages packages-test
packages:                 ## install what the build needs, when it is missing
	$(Q)deploy/install-packages.sh build

packages-test:
	$(Q)deploy/install-packages.sh build test

demo: packages            ## build, start the stand-in API and the sidecar, send traffic, show the summary
	$(Q)$(MAKE) $(PARALLEL) --no-print-directory all
	$(Q)BUILD=$(BUILD) deploy/demo.sh

test: packages-test       ## install what is missing, build, and pass every test
	$(Q)BUILD=$(BUILD) MAKE="$(MAKE)" tests/run_all.py

PREFIX ?= /usr/local
install: all              ## install the programs below PREFIX (/usr/local)
	$(if $(Q),@echo "  INSTALL $(DESTDIR)$(PREFIX)")
	$(Q)install -D -m 0755 -t $(DESTDIR)$(PREFIX)/bin $(PROGRAMS)
	$(Q)perf=$(BUILD)/promptops-perf; share=$(DESTDIR)$(PREFIX)/share; \
	  put() { install -d "$$(dirname "$$1")" && shift_to="$$1" && shift && "$$perf" "$$@" >"$$shift_to"; }; \
	  put $$share/man/man1/promptops-perf.1 manual && \
	  deploy/manual.sh $(BUILD)/promptops-sidecar >$$share/man/man1/promptops-sidecar.1 && \
	  put $$share/bash-completion/completions/promptops-perf completion bash && \
	  put $$share/zsh/site-functions/_promptops-perf completion zsh && \
	  put $$share/fish/vendor_completions.d/promptops-perf.fish completion fish

# ---- what is shipped -----------------------------------------------------------------------------
.PHONY: image deb test-deploy
VERSION := $(shell sed -n 's/.*SIDECAR_VERSION "\(.*\)"/\1/p' proxy/version.h)

image:                    ## the container image promptops-sidecar:VERSION (podman)
	$(Q)podman build --format docker --timestamp 0 -f deploy/Dockerfile -t promptops-sidecar:$(VERSION) --build-arg VERSION=$(VERSION) .

deb: packages             ## the Debian package, into build/
	$(Q)deploy/install-packages.sh package
	$(Q)$(MAKE) --no-print-directory $(BUILD)/promptops-sidecar $(BUILD)/promptops-perf
	$(Q)BUILD=$(BUILD) deploy/debian/build.sh $(VERSION)

test-deploy:              ## the image, real pods, the package on a booted systemd (as root)
	$(Q)deploy/install-packages.sh build package deploy
	$(Q)$(MAKE) --no-print-directory $(BUILD)/promptops-origin $(BUILD)/promptops-sidecar $(BUILD)/promptops-perf
	$(Q)BUILD=$(BUILD) /usr/bin/python3 tests/deploy/test_containers.py $(T)
	$(Q)$(if $(T),,BUILD=$(BUILD) /usr/bin/python3 tests/deploy/test_system.py)

# ---- what a developer runs ---------------------------------------------------------------------
.PHONY: lint fmt asan ubsan tsan fuzz fuzz-smoke coverage fresh wire bars
lint: all                 ## include rules, banned calls, lengths, headers alone, the README's table
	$(Q)python3 tests/lint/lint.py $(BUILD)
	$(Q)sh tests/lint/readme_options.sh $(BUILD)/promptops-sidecar README.md

fmt:                      ## format the C sources (clang-format)
	$(Q)deploy/install-packages.sh develop
	$(Q)clang-format -i $$(git ls-files '*.c' '*.h')

wire: all                 ## end-to-end tests with a scripted client and origin (T=name for some)
	$(Q)SIDECAR=$(BUILD)/promptops-sidecar python3 tests/wire/run.py $(T)

bars: all                 ## the bars of resilience on the wire, as long as it takes (eight minutes, little else running)
	$(Q)BARS=full BUILD=$(BUILD) SIDECAR=$(BUILD)/promptops-sidecar python3 tests/wire/run.py -v 29_bars 29_stand_in 26_hedging:test_a_slow 63_batching:test_a_hundred

asan ubsan tsan:          ## unit and wire tests under a sanitizer
	$(Q)$(MAKE) $(PARALLEL) --no-print-directory MODE=$@ BUILD=$(BUILD)-$@ all unit-programs
	$(Q)$(MAKE) --no-print-directory MODE=$@ BUILD=$(BUILD)-$@ unit
	$(Q)SIDECAR=$(BUILD)-$@/promptops-sidecar python3 tests/wire/run.py $(T)

# Fuzzers: libFuzzer with the address and undefined behaviour sanitizers. RUNS each.
FUZZ := $(patsubst tests/fuzz/%.c,$(BUILD)/%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZ_CC ?= clang-14
RUNS ?= 1000000
$(BUILD)/fuzz_%: $(BUILD)/obj/tests/fuzz/fuzz_%.o $(BUILD)/libsidecar.a
	$(if $(Q),@echo "  LINK  $@")
	$(Q)$(CC) -fsanitize=fuzzer,address,undefined -pthread -o $@ $^ $(LIBS_PROXY)

.PHONY: fuzz-programs fuzz-programs-here
fuzz-programs-here: $(FUZZ)
	@:
fuzz-programs:
	$(Q)$(MAKE) $(PARALLEL) --no-print-directory MODE=fuzz CC="$(FUZZ_CC)" BUILD=$(BUILD)-fuzz fuzz-programs-here

fuzz: fuzz-programs       ## run every fuzzer RUNS times (default a million)
	$(Q)RUNS=$(RUNS) JOBS=$(JOBS) tests/fuzz/run.sh $(BUILD)-fuzz

fuzz-smoke:               ## a short run of every fuzzer
	$(Q)$(MAKE) --no-print-directory fuzz RUNS=20000

coverage:                 ## line coverage of the unit tests
	$(Q)deploy/install-packages.sh test develop
	$(Q)$(MAKE) $(PARALLEL) --no-print-directory MODE=coverage BUILD=$(BUILD)-coverage unit-programs
	$(Q)$(MAKE) --no-print-directory MODE=coverage BUILD=$(BUILD)-coverage unit
	$(Q)lcov -q -c -d $(BUILD)-coverage -o $(BUILD)-coverage/all.info && lcov -q -r $(BUILD)-coverage/all.info '/usr/*' '*/tests/*' -o $(BUILD)-coverage/ours.info && lcov --summary $(BUILD)-coverage/ours.info

fresh:                    ## prove `make demo` and `make test` in a new Debian root (mmdebstrap)
	$(Q)deploy/fresh.sh

clean:                    ## remove build/
	$(Q)rm -rf $(BUILD) $(BUILD)-*

help:                     ## list the goals
	@awk -F':.*## ' '/^[a-z][a-z -]*:.*## /{printf "  %-18s %s\n", $$1, $$2}' $(filter %Makefile %.mk,$(MAKEFILE_LIST))

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
