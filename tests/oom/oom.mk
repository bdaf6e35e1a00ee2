# Memory that runs out: every allocation of a scenario fails once, under the address sanitizer; then the whole program
# under traffic. Run by `make oom`. Needs no LD_PRELOAD: the linker puts tests/oom/inject.c in the place of malloc.
OOM_WRAP := $(patsubst %,-Wl$(comma)--wrap=%,malloc calloc realloc aligned_alloc posix_memalign strdup strndup)
OOM_BIN := $(patsubst tests/oom/%.c,$(BUILD)/oom/%,$(wildcard tests/oom/oom_*.c))

$(BUILD)/oom/oom_%: $(BUILD)/obj/tests/oom/oom_%.o $(call obj,tests/oom/inject.c tests/oom/run.c) $(BUILD)/libsidecar.a
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) $(OOM_WRAP) -o $@ $^ $(LIBS_PROXY) $(LIBS_TEST)

$(BUILD)/oom/promptops-sidecar: $(call obj,proxy/main.c) $(BUILD)/obj/tests/oom/inject.o $(BUILD)/libsidecar.a
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) $(OOM_WRAP) -o $@ $^ $(LIBS_PROXY)

.PHONY: oom oom-here oom-programs
oom-programs: $(OOM_BIN) $(BUILD)/oom/promptops-sidecar $(BUILD)/promptops-origin
	@:
oom:                      ## fail every allocation in turn, in parts and in the whole program (address sanitizer)
	$(Q)$(MAKE) $(PARALLEL) --no-print-directory MODE=asan BUILD=$(BUILD)-asan oom-programs
	$(Q)$(MAKE) --no-print-directory MODE=asan BUILD=$(BUILD)-asan oom-here

oom-here: oom-programs
	$(Q)set -e; for t in $(OOM_BIN); do echo "  RUN   $${t##*/}"; $$t; done
	$(Q)BUILD=$(BUILD) python3 tests/oom/whole.py
