# SPDX-License-Identifier: MIT
# The one task runner. `make help` lists what there is to type.

PYTHON ?= python3
PYPY ?= pypy3
CC ?= cc
SANITIZER_CC ?= $(or $(shell command -v clang),$(CC))
C_TEST_SECONDS ?= 300
SECONDS ?= 60
SOAK ?= 10

export PIP_DISABLE_PIP_VERSION_CHECK = 1
# PyPy's nursery is half the processor's last cache, which can be hundreds of megabytes, and every
# forked child has to touch all of it anew. A small one costs nothing else.
export PYPY_GC_NURSERY ?= 4M

C_SOURCES := $(wildcard c/*.c)
C_HEADERS := $(wildcard c/*.h c/tests/*.h)
C_FILES := $(C_SOURCES) $(wildcard c/tests/*.c)
EXTENSION_SOURCES := $(C_SOURCES) $(wildcard c/*.h) build_ffi.py setup.py pyproject.toml
PYTHON_FILES := $(wildcard snakefish tests examples benchmarks build_ffi.py setup.py)

C_FLAGS := -std=c11 -g -pthread -fvisibility=hidden -Ic
C_WARNINGS := -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wcast-qual -Wwrite-strings \
    -Wstrict-prototypes -Wmissing-prototypes -Wundef -Wvla -Wno-string-conversion -Werror

.PHONY: help run run-cpython run-pypy test test-c test-py test-cpython test-pypy sanitize soak soak-c \
    soak-cpython soak-pypy fuzz coverage faults bench bench-cpython bench-pypy bench-page lint format \
    clean
.DELETE_ON_ERROR:
.SECONDARY:

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s%s\n", $$1, $$2 }' Makefile

# ------------------------------------------------------- the two environments

# A missing tool is one sentence, not a page of somebody's traceback.
.venv/.made:
	@command -v $(CC) >/dev/null || \
	    { echo "snakefish needs a C compiler: apt-get install gcc libc6-dev"; exit 1; }
	@command -v $(PYTHON) >/dev/null || \
	    { echo "snakefish needs Python: apt-get install python3 python3-dev python3-venv"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 9))' || \
	    { echo "snakefish needs Python 3.9 or newer: make PYTHON=python3.x"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
	    { echo "$(PYTHON) has no venv: apt-get install python3-venv"; exit 1; }
	@test -f "$$($(PYTHON) -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" || \
	    { echo "$(PYTHON) has no C headers: apt-get install python3-dev"; exit 1; }
	$(PYTHON) -m venv .venv
	@touch $@

.venv-pypy/.made:
	@echo $(PYPY) -m venv .venv-pypy
	@$(PYPY) -m venv .venv-pypy || \
	    { echo "$(PYPY) has no venv: apt-get install pypy3-venv pypy3-dev"; exit 1; }
	@touch $@

# Editable: a changed Python file needs no second install, a changed C file does.
%/.installed: %/.made $(EXTENSION_SOURCES)
	$*/bin/pip install -q -e .
	@touch $@

%/.test-tools: pyproject.toml | %/.installed
	$*/bin/pip install -q -e '.[test]'
	@touch $@

%/.bench-tools: pyproject.toml | %/.installed
	$*/bin/pip install -q -e '.[bench]'
	@touch $@

.venv/.lint-tools: pyproject.toml | .venv/.installed
	.venv/bin/pip install -q -e '.[lint]'
	@touch $@

ifeq ($(shell command -v $(PYPY)),)
define without_pypy
	@echo "PyPy is not installed, its half is left out: apt-get install pypy3 pypy3-dev pypy3-venv"
endef
else
PYPY_INSTALLED := .venv-pypy/.installed
PYPY_TEST_TOOLS := .venv-pypy/.test-tools
PYPY_BENCH_TOOLS := .venv-pypy/.bench-tools
endif

# --------------------------------------------------------------- the main job

run: run-cpython run-pypy ## index the standard library, in parallel, on CPython and PyPy

# Both interpreters index the same files, those of CPython's library.
index_standard_library = $(1)/bin/python examples/word_index.py \
    "$$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"

run-cpython: .venv/.installed
	@$(call index_standard_library,.venv)

run-pypy: $(PYPY_INSTALLED) .venv/.made
	$(if $(PYPY_INSTALLED),@$(call index_standard_library,.venv-pypy),$(without_pypy))

# -------------------------------------------------------------------- C tests

# Programs that ask for kill points get a library built with them, all others one without.
KILL_TESTS := $(patsubst c/tests/%.c,%,$(shell grep -ls SF_KILL_POINTS c/tests/test_*.c))
PLAIN_TESTS := $(filter-out $(KILL_TESTS),$(patsubst c/tests/%.c,%,$(wildcard c/tests/test_*.c)))
# ThreadSanitizer sees the threads of one process only.
THREAD_TESTS ?= $(foreach test,$(PLAIN_TESTS),$(if $(or $(findstring thread,$(test)), \
    $(findstring ring,$(test)),$(findstring clock,$(test))),$(test)))

# What a program takes from the linker instead of the C library, by --wrap.
WRAPPED_BY_test_hostile := mmap munmap
WRAPPED_BY_test_liveness_without_words := syscall
WRAPPED_BY_fuzz_channel := mmap munmap
WRAPPED_BY_test_pages := ioctl open flock
WRAPPED_BY_test_failing_calls := calloc free mmap madvise ftruncate getrlimit pipe2 read pread close \
    open flock fstat fcntl ioctl poll fork waitid clock_nanosleep syscall pthread_atfork \
    pthread_mutexattr_init pthread_mutex_init pthread_mutex_trylock pthread_mutex_clocklock

# $(1) the variant's name, $(2) its compiler, $(3) its flags, $(4) what else its programs are made of
define variant
build/c/$(1)/library/%.o: c/%.c $(C_HEADERS)
	@mkdir -p $$(@D) && echo $$@
	@$(2) $(C_FLAGS) $(3) -c $$< -o $$@

build/c/$(1)/%: c/tests/%.c $(C_SOURCES:c/%.c=build/c/$(1)/library/%.o) $(4) $(C_HEADERS)
	@echo $$@
	@$(2) $(C_FLAGS) $(3) $$(filter %.c %.o,$$^) $$(WRAPPED_BY_$$(@F):%=-Wl,--wrap=%) -o $$@
endef
ADDRESS := -O1 -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
$(eval $(call variant,plain,$(CC),-O2))
$(eval $(call variant,kill,$(CC),-O2 -DSF_KILL_POINTS))
$(eval $(call variant,address,$(SANITIZER_CC),$(ADDRESS)))
$(eval $(call variant,address-kill,$(SANITIZER_CC),$(ADDRESS) -DSF_KILL_POINTS))
$(eval $(call variant,thread,$(SANITIZER_CC),-O1 -fsanitize=thread))
$(eval $(call variant,fuzz,clang,$(ADDRESS) -fsanitize=fuzzer))
COVERAGE := -O0 --coverage -fprofile-update=atomic -DSF_KILL_POINTS -DUNDER_COVERAGE=1 \
    -Wl,--wrap=_exit -Wl,--wrap=raise -Wl,--wrap=kill
$(eval $(call variant,coverage,gcc,$(COVERAGE),c/tests/coverage.c))

TEST_PROGRAMS := $(PLAIN_TESTS:%=build/c/plain/%) $(KILL_TESTS:%=build/c/kill/%)
ADDRESS_PROGRAMS := $(PLAIN_TESTS:%=build/c/address/%) $(KILL_TESTS:%=build/c/address-kill/%)
THREAD_PROGRAMS := $(THREAD_TESTS:%=build/c/thread/%)

# $(1) programs, $(2) what to put before each: status 0 is passed, 77 cannot be tested here.
define run_programs
@passed=0; failed=0; skipped=0; \
for program in $(1); do \
    status=0; $(2) timeout $(C_TEST_SECONDS) $$program || status=$$?; \
    case $$status in \
    0) passed=$$((passed + 1)); echo "passed  $$program" ;; \
    77) skipped=$$((skipped + 1)); echo "skipped $$program" ;; \
    *) failed=$$((failed + 1)); echo "FAILED  $$program with status $$status" ;; \
    esac; \
