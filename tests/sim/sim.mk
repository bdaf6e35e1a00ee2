# Simulations of policy/ alone, in virtual time: `make -f Makefile -f tests/sim/sim.mk sim`.
SIM_MAIN := $(wildcard tests/sim/sim_*.c)
SIM_SCENARIOS := $(wildcard tests/sim/scenarios/*.yaml)
SIM_SEEDS := 101 102 103 # on which nothing was tuned
SIM_PART := $(filter-out $(SIM_MAIN),$(wildcard tests/sim/*.c))
SIM_BIN := $(patsubst tests/sim/%.c,$(BUILD)/sim/%,$(SIM_MAIN))

.PHONY: sim scenarios bench-policy
sim: $(SIM_BIN) scenarios ## run the simulations; each exits 1 when a bound is broken
	$(Q)set -e; for t in $(SIM_BIN); do echo "== $${t##*/}"; $$t; done

scenarios: $(BUILD)/resilience-sim ## run resilience-sim on every scenario; a broken expectation ends it
	$(Q)set -e; for s in $(SIM_SCENARIOS); do echo "  SIM   $$s"; $< --scenario $$s >/dev/null; done
	$(Q)set -e; for s in $(filter-out tests/sim/scenarios/rate-limit-%,$(SIM_SCENARIOS)); do \
	  for seed in $(SIM_SEEDS); do $< --scenario $$s --seed $$seed >/dev/null; done; done

bench-policy: $(BUILD)/bench_policy ## what the decisions cost, in ns
	$(Q)$<

$(BUILD)/sim/%: $(BUILD)/obj/tests/sim/%.o $(patsubst %.c,$(BUILD)/obj/%.o,$(SIM_PART)) $(patsubst %.c,$(BUILD)/obj/%.o,$(wildcard policy/*.c))
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ -lm

$(BUILD)/bench_policy: $(BUILD)/obj/tests/bench/bench_policy.o $(patsubst %.c,$(BUILD)/obj/%.o,$(wildcard policy/*.c))
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ -lm