done; \
echo "c: $$passed passed, $$failed failed, $$skipped skipped"; test $$failed = 0
endef

test-c: $(TEST_PROGRAMS) ## the C library's tests, without Python
	$(call run_programs,$(TEST_PROGRAMS))

# ThreadSanitizer wants its addresses free: where allowed, they are not randomised for it.
sanitize: $(ADDRESS_PROGRAMS) $(THREAD_PROGRAMS) ## the C tests under ASan, UBSan and TSan
	$(call run_programs,$(ADDRESS_PROGRAMS))
	$(call run_programs,$(THREAD_PROGRAMS),$(shell setarch -R true 2>/dev/null && echo setarch -R))

fuzz: build/c/fuzz/fuzz_channel ## search for what a hostile peer could break in C, for SECONDS
	@mkdir -p build/c/fuzz/corpus
	timeout $$(($(SECONDS) + 120)) $< -max_total_time=$(SECONDS) -max_len=600 -timeout=30 \
	    -rss_limit_mb=4096 -use_value_profile=1 -print_final_stats=1 -verbosity=0 \
	    -artifact_prefix=build/c/fuzz/ build/c/fuzz/corpus

COVERAGE_PROGRAMS := $(PLAIN_TESTS:%=build/c/coverage/%) $(KILL_TESTS:%=build/c/coverage/%)

coverage: $(COVERAGE_PROGRAMS) ## which lines and branches of the C library its tests reach
	@find build/c/coverage -name '*.gcda' -delete
	$(call run_programs,$(COVERAGE_PROGRAMS),GCOV_ERROR_FILE=build/c/coverage/errors)
	@gcov -b -o build/c/coverage/library $(C_SOURCES:c/%.c=build/c/coverage/library/%.o) \
	    | awk -f c/tests/coverage.awk
	@mv ./*.gcov build/c/coverage

soak: soak-c soak-cpython soak-pypy ## SIGKILLs by the ten thousand, for an hour or two

soak-c: build/c/kill/test_kill_points build/c/plain/test_storm
	timeout 7200 build/c/kill/test_kill_points $(SOAK)
	timeout 7200 build/c/plain/test_storm $$((600 * $(SOAK)))

# $(1) the environment; SOAK_OPTIONS are those of soak.py, such as --minutes 1 --only map
soak_python = PYTHONPATH=tests timeout 14400 $(1)/bin/python tests/faults/soak.py $(SOAK_OPTIONS)
soak_equality = SNAKEFISH_EQUALITY=1 timeout 14400 $(1)/bin/python -m pytest -q tests/test_loop_equality.py

soak-cpython: .venv/.installed
	$(call soak_python,.venv)
	$(call soak_equality,.venv)

soak-pypy: $(PYPY_INSTALLED)
	$(if $(PYPY_INSTALLED),$(call soak_python,.venv-pypy),$(without_pypy))
	$(if $(PYPY_INSTALLED),$(call soak_equality,.venv-pypy))

# --------------------------------------------------------------------- faults

.venv/.peers: pyproject.toml | .venv/.installed
	.venv/bin/pip install -q -e '.[peers]'
	@touch $@

faults: .venv/.peers $(PYPY_INSTALLED) ## every fault, on CPython, PyPy and the peers: writes FAULTS.md
	@mkdir -p build
	PYTHONPATH=tests .venv/bin/python tests/faults/table.py --at-once 2 .venv/bin/python \
	    $(if $(PYPY_INSTALLED),.venv-pypy/bin/python) >build/FAULTS.md
	mv build/FAULTS.md FAULTS.md

# ----------------------------------------------------------------- benchmarks

# FIGURES are ids or files, such as "B1 memory", measured anew among those there are; FULL=1 is
# careful and takes hours. What fails is a cell of the page, and an error only when that is written.
# At its end each run says how long every figure took.
RESULTS := benchmarks/results
measure = $(1)/bin/python -m benchmarks $(FIGURES) $(if $(FULL),--full) --json $(RESULTS)/$(2).json

bench: bench-cpython bench-pypy ## ours, the peers and the limit, in turns: writes BENCHMARKS.md
	@$(MAKE) --no-print-directory bench-page

bench-cpython: .venv/.bench-tools
	-@$(call measure,.venv,cpython)

bench-pypy: $(PYPY_BENCH_TOOLS)
	$(if $(PYPY_INSTALLED),-@$(call measure,.venv-pypy,pypy),$(without_pypy))

bench-page: .venv/.bench-tools
	.venv/bin/python -m benchmarks.plots docs/plots $(RESULTS)/*.json
	.venv/bin/python -m benchmarks.table BENCHMARKS.md $(RESULTS)/*.json

# --------------------------------------------------------------- Python tests

test: test-c test-py ## everything: C tests, pytest on CPython and PyPy, doctests, examples

test-py: test-cpython test-pypy ## pytest, doctests and examples on CPython and PyPy

test-cpython: .venv/.installed .venv/.test-tools
	.venv/bin/python -m pytest

test-pypy: $(PYPY_INSTALLED) $(PYPY_TEST_TOOLS)
	$(if $(PYPY_INSTALLED),.venv-pypy/bin/python -m pytest,$(without_pypy))

# ----------------------------------------------------------- reading, not running

lint: .venv/.installed .venv/.lint-tools ## ruff, mypy --strict, clang-format, cppcheck, both compilers
	@for tool in gcc g++ clang clang-format cppcheck; do command -v $$tool >/dev/null || \
	    { echo "make lint needs $$tool: apt-get install $$tool"; exit 1; }; done
	.venv/bin/ruff check --output-format concise $(PYTHON_FILES)
	.venv/bin/ruff format --check $(PYTHON_FILES)
	.venv/bin/mypy --strict snakefish
	@for file in $(C_FILES) $(C_HEADERS); do clang-format --dry-run -Werror $$file 2>/dev/null || \
	    { echo "$$file is not in clang-format's shape: make format"; failed=1; }; \
	done; test -z "$$failed"
	cppcheck --quiet --std=c11 --error-exitcode=1 --enable=warning,performance,portability \
	    --inline-suppr --suppress=missingIncludeSystem -Ic $(C_SOURCES)
	@for compiler in gcc clang; do for points in "" -DSF_KILL_POINTS; do for file in $(C_FILES); do \
	    $$compiler $(C_FLAGS) $(C_WARNINGS) -O2 $$points -c $$file -o /dev/null || exit 1; \
	done; done; echo "$$compiler: no warnings"; done
	gcc $(C_WARNINGS) -std=c11 -x c -fsyntax-only c/snakefish.h
	g++ -Wall -Wextra -Wpedantic -Werror -std=c++11 -x c++ -fsyntax-only c/snakefish.h
	@mkdir -p build/c
	@gcc $(C_FLAGS) -O2 -fPIC -shared $(C_SOURCES) -o build/c/libsnakefish.so
	@nm -D --defined-only build/c/libsnakefish.so | awk '{ print $$3 }' | sort >build/c/exported
	@sed -n 's/^SF_API .*[ *]\(sf_[a-z_]*\)(.*/\1/p' c/snakefish.h | sort >build/c/declared
	@diff build/c/declared build/c/exported || \
	    { echo "the library does not export what its header declares"; exit 1; }
	@echo "header: compiles alone as C and C++, declares exactly what is exported"

format: .venv/.lint-tools ## bring Python and C files into their shape
	.venv/bin/ruff format $(PYTHON_FILES)
	clang-format -i $(C_FILES) $(C_HEADERS)

clean: ## remove what was built and both environments
	rm -rf build dist .venv .venv-pypy *.egg-info snakefish/_sf.*.so snakefish/_sf.c \
	    .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
